"""Plans and applies against a real Prefect server: nothing written for nothing, drift put right, nothing half-done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from campaign_files import PROSPECT, campaign
from clocks import SettableClock
from driving import Driver
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling
from prefect_proxy import PrefectProxy
from real_stack import Stack

from prefect_campaigns.blocks.store_types import Pause, PausedBy
from prefect_campaigns.deployments.applying.apply import ApplyResult, apply
from prefect_campaigns.deployments.applying.due_runs import about_to_be_due, between_runs, make_again
from prefect_campaigns.deployments.applying.plan import Change, Plan
from prefect_campaigns.deployments.applying.planning import make_plan
from prefect_campaigns.deployments.compile import compile_campaign
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.running.server import connect
from prefect_campaigns.errors import AlreadyThere, ApplyIncomplete, CampaignsError
from prefect_campaigns.flows.paused_deployment import schedule_own_run
from prefect_campaigns.flows.pausing import pause_by_person
from prefect_campaigns.flows.resuming import resume_by_person
from prefect_campaigns.flows.run import trigger_type
from prefect_campaigns.flows.versions import parameters_of
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport

URL, FOLDER = "http://127.0.0.1:9", "/srv/planned"
DAILY = {"cron": "0 9 * * *", "timezone": "America/New_York"}


@pytest.fixture
async def proxy(in_stack: Stack) -> AsyncIterator[PrefectProxy]:
    """Prefect's API as the applies of a test see it."""
    proxy = PrefectProxy(in_stack.server.api_url.removesuffix("/api"))
    async with serve(proxy) as url:
        with temporary_settings({PREFECT_API_URL: f"{url}/api"}):
            yield proxy
    await proxy.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no server to come back: none does."""
    monkeypatch.setattr("prefect_campaigns.deployments.applying.apply.CLIENT_MAX_RETRIES", 0)


class Operator:
    """Somebody who plans and applies the campaigns of one folder."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def plan(self, *campaigns: Campaign) -> Plan:
        compiled = [compile_campaign(one) for one in campaigns]
        async with connect() as client:
            return await make_plan(
                client,
                self._driver.store,
                self._driver.settings,
                compiled,
                origins={one.slug: FOLDER for one in compiled},
            )

    async def apply(self, *campaigns: Campaign, **options: Any) -> ApplyResult:
        driver = self._driver
        return await apply(campaigns, store=driver.store, settings=driver.settings, origin=FOLDER, **options)


@pytest.fixture
def operator(driver: Driver) -> Operator:
    return Operator(driver)


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


async def test_each_drift_is_shown_by_the_plan_and_put_right_by_apply_once(driver, operator, proxy) -> None:
    told = {"onComplete": {"email": "drift@example.com"}}
    one = campaign("Drifting", URL, schedule=DAILY, notifications=told, budget={"daily": 5})
    (applied,) = (await operator.apply(one)).campaigns
    deployment, client = applied.deployment_id, driver.client

    async def edit(**body: Any) -> None:
        (await client.request("PATCH", f"/deployments/{deployment}", json=body)).raise_for_status()

    async def edit_schedule() -> None:
        (schedule,) = (await client.read_deployment(deployment)).schedules
        at = CronSchedule(cron="0 5 * * *", timezone="UTC")
        await client.update_deployment_schedule(deployment, schedule.id, schedule=at)

    async def edit_parameters() -> None:
        parameters = parameters_of(campaign("Drifting", URL, schedule=DAILY, notifications=told, budget={"daily": 50}))
        await edit(parameters={**parameters_of(one), "campaign": parameters["campaign"]})

    async def delete_automation() -> None:
        (automation,) = await client.read_automations_by_name("campaigns: complete → drift@example.com")
        await client.delete_automation(automation.id)

    async def double_automation() -> None:
        (automation,) = await client.read_automations_by_name("campaigns: complete → drift@example.com")
        copied = automation.model_dump(exclude={"id", "created", "updated", "owner_resource"})
        await client.create_automation(AutomationCore.model_validate(copied))

    async def leave_automation_of_nobody() -> None:
        (automation,) = await client.read_automations_by_name("campaigns: complete → drift@example.com")
        copied = automation.model_dump(exclude={"id", "created", "updated", "owner_resource"})
        text = AutomationCore.model_validate({**copied, "name": "campaigns: complete → nobody@example.com"})
        other = text.model_dump_json().replace("on-complete:drift@", "on-complete:nobody@")
        await client.create_automation(AutomationCore.model_validate_json(other))

    async def add_schedule() -> None:
        await client.create_deployment_schedules(deployment, [(CronSchedule(cron="1 1 * * *", timezone="UTC"), True)])

    async def delete_deployment() -> None:
        await client.delete_deployment((await client.read_deployment_by_name("campaign/drifting")).id)

    drifts = [
        (edit_schedule, "schedule"),
        (edit_parameters, "/budget/daily"),
        (lambda: edit(tags=["mine"]), "tags"),
        (add_schedule, "schedule"),
        (delete_automation, "automation 'campaigns: complete → drift@example.com'"),
        (double_automation, "automation 'campaigns: complete → drift@example.com', which is there twice"),
        (leave_automation_of_nobody, "automation 'campaigns: complete → nobody@example.com', which nobody asks for"),
        (delete_deployment, "created"),
    ]
    for drift, expected in drifts:
        assert not (await operator.plan(one)).has_changes
        await drift()
        plan = await operator.plan(one)
        fields = [f"{change.field}" for change in plan.campaigns[0].fields]
        said = [*fields, *(telling.what for telling in plan.telling), plan.campaigns[0].change.value]
        assert any(text.startswith(expected) for text in said), (expected, said)
        assert plan.has_changes
        await operator.apply(one)


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


async def runs_of(driver: Driver, deployment_id: Any) -> dict[datetime, FlowRun]:
    runs = await driver.client.read_flow_runs(
        flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
    )
    return {run.expected_start_time: run for run in runs}


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
    due = min(await runs_of(driver, applied.deployment_id))
    assert due <= now
    hourly = {"cron": "0 * * * *", "timezone": "UTC"}
    await operator.apply(campaign("Due", URL, schedule=hourly, description="changed"))
    assert due in await runs_of(driver, applied.deployment_id)


@pytest.mark.usefixtures("no_worker")
async def test_a_run_that_falls_due_during_a_change_is_made_again_once_as_a_scheduled_one(driver, operator) -> None:
    every_minute = {"cron": "* * * * *", "timezone": "UTC"}
    (applied,) = (await operator.apply(campaign("In Between", URL, schedule=every_minute))).campaigns
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
    assert due not in await runs_of(driver, applied.deployment_id)
    for _ in range(2):
        await make_again(driver.client, applied.deployment_id, noted, now=due, is_scheduled=False)
    runs = await runs_of(driver, applied.deployment_id)
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
    await engines.next_request()
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


async def test_what_a_person_resumed_in_prefect_is_not_paused_again_by_a_change(driver, operator) -> None:
    def version(text: str) -> Campaign:
        return campaign("Resumed There", URL, only=1, schedule=DAILY, budget={"daily": 5}, description=text)

    (applied,) = (await operator.apply(version("one"))).campaigns
    pause = Pause(by=PausedBy.BUDGET, reason="budget: weekly 1.00 reached, spent 1.00", since=datetime.now(UTC))
    await driver.store.set_pause("resumed-there", pause, replacing=None)
    await operator.apply(version("two"))
    assert not (await driver.client.read_deployment(applied.deployment_id)).paused


async def paused_meanwhile(driver: Driver, key: str) -> None:
    record = await driver.store.get_campaign(key)
    await pause_by_person(driver.client, driver.store, record, reason="do not send", now=datetime.now(UTC))


@pytest.mark.parametrize("known_before", [True, False])
async def test_what_a_person_pauses_while_it_is_created_comes_up_paused(driver, operator, proxy, known_before) -> None:
    one = campaign(f"Paused While Created {known_before}", URL, only=1, schedule=DAILY)
    key = one.slug
    if known_before:
        (before,) = (await operator.apply(one)).campaigns
        await driver.client.delete_deployment(before.deployment_id)
    # The plan is made, and the row is written; Prefect has not heard yet of the deployment.
    proxy.meanwhile = "POST /api/deployments/", lambda: paused_meanwhile(driver, key)
    (applied,) = (await operator.apply(one)).campaigns
    assert proxy.meanwhile is None
    deployment = await driver.client.read_deployment_by_name(f"campaign/{key}")
    assert deployment.paused and "do not send" in deployment.description
    assert applied.pause is not None and applied.pause.by is PausedBy.PERSON
    assert not (await operator.plan(one)).has_changes


async def test_what_a_person_pauses_between_the_plan_and_its_creation_is_created_paused(
    driver: Driver, operator: Operator, proxy: PrefectProxy
) -> None:
    one = campaign("Paused Before Created", URL, only=1, schedule=DAILY)
    (before,) = (await operator.apply(one)).campaigns
    await driver.client.delete_deployment(before.deployment_id)
    proxy.pass_on()
    # Asked for once the plan is made; the row is written after it.
    proxy.meanwhile = "POST /api/flows/", lambda: paused_meanwhile(driver, "paused-before-created")
    await operator.apply(one)
    assert proxy.meanwhile is None
    assert (await driver.client.read_deployment_by_name("campaign/paused-before-created")).paused
    assert not [write for write in proxy.writes if "pause" in write], "it was never there without its pause"


async def test_what_a_person_resumes_while_it_is_created_comes_up_resumed(driver, operator, proxy) -> None:
    one = campaign("Resumed While Created", URL, only=1, schedule=DAILY)
    (before,) = (await operator.apply(one)).campaigns
    await paused_meanwhile(driver, "resumed-while-created")
    await driver.client.delete_deployment(before.deployment_id)

    async def resume() -> None:
        record = await driver.store.get_campaign("resumed-while-created")
        await resume_by_person(driver.client, driver.store, record, now=datetime.now(UTC))

    proxy.meanwhile = "POST /api/deployments/", resume
    await operator.apply(one)
    assert proxy.meanwhile is None
    assert not (await driver.client.read_deployment_by_name("campaign/resumed-while-created")).paused


async def test_of_what_a_person_pauses_while_it_is_changed_no_run_is_scheduled(driver, operator, proxy) -> None:
    def version(text: str) -> Campaign:
        return campaign("Paused While Changed", URL, only=1, schedule=DAILY, description=text)

    (applied,) = (await operator.apply(version("one"))).campaigns
    deployment = applied.deployment_id
    proxy.meanwhile = f"PATCH /api/deployments/{deployment}", lambda: paused_meanwhile(driver, "paused-while-changed")
    await operator.apply(version("two"))
    assert proxy.meanwhile is None
    there = await driver.client.read_deployment(deployment)
    assert there.paused and there.description.startswith("**Paused.** do not send.")
    assert there.description.endswith("two")
    assert await runs_of(driver, deployment) == {}, "a run of a paused deployment would run all the same"


async def test_nothing_is_changed_where_a_run_is_about_to_be_due(driver, operator) -> None:
    every_minute = {"cron": "* * * * *", "timezone": "UTC"}
    (applied,) = (await operator.apply(campaign("About To", URL, schedule=every_minute))).campaigns
    await schedule_own_run(driver.client, applied.deployment_id, datetime.now(UTC))
    (due, *_) = sorted(await runs_of(driver, applied.deployment_id))
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
    await driver.in_state(other.id, "Running")
    await engines.next_request()
    await driver.client.resume_flow_run(begun.id)
    await driver.in_state(begun.id, "Waiting")
    await driver.client.set_flow_run_state(other.id, Cancelling())
    assert (await driver.ended(begun.id)).state.name == "Completed"


def _now() -> Any:
    from prefect.states import Scheduled

    return Scheduled()
