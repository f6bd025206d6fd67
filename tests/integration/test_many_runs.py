"""Many runs at once in campaign workers, with a work pool of their own.

``--at-full-size`` lets it be as many as people have, on a Prefect server with PostgreSQL, which takes half an hour.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from crowd import STEPS, Crowd, now_as_monotonic
from driving import Driver, until
from prefect_postgres import prefect_postgres
from real_stack import Stack
from stub_engine import StubEngine

CLAIMED_SIDE_BY_SIDE = 8
FULL, SMALL = 100, 12
QUIET_SECONDS = 8.0
"""How long nothing happens where nobody is at work."""


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
    with in_stack.worker_of("queued", limit=limit):
        await crowd.let_run()
        ended = await crowd.ended(seconds=3000)
    assert {run.state_name for run in ended.values()} == {"Completed"}
    assert all(len(crowd.asked(name, step)) == 1 for name in crowd.names for step in STEPS)
    started = sorted(crowd.names, key=lambda name: ended[name].start_time)
    displaced = [abs(place - crowd.names.index(name)) for place, name in enumerate(started)]
    assert max(displaced) <= 2 * CLAIMED_SIDE_BY_SIDE
    assert not re.search(r" 5\d\d ", (in_stack.home / "server.log").read_text())


@pytest.mark.timeout(600)
async def test_a_run_begins_at_its_time_however_many_others_wait_for_their_engines(
    driver: Driver, engine: StubEngine, in_stack: Stack, many: int
) -> None:
    crowd = Crowd(driver, engine, "punctual", many + 3)
    await crowd.deploy()
    *others, first, second, third = crowd.names
    engine.hold()
    with in_stack.worker_of("punctual"):
        await crowd.ask(others)
        await crowd.let_run()
        await crowd.under_way(many)
        due = datetime.now(UTC) + timedelta(seconds=4)
        await crowd.ask([first, second, third], times=dict.fromkeys([first, second, third], due))
        await crowd.under_way(many + 3)
        late_seconds = [crowd.asked(name, STEPS[0])[0] - now_as_monotonic(due) for name in (first, second, third)]
        engine.release()
        assert {run.state_name for run in (await crowd.ended()).values()} == {"Completed"}
    assert all(0 <= late < 1 for late in late_seconds), late_seconds


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
        in_stack.worker_of(pool, name="goes", limit=many) as goes,
        in_stack.worker_of(pool, name="stays", limit=many),
    ):
        await crowd.ask()
        await crowd.let_run()

        async def is_half_done() -> bool:
            return sum(map(len, engine.asked.values())) >= 4 * many

        await until(is_half_done, "half of the requests")
        goes.send_signal(sign)
        await asyncio.to_thread(goes.wait, 60)
        finished = {name: await finished_steps(driver, crowd, name) for name in crowd.names}
        if sign is signal.SIGKILL:
            await retry_what_is_dead(crowd, engine)
        ended = await crowd.ended(seconds=600)
    assert {run.state_name for run in ended.values()} == {"Completed"}
    for name, steps in finished.items():
        assert all(len(crowd.asked(name, step)) == 1 for step in steps), f"a finished step of {name} is done again"
    again = [(name, step) for name in crowd.names for step in STEPS if len(crowd.asked(name, step)) != 1]
    assert len(again) <= many, "of each run that was cut off, the step that was under way"
    if sign is signal.SIGTERM:
        assert not again, "each run ended its step in the grace time"
        assert all("Crashed" not in state for state in (await crowd.states()).values())


async def finished_steps(driver: Driver, crowd: Crowd, name: str) -> list[str]:
    report = await driver.store.get_run(str(crowd.runs[name].id))
    return [step.name for step in report.steps if step.status == "completed"] if report else []


async def retry_what_is_dead(crowd: Crowd, engine: StubEngine) -> None:
    """Retry the runs that nobody has any more: they stay where they are, though nothing else is left to do."""
    seen: tuple[int, dict[str, str]] | None = None
    while seen is None or "Scheduled" in seen[1].values() or seen != (now := await progress_of(crowd, engine)):
        seen = await progress_of(crowd, engine)
        await asyncio.sleep(QUIET_SECONDS)
    _, states = now
    for name in (name for name, state in states.items() if state in ("Running", "Pending")):
        await crowd.retry(name)


async def progress_of(crowd: Crowd, engine: StubEngine) -> tuple[int, dict[str, str]]:
    return sum(map(len, engine.asked.values())), await crowd.states()
