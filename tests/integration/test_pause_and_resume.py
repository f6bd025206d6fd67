"""A limit stops a campaign and pauses it; it goes on by itself, unless a person wants it paused.

The clock is the test's: a day in the past, on which nothing waits for the real time to come. No worker takes part, so
that each run runs when the test says so; what resumes and what is due lies on the real server meanwhile.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from campaign_files import PROSPECT
from day import (
    AT_THREE,
    MIDNIGHT,
    NEW_YORK,
    TODAY,
    by_our_command,
    by_prefects_client,
    by_prefects_client_off_and_on,
    in_the_ui,
)
from driving import until
from mails import mails_to
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.states import Scheduled

from prefect_campaigns.blocks.store_types import Pause, PausedBy
from prefect_campaigns.budget import AccountBudget
from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.driving.standing import Standing, read_states
from prefect_campaigns.deployments.running import upkeep
from prefect_campaigns.deployments.running.worker import CampaignWorker
from prefect_campaigns.flows.pausing import pause_by_person
from prefect_campaigns.flows.resuming import Outcome, Resumption, resume_after_budget, resume_by_person

pytestmark = pytest.mark.usefixtures("no_worker")


async def test_a_limit_pauses_until_local_midnight_and_the_midnight_run_happens(day, engines, in_stack) -> None:
    await day.apply(notifications={"onBudget": {"email": "paused@example.com"}}, description="Finds five.")
    stopped = await day.spend_the_day()
    assert stopped.name == "BudgetExceeded"
    reason = "budget: daily 0.012 reached, spent 0.012"
    pause = await day.pause()
    assert (pause.by, pause.reason, pause.since, pause.until) == (PausedBy.BUDGET, reason, AT_THREE, MIDNIGHT)
    assert await day.is_paused()
    assert (await day.description()).startswith(f"**Paused.** {reason}. Since ")

    # Whoever runs it by hand now hears that it is paused, and nobody else does again.
    assert (await day.run()).name == "Paused"
    told = await mails_to(in_stack, "paused@example.com", 2)
    assert sorted(mail.message["Subject"].split(":")[0] for mail in told) == ["Budget alert", "BudgetExceeded"]

    day.clock.instant = MIDNIGHT.astimezone(UTC)
    (resumption,) = await day.resumptions()
    assert resumption.expected_start_time == MIDNIGHT
    assert await day.resume() == f"{day.key} is resumed; it was paused: {reason}"
    assert (await day.pause(), await day.is_paused()) == (None, False)
    assert await day.description() == "Finds five."
    (midnight_run,) = await day.awaited()
    asked = len(engines.requests_to(PROSPECT))
    assert (await day.execute(midnight_run)).name == "Completed"
    assert len(engines.requests_to(PROSPECT)) == asked + 1
    assert (await day.store.get_run(str(midnight_run.id))).trigger_type == "scheduled"
    subjects = [mail.message["Subject"] for mail in await mails_to(in_stack, "paused@example.com", 3)]
    assert sum(subject.startswith("BudgetExceeded") for subject in subjects) == 1, "the new day has its own alert"


async def test_the_run_that_is_due_at_the_reset_may_come_before_the_one_that_resumes(day) -> None:
    await day.apply()
    await day.spend_the_day()
    day.clock.instant = MIDNIGHT.astimezone(UTC)
    (midnight_run,) = await day.awaited()
    assert (await day.execute(midnight_run)).name == "Completed"
    assert (await day.pause(), await day.is_paused()) == (None, False)
    assert await day.resume() == f"{day.key} is not paused"
    assert len(await day.awaited()) == 1


@pytest.mark.parametrize("by_hand", [by_our_command, in_the_ui, by_prefects_client, by_prefects_client_off_and_on])
async def test_by_hand_it_stays_paused(day, by_hand) -> None:
    # A day to come: Prefect's client deletes what is scheduled for the real future only.
    day.clock.advance(days=3)
    await day.apply()
    await day.spend_the_day()
    day.clock.advance(hours=1)
    await by_hand(day)
    (resumption,) = await day.resumptions()
    day.clock.instant = resumption.expected_start_time
    assert "stays paused by a person" in await day.resume()
    assert await day.is_paused()
    assert (await day.pause()).by is PausedBy.PERSON
    assert await day.runs_at(resumption.expected_start_time) == []


async def test_what_a_person_paused_before_is_not_the_budgets_to_resume(day) -> None:
    await day.apply()
    await day.run()
    await day.client.pause_deployment(day.deployment_id)
    record = await day.store.get_campaign(day.key)
    await pause_by_person(day.client, day.store, record, reason="holidays", now=day.clock.now())
    assert (await day.run()).name == "BudgetExceeded"
    assert (await day.pause()).reason == "holidays"
    assert await day.resumptions() == []


async def test_apply_leaves_a_pause_of_the_budget_alone_and_a_raised_limit_resumes_at_once(day) -> None:
    await day.apply()
    await day.spend_the_day()
    before = await day.pause()
    await day.apply()
    assert (await day.pause(), await day.is_paused()) == (before, True)
    await day.apply(description="Another description.")
    assert await day.is_paused()
    assert (await day.description()).endswith("\n\nAnother description.")
    assert len(await day.awaited()) == 1, "what apply changes deletes the scheduled run, which has to be there again"
    await day.apply(budget={"daily": 1})
    assert (await day.pause(), await day.is_paused()) == (None, False)
    assert await day.description() == "Another description."
    assert (await day.run()).name == "Completed"


async def test_a_limit_that_is_raised_too_little_resumes_nothing(day) -> None:
    await day.apply()
    await day.spend_the_day()
    await day.apply(budget={"daily": 0.011})
    assert await day.is_paused()
    assert (await day.pause()).until == MIDNIGHT


async def test_after_an_outage_over_the_reset_it_resumes_once_and_says_that_it_is_late(day) -> None:
    await day.apply()
    await day.spend_the_day()
    day.clock.instant = MIDNIGHT.astimezone(UTC) + timedelta(hours=5, minutes=30)
    assert ", 5 h 30 min late; it was paused" in await day.resume()
    assert await day.resume() == f"{day.key} is not paused"
    assert len(await day.awaited()) == 1
    assert not await day.is_paused()


async def test_a_limit_that_still_holds_at_the_reset_of_another_pauses_for_longer(day) -> None:
    # Of the month before, whatever day it is: what is due in the future, nobody executes.
    month = TODAY.replace(day=1) - timedelta(days=1)
    tenth = datetime(month.year, month.month, 10, 15, tzinfo=NEW_YORK)
    day.clock.instant = tenth.astimezone(UTC)
    await day.apply()
    await day.spend_the_day()
    # Meanwhile the whole month's budget is gone, too.
    record = await day.store.get_campaign(day.key)
    await day.store.save_campaign(
        record.campaign.model_copy(
            update={"budget": record.campaign.budget.model_copy(update={"monthly": record.campaign.budget.daily})}
        )
    )
    day.clock.instant = (tenth.replace(hour=0) + timedelta(days=1)).astimezone(UTC)
    assert "stays paused until" in await day.resume()
    pause = await day.pause()
    first = (tenth.replace(hour=0, day=1) + timedelta(days=32)).replace(day=1)
    assert (pause.since, pause.until) == (tenth, first)
    assert pause.reason == "budget: monthly 0.012 reached, spent 0.012"
    assert len(await day.resumptions()) == 2


async def test_a_limit_of_nothing_has_no_end(day) -> None:
    await day.apply(budget={"daily": 0})
    assert (await day.run()).name == "BudgetExceeded"
    pause = await day.pause()
    assert (pause.until, pause.awaited_run_id) == (None, None)
    assert await day.resumptions() == []
    assert await day.is_paused()


async def test_the_limit_of_a_run_pauses_nothing(day, engines) -> None:
    await day.apply(budget={"perRun": 0.012}, only=2, steps={"analysis": {"estimatedCost": 0.05}})
    stopped = await day.run()
    assert stopped.name == "BudgetExceeded"
    assert stopped.message.startswith("budget: perRun 0.012 reached, spent 0.012; the next step needs 0.05")
    assert (await day.pause(), await day.is_paused()) == (None, False)


async def test_the_accounts_limit_pauses_the_campaign_that_runs_into_it(day) -> None:
    spent = (await day.store.account_status()).account[0].spent
    await day.store.set_account_budget(AccountBudget(daily=spent, timezone="America/New_York"))
    try:
        await day.apply(budget={})
        assert (await day.run()).name == "BudgetExceeded"
        pause = await day.pause()
        assert pause.reason.startswith("budget: account daily ") and pause.until == MIDNIGHT
    finally:
        await day.store.set_account_budget(AccountBudget())


async def test_a_campaign_that_a_person_resumes_while_the_limit_holds_is_paused_again_by_its_next_run(day) -> None:
    await day.apply()
    await day.spend_the_day()
    await day.client.resume_deployment(day.deployment_id)
    assert (await day.run()).name == "Paused"
    assert await day.is_paused()
    assert len(await day.awaited()) == 1


async def resume_by_hand(day) -> Resumption:
    record = await day.store.get_campaign(day.key)
    return await resume_by_person(day.client, day.store, record, now=day.clock.now())


async def test_a_person_who_resumes_hears_until_when_the_limit_refuses_runs_and_nobody_else_does(day, in_stack) -> None:
    await day.apply(notifications={"onBudget": {"email": "resumed@example.com"}})
    await day.spend_the_day()
    resumed = await resume_by_hand(day)
    assert resumed.message == (
        f"{day.key} is resumed, but any run before {MIDNIGHT.astimezone(UTC):%Y-%m-%d %H:%M} UTC will be refused:"
        " budget: daily 0.012 reached, spent 0.012. To have it run, raise the limit in its file and apply."
    )
    assert (resumed.until, await day.is_paused()) == (MIDNIGHT, False)
    assert "**Paused.**" not in await day.description()
    assert (await day.run()).name == "Paused"
    assert await day.is_paused()
    told = await mails_to(in_stack, "resumed@example.com", 2)
    stopped = next(mail for mail in told if mail.message["Subject"].startswith("BudgetExceeded"))
    midnight = f"{MIDNIGHT.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    assert f"The campaign is paused until {midnight}; raising the limit resumes it at once." in stopped.text
    assert sorted(mail.message["Subject"].split(":")[0] for mail in told) == ["Budget alert", "BudgetExceeded"]


async def test_a_person_who_resumes_hears_that_the_next_step_would_pass_the_limit_still(day) -> None:
    dear = {"prospecting": {"estimatedCost": "0.012"}}
    await day.apply(budget={"daily": 0.02}, steps=dear)
    assert (await day.spend_the_day()).name == "BudgetExceeded"
    resumed = await resume_by_hand(day)
    assert ": budget: daily 0.02 would be passed, spent 0.012. To have it run, raise" in resumed.message
    assert ([limit.name for limit in resumed.refusing], resumed.until) == (["daily"], MIDNIGHT)
    assert not await day.is_paused()
    assert (await day.run()).name == "BudgetExceeded"
    await day.apply()
    assert await day.is_paused(), "nothing has changed"
    await day.apply(steps={"prospecting": {"estimatedCost": "0.008", "params": {"count": 3}}})
    assert not await day.is_paused(), "it has become cheaper"
    assert (await day.run()).name == "Completed"
    assert (await day.pause(), await day.is_paused()) == (None, False)


async def test_a_person_resumes_what_a_person_paused(day) -> None:
    await day.apply()
    record = await day.store.get_campaign(day.key)
    await pause_by_person(day.client, day.store, record, reason=None, now=day.clock.now())
    assert await day.is_paused()
    resumed = await resume_by_hand(day)
    assert (resumed.message, resumed.refusing) == (f"{day.key} is resumed", ())
    assert (await day.pause(), await day.is_paused()) == (None, False)


async def test_pausing_again_without_a_reason_keeps_the_one_there_is(day) -> None:
    async def pause(reason: str | None) -> Pause:
        day.clock.advance(minutes=1)
        record = await day.store.get_campaign(day.key)
        await pause_by_person(day.client, day.store, record, reason=reason, now=day.clock.now())
        return await day.pause()

    await day.apply()
    holidays = await pause("holidays")
    assert await pause(None) == holidays
    assert (await day.description()).startswith("**Paused.** holidays. Since ")
    assert (await pause("moving house")).reason == "moving house"
    # What a person has resumed in Prefect is another pause, if it is paused again.
    await day.client.resume_deployment(day.deployment_id)
    again = await pause(None)
    assert (again.reason, again.since) == ("paused by a person", day.clock.now())
    assert await day.is_paused()
    resumption = await resume_after_budget(day.client, day.store, day.key, now=day.clock.now())
    assert resumption.message == f"{day.key} stays paused by a person"


async def test_a_persons_pause_that_is_repeated_changes_nothing_but_what_was_broken_off(day) -> None:
    async def pause() -> bool:
        record = await day.store.get_campaign(day.key)
        return await pause_by_person(day.client, day.store, record, reason="holidays", now=day.clock.now())

    await day.apply()
    assert await pause()
    later = await day.client.create_flow_run_from_deployment(day.deployment_id, state=Scheduled())
    await day.client.update_deployment(day.deployment_id, DeploymentUpdate(description="as before the pause"))
    assert not await pause()
    assert (await day.description()).startswith("**Paused.** holidays. Since ")
    assert (await day.client.read_flow_run(later.id)).id == later.id, "to pause it again would delete what is due"


async def test_a_person_who_resumes_what_was_resumed_in_prefect_clears_the_books(day) -> None:
    await day.apply()
    record = await day.store.get_campaign(day.key)
    await pause_by_person(day.client, day.store, record, reason="holidays", now=day.clock.now())
    await day.client.resume_deployment(day.deployment_id)
    resumed = await resume_by_hand(day)
    assert (resumed.outcome, resumed.message) == (Outcome.NOT_PAUSED, f"{day.key} is not paused")
    assert (await day.pause(), await day.is_paused()) == (None, False)


async def test_looking_at_a_pause_in_prefect_writes_nothing(day) -> None:
    day.clock.advance(days=3)
    await day.apply()
    await day.spend_the_day()
    await in_the_ui(day)
    record = await day.store.get_campaign(day.key)
    states = await read_states(day.store, [record])
    assert states.campaigns[0].standing is Standing.PAUSED_BY_PERSON
    assert await day.store.get_campaign(day.key) == record


async def test_a_deployment_that_was_deleted_comes_back_paused(day) -> None:
    await day.apply()
    await day.spend_the_day()
    before = await day.pause()
    await day.client.delete_deployment(day.deployment_id)
    await day.apply()
    assert await day.is_paused()
    assert (await day.description()).startswith(f"**Paused.** {before.reason}")
    assert len(await day.awaited()) == 1
    assert replace(await day.pause(), awaited_run_id=None) == replace(before, awaited_run_id=None)


async def test_a_limit_that_was_raised_by_an_apply_that_broke_off_resumes_with_the_next(day) -> None:
    await day.apply()
    await day.spend_the_day()
    record = await day.store.get_campaign(day.key)
    raised = record.campaign.budget.model_copy(update={"daily": Decimal(1)})
    # What a killed apply leaves: the row is written, and Prefect has heard nothing.
    await day.store.save_campaign(record.campaign.model_copy(update={"budget": raised}))
    assert await day.is_paused()
    await day.apply(budget={"daily": 1})
    assert (await day.pause(), await day.is_paused()) == (None, False)


async def test_a_worker_sees_to_a_campaign_that_nothing_has_resumed(day, monkeypatch) -> None:
    await day.apply()
    await day.spend_the_day()
    (gone,) = await day.resumptions()
    await day.client.delete_flow_run(gone.id)
    monkeypatch.setattr(upkeep, "LOOK_SECONDS", 0.05)
    day.clock.instant = MIDNIGHT.astimezone(UTC) + timedelta(minutes=4)
    async with CampaignWorker(work_pool_name=WORK_POOL):
        await asyncio.sleep(0.5)
        assert await day.resumptions() == [], "the one that was scheduled may yet come"
        day.clock.advance(minutes=4)
        (made,) = await until(day.resumptions, "another run that resumes it")
        await asyncio.sleep(0.5)
        # Also when the next five minutes begin: this one has not begun yet.
        day.clock.advance(minutes=5)
        await asyncio.sleep(0.5)
    assert await day.resumptions() == [made]
    assert (await day.execute(made)).message == (
        f"{day.key} is resumed, 13 min late; it was paused: budget: daily 0.012 reached, spent 0.012"
    )
    assert not await day.is_paused()


async def test_a_raised_limit_shortens_a_pause_to_what_the_other_limits_want(day) -> None:
    # Of the month before, whatever day it is: what is due in the future, nobody executes.
    month = TODAY.replace(day=1) - timedelta(days=1)
    tenth = datetime(month.year, month.month, 10, 15, tzinfo=NEW_YORK)
    day.clock.instant = tenth.astimezone(UTC)
    await day.apply(budget={"daily": 0.012, "monthly": 0.012})
    await day.spend_the_day()
    assert (await day.pause()).until.day == 1
    await day.apply(budget={"daily": 0.012, "monthly": 1})
    eleventh = tenth.replace(hour=0) + timedelta(days=1)
    pause = await day.pause()
    assert (pause.reason, pause.until) == ("budget: daily 0.012 reached, spent 0.012", eleventh)
    day.clock.instant = eleventh.astimezone(UTC)
    (resumption,) = [run for run in await day.resumptions() if run.expected_start_time == eleventh]
    assert "is resumed" in (await day.execute(resumption)).message
    assert len(await day.runs_at(eleventh)) == 1


async def test_a_limit_of_nothing_that_is_raised_too_little_gets_an_end(day) -> None:
    await day.apply()
    await day.run()
    await day.apply(budget={"daily": 0})
    assert (await day.run()).name == "BudgetExceeded"
    assert (await day.pause()).until is None
    await day.apply(budget={"daily": 0.011})
    assert ((await day.pause()).until, len(await day.awaited())) == (MIDNIGHT, 1)


async def test_a_person_who_resumes_hears_of_the_end_that_is_in_the_books(day) -> None:
    await day.apply(budget={"daily": 0.012, "monthly": 0.012})
    await day.spend_the_day()
    record = await day.store.get_campaign(day.key)
    raised = record.campaign.budget.model_copy(update={"monthly": Decimal(1)})
    await day.store.save_campaign(record.campaign.model_copy(update={"budget": raised}))
    assert (await resume_by_hand(day)).until == MIDNIGHT
    assert (await day.run()).name == "Paused"
    assert (await day.pause()).until == MIDNIGHT


async def test_the_accounts_limit_is_raised_while_the_campaigns_own_has_the_same_amount(day) -> None:
    spent = (await day.store.account_status()).account[0].spent
    limit = spent + Decimal("0.02")
    await day.store.set_account_budget(AccountBudget(daily=limit, timezone="America/New_York"))
    try:
        # Each of the two is passed by neither of the two before it.
        await day.apply(budget={"daily": float(limit)}, steps={"prospecting": {"estimatedCost": "0.03"}})
        assert (await day.run()).name == "BudgetExceeded"
        assert (await day.pause()).reason.startswith("budget: account daily ")
    finally:
        await day.store.set_account_budget(AccountBudget())
    resumption = await resume_after_budget(day.client, day.store, day.key, now=day.clock.now())
    assert resumption.outcome is Outcome.RESUMED
