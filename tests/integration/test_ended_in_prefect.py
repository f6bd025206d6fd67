"""Runs that have ended in Prefect while no worker had them: the workers' upkeep tells the books."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing as closing_connection
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from campaign_files import COMPOSE, SEND, campaign
from driving import Driver, until
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.states import AwaitingRetry, Cancelled, Running
from real_stack import Stack

from prefect_campaigns.blocks.sqlite.backup import backup, restore
from prefect_campaigns.blocks.store_types import ApprovalState, AttemptState, Lease
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.driving.run_changes import begin_at
from prefect_campaigns.deployments.driving.runs import approve_run, start_run
from prefect_campaigns.deployments.running import upkeep
from prefect_campaigns.deployments.running.worker import CampaignWorker
from prefect_campaigns.errors import SendMayHaveHappened, StoreError
from prefect_campaigns.flows import closing
from prefect_campaigns.flows.closing import OLDER_BOOKS
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus

logger = logging.getLogger(__name__)

ASKED = {"sending": {"approval": {"timeout": 3_600_000}}}
ESTIMATE = Decimal("0.25")


async def look(driver: Driver) -> None:
    """Do what a worker does every five minutes."""
    await upkeep.close_all_ended(driver.client, driver.store, logger)


async def suspended(driver: Driver, engines: DemoEngines, name: str) -> FlowRun:
    """Run a campaign up to the sending that has to be approved."""
    flow_run = await driver.start(await driver.deploy(name, engines.url, steps=ASKED))
    return await driver.in_state(flow_run.id, "Suspended")


async def in_books(driver: Driver, flow_run: FlowRun) -> tuple[RunStatus, ApprovalState]:
    """Return how a run, and the approval that it asked for, stand in the books."""
    report = await driver.store.get_run(str(flow_run.id))
    (approval,) = await driver.store.list_approvals(run_id=str(flow_run.id))
    assert report is not None
    return report.status, approval.state


async def cancel(driver: Driver, flow_run: FlowRun) -> None:
    """Let Prefect have the run as cancelled, and nobody else hear of it."""
    await driver.client.set_flow_run_state(flow_run.id, Cancelled(), force=True)


async def test_what_is_cancelled_as_it_waits_is_closed_and_what_waits_on_is_left_alone(
    driver: Driver, engines: DemoEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = await suspended(driver, engines, "Ended Waiting")
    waiting = await suspended(driver, engines, "Ended Not")
    await cancel(driver, gone)
    monkeypatch.setattr(upkeep, "LOOK_SECONDS", 0.05)
    async with CampaignWorker(work_pool_name=WORK_POOL):

        async def closed() -> bool:
            return await in_books(driver, gone) == (RunStatus.ABORTED, ApprovalState.WITHDRAWN)

        await until(closed, "the books to be told")
    report = await driver.store.get_run(str(gone.id))
    assert report is not None and report.message is not None
    assert report.state_name == "Cancelled" and "as Cancelled; put down by the campaign worker" in report.message

    assert await in_books(driver, waiting) == (RunStatus.RUNNING, ApprovalState.WAITING)
    await approve_run(driver.client, driver.store, waiting, actor="ada@laptop")
    assert (await driver.ended(waiting.id)).state.name == "Completed"
    # A retry of what was closed asks anew.
    await driver.client.set_flow_run_state(gone.id, AwaitingRetry(), force=True)
    await driver.in_state(gone.id, "Suspended")
    assert len(engines.requests_to(SEND)) == 1


async def test_what_is_cancelled_between_its_approval_and_a_worker_is_closed(
    driver: Driver, engines: DemoEngines
) -> None:
    flow_run = await suspended(driver, engines, "Ended Approved")
    await driver.client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=True))
    try:
        await approve_run(driver.client, driver.store, flow_run, actor="ada@laptop")
        await look(driver)
        assert await in_books(driver, flow_run) == (RunStatus.RUNNING, ApprovalState.APPROVED)
        await cancel(driver, flow_run)
        await look(driver)
    finally:
        await driver.client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=False))
    assert await in_books(driver, flow_run) == (RunStatus.ABORTED, ApprovalState.APPROVED)
    assert engines.requests_to(SEND) == []


async def test_what_is_deleted_is_closed_unless_it_is_a_run_of_another_server(
    driver: Driver, engines: DemoEngines
) -> None:
    deleted = await suspended(driver, engines, "Ended Deleted")
    await driver.client.delete_flow_run(deleted.id)
    elsewhere = campaign("Ended Elsewhere", engines.url)
    await driver.store.save_campaign(elsewhere, deployment_id=uuid4())
    lease = await begun(driver, "ended-elsewhere", uuid4())
    await driver.store.release_lease(lease)
    await look(driver)
    assert await in_books(driver, deleted) == (RunStatus.ABORTED, ApprovalState.WITHDRAWN)
    other = await driver.store.get_run(lease.run_id)
    assert other is not None and other.status is RunStatus.RUNNING
    await driver.store.delete_campaign("ended-elsewhere")


async def begun(driver: Driver, key: str, run_id: UUID) -> Lease:
    """Write down a run whose request to one step has left, and whose request to the next one has not."""
    store, now = driver.store, current_clock().now()
    lease = await store.acquire_lease(
        key, run_id=str(run_id), run_name="begun", holder="x", ttl_seconds=60, waiting_since=now
    )
    assert isinstance(lease, Lease)
    steps = (
        StepResult(name="sending", engine="sender", position=0, status=StepStatus.RUNNING, sent_as="0f"),
        StepResult(name="reminder", engine="sender", position=1, status=StepStatus.PENDING),
    )
    report = RunReport(
        run_id=str(run_id),
        run_name="begun",
        campaign_key=key,
        campaign_name=key,
        status=RunStatus.RUNNING,
        started_at=now - timedelta(minutes=1),
        steps=steps,
    )
    await store.start_run(lease, report)
    for step in steps:
        held = await store.reserve(lease, step=step.name, attempt=1, estimated_cost=ESTIMATE, hold_seconds=3600)
        if step.status is StepStatus.RUNNING:
            await store.mark_sent(lease, held)
    return lease


@pytest.fixture
async def going(driver: Driver, engines: DemoEngines) -> AsyncIterator[tuple[FlowRun, Lease]]:
    """A run that goes on, as far as Prefect and the books know."""
    key = "ended-going"
    flow_run = await driver.start_later(await driver.deploy("Ended Going", engines.url))
    await driver.client.set_flow_run_state(flow_run.id, Running(), force=True)
    yield flow_run, await begun(driver, key, flow_run.id)
    await driver.store.delete_campaign(key)


async def test_what_goes_on_keeps_its_record_and_its_money_until_prefect_has_its_end_and_nobody_its_lease(
    driver: Driver, going: tuple[FlowRun, Lease]
) -> None:
    flow_run, lease = going
    store, run_id = driver.store, str(flow_run.id)

    async def states() -> list[AttemptState]:
        return [one.state for step in ("sending", "reminder") for one in await store.attempts(run_id, step)]

    # Its worker renews the lease, whatever somebody has told Prefect; or its lease ran out while the store was away.
    for is_over, has_lease in ((True, True), (False, False)):
        await driver.client.set_flow_run_state(flow_run.id, Cancelled() if is_over else Running(), force=True)
        await (store.renew_lease(lease, ttl_seconds=60) if has_lease else store.release_lease(lease))
        await look(driver)
        report = await store.get_run(run_id)
        assert report is not None and report.status is RunStatus.RUNNING
        assert await states() == [AttemptState.SENT, AttemptState.HELD]

    await cancel(driver, flow_run)
    # Of two workers that look at once, either may be first.
    await asyncio.gather(look(driver), look(driver))
    report = await store.get_run(run_id)
    assert report is not None and (report.status, report.total_cost) == (RunStatus.ABORTED, ESTIMATE)
    assert await states() == [AttemptState.UNCONFIRMED, AttemptState.RELEASED]
    sending, reminder = report.steps
    broken = "broken off while its request was under way: mails may have gone out"
    assert (sending.status, sending.error, sending.cost) == (StepStatus.FAILED, broken, ESTIMATE)
    assert reminder.status is StepStatus.PENDING
    assert f"Step 'sending' failed: {broken}" in (report.message or "") and "cost 0.25 USD" in (report.message or "")
    status = await store.budget_status("ended-going")
    assert {(limit.spent, limit.reserved) for limit in status.limits} == {(ESTIMATE, Decimal(0))}
    assert await store.verify_totals("ended-going") == []
    # What the engine says of it at last is booked, as of any that is unconfirmed.
    (sent,) = await store.attempts(run_id, "sending")
    assert (await store.settle_late(sent, Decimal("0.1"))).booked == Decimal("0.1")


async def test_of_books_that_are_older_than_the_end_of_a_run_nobody_learns_that_it_has_not_sent(
    driver: Driver, engines: DemoEngines, in_stack: Stack, tmp_path: Path
) -> None:
    made = campaign("Ended Restored", engines.url)
    (deployment_id,) = await driver.apply(made)
    engines.pace = 0.7
    flow_run = await driver.start(deployment_id)

    async def composing() -> bool:
        return bool(engines.requests_to(COMPOSE))

    await until(composing, "the composing to begin")
    await backup(in_stack.database, tmp_path / "nightly.db")
    engines.pace = 0
    assert (await driver.ended(flow_run.id)).state.name == "Completed"

    async def put_back() -> bool:
        try:
            await restore(in_stack.database, tmp_path / "nightly.db")
        except StoreError:
            # Some run goes on.
            return False
        return True

    await until(put_back, "the books to be put back")

    async def closed() -> RunReport | None:
        await look(driver)
        report = await driver.store.get_run(str(flow_run.id))
        return report if report is not None and report.status is not RunStatus.RUNNING else None

    # The lease that was put back with the rest runs out.
    with closing_connection(sqlite3.connect(in_stack.database)) as db, db:
        db.execute("UPDATE leases SET expires_at = '2026-01-01T00:00:00.000000Z' WHERE campaign_key = ?", (made.slug,))
    report = await until(closed, "the run to be closed")
    assert report is not None and OLDER_BOOKS in (report.message or "")
    with pytest.raises(SendMayHaveHappened):
        await begin_at(driver.store, made, "outreach", send_again=False)
    # Nor is it sent again by a run that was asked for past that.
    record = await driver.store.get_campaign(made.slug)
    parameters = {"from_step": "outreach", "results_of": str(flow_run.id)}
    again = await start_run(driver.client, driver.store, record, actor="ada@laptop", parameters=parameters)
    ended = await driver.ended(again.id)
    assert ended.state.name == "Failed" and "has sent with the same results already, or may have" in ended.state.message
    assert len(engines.requests_to(SEND)) == 1


async def test_a_run_that_is_due_while_one_is_closed_waits_and_is_not_skipped(
    driver: Driver, engines: DemoEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_closing, is_waited_for = asyncio.Event(), asyncio.Event()

    async def held_up(*args: Any, **options: Any) -> None:
        is_closing.set()
        await is_waited_for.wait()
        await end_record(*args, **options)

    end_record = closing.end_record
    monkeypatch.setattr(closing, "end_record", held_up)
    made = campaign("Ended Overlapping", engines.url, steps=ASKED, schedule={"cron": "0 9 1 1 *", "overlap": "skip"})
    (deployment_id,) = await driver.apply(made)
    first = await driver.start(deployment_id)
    await driver.in_state(first.id, "Suspended")
    await cancel(driver, first)
    upkeep_of_a_worker = asyncio.create_task(look(driver))
    await is_closing.wait()
    due = await driver.start(deployment_id)
    waiting = await driver.in_state(due.id, "Waiting")
    assert "the closing of" in (waiting.state.message if waiting.state else "")
    is_waited_for.set()
    await upkeep_of_a_worker
    await driver.in_state(due.id, "Suspended")


@pytest.mark.usefixtures("going")
async def test_prefect_is_asked_once_for_all_runs_that_are_open(driver: Driver) -> None:
    # What others have left.
    await look(driver)
    asked: list[str] = []

    async def note(request: httpx.Request) -> None:
        asked.append(request.url.path)

    hooks = driver.client._client.event_hooks["request"]
    driver.client._client.event_hooks = {"request": [*hooks, note]}
    await look(driver)
    assert [path for path in asked if "flow_run" in path] == ["/api/flow_runs/filter"]
