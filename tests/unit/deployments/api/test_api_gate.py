"""Who is let in to the REST API, how much they may send, and how what goes wrong is answered."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from secrets import token_urlsafe
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from prefect_campaigns.blocks.api_keys import parse_api_keys
from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.deployments.api.app import create_app
from prefect_campaigns.deployments.api.auth import Policy
from prefect_campaigns.deployments.api.gate import MAX_BODY_BYTES
from prefect_campaigns.errors import SettingsError

FULL, READ = "swordfish-full", "swordfish-read"
KEYS = tuple(parse_api_keys(f"ada:full:{FULL},dashboard:read:{READ}"))
HERE = "http://127.0.0.1:3020"
PAGE = "https://app.example.com"
LISTED = "/api/campaigns"
LOGGER = "prefect_campaigns.api"
SLUG = "/api/campaigns/some-campaign"


@functools.cache
def app_of(policy: Policy) -> FastAPI:
    return create_app(load_settings(), policy)


@asynccontextmanager
async def caller(policy: Policy, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who speaks to an API that has not started: whatever comes to a route ends there."""
    transport = httpx.ASGITransport(app_of(policy))
    async with httpx.AsyncClient(transport=transport, base_url=HERE, headers=headers) as client:
        yield client


def assert_error(answer: httpx.Response, status_code: int, *, says: str) -> None:
    assert answer.status_code == status_code, answer.text
    body = answer.json()
    assert body["success"] is False
    assert says in body["error"]
    assert FULL not in answer.text and READ not in answer.text


CAME_THROUGH = 503
"""What a route answers whose API has not started: whoever gets this was let in."""


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("GET", LISTED, {"Authorization": f"Bearer {FULL}"}, CAME_THROUGH),
        # The scheme's case does not count, the key's does.
        ("GET", LISTED, {"Authorization": f"bearer {FULL}"}, CAME_THROUGH),
        ("GET", LISTED, {"Authorization": f"Bearer {FULL.upper()}"}, 401),
        ("GET", LISTED, {"X-API-Key": FULL}, CAME_THROUGH),
        ("GET", LISTED, {"X-API-Key": READ}, CAME_THROUGH),
        ("DELETE", SLUG, {"X-API-Key": FULL}, CAME_THROUGH),
        ("DELETE", SLUG, {"X-API-Key": READ}, 403),
        ("POST", LISTED, {"Authorization": f"Bearer {READ}"}, 403),
        ("DELETE", SLUG, {}, 401),
        ("DELETE", SLUG, {"X-API-Key": ""}, 401),
        ("GET", LISTED, {"X-API-Key": "ada"}, 401),
        ("GET", LISTED, {"Authorization": f"Basic {FULL}"}, 401),
        ("GET", LISTED, {"Authorization": "Bearer"}, 401),
        # What is there is nobody's business, either.
        ("GET", "/nowhere", {}, 401),
        ("POST", "/api/health", {}, 401),
        # Needs none.
        ("GET", "/api/health", {}, CAME_THROUGH),
        ("GET", "/docs", {}, 200),
        ("GET", "/openapi.json", {}, 200),
    ],
)
async def test_a_key_opens_what_it_says(method: str, path: str, headers: dict[str, str], expected: int) -> None:
    async with caller(Policy(keys=KEYS)) as client:
        answer = await client.request(method, path, headers=headers)
    assert answer.status_code == expected, answer.text
    assert ("www-authenticate" in answer.headers) == (expected == 401)
    assert FULL not in answer.text and READ not in answer.text


async def test_no_key_is_in_any_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with caller(Policy(keys=KEYS)) as client:
        for headers in ({"X-API-Key": FULL}, {"Authorization": f"Bearer {READ}"}, {"X-API-Key": f"{FULL}x"}):
            await client.delete(SLUG, headers=headers)
    assert "has not started yet" in caplog.text, "the route's own failure is logged"
    assert FULL not in caplog.text and READ not in caplog.text


async def test_each_refusal_is_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with caller(Policy(keys=KEYS)) as client:
        await client.get(f"{LISTED}?key={FULL}")
        await client.delete(SLUG, headers={"X-API-Key": READ})
        await client.put(f"{SLUG}/pause", headers={"X-API-Key": FULL}, json={"reason": 5})
        await client.post(LISTED, headers={"X-API-Key": FULL}, content=b" " * (MAX_BODY_BYTES + 1))
        await client.put(SLUG, headers={"X-API-Key": FULL, "Origin": "https://evil.example"})
        await client.post("/api/%0Anowhere", headers={"X-API-Key": FULL})
        # Whoever looks for what is not there is refused nothing.
        await client.get("/api/nowhere", headers={"X-API-Key": READ})
    records = [one for one in caplog.records if one.name == LOGGER]
    lines = [(one.levelname, one.getMessage().partition(" with ")) for one in records]
    assert [(level, what, why[:3]) for level, (what, _, why) in lines] == [
        ("WARNING", f"GET '{LISTED}' by 127.0.0.1: refused", "401"),
        ("WARNING", f"DELETE '{SLUG}' by dashboard: refused", "403"),
        ("INFO", f"PUT '{SLUG}/pause' by ada: refused", "400"),
        ("WARNING", f"POST '{LISTED}' by ada: refused", "413"),
        ("WARNING", f"PUT '{SLUG}' by 127.0.0.1: refused", "403"),
        ("INFO", "POST '/api/\\nnowhere' by ada: refused", "404"),
    ]
    assert lines[1][1][2] == "403: the key dashboard is for reading only"
    assert not any(key in one.getMessage() for one in records for key in (FULL, READ))


def test_off_this_machine_it_needs_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        assert Policy.of(load_settings(), host=host).keys == ()
    for host in ("0.0.0.0", "::", "192.0.2.1", "campaigns.example.com"):
        with pytest.raises(SettingsError, match=r"would listen on .*, where others reach it, and CAMPAIGNS_API_KEY"):
            Policy.of(load_settings(), host=host)
    monkeypatch.setenv("CAMPAIGNS_API_KEY", f"ada:full:{token_urlsafe()}")
    assert [key.name for key in Policy.of(load_settings(), host="192.0.2.1").keys] == ["ada"]


@pytest.mark.parametrize("key", ["x", "letmein", "1234567890", "abababababababababababab"])
def test_off_this_machine_its_keys_are_none_that_can_be_guessed(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("CAMPAIGNS_API_KEY", f"bob:read:{token_urlsafe()},ada:full:{key}")
    assert len(Policy.of(load_settings(), host="127.0.0.1").keys) == 2
    with pytest.raises(SettingsError, match="can be guessed: ada;") as caught:
        Policy.of(load_settings(), host="0.0.0.0")
    assert f":{key}" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1:3020", "localhost:3020", "LOCALHOST", "[::1]:3020", "127.9.9.9"])
async def test_an_open_api_answers_to_the_names_of_this_machine(host: str) -> None:
    async with caller(Policy()) as client:
        assert (await client.get("/openapi.json", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example:3020", "127.0.0.1.evil.example", "192.0.2.1", "localhost.evil", "["])
async def test_and_to_no_name_that_leads_here(host: str) -> None:
    async with caller(Policy()) as client:
        for path in ("/openapi.json", "/api/health", LISTED):
            assert_error(await client.get(path, headers={"Host": host}), 403, says="Host")


async def test_with_keys_it_may_stand_behind_a_proxy_that_has_another_name() -> None:
    async with caller(Policy(keys=KEYS), Host="campaigns.example.com") as client:
        assert (await client.get("/docs")).status_code == 200


@pytest.mark.parametrize("origin", [PAGE, "null", "http://localhost:5173", "http://127.0.0.1", ""])
async def test_web_pages_of_others_change_nothing(origin: str) -> None:
    async with caller(Policy(), Origin=origin) as client:
        for method, path in (("POST", LISTED), ("PUT", f"{SLUG}/pause"), ("DELETE", SLUG), ("POST", "/api/stop")):
            assert_error(await client.request(method, path), 403, says="web page")
        # A page can make its browser ask, and cannot read the answer.
        looked = await client.get("/openapi.json")
    assert looked.status_code == 200
    assert "access-control-allow-origin" not in looked.headers


async def test_a_page_of_the_apis_own_address_is_no_stranger() -> None:
    async with caller(Policy(), Origin=HERE) as client:
        assert (await client.post("/api/start")).status_code == CAME_THROUGH


async def test_pages_of_named_origins_may_call_with_a_key() -> None:
    asks = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-api-key"}
    async with caller(Policy(keys=KEYS, origins=(PAGE,)), Origin=PAGE) as client:
        asked = await client.options(SLUG, headers=asks)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, PAGE)
        refused = await client.put(SLUG)
        # So that the page can read why.
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)
        assert (await client.put(f"{SLUG}/resume", headers={"X-API-Key": FULL})).status_code == CAME_THROUGH
        stranger = {"Origin": "https://evil.example"}
        assert_error(await client.options(SLUG, headers={**asks, **stranger}), 403, says="web page")
        assert_error(await client.put(SLUG, headers={"X-API-Key": FULL, **stranger}), 403, says="web page")


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1024):
        yield b" " * 1024
    yield b" " * (size % 1024)


@pytest.mark.parametrize("path", [LISTED, "/api/stop", f"{SLUG}/run"])
async def test_a_body_has_a_megabyte_at_the_most_however_it_comes(path: str) -> None:
    async with caller(Policy()) as client:
        for content in (b" " * (MAX_BODY_BYTES + 1), chunks(MAX_BODY_BYTES + 1)):
            assert_error(await client.post(path, content=content), 413, says="1,048,576 bytes")
        for content in (b"{" + b" " * (MAX_BODY_BYTES - 1), chunks(MAX_BODY_BYTES)):
            assert (await client.post(path, content=content)).status_code in (400, CAME_THROUGH)


async def test_a_body_is_not_looked_at_without_a_key() -> None:
    async with caller(Policy(keys=KEYS)) as client:
        assert_error(await client.post(LISTED, content=b" " * (MAX_BODY_BYTES + 1)), 401, says="a key is needed")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", LISTED, "GET, POST"),
        ("POST", SLUG, "DELETE, GET, PUT"),
        ("GET", f"{SLUG}/run", "POST"),
        ("HEAD", "/api/stats", "GET"),
        ("DELETE", "/docs", "GET"),
    ],
)
async def test_another_method_is_405_and_says_which_ones_there_are(method: str, path: str, allowed: str) -> None:
    async with caller(Policy()) as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert method == "HEAD" or answer.json() == {
        "success": False,
        "error": f"{method} is not for {path}; {allowed} is",
    }


async def test_another_path_is_404_and_a_slash_at_the_end_makes_none() -> None:
    async with caller(Policy()) as client:
        for path in ("/api", "/api/campaign", f"{SLUG}/runs/1", "/api//campaigns"):
            assert_error(await client.get(path), 404, says="/docs")
        assert (await client.get(f"{LISTED}/")).status_code == CAME_THROUGH


async def test_what_nobody_foresaw_is_one_sentence_and_a_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(load_settings(), Policy())
    app.state.parts = None
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HERE) as client:
        answer = await client.get("/api/stats")
    assert answer.status_code == 500
    assert answer.json() == {
        "success": False,
        "error": "something went wrong that should not have; the log of the API says what",
    }
    (logged,) = [one for one in caplog.records if one.name == LOGGER]
    assert logged.exc_info is not None and "/api/stats" in logged.getMessage()


@pytest.mark.parametrize(
    ("content", "pointers"),
    [
        (b'{"name": 5, "stepps": []}', {"", "/name", "/stepps"}),
        (b"", {""}),
        (b"not json", {""}),
        (b"\xff\xfe", {""}),
        (b"[1]", {""}),
    ],
)
async def test_all_that_is_wrong_with_a_campaign_is_told_at_once(content: bytes, pointers: set[str]) -> None:
    async with caller(Policy()) as client:
        for method, path in (("POST", LISTED), ("PUT", SLUG)):
            answer = await client.request(method, path, content=content)
            assert_error(answer, 400, says="body")
            assert {one["pointer"] for one in answer.json()["complaints"]} == pointers


@pytest.mark.parametrize(
    ("path", "content", "pointer"),
    [
        ("/api/stop", {"cancelRunning": "yes"}, "/cancelRunning"),
        ("/api/stop", {"cancel": True}, "/cancel"),
        ("/api/stop", {"reason": "two\nlines"}, "/reason"),
        ("/api/stop", [], ""),
        ("/api/test-email", {"to": "nobody"}, "/to"),
    ],
)
async def test_what_is_wrong_with_other_bodies_is_told_too(path: str, content: Any, pointer: str) -> None:
    async with caller(Policy()) as client:
        answer = await client.post(path, json=content)
    assert_error(answer, 400, says="body: ")
    assert pointer in [one["pointer"] for one in answer.json()["complaints"]]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (f"{SLUG}/runs?limit=0", 'query limit: the string "0" came; allowed is a whole number from 1 to 1000'),
        (f"{SLUG}/runs?limit=1001", 'query limit: the string "1001" came; allowed is a whole number from 1 to 1000'),
        ("/api/audit?limit=ten", 'query limit: the string "ten" came; allowed is a whole number from 1 to 1000'),
        ("/api/audit?limit=", 'query limit: the string "" came; allowed is a whole number from 1 to 1000'),
        (
            f"{LISTED}?status=stopped",
            'query status: the string "stopped" came; allowed is "active" or "paused" or "completed" or "error"',
        ),
    ],
)
async def test_a_query_that_cannot_be_used_says_what_came_and_what_may(path: str, said: str) -> None:
    async with caller(Policy()) as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["error"]) == (400, said)


async def test_health_answers_head_as_get_and_nothing_else_does() -> None:
    async with caller(Policy(keys=KEYS)) as client:
        asked, told = await client.head("/api/health"), await client.get("/api/health")
        assert asked.status_code == told.status_code == CAME_THROUGH
        assert asked.headers["content-type"] == told.headers["content-type"]
        document = (await client.get("/openapi.json")).json()
        assert (await client.put("/api/health", headers={"X-API-Key": FULL})).headers["allow"] == "GET, HEAD"
    assert [path for path, methods in document["paths"].items() if "head" in methods] == ["/api/health"]


async def test_the_page_for_people_lists_every_route_and_loads_nothing_from_elsewhere() -> None:
    async with caller(Policy()) as client:
        document = (await client.get("/openapi.json")).json()
        page = (await client.get("/docs")).text
    assert not re.search(r"(src|href)=.(//|[^/])|url\(|@import", page)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert path in page
            assert operation["description"] and operation["summary"], (method, path)
            assert "422" not in operation["responses"]
            (success,) = [one["description"] for code, one in operation["responses"].items() if code.startswith("2")]
            assert success and success != "Successful Response", (method, path)
            assert escape(operation["summary"]) in page and escape(success) in page


async def test_what_is_given_as_an_example_of_a_body_is_one() -> None:
    async with caller(Policy()) as client:
        document = (await client.get("/openapi.json")).json()
        tried = 0
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if "requestBody" in operation:
                    example = operation["requestBody"]["content"]["application/json"]["example"]
                    answer = await client.request(method, path.replace("{id}", "my-first-campaign"), json=example)
                    assert answer.status_code == CAME_THROUGH, answer.text
                    tried += 1
    assert tried == 6
