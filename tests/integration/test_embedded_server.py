"""The embedded server: many callers at once wait for their turn, since it has one writer; web pages are no callers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from prefect_campaigns.deployments.compile import WORK_POOL

AT_ONCE = 40


async def test_many_who_ask_for_a_run_at_once_are_all_answered(driver, engines, in_stack) -> None:
    deployment = await driver.deploy("Asked By Many", engines.url)
    tomorrow = {"type": "SCHEDULED", "state_details": {"scheduled_time": str(datetime.now(UTC) + timedelta(days=1))}}
    # Not with Prefect's client: it would ask again, two seconds later, and again.
    async with httpx.AsyncClient(base_url=in_stack.server.api_url, trust_env=False, timeout=60) as client:
        answers = await asyncio.gather(
            *(
                client.post(f"/deployments/{deployment}/create_flow_run", json={"state": tomorrow})
                for _ in range(AT_ONCE)
            )
        )
    assert {answer.status_code for answer in answers} == {201}


async def test_a_request_that_reads_beside_what_it_writes_does_not_wait_for_itself(driver, in_stack) -> None:
    await driver.apply()
    queue = f"{in_stack.server.api_url}/work_pools/{WORK_POOL}/queues/default"
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        answers = [await client.patch(queue, json={"is_paused": paused}) for paused in (True, False)]
    assert {answer.status_code for answer in answers} == {204}


PAGE = "https://evil.example"


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"Host": "localhost:4200"}, False),
        # What a page can send without its browser asking first: a body of no declared type.
        ({"Origin": PAGE}, True),
        ({"Origin": "null"}, True),
        # A name of the page's own that leads here.
        ({"Host": "evil.example:4200", "Origin": "http://evil.example:4200"}, True),
    ],
    ids=lambda value: ", ".join(value.values()) or "none" if isinstance(value, dict) else "",
)
async def test_no_web_page_makes_it_do_anything(in_stack, headers: dict[str, str], refused: bool) -> None:
    async with httpx.AsyncClient(base_url=in_stack.server.api_url, trust_env=False, timeout=20) as client:
        answer = await client.post("/flows/", json={"name": "made by a page"}, headers=headers)
    # 200 where it is there already.
    assert answer.status_code in ((403,) if refused else (200, 201)), answer.text


async def test_no_web_page_reads_what_it_answers(in_stack) -> None:
    async with httpx.AsyncClient(base_url=in_stack.server.api_url, trust_env=False, timeout=20) as client:
        rebound = await client.get("/admin/version", headers={"Host": "evil.example"})
        asked = await client.get("/admin/version", headers={"Origin": PAGE})
        preflight = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
        may_ask = await client.options("/block_documents/filter", headers=preflight)
        own = await client.options("/block_documents/filter", headers={**preflight, "Origin": in_stack.server.ui_url})
    assert rebound.status_code == 403
    assert asked.status_code == 200
    for answer in (asked, may_ask):
        assert "access-control-allow-origin" not in answer.headers
    assert may_ask.status_code == 403
    assert own.status_code == 200


@pytest.mark.parametrize(("origin", "taken"), [(None, True), (PAGE, False)])
async def test_no_web_page_listens_to_its_events(in_stack, origin: str | None, taken: bool) -> None:
    url = f"{in_stack.server.api_url.replace('http', 'ws', 1)}/events/out"
    headers = {} if origin is None else {"Origin": origin}
    try:
        async with connect(
            url, subprotocols=[Subprotocol("prefect")], additional_headers=headers, proxy=None
        ) as socket:
            await socket.send('{"type": "auth", "token": null}')
            assert "auth_success" in str(await socket.recv())
            assert taken
    except InvalidStatus as error:
        assert not taken
        assert error.response.status_code == 403
