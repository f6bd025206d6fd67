"""The embedded server under many callers at once: it has one writer, and lets them wait for their turn."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import httpx

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
