"""What becomes of a run when its worker is told to stop: it ends, or another worker goes on with it."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from campaign_files import ANALYZE, PROSPECT
from driving import until
from prefect.states import Cancelled, Cancelling, Completed, Running, Suspended

from prefect_campaigns.blocks.store_types import AttemptState, Lease
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.flows.leaving import give_back


async def asked(engines: DemoEngines, count: int = 1) -> None:
    """Wait until so many requests have come."""

    async def look() -> bool:
        return len(engines.requests) >= count

    await until(look, f"{count} requests")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_what_may_have_sent_ends_with_its_worker_and_says_so(driver, engines, in_stack, sign) -> None:
    address = f"{sign.name.lower()}@example.com"
    said = "broken off while its request was under way: mails may have gone out"
    engines.hang_next(PROSPECT)
    deployment = await driver.deploy(
        f"Stopped By {sign.name}",
        engines.url,
        only=1,
        steps={"prospecting": {"estimatedCost": "0.25", "sends": True}},
        notifications={"onFailure": {"email": address}},
    )
    flow_run = await driver.start(deployment)
    await asked(engines)
    await asyncio.to_thread(in_stack.stop_worker, sign)
    try:
        ended = await driver.ended(flow_run.id)
        assert ended.state.name == "Crashed"
        why = f"The worker was stopped while the run was going\nStep 'prospecting' failed: {said}\n"
        assert ended.state.message.startswith(why)
        record = await driver.store.get_run(str(flow_run.id))
        assert (record.state_name, record.status, record.steps[0].error) == ("Crashed", "failed", said)
        (attempt,) = await driver.store.attempts(str(flow_run.id), "prospecting")
        assert (attempt.state, attempt.booked) == (AttemptState.UNCONFIRMED, Decimal("0.25"))
        next_one = await driver.store.acquire_lease(
            f"stopped-by-{sign.name.lower()}",
            run_id="next",
            run_name="next",
            holder="next",
            ttl_seconds=1,
            waiting_since=datetime.now(UTC),
        )
        assert isinstance(next_one, Lease), "the next run need not wait for it"

        async def mailed() -> bool:
            return any(address in mail.recipients for mail in in_stack.mail.messages)

        await until(mailed, "the mail about the crash")
    finally:
        await asyncio.to_thread(in_stack.start_worker)


async def test_a_run_that_ends_within_the_grace_time_ends_where_it_is(driver, engines, in_stack) -> None:
    engines.pace = 0.05
    brief = {"prospecting": {"params": {"count": 1}}}
    deployment = await driver.deploy("Ends In Time", engines.url, only=1, steps=brief)
    await asyncio.to_thread(in_stack.stop_worker)
    # Longer than a run takes on a machine that has much else to do.
    in_stack.start_worker(CAMPAIGNS_GRACE_SECONDS="25")
    try:
        flow_run = await driver.start(deployment)
        await asked(engines)
        await asyncio.to_thread(in_stack.stop_worker)
        ended = await driver.client.read_flow_run(flow_run.id)
        assert (ended.state.name, ended.run_count, len(engines.requests)) == ("Completed", 1, 1)
    finally:
        await asyncio.to_thread(in_stack.stop_worker)
        await asyncio.to_thread(in_stack.start_worker)


async def test_what_is_left_is_handed_back_and_done_by_the_next_worker(driver, engines, in_stack) -> None:
    engines.hang_next(ANALYZE)
    deployment = await driver.deploy("Handed Back", engines.url, only=2, steps={"analysis": {"estimatedCost": "0.25"}})
    flow_run = await driver.start(deployment)
    await asked(engines, 2)
    waiting = await driver.start(deployment)
    await driver.in_state(waiting.id, "Waiting")
    soon = await driver.start(await driver.deploy("Not Due Yet", engines.url, only=1), in_seconds=8)
    await driver.in_state(soon.id, "Pending")
    await asyncio.to_thread(in_stack.stop_worker)
    try:
        left = [await driver.client.read_flow_run(one.id) for one in (flow_run, waiting, soon)]
        assert [one.state.name for one in left] == ["HandedBack"] * 3
        assert left[2].state.state_details.scheduled_time == soon.state.state_details.scheduled_time
        record = await driver.store.get_run(str(flow_run.id))
        assert (record.status, [step.status for step in record.steps]) == ("running", ["completed", "running"])
    finally:
        await asyncio.to_thread(in_stack.start_worker)
    assert [one.state.name for one in await driver.all_ended([one.id for one in left], seconds=60)] == ["Completed"] * 3
    asked_of = [request.path for request in engines.requests]
    assert asked_of.count(ANALYZE) == 3, "once in vain, once again, and once by the run that waited"
    first, second = await driver.store.attempts(str(flow_run.id), "analysis")
    assert (first.state, second.state) == (AttemptState.CORRECTED, AttemptState.SETTLED)


async def test_what_a_person_has_suspended_stays_so(driver, engines, in_stack) -> None:
    engines.hang_next(ANALYZE)
    flow_run = await driver.start(await driver.deploy("Suspended And Stopped", engines.url, only=2))
    await asked(engines, 2)
    await driver.client.set_flow_run_state(flow_run.id, Suspended(timeout_seconds=600))
    await asyncio.to_thread(in_stack.stop_worker)
    try:
        assert (await driver.client.read_flow_run(flow_run.id)).state.name == "Suspended"
    finally:
        await asyncio.to_thread(in_stack.start_worker)
    await driver.client.resume_flow_run(flow_run.id)
    assert (await driver.ended(flow_run.id)).state.name == "Completed"
    asked_of = [request.path for request in engines.requests]
    assert (asked_of.count(PROSPECT), asked_of.count(ANALYZE)) == (1, 2)


@pytest.mark.parametrize(
    ("state", "given", "left"),
    [
        (Cancelled(), None, "Cancelled"),
        # Prefect sees that nobody has it.
        (Cancelling(), None, "Cancelled"),
        (Completed(), None, "Completed"),
        (Suspended(timeout_seconds=600), "Suspended", "Suspended"),
        (Running(), "HandedBack", "HandedBack"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_only_what_goes_on_is_given_back(driver, engines, state, given, left) -> None:
    flow_run = await driver.start_later(await driver.deploy(f"Given Back {state.name}", engines.url, only=1))
    await driver.client.set_flow_run_state(flow_run.id, state, force=True)
    later = datetime.now(UTC) + timedelta(days=1)
    waits = await give_back(driver.client, flow_run.id, why="its worker stops", due=later)
    assert (waits and waits.name) == given
    assert (await driver.client.read_flow_run(flow_run.id)).state.name == left
    await driver.client.set_flow_run_state(flow_run.id, Cancelled(), force=True)
