"""Headers and secrets on the wire: what is sent, and that nothing of it comes back, whatever an engine repeats."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import AsyncIterator
from urllib.parse import quote_plus

import httpx
import pytest
from raw_http import STREAM_HEAD, Connection, chunk, http, json_answer, raw_server, saying

from prefect_campaigns.errors import EngineAnswerInvalid, EngineError, EngineUnreachable
from prefect_campaigns.flows.exchange import EngineAnswer, EngineRequest, PollPace, Progress, call_engine, new_client

TOKEN = 'sk-4f9a "1c77é"/&e2'
FORMS = (TOKEN, json.dumps(TOKEN)[1:-1], quote_plus(TOKEN), base64.b64encode(TOKEN.encode()).decode(), "4f9a")
PACE = PollPace(first_seconds=0.01, longest_seconds=0.02, shortest_seconds=0.01)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with new_client() as client:
        yield client


def request_to(url: str, *, method: str = "POST", **headers: str) -> EngineRequest:
    return EngineRequest(
        method=method,
        url=url,
        params={"token": TOKEN},
        headers={"Authorization": f"Bearer {TOKEN}", **headers},
        secrets=(TOKEN,),
        idempotency_key="run-1/step-1",
        timeout_seconds=20,
    )


async def answer_to(client: httpx.AsyncClient, *answers: bytes, method: str = "POST") -> EngineAnswer:
    async with raw_server(saying(*answers)) as server:
        return await call_engine(client, request_to(f"{server.url}/api/x", method=method), pace=PACE)


async def failure_of(client: httpx.AsyncClient, *answers: bytes, method: str = "POST") -> EngineError:
    with pytest.raises(EngineError) as caught:
        await answer_to(client, *answers, method=method)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.payload)
    assert not any(form in told for form in FORMS), told
    return caught.value


def echo(**more: object) -> bytes:
    return json.dumps({"token": TOKEN, f"key {TOKEN}": [base64.b64encode(TOKEN.encode()).decode()], **more}).encode()


async def test_headers_are_sent_as_they_are_over_ours_and_beside_the_key(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(json_answer(b"{}"))) as server:
        await call_engine(
            client, request_to(f"{server.url}/x", **{"accept": "text/csv", "User-Agent": "me", "X-City": "Málaga"})
        )
    head = server.heads[0]
    for line in (f"Authorization: Bearer {TOKEN}", "accept: text/csv", "User-Agent: me", "X-City: Málaga"):
        assert f"\r\n{line}\r\n" in head
    assert head.lower().count("\r\naccept:") == head.lower().count("\r\nuser-agent:") == 1
    assert "\r\nIdempotency-Key: run-1/step-1\r\n" in head
    assert json.loads(server.bodies[0]) == {"token": TOKEN}


async def test_a_result_that_repeats_a_secret_comes_back_without_it(client: httpx.AsyncClient) -> None:
    answer = await answer_to(client, json_answer(echo(found=3, error=f"odd token {TOKEN}")))
    assert answer.result == {
        "token": "********",
        "key ********": ["********"],
        "found": 3,
        "error": "odd token ********",
    }
    assert answer.warnings == ("odd token ********",)


@pytest.mark.parametrize(
    "answer",
    [
        http("401 Unauthorized", headers=["Content-Type: application/json"], body=echo(error=f"bad token {TOKEN}")),
        http("401 Unauthorized", headers=["Content-Type: text/plain"], body=f"bad token {TOKEN}".encode()),
        http("401 Unauthorized", headers=["Content-Type: text/plain"], body=(b"x" * 480) + TOKEN.encode()),
        http("401 sk-4f9a no", headers=["Content-Type: text/html"], body=echo()).replace(b"sk-4f9a no", b"no"),
        json_answer(echo(success=False, error=f"bad token {TOKEN}")),
        json_answer(echo(success=False, error=[{"message": f"bad token {quote_plus(TOKEN)}"}])),
        http("302 Found", headers=[f"Location: /x?token={quote_plus(TOKEN)}"]),
        # a job elsewhere, whose place has the token in it
        json_answer(b'{"jobId": "1", "statusUrl": "http://127.0.0.1:1/%s"}' % quote_plus(TOKEN).encode()),
        json_answer(b'{"jobId": "1", "statusUrl": "http://[%s"}' % quote_plus(TOKEN).encode()),
    ],
)
async def test_a_failure_that_repeats_a_secret_is_told_without_it(client: httpx.AsyncClient, answer: bytes) -> None:
    await failure_of(client, answer)


async def test_a_stream_that_repeats_a_secret_is_shown_without_it(client: httpx.AsyncClient) -> None:
    seen: list[Progress] = []

    async def see(progress: Progress) -> None:
        seen.append(progress)

    def event(**said: object) -> bytes:
        return chunk(b"data: " + json.dumps(said).encode() + b"\n\n")

    events = (
        STREAM_HEAD,
        event(type="progress", message=f"using {TOKEN}"),
        event(type="progress", message="x" * 195 + TOKEN),
        event(type="error", error=f"bad token {TOKEN}", company=TOKEN),
    )
    async with raw_server(saying(b"".join([*events, event(type="complete", results={"token": TOKEN})]))) as server:
        answer = await call_engine(client, request_to(f"{server.url}/x"), on_progress=see)
    assert answer.result == {"token": "********"}
    assert seen[0].message == "using ********"
    assert not any(form in repr((answer, seen)) for form in FORMS)
    await failure_of(client, b"".join([*events, chunk(b"")]))


async def test_a_job_is_asked_for_with_the_same_headers_and_shown_without_secrets(client: httpx.AsyncClient) -> None:
    polls = 0

    async def engine(connection: Connection) -> None:
        nonlocal polls
        if connection.head.startswith("POST"):
            headers = [f"Location: /jobs/1?token={quote_plus(TOKEN)}", "Content-Type: application/json"]
            await connection.say(http("202 Accepted", headers=headers, body=echo(jobId="1")))
            return
        polls += 1
        going = {"status": "running", "message": f"with {TOKEN}"}
        said = going if polls == 1 else {"status": "completed", "token": TOKEN}
        await connection.say(json_answer(json.dumps(said).encode()))

    seen: list[Progress] = []

    async def see(progress: Progress) -> None:
        seen.append(progress)

    async with raw_server(engine) as server:
        answer = await call_engine(client, request_to(f"{server.url}/x", Accept="text/csv"), on_progress=see, pace=PACE)
    asked = server.heads[1:]
    assert len(asked) == 2
    for head in asked:
        # The place is the engine's word, and is kept as it is.
        assert head.startswith(f"GET /jobs/1?token={quote_plus(TOKEN)} ")
        assert f"\r\nAuthorization: Bearer {TOKEN}\r\n" in head
        assert "\r\nAccept: application/json\r\n" in head
        assert "idempotency-key" not in head.lower()
    assert answer.result == {"status": "completed", "token": "********"}
    assert [progress.message for progress in seen] == ["with ********"]


async def test_a_job_on_another_origin_is_not_told_the_headers(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(json_answer(b'{"status": "completed"}'))) as other:
        with pytest.raises(EngineAnswerInvalid, match="only the endpoint's own origin"):
            await answer_to(client, json_answer(b'{"jobId": "1", "statusUrl": "%s/jobs/1"}' % other.url.encode()))
    assert other.heads == []


async def test_the_http_client_logs_no_secret(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = http("200 OK", headers=[f"X-Echo: {quote_plus(TOKEN)}", "Content-Type: application/json"], body=b"{}")
        await answer_to(client, answer, method="GET")
    assert "HTTP Request: GET http" in caplog.text
    assert "X-Echo" in caplog.text
    assert "token=********" in caplog.text
    assert not any(form in caplog.text for form in FORMS)


async def test_a_request_that_cannot_be_made_is_told_without_its_secrets(client: httpx.AsyncClient) -> None:
    request = request_to("http://127.0.0.1:9/x", **{"X-€": TOKEN})
    with pytest.raises(EngineUnreachable) as caught:
        await call_engine(client, request)
    assert not any(form in "".join(traceback.format_exception(caught.value)) for form in FORMS)
