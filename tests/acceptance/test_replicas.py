"""Prefect in replicas, as docs/guides/scaling.md has it: whichever of them goes away, campaigns go on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from crowd import STEPS, Crowd
from driving import Driver
from mails import mails_to
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from real_stack import SCRUBBED
from replicas import REPLICAS, SERVICES, WORKERS, Replicated, replicated, what_is_missing
from stub_engine import StubEngine
from supabase_rig import Project

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.models import Campaign

pytestmark = pytest.mark.timeout(900)

COUNT = 14
OUTAGE_SECONDS = 10.0
BEGUN_MEANWHILE = 3
"""How many runs begin from the stop to the new start at the least; one a second is due."""
LEAD_SECONDS = 6.0
"""From when runs are planned until the first is due."""
SIGNALS = {"api-2": signal.SIGKILL}
"""What ends them, other than SIGTERM."""
NOWHERE = "http://127.0.0.1:9"
"""Where nothing listens."""


@pytest.fixture(scope="module")
def them(tmp_path_factory: pytest.TempPathFactory, supabase: Project) -> Iterator[Replicated]:
    if reason := what_is_missing():
        pytest.skip(reason)
    with replicated(tmp_path_factory.mktemp("replicas"), supabase) as them:
        yield them


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    with StubEngine() as engine:
        yield engine


@pytest.fixture
async def driver(them: Replicated, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Driver]:
    """Somebody who works with it from outside, through the load balancer."""
    for name, value in them.environment.items():
        if name.startswith(SCRUBBED):
            monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: them.api_url}):
        settings = load_settings()
        async with get_client() as client, open_store(settings) as store:
            yield Driver(client, store, settings)


async def due_soon(crowd: Crowd) -> datetime:
    """Plan a run of each, one a second; return when the first is due."""
    first = datetime.now(UTC) + timedelta(seconds=LEAD_SECONDS)
    await crowd.ask(times={name: first + timedelta(seconds=at) for at, name in enumerate(crowd.names)})
    return first


def seconds_until(then: datetime) -> float:
    return (then - datetime.now(UTC)).total_seconds()


async def fails(driver: Driver, name: str, *, recipient: str) -> UUID:
    """Apply a campaign whose engine is not there; return its deployment's id."""
    step = {"name": "prospecting", "engine": "prospecting", "endpoint": NOWHERE, "retry": {"attempts": 0}}
    told = {"onFailure": {"email": [recipient]}}
    (deployment,) = await driver.apply(
        Campaign.model_validate({"name": name, "budget": {"daily": 5}, "steps": [step], "notifications": told})
    )
    return deployment


@pytest.mark.parametrize("gone", [*REPLICAS, SERVICES, *WORKERS, "redis"])
async def test_while_one_of_them_is_away_what_is_due_is_done_and_who_is_to_hear_of_it_does(
    them: Replicated, driver: Driver, engine: StubEngine, gone: str
) -> None:
    crowd = Crowd(driver, engine, f"without-{gone}", COUNT, has_pool=False)
    await crowd.deploy()
    broken = await fails(driver, f"broken without {gone}", recipient=f"{gone}@example.com")
    first = await due_soon(crowd)
    failing = await driver.start(broken, in_seconds=seconds_until(first) + OUTAGE_SECONDS / 2)
    await asyncio.sleep(seconds_until(first))
    going = time.monotonic()
    await asyncio.to_thread(them.stop, gone, SIGNALS.get(gone, signal.SIGTERM))
    try:
        await asyncio.sleep(OUTAGE_SECONDS)
        begun = [name for name in crowd.names if any(at > going for at in crowd.asked(name, STEPS[0]))]
    finally:
        await asyncio.to_thread(them.start, gone)
    if gone != "redis":
        assert len(begun) >= BEGUN_MEANWHILE
    ended = await crowd.ended()
    assert {run.state_name for run in ended.values()} == {"Completed"}
    assert not crowd.done_again()
    assert (await driver.ended(failing.id)).state_name == "Failed"

    assert len(await mails_to(them, f"{gone}@example.com", 1)) == 1


async def test_a_run_of_a_machine_that_is_gone_goes_on_at_another_one(
    them: Replicated, driver: Driver, engine: StubEngine
) -> None:
    crowd = Crowd(driver, engine, "machine-is-gone", COUNT, has_pool=False)
    await crowd.deploy()
    first = await due_soon(crowd)
    await asyncio.sleep(seconds_until(first) + COUNT / 2)
    engine.hold()
    await crowd.under_way(2)
    going = next(name for name, state in (await crowd.states()).items() if state == "Running")
    gone = await crowd.worker_of(going)
    await asyncio.to_thread(them.stop, gone, signal.SIGKILL)
    try:
        finished = await crowd.finished_steps()
        engine.release()
        await crowd.retry_what_is_dead()
        assert {run.state_name for run in (await crowd.ended()).values()} == {"Completed"}
    finally:
        await asyncio.to_thread(them.start, gone)
    assert not finished & crowd.done_again()
    assert any(name == going for name, _ in crowd.done_again()), "the step that was under way is done once more"
