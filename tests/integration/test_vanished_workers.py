"""``kill -9`` of a worker, while another lives: within 90 seconds its runs are seen to, and people hear of it."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from campaign_files import ANALYZE, PROSPECT, campaign
from driving import END_SECONDS, SOON, Driver, until
from mails import mails_to
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelling, Running
from real_stack import Stack

from prefect_campaigns.blocks.store_types import AttemptState, Lease
from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.flows.leaving import HANDED_BACK, RECOVERING

NOTICED = timedelta(seconds=90)
ADDRESS = "vanished@example.com"
UNHEARD = "What only the books have heard."
ESTIMATE = {"estimatedCost": "0.25"}

CAMPAIGNS: dict[str, dict[str, Any]] = {
    "going": {"only": 2, "steps": {"analysis": ESTIMATE}},
    "failing": {"only": 1, "steps": {"prospecting": ESTIMATE}, "onCrash": "fail"},
    "sending": {"only": 1, "steps": {"prospecting": {"sends": True, **ESTIMATE}}},
    "cancelled": {"only": 1},
    "pending": {"only": 1},
    "unheard": {"only": 1},
    "frozen": {"only": 1, "steps": {"prospecting": {"timeout": 5_000}}},
}
"""By what becomes of a run of theirs when its worker is killed; that of the last one stands still."""


@pytest.fixture
async def no_survivor(in_stack: Stack) -> AsyncIterator[None]:
    """Let the stack's own worker be away while the test begins."""
    await asyncio.to_thread(in_stack.stop_worker)
    yield
    await asyncio.to_thread(in_stack.stop_worker)
    await asyncio.to_thread(in_stack.start_worker)


async def asked(engines: DemoEngines, path: str, count: int) -> None:
    async def look() -> bool:
        return len(engines.requests_to(path)) >= count

    await until(look, f"{count} requests to {path}")


async def logged(stack: Stack, text: str) -> bool:
    return text in (stack.home / "worker.log").read_text()


async def stand_still(worker: subprocess.Popen[bytes], stack: Stack) -> None:
    """Stop a worker's process where it is, outside a transaction: SQLite lets nobody else write until that one ends."""
    async with asyncio.timeout(END_SECONDS):
        while True:
            worker.send_signal(signal.SIGSTOP)
            if not await asyncio.to_thread(somebody_writes, stack.database):
                return
            worker.send_signal(signal.SIGCONT)
            await asyncio.sleep(SOON)


def somebody_writes(database: Path) -> bool:
    with closing(sqlite3.connect(database, timeout=1, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
    return False


async def end_unheard(driver: Driver, run: FlowRun) -> None:
    """Let a run have ended as when Prefect was away then, and its worker dies before it could say so."""
    report = await driver.store.get_run(str(run.id))
    assert report is not None
    lease = await driver.store.acquire_lease(
        report.campaign_key,
        run_id=report.run_id,
        run_name=report.run_name,
        holder="its worker",
        ttl_seconds=1,
        waiting_since=report.started_at,
    )
    assert isinstance(lease, Lease)
    await driver.store.finish_run(lease, report.model_copy(update={"message": UNHEARD}))
    await driver.store.release_lease(lease)
    await driver.client.set_flow_run_state(run.id, Running(), force=True)


async def history(driver: Driver, run_id: UUID) -> list[State[Any]]:
    return sorted(await driver.client.read_flow_run_states(run_id), key=lambda state: state.timestamp)


async def apply_all(driver: Driver, engines: DemoEngines) -> dict[str, UUID]:
    told = {"onFailure": {"email": ADDRESS}, "onComplete": {"email": ADDRESS}}
    campaigns = [
        campaign(f"Vanished {name}", engines.url, notifications=told, **options) for name, options in CAMPAIGNS.items()
    ]
    return dict(zip(CAMPAIGNS, await driver.apply(*campaigns), strict=True))


async def begin_all(driver: Driver, engines: DemoEngines, deployments: dict[str, UUID]) -> dict[str, FlowRun]:
    """Bring a run of the campaigns to where its worker is killed, and a second one of the first before its turn."""
    engines.hang_next(ANALYZE)
    runs = {"going": await driver.start(deployments["going"])}
    await asked(engines, ANALYZE, 1)
    runs["unheard"] = await driver.run(deployments["unheard"])
    engines.hang_next(PROSPECT, times=3)
    for name in ("failing", "sending", "cancelled"):
        runs[name] = await driver.start(deployments[name])
    await asked(engines, PROSPECT, 6)
    runs["waiting"] = await driver.start(deployments["going"])
    await driver.in_state(runs["waiting"].id, "Waiting")
    runs["pending"] = await driver.start(deployments["pending"], in_seconds=9)
    await driver.in_state(runs["pending"].id, "Pending")
    return runs


@pytest.mark.usefixtures("no_survivor")
@pytest.mark.timeout(400)
async def test_its_runs_crash_and_go_on_once_on_another_worker(
    driver: Driver, engines: DemoEngines, in_stack: Stack
) -> None:
    deployments = await apply_all(driver, engines)
    with ExitStack() as workers:
        frozen = workers.enter_context(in_stack.worker_of(WORK_POOL, name="frozen"))
        engines.hang_next(PROSPECT)
        frozen_run = await driver.start(deployments["frozen"])
        await asked(engines, PROSPECT, 1)
        await stand_still(frozen, in_stack)
        workers.callback(frozen.send_signal, signal.SIGCONT)
        mortal = workers.enter_context(in_stack.worker_of(WORK_POOL, name="mortal"))
        runs = {**await begin_all(driver, engines, deployments), "frozen": frozen_run}
        await end_unheard(driver, runs["unheard"])
        await asyncio.to_thread(in_stack.start_worker)
        mortal.send_signal(signal.SIGKILL)
        died = datetime.now(UTC)
        await driver.client.set_flow_run_state(runs["cancelled"].id, Cancelling(), force=True)

        ended = dict(zip(runs, await driver.all_ended([run.id for run in runs.values()], seconds=150), strict=True))
        # For a moment a run that goes on is Crashed, which is an end.
        for name in ("going", "frozen"):
            ended[name] = await driver.in_state(runs[name].id, "Completed")
        # Whoever wakes up finds that its run has gone on without it.
        frozen.send_signal(signal.SIGCONT)
        await until(lambda: logged(in_stack, "given up for lost"), "the end of the frozen execution")
    assert {name: run.state.name for name, run in ended.items() if run.state} == {
        "going": "Completed",
        "failing": "Crashed",
        "sending": "Crashed",
        "cancelled": "Cancelled",
        "pending": "Completed",
        "unheard": "Completed",
        "waiting": "Completed",
        "frozen": "Completed",
    }
    unheard = ended["unheard"].state
    assert unheard is not None
    assert unheard.message == UNHEARD
    states = {name: await history(driver, run.id) for name, run in runs.items()}
    for name in ("going", "failing", "sending", "frozen"):
        (crash,) = (state for state in states[name] if state.is_crashed())
        assert crash.timestamp - died < NOTICED
        who = "frozen" if name == "frozen" else "mortal"
        assert (crash.message or "").startswith(f"The run was broken off: worker {who!r} has vanished\nStep ")
    names = {name: Counter(state.name for state in was) for name, was in states.items()}
    assert {name for name, was in names.items() if was[RECOVERING] == 1} == {"going", "frozen"}
    assert {name for name, was in names.items() if was[HANDED_BACK] == 1} == {"waiting", "pending"}

    asked_for = Counter(one.idempotency_key for path in (PROSPECT, ANALYZE) for one in engines.requests_to(path))
    assert sorted(asked_for.values()) == [1] * 8 + [2, 2], "what was broken off is asked for again, by its key"
    first, second = await driver.store.attempts(str(runs["going"].id), "analysis")
    assert (first.state, second.state) == (AttemptState.CORRECTED, AttemptState.SETTLED)
    for name, why in (("failing", "its campaign says so (onCrash)"), ("sending", "must not be sent twice")):
        (attempt,) = await driver.store.attempts(str(runs[name].id), "prospecting")
        assert (attempt.state, attempt.booked) == (AttemptState.UNCONFIRMED, Decimal("0.25"))
        report = await driver.store.get_run(str(runs[name].id))
        state = ended[name].state
        assert report is not None
        assert state is not None
        assert (report.status, report.state_name) == ("failed", "Crashed")
        for said in (state.message or "", report.message or ""):
            assert why in said
            assert said.endswith("cost 0.25 USD, of which 0.25 USD unconfirmed (1 request).")
    for run in runs.values():
        report = await driver.store.get_run(str(run.id))
        assert report is not None
        assert report.completed_at is not None

    async def are_forgotten() -> bool:
        return [worker.name for worker in await driver.store.list_workers()] == [f"test of {WORK_POOL}"]

    # At the look that finds nothing left of them.
    await until(are_forgotten, "the workers that are gone are forgotten")

    mails = await mails_to(in_stack, ADDRESS, 10)
    # One that ended unheard was heard of before the test took that back.
    ends = {"Crashed": 4, "Completed": 6}
    assert Counter(str(mail.message["Subject"]).partition(":")[0] for mail in mails) == ends
