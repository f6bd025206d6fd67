"""Many runs at once in campaign workers, with a work pool of their own.

``--at-full-size`` lets it be as many as people have, on a Prefect server with PostgreSQL, which takes ten minutes.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from crowd import STEPS, Crowd, now_as_monotonic
from driving import Driver, until
from prefect.states import Suspended
from prefect_postgres import prefect_postgres
from real_stack import Stack
from stub_engine import StubEngine

BEGUN_SIDE_BY_SIDE = 4
FULL, SMALL = 100, 12
COST = Decimal("0.001")
GROWN_MB = 30.0
SELDOM = "120"
"""Seconds from one look for due runs to the next, where nothing is to be found by these."""
HEARD_SECONDS = 2.0
LOOKED_AT = 20
"""Of how many runs everything is looked at that is kept of them."""


@pytest.fixture(scope="module")
def stack(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The stack of all tests; at full size one with PostgreSQL."""
    if not pytestconfig.getoption("--at-full-size"):
        yield request.getfixturevalue("stack")
        return
    with prefect_postgres(is_durable=True) as (_, environment):
        stack = Stack(tmp_path_factory.mktemp("large"), server_env=environment)
        with stack.mail:
            asyncio.run(stack.server.start())
            try:
                yield stack
            finally:
                asyncio.run(stack.server.stop())


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    with StubEngine() as engine:
        yield engine


@pytest.fixture
def many(pytestconfig: pytest.Config) -> int:
    """How many runs are many."""
    return FULL if pytestconfig.getoption("--at-full-size") else SMALL


@pytest.mark.timeout(3600)
async def test_what_is_queued_is_done_once_in_the_order_of_its_schedule(
    driver: Driver, engine: StubEngine, in_stack: Stack, pytestconfig: pytest.Config
) -> None:
    count, limit = (1000, 200) if pytestconfig.getoption("--at-full-size") else (30, 6)
    crowd = Crowd(driver, engine, "queued", count)
    await crowd.deploy()
    due = {name: datetime.now(UTC) - timedelta(seconds=count - at) for at, name in enumerate(crowd.names)}
    asked = random.Random(1).sample(crowd.names, count)  # noqa: S311 - the same each time
    await crowd.ask(asked, times=due)
    before = worker_log(in_stack)
    with in_stack.worker_of("queued", limit=limit) as worker:
        await crowd.let_run()
        await crowd.asked_for(count)
        memory = resident_mb(worker.pid)
        ended = await crowd.ended(seconds=3000)
        grown_mb = resident_mb(worker.pid) - memory
    assert {run.state_name for run in ended.values()} == {"Completed"}
    assert {run.run_count for run in ended.values()} == {1}
    assert not crowd.done_again()
    started = sorted(crowd.names, key=lambda name: ended[name].start_time)
    displaced = [abs(place - crowd.names.index(name)) for place, name in enumerate(started)]
    assert statistics.mean(displaced) <= BEGUN_SIDE_BY_SIDE
    assert max(displaced) <= 8 * BEGUN_SIDE_BY_SIDE, "one that takes long to begin is passed by some"
    assert not re.search(r"Server error '5\d\d|broke off|Traceback", worker_log(in_stack).removeprefix(before))
    assert grown_mb < GROWN_MB, "from a quarter of the requests on"
    for name in crowd.names[:: max(1, count // LOOKED_AT)]:
        await assert_all_is_kept(driver, crowd.runs[name].id)


def worker_log(stack: Stack) -> str:
    log = stack.home / "worker.log"
    return log.read_text() if log.exists() else ""


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def assert_all_is_kept(driver: Driver, run_id: UUID) -> None:
    """Each step's result and cost in the books, its state and its log in Prefect."""
    report = await driver.store.get_run(str(run_id))
    assert report is not None and report.total_cost == len(STEPS) * COST
    assert [(step.name, step.cost, step.result) for step in report.steps] == [
        (step, COST, {"cost": float(COST)}) for step in STEPS
    ]
    task_runs = await driver.step_runs(run_id, len(STEPS))
    assert [(run.name, run.state_name) for run in task_runs] == [(step, "Completed") for step in STEPS]
    await driver.logged(run_id, *(f"{step}: cost {COST} USD" for step in STEPS))


@pytest.mark.timeout(600)
async def test_a_run_begins_at_its_time_however_many_others_wait_for_their_engines(
    driver: Driver, engine: StubEngine, in_stack: Stack, many: int
) -> None:
    crowd = Crowd(driver, engine, "punctual", many + 3)
    await crowd.deploy()
    *others, first, second, third = crowd.names
    engine.hold()
    with in_stack.worker_of("punctual", PREFECT_WORKER_QUERY_SECONDS=SELDOM):
        await crowd.ask(others)
        await crowd.let_run()
        await crowd.under_way(many)
        # A server writes down for some time that so many have begun at once.
        due = datetime.now(UTC) + timedelta(seconds=4 + many / 10)
        await crowd.ask([first, second, third], times=dict.fromkeys([first, second, third], due))
        # While the engines of all others are held, and before anybody looks for what is due.
        await crowd.under_way(many + 3)
        late_seconds = [crowd.asked(name, STEPS[0])[0] - now_as_monotonic(due) for name in (first, second, third)]
        engine.release()
        assert {run.state_name for run in (await crowd.ended()).values()} == {"Completed"}
    # How much of a moment later than its time is for the machine to say.
    assert all(0 <= late < float(SELDOM) / 2 for late in late_seconds), late_seconds


@pytest.mark.timeout(600)
async def test_cancelling_one_run_closes_its_request_and_harms_no_other(
    driver: Driver, engine: StubEngine, in_stack: Stack, many: int
) -> None:
    crowd = Crowd(driver, engine, "one-is-cancelled", many)
    await crowd.deploy()
    unwanted, *others = crowd.names
    engine.hold()
    with in_stack.worker_of("one-is-cancelled"):
        await crowd.ask()
        await crowd.let_run()
        await crowd.under_way(many)
        status = await driver.store.budget_status(crowd.key(unwanted))
        assert status.limits[0].reserved > 0
        asked_at = time.monotonic()
        await crowd.cancel(unwanted)

        async def is_closed() -> bool:
            return bool(engine.given_up)

        await until(is_closed, "the end of the request")
        assert engine.given_up[0] - asked_at < 2
        assert (await crowd.ended([unwanted]))[unwanted].state_name == "Cancelled"
        status = await driver.store.budget_status(crowd.key(unwanted))
        assert status.limits[0].reserved == 0
        engine.release()
        assert {run.state_name for run in (await crowd.ended(others)).values()} == {"Completed"}
    assert len(engine.given_up) == 1


@pytest.mark.timeout(900)
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
async def test_of_two_workers_one_goes_and_the_other_does_the_rest(
    driver: Driver, engine: StubEngine, in_stack: Stack, many: int, sign: signal.Signals
) -> None:
    pool = f"two-workers-{sign.name.lower()}"
    crowd = Crowd(driver, engine, pool, 2 * many)
    await crowd.deploy()
    with (
        in_stack.worker_of(pool, name="goes", limit=many, CAMPAIGNS_GRACE_SECONDS="20") as goes,
        in_stack.worker_of(pool, name="stays", limit=many),
    ):
        await crowd.ask()
        await crowd.let_run()
        await crowd.asked_for(4 * many)
        engine.hold()
        cut_off = await crowd.running_in("goes")
        goes.send_signal(sign)
        if sign is signal.SIGKILL:
            await asyncio.to_thread(goes.wait, 60)
            finished = await crowd.finished_steps()
        engine.release()
        await asyncio.to_thread(goes.wait, 60)
        if sign is signal.SIGKILL:
            await crowd.retry_what_is_dead()
        ended = await crowd.ended(seconds=600)
    assert {run.state_name for run in ended.values()} == {"Completed"}
    again = crowd.done_again()
    if sign is signal.SIGKILL:
        assert not finished & again
        # One that had done all its steps was about to end.
        unfinished = {name for name in cut_off if not finished >= {(name, step) for step in STEPS}}
        assert unfinished <= {name for name, _ in again}, "the step that was under way"
        assert len(again) <= many, "of each run that was cut off, the step that was under way"
    else:
        assert not again, "each run ended its step in the grace time"
        assert not {"Crashed", "Failed"} & await crowd.states_ever()


@pytest.mark.timeout(600)
async def test_runs_that_wait_for_their_engines_are_handed_back_when_their_worker_stops(
    driver: Driver, engine: StubEngine, in_stack: Stack, many: int
) -> None:
    crowd = Crowd(driver, engine, "wait-and-go-on", 2 * many)
    await crowd.deploy()
    engine.hold()
    with in_stack.worker_of("wait-and-go-on", name="first") as first:
        await crowd.ask()
        await crowd.let_run()
        await crowd.under_way(2 * many)
        await crowd.pause()
        first.send_signal(signal.SIGTERM)
        await asyncio.to_thread(first.wait, 60)
    assert set((await crowd.states()).values()) == {"HandedBack"}
    engine.release()
    await crowd.let_run()
    with in_stack.worker_of("wait-and-go-on", name="second"):
        assert {run.state_name for run in (await crowd.ended(seconds=300)).values()} == {"Completed"}
    assert crowd.done_again() == {(name, STEPS[0]) for name in crowd.names}


async def test_a_worker_that_had_no_room_looks_again_when_it_has(
    driver: Driver, engine: StubEngine, in_stack: Stack
) -> None:
    crowd = Crowd(driver, engine, "no-room", 2)
    first, second = crowd.names
    await crowd.deploy()
    await crowd.let_run()
    engine.hold()
    with in_stack.worker_of("no-room", limit=1, PREFECT_WORKER_QUERY_SECONDS=SELDOM):
        await crowd.ask([first])
        await crowd.under_way(1)
        await crowd.ask([second])
        await asyncio.sleep(HEARD_SECONDS)
        engine.release()
        assert (await crowd.ended(seconds=30))[second].state_name == "Completed"


async def test_a_run_that_is_resumed_before_it_has_ended_goes_on_after_that(
    driver: Driver, engine: StubEngine, in_stack: Stack
) -> None:
    crowd = Crowd(driver, engine, "resumed-early", 1)
    (name,) = crowd.names
    await crowd.deploy()
    await crowd.let_run()
    engine.hold()
    with in_stack.worker_of("resumed-early", PREFECT_WORKER_QUERY_SECONDS=SELDOM):
        await crowd.ask()
        await crowd.under_way(1)
        run_id = crowd.runs[name].id
        await driver.client.set_flow_run_state(run_id, Suspended(timeout_seconds=600))
        await asyncio.sleep(HEARD_SECONDS)
        await driver.client.resume_flow_run(run_id)
        await asyncio.sleep(HEARD_SECONDS)
        engine.release()
        assert (await crowd.ended(seconds=30))[name].state_name == "Completed"
    states = sorted(await driver.client.read_flow_run_states(run_id), key=lambda state: state.timestamp)
    once = ["Pending", "Running"]
    assert [state.name for state in states] == ["Scheduled", *once, "Suspended", "Resuming", *once, "Completed"]
    assert not crowd.done_again()


async def test_a_worker_that_looks_once_does_what_it_has_taken_up(
    driver: Driver, engine: StubEngine, in_stack: Stack
) -> None:
    crowd = Crowd(driver, engine, "looked-for-once", 3)
    await crowd.deploy()
    await crowd.ask()
    await crowd.let_run()
    with in_stack.worker_of("looked-for-once", options=["--run-once"]) as worker:
        assert await asyncio.to_thread(worker.wait, 60) == 0
    assert set((await crowd.states()).values()) == {"Completed"}
