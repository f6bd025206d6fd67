"""An engine by which runs fail, one after the other: it is left alone, and people hear of it once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from campaign_files import ANALYZE, PROSPECT, campaign
from driving import Driver
from mails import mails_to
from prefect.client.schemas.objects import FlowRun
from real_stack import Stack
from run_process import RunProcess

from prefect_campaigns.clock import SystemClock
from prefect_campaigns.deployments.demo.engines import DemoEngines

pytestmark = pytest.mark.usefixtures("no_worker")

RUNS, MINUTES = 3, 15


@pytest.fixture
async def breaking(in_stack: Stack) -> AsyncIterator[RunProcess]:
    """A process that executes runs, and leaves engines alone after three that failed."""
    settings = {"CAMPAIGNS_BREAKER_RUNS": str(RUNS), "CAMPAIGNS_BREAKER_MINUTES": str(MINUTES)}
    runner = RunProcess({**in_stack.environment, **settings}, log=in_stack.home / "breaking.log")
    yield runner
    runner.kill()


class Broken:
    """Campaigns that share an engine, one of whose paths fails as often as it is told to."""

    def __init__(self, driver: Driver, runner: RunProcess) -> None:
        self._driver = driver
        self._runner = runner
        self.clock = SystemClock()

    async def run(self, deployment: UUID, **when: Any) -> FlowRun:
        flow_run = await self._driver.start(deployment)
        await self._runner.run(flow_run.id, **when)
        return await self._driver.client.read_flow_run(flow_run.id)

    async def end(self, deployment: UUID, **when: Any) -> str:
        """Run a campaign; return the name of the state in which it ended."""
        state = (await self.run(deployment, **when)).state
        return state.name or "" if state else ""


async def test_it_is_left_alone_before_anything_is_spent_and_each_recipient_hears_of_it_once(
    driver: Driver, engines: DemoEngines, in_stack: Stack, breaking: RunProcess
) -> None:
    broken = Broken(driver, breaking)
    address, other = "breaker-one@example.com", "breaker-two@example.com"
    one, two, third = await driver.apply(
        campaign("Breaker One", engines.url, only=2, notifications={"onFailure": {"email": address}}),
        campaign("Breaker Two", engines.url, only=2, notifications={"onFailure": {"email": address}}),
        campaign("Breaker Three", engines.url, only=2, notifications={"onFailure": {"email": other}}),
    )
    engines.fail_next(ANALYZE, times=100, status=503)
    assert [await broken.end(deployment) for deployment in (one, two, one)] == ["Failed"] * 3
    asked = Counter(request.path for request in engines.requests)
    assert asked[PROSPECT] == 3
    # People are told: both campaigns name the same person.
    run = await broken.run(one)
    assert run.state is not None
    assert run.state.name == "EngineDown"
    assert f"The engine at {engines.url}{ANALYZE} is left alone until" in (run.state.message or "")
    assert "3 runs have failed by it, one after the other" in (run.state.message or "")
    assert "answered 503" in (run.state.message or "")
    assert [await broken.end(deployment) for deployment in (two, one, two)] == ["LeftAlone"] * 3
    # Somebody else has not been told.
    assert [await broken.end(third) for _ in range(2)] == ["EngineDown", "LeftAlone"]
    assert Counter(request.path for request in engines.requests) == asked, "nothing was asked, and nothing spent"
    report = await driver.store.get_run(str(run.id))
    assert report is not None
    assert (report.status, report.state_name, report.total_cost) == ("failed", "EngineDown", 0)
    assert Counter(mail.message["Subject"].split(":")[0] for mail in await mails_to(in_stack, address, 4)) == {
        "Failed": 3,
        "EngineDown": 1,
    }
    assert [mail.message["Subject"].split(":")[0] for mail in await mails_to(in_stack, other, 1)] == ["EngineDown"]


async def test_after_that_time_one_run_tries_it_and_people_are_not_told_again_while_it_fails(
    driver: Driver, engines: DemoEngines, breaking: RunProcess
) -> None:
    broken = Broken(driver, breaking)
    (deployment,) = await driver.apply(
        campaign("Breaker Again", engines.url, only=1, notifications={"onFailure": {"email": "again@example.com"}})
    )
    engines.fail_next(PROSPECT, times=4, status=500)
    now = broken.clock.now()
    states = [await broken.end(deployment, now=now) for _ in range(5)]
    assert states == ["Failed", "Failed", "Failed", "EngineDown", "LeftAlone"]
    later = now + timedelta(minutes=MINUTES, seconds=1)
    assert [await broken.end(deployment, now=later) for _ in range(2)] == ["Failed", "LeftAlone"]
    later += timedelta(minutes=MINUTES, seconds=1)
    assert [await broken.end(deployment, now=later) for _ in range(2)] == ["Completed", "Completed"]
    assert f"{engines.url}{PROSPECT}" not in [one.endpoint for one in await driver.store.engine_troubles()]


@pytest.mark.parametrize("status", [400, 404, 429])
async def test_what_was_asked_in_vain_is_not_its_fault(
    driver: Driver, engines: DemoEngines, breaking: RunProcess, status: int
) -> None:
    broken = Broken(driver, breaking)
    (deployment,) = await driver.apply(campaign(f"Breaker Not {status}", engines.url, only=1))
    engines.fail_next(PROSPECT, times=100, status=status)
    assert [await broken.end(deployment) for _ in range(RUNS + 2)] == ["Failed"] * (RUNS + 2)
    assert f"{engines.url}{PROSPECT}" not in [one.endpoint for one in await driver.store.engine_troubles()]


async def test_a_run_that_works_in_between_begins_the_count_anew(
    driver: Driver, engines: DemoEngines, breaking: RunProcess
) -> None:
    broken = Broken(driver, breaking)
    (deployment,) = await driver.apply(campaign("Breaker In Between", engines.url, only=1))
    ends = []
    for fails in (True, True, False, True, True, False):
        if fails:
            engines.lose_next(PROSPECT)
        ends.append(await broken.end(deployment))
    assert ends == ["Failed", "Failed", "Completed"] * 2
