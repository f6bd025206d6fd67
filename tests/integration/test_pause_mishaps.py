"""What keeps a pause from being told of, or from ending: a run that dies after it has paused, a clock that is behind.

The clock is the test's, and no worker takes part: each run runs when the test says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from clocks import SettableClock
from driving import Driver
from mails import mails_to
from prefect.states import AwaitingRetry
from real_stack import Stack
from run_process import RunProcess

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.flows.paused_deployment import RESUME_DEPLOYMENT
from prefect_campaigns.flows.pausing import pause_for_budget

pytestmark = pytest.mark.usefixtures("no_worker")

# In days of UTC, and of a month that is over.
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=40)
MIDNIGHT = NOON + timedelta(hours=12)
# One run costs 0.012: five prospects. Of alerts nobody hears.
ONE_RUN_A_DAY = {"daily": "0.012", "alertAt": []}


@pytest.fixture
def slow_machine(stack: Stack) -> Iterator[RunProcess]:
    """A machine of its own, whose flow runs wait for Prefect's retries until it is switched off."""
    machine = RunProcess(stack.environment, log=stack.home / "slow-machine.log")
    yield machine
    machine.kill()


async def pause_and_die(driver: Driver, stack: Stack, slug: str, now: datetime) -> None:
    """Do what a run does that the budget stops, and does not come to its end."""
    async with SqliteStore(stack.database, clock=SettableClock(now)) as store:
        reached = (await store.budget_status(slug)).reached
        assert await pause_for_budget(driver.client, store, slug, reached, now=now)


async def test_people_hear_of_a_pause_whose_own_run_died_from_the_next_run(
    driver: Driver, engines: DemoEngines, runner: RunProcess, in_stack: Stack
) -> None:
    told = {"onBudget": {"email": "heir@example.com"}}
    deployment = await driver.deploy(
        "Died While Pausing", engines.url, only=1, budget=ONE_RUN_A_DAY, notifications=told
    )

    async def run(now: datetime) -> tuple[str, str]:
        flow_run = await driver.start(deployment)
        return (await runner.run(flow_run.id, now=now)).name, flow_run.name

    # People have been told of an earlier pause, which is over.
    assert [(await run(NOON))[0] for _ in range(2)] == ["Completed", "BudgetExceeded"]
    next_noon = NOON + timedelta(days=1)
    assert (await run(next_noon))[0] == "Completed"
    await pause_and_die(driver, in_stack, "died-while-pausing", next_noon)

    state, name = await run(next_noon + timedelta(hours=1))
    assert state == "BudgetExceeded"
    subjects = [mail.message["Subject"] for mail in await mails_to(in_stack, "heir@example.com", 2)]
    assert f"BudgetExceeded: Died While Pausing ({name})" in subjects
    assert (await run(next_noon + timedelta(hours=2)))[0] == "Paused", "and only once"


async def test_a_resumption_by_a_clock_that_is_minutes_behind_is_retried_rather_than_given_up(
    driver: Driver, engines: DemoEngines, runner: RunProcess, slow_machine: RunProcess
) -> None:
    deployment = await driver.deploy("Clock Behind", engines.url, only=1, budget=ONE_RUN_A_DAY)
    for end in ("Completed", "BudgetExceeded"):
        assert (await runner.run((await driver.start(deployment)).id, now=NOON)).name == end
    resumptions = await driver.client.read_deployment_by_name(RESUME_DEPLOYMENT)
    resumption = await driver.client.create_flow_run_from_deployment(
        resumptions.id, parameters={"campaign": "clock-behind"}
    )
    await slow_machine.tell(resumption.id, now=MIDNIGHT - timedelta(minutes=2))
    state = (await driver.in_state(resumption.id, "AwaitingRetry")).state
    assert "TooEarly: clock-behind stays paused until" in state.message
    assert (await driver.store.get_campaign("clock-behind")).pause is not None

    # What the retry does, without waiting a minute for it: by now the clock has come to midnight.
    slow_machine.kill()
    await driver.client.set_flow_run_state(resumption.id, AwaitingRetry(), force=True)
    ended = await runner.run(resumption.id, now=MIDNIGHT)
    assert (ended.name, ended.message.partition(";")[0]) == ("Completed", "clock-behind is resumed")
    assert (await driver.store.get_campaign("clock-behind")).pause is None
