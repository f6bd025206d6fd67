"""Plans and applies against a real Prefect server: nothing written for nothing, drift put right, nothing half-done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from campaign_files import PROSPECT, campaign
from clocks import SettableClock
from driving import Driver
from operating import Operator
from prefect.states import Cancelling
from prefect_proxy import PrefectProxy
from real_stack import Stack

from prefect_campaigns.blocks.store_types import Pause, PausedBy
from prefect_campaigns.deployments.applying.due_runs import about_to_be_due, between_runs, make_again
from prefect_campaigns.deployments.applying.plan import Change
from prefect_campaigns.deployments.compile import compile_campaign
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.errors import AlreadyThere, ApplyIncomplete, CampaignsError
from prefect_campaigns.flows.paused_deployment import schedule_own_run
from prefect_campaigns.flows.run import trigger_type
from prefect_campaigns.flows.versions import parameters_of
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport

URL = "http://127.0.0.1:9"
DAILY = {"cron": "0 9 * * *", "timezone": "America/New_York"}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no server to come back: none does."""
    monkeypatch.setattr("prefect_campaigns.deployments.applying.apply.CLIENT_MAX_RETRIES", 0)


async def test_applying_what_is_there_already_writes_nothing(driver, operator, proxy, in_stack) -> None:
    told = {"onFailure": {"email": "nothing@example.com"}}
    several = [campaign(f"Nothing {n}", URL, schedule=DAILY, notifications=told) for n in range(5)]
    await operator.apply(*several)
    assert len(proxy.writes) > 5, "the proxy sees what is written"
    proxy.pass_on()
    audited = len(await driver.store.list_audit(limit=1000))
    lease_rows = await _lease_rows(in_stack)
    result = await operator.apply(*several)
    assert {one.change for one in result.campaigns} == {Change.UNCHANGED}
    assert proxy.writes == []
    assert len(await driver.store.list_audit(limit=1000)) == audited
    assert await _lease_rows(in_stack) == lease_rows, "not even the lease of applying is taken"


async def _lease_rows(stack: Stack) -> Any:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(f"file:{stack.database}?mode=ro", uri=True)) as db:
        return db.execute("SELECT * FROM leases WHERE campaign_key = '@apply'").fetchall()


async def test_what_breaks_off_at_any_write_leaves_each_campaign_as_it_was_or_as_it_should_be(
    driver: Driver, operator: Operator, proxy: PrefectProxy, impatient: None
) -> None:
    def version(number: int) -> list[Campaign]:
        schedule = {**DAILY, "cron": f"{number} 9 * * *"}
        steps = {"prospecting": {"params": {"count": number}}}
        return [
            campaign(f"Broken Off {n}", URL, only=1, schedule=schedule, steps=steps, budget={"daily": number})
            for n in range(3)
        ]

    await operator.apply(*version(1))
    proxy.pass_on()
    await operator.apply(*version(2))
    writes, number = len(proxy.writes), 2
    assert writes >= 3
    for is_heard in (False, True):
        for write in range(1, writes + 1):
            number += 1
            proxy.break_at(write, is_heard=is_heard)
            with pytest.raises(CampaignsError):
                await operator.apply(*version(number))
            assert proxy.is_broken
            proxy.pass_on()
            old, new = version(number - 1), version(number)
            plan = await operator.plan(*new)
            for before, after, one in zip(old, new, plan.campaigns, strict=True):
                row = await driver.store.get_campaign(one.compiled.slug)
                # What a run does is what the row says, steps and budget; the plan says what is left.
                assert row.campaign in (compile_campaign(before).campaign, compile_campaign(after).campaign)
                deployment = await driver.client.read_deployment_by_name(one.compiled.full_name)
                is_done = row.campaign == compile_campaign(after).campaign and (
                    deployment.parameters == parameters_of(after)
                    and [s.schedule.cron for s in deployment.schedules] == [f"{number} 9 * * *"]
                )
                assert (one.change is Change.UNCHANGED) == is_done
            await operator.apply(*new)
            assert not (await operator.plan(*new)).has_changes
            proxy.pass_on()


async def test_an_apply_that_breaks_off_says_which_campaigns_are_done(operator, proxy, impatient) -> None:
    several = [campaign(f"Said {n}", URL, only=1) for n in range(20)]
    proxy.break_at(12, is_heard=False)
    with pytest.raises(ApplyIncomplete) as caught:
        await operator.apply(*several)
    broken = caught.value
    assert len(broken.done) + len(broken.failed) + len(broken.untouched) == 20
    assert broken.done and broken.failed and broken.untouched
    assert "apply again to finish" in str(broken)
    proxy.pass_on()
    plan = await operator.plan(*several)
    left = {one.compiled.slug for one in plan.campaigns if one.change is not Change.UNCHANGED}
    assert left == {*broken.failed, *broken.untouched}
    await operator.apply(*several)
    assert not (await operator.plan(*several)).has_changes


@pytest.mark.usefixtures("no_worker")
async def test_an_apply_after_a_run_was_due_loses_no_run(driver, operator) -> None:
    every_minute = {"cron": "* * * * *", "timezone": "UTC"}
    (applied,) = (await operator.apply(campaign("Due", URL, schedule=every_minute))).campaigns
    now = datetime.now(UTC)
    # As Prefect's scheduler would have made it: it was due a moment ago, and no worker has taken it up.
    await driver.client.request(
        "POST",
        f"/deployments/{applied.deployment_id}/schedule",
        json={"start_time": (now - timedelta(seconds=60)).isoformat(), "min_time": 0, "min_runs": 1, "max_runs": 1},
    )
    due = min(await driver.runs_of(applied.deployment_id))
    assert due <= now
    hourly = {"cron": "0 * * * *", "timezone": "UTC"}
    await operator.apply(campaign("Due", URL, schedule=hourly, description="changed"))
    assert due in await driver.runs_of(applied.deployment_id)


@pytest.mark.usefixtures("no_worker")
async def test_a_run_that_falls_due_during_a_change_is_made_again_once_as_a_scheduled_one(driver, operator) -> None:
    every_minute = {"cron": "* * * * *", "timezone": "UTC"}
    one, now = campaign("In Between", URL, schedule=every_minute), datetime.now(UTC)
    # Of what is paused from the beginning Prefect's scheduler makes no runs beside ours.
    await driver.store.save_campaign(one)
    await driver.store.set_pause(one.slug, Pause(by=PausedBy.PERSON, reason="paused", since=now), replacing=None)
    (applied,) = (await operator.apply(one)).campaigns
    now = datetime.now(UTC)
    await driver.client.request(
        "POST",
        f"/deployments/{applied.deployment_id}/schedule",
        json={"start_time": now.isoformat(), "min_time": 0, "min_runs": 1, "max_runs": 1},
    )
    noted = await about_to_be_due(driver.client, applied.deployment_id, now=now)
    due = min(run.expected_start_time for run in noted)
    # No schedule makes it anew.
    await driver.client.request("PATCH", f"/deployments/{applied.deployment_id}", json={"schedules": []})
    assert due not in await driver.runs_of(applied.deployment_id)
    for _ in range(2):
        await make_again(driver.client, applied.deployment_id, noted, now=due, is_scheduled=False)
    runs = await driver.runs_of(applied.deployment_id)
    assert list(runs) == [due]
    assert trigger_type(runs[due]) == "scheduled"


async def test_a_run_of_an_older_version_does_the_one_in_force_and_shows_it(
    driver: Driver, operator: Operator, engines: DemoEngines
) -> None:
    def version(count: int) -> Campaign:
        steps = {"prospecting": {"params": {"count": count}}}
        return campaign("Older Version", engines.url, only=1, steps=steps, budget={"perRun": count})

    (applied,) = (await operator.apply(version(2))).campaigns
    waiting = await driver.start_later(applied.deployment_id)
    await operator.apply(version(3))
    await driver.client.set_flow_run_state(waiting.id, _now(), force=True)
    ended = await driver.ended(waiting.id)
    assert ended.state is not None and ended.state.name == "Completed", ended.state
    assert [request.params["count"] for request in engines.requests_to(PROSPECT)] == [3]
    assert ended.parameters == parameters_of(version(3))


async def test_a_run_that_waited_for_its_turn_does_the_version_that_came_meanwhile(
    driver: Driver, operator: Operator, engines: DemoEngines
) -> None:
    def version(count: int) -> Campaign:
        steps = {"prospecting": {"params": {"count": count}}}
        return campaign("Waited", engines.url, only=1, steps=steps, budget={"perRun": count})

    (applied,) = (await operator.apply(version(2))).campaigns
    engines.hang_next(PROSPECT)
    first = await driver.start(applied.deployment_id)
    await engines.nth_request(1)
    second = await driver.start(applied.deployment_id)
    await driver.in_state(second.id, "Waiting")
    await operator.apply(version(3))
    await driver.client.set_flow_run_state(first.id, Cancelling())
    ended = await driver.ended(second.id)
    assert ended.state is not None and ended.state.name == "Completed"
    assert [request.params["count"] for request in engines.requests_to(PROSPECT)] == [2, 3]


async def test_a_create_whose_answer_is_lost_is_no_deployment_that_nobody_sees(
    driver: Driver, operator: Operator, proxy: PrefectProxy, impatient: None
) -> None:
    one = campaign("Unanswered Create", URL, only=1)
    await operator.apply(campaign("Unanswered Before", URL, only=1))
    proxy.break_at(2, is_heard=True)
    with pytest.raises(CampaignsError):
        await operator.apply(one)
    proxy.pass_on()
    deployment = await driver.client.read_deployment_by_name("campaign/unanswered-create")
    assert (await driver.store.get_campaign("unanswered-create")).campaign.slug == "unanswered-create", (
        "its runs find their row"
    )
    assert [change.field for change in (await operator.plan(one)).campaigns[0].fields] == [
        "deploymentId",
        "scheduleApplied",
    ]
    await operator.apply(one)
    assert (await driver.store.get_campaign("unanswered-create")).deployment_id == deployment.id


async def test_nothing_is_changed_where_a_run_is_about_to_be_due(driver, operator) -> None:
    # So far away that no worker takes it up meanwhile.
    yearly = {"cron": "0 0 1 1 *", "timezone": "UTC"}
    (applied,) = (await operator.apply(campaign("About To", URL, schedule=yearly))).campaigns
    await schedule_own_run(driver.client, applied.deployment_id, datetime.now(UTC))
    (due, *_) = sorted(await driver.runs_of(applied.deployment_id))
    clock = SettableClock(due - timedelta(seconds=1))
    noted = await between_runs(driver.client, applied.deployment_id, clock=clock)
    # The clock of the test has not moved, but 1.5 seconds have been waited.
    assert due in {run.expected_start_time for run in noted}


async def test_what_must_be_new_and_is_there_is_left_alone(driver, operator) -> None:
    await operator.apply(campaign("Must Be New", URL, only=1))
    with pytest.raises(AlreadyThere, match="must-be-new"):
        await operator.apply(campaign("Must Be New", URL, only=1, budget={"daily": 9}), must_be_new=True)
    assert (await driver.store.get_campaign("must-be-new")).campaign.budget.daily is None


async def test_a_run_that_a_person_edited_does_what_it_says_under_the_budget_in_force(
    driver: Driver, operator: Operator, engines: DemoEngines
) -> None:
    one = campaign("Edited For A Run", engines.url, only=1, budget={"daily": 5})
    (applied,) = (await operator.apply(one)).campaigns
    parameters = parameters_of(one)
    parameters["campaign"]["steps"][0]["params"]["count"] = 4
    parameters["campaign"]["budget"] = {"perLead": 0}
    flow_run = await driver.client.create_flow_run_from_deployment(applied.deployment_id, parameters=parameters)
    ended = await driver.ended(flow_run.id)
    assert [request.params["count"] for request in engines.requests_to(PROSPECT)] == [4]
    report: RunReport | None = await driver.store.get_run(str(flow_run.id))
    assert report is not None and "perLead" not in (report.message or "")
    assert ended.state is not None and ended.state.name == "Completed"


async def test_a_run_cannot_be_edited_into_another_campaign_to_spend_its_budget(driver, operator, engines) -> None:
    mine, rich = campaign("Mine", engines.url, only=1), campaign("Rich", engines.url, only=1, budget={"daily": 500})
    applied, _ = (await operator.apply(mine, rich)).campaigns
    parameters = {"campaign": parameters_of(rich)["campaign"], "version": "edited"}
    flow_run = await driver.client.create_flow_run_from_deployment(applied.deployment_id, parameters=parameters)
    ended = await driver.ended(flow_run.id)
    assert ended.state.name == "Failed"
    assert "this is a run of campaign 'mine', and its parameters are those of 'rich'" in ended.state.message
    assert engines.requests == []


async def test_a_run_that_has_begun_waits_for_its_turn_where_others_are_skipped(driver, operator, engines) -> None:
    schedule = {"cron": "0 0 1 1 *", "overlap": "skip"}
    steps = {"analysis": {"approval": {}, "params": {}}}
    one = campaign("Skips Others", engines.url, only=2, schedule=schedule, steps=steps)
    (applied,) = (await operator.apply(one)).campaigns
    begun = await driver.start(applied.deployment_id)
    await driver.in_state(begun.id, "Suspended")
    engines.hang_next(PROSPECT)
    other = await driver.start(applied.deployment_id)
    # The first request is the one of the run that waits for its approval.
    await engines.nth_request(2)
    await driver.client.resume_flow_run(begun.id)
    await driver.in_state(begun.id, "Waiting")
    await driver.client.set_flow_run_state(other.id, Cancelling())
    assert (await driver.ended(begun.id)).state.name == "Completed"


def _now() -> Any:
    from prefect.states import Scheduled

    return Scheduled()
