"""Applying campaigns to a real Prefect server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from campaign_files import campaign
from driving import Driver, until
from operating import but_strays
from prefect.client.schemas.actions import BlockDocumentUpdate, WorkPoolCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.client.schemas.objects import BlockDocument, FlowRun
from prefect.client.schemas.schedules import CronSchedule

from prefect_campaigns.blocks.email import CampaignEmail
from prefect_campaigns.blocks.store_types import PausedBy
from prefect_campaigns.deployments.applying.apply import Change, apply
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.errors import ServerError
from prefect_campaigns.flows.paused_deployment import OUR_TAG

URL = "http://127.0.0.1:9"
DAILY = {"cron": "0 9 * * *", "timezone": "America/New_York"}


async def applied(driver: Driver, *args: object, **options: object):
    result = await apply([campaign(*args, **options)], store=driver.store, settings=driver.settings)
    return result.campaigns[0]


async def our_automations(driver: Driver, address: str) -> list[str]:
    found = await driver.client.read_automations(limit=200)
    return sorted(one.name for one in found if OUR_TAG in one.tags and address in one.name)


async def smtp_block(driver: Driver) -> BlockDocument:
    return await driver.client.read_block_document_by_name("campaigns-smtp", "email-server-credentials")


async def test_applying_twice_changes_nothing_and_makes_no_doubles(driver) -> None:
    options = {"schedule": DAILY, "notifications": {"onFailure": {"email": "twice@example.com"}}}
    first = await applied(driver, "Applied Twice", URL, **options)
    before = await driver.client.read_deployment(first.deployment_id)
    block_before = await smtp_block(driver)
    second = await applied(driver, "Applied Twice", URL, **options)
    after = await driver.client.read_deployment(first.deployment_id)
    assert (first.change, second.change) == (Change.CREATED, Change.UNCHANGED)
    assert second.deployment_id == first.deployment_id
    assert after.updated == before.updated, "an unchanged deployment is not written"
    assert (await smtp_block(driver)).updated == block_before.updated, "nor is an unchanged block"
    assert len(await our_automations(driver, "twice@example.com")) == 4


async def test_one_automation_per_recipient_and_kind_serves_all_campaigns(driver) -> None:
    told = {"onComplete": {"email": "shared@example.com"}}
    await driver.apply(campaign("Shared A", URL, notifications=told), campaign("Shared B", URL, notifications=told))
    assert await our_automations(driver, "shared@example.com") == [
        "campaigns: complete → shared@example.com",
        "campaigns: partial → shared@example.com",
    ]


async def test_automations_that_no_campaign_asks_for_are_removed(driver) -> None:
    await applied(driver, "Moved On", URL, notifications={"onComplete": {"email": "old@example.com"}})
    await applied(driver, "Moved On", URL, notifications={"onComplete": {"email": "new@example.com"}})
    assert await our_automations(driver, "old@example.com") == []
    assert len(await our_automations(driver, "new@example.com")) == 2


async def test_a_double_that_somebody_made_is_removed(driver) -> None:
    options = {"notifications": {"onComplete": {"email": "double@example.com"}}}
    await applied(driver, "Doubled", URL, **options)
    (original, *_) = await driver.client.read_automations_by_name("campaigns: complete → double@example.com")
    from prefect.events.schemas.automations import AutomationCore

    copied = original.model_dump(exclude={"id", "created", "updated", "owner_resource"})
    await driver.client.create_automation(AutomationCore.model_validate(copied))
    await applied(driver, "Doubled", URL, **options)
    assert len(await driver.client.read_automations_by_name("campaigns: complete → double@example.com")) == 1


async def test_a_deployment_that_a_person_paused_stays_paused(driver) -> None:
    first = await applied(driver, "Paused By Hand", URL, schedule=DAILY)
    await driver.client.pause_deployment(first.deployment_id)
    second = await applied(driver, "Paused By Hand", URL, schedule=DAILY, description="changed")
    assert (second.change, second.pause.by) == (Change.CHANGED, PausedBy.PERSON)
    assert (await driver.client.read_deployment(first.deployment_id)).paused


async def test_a_schedule_that_a_person_switched_off_stays_off(driver) -> None:
    first = await applied(driver, "Switched Off", URL, schedule=DAILY)
    (schedule,) = (await driver.client.read_deployment(first.deployment_id)).schedules
    await driver.client.update_deployment_schedule(first.deployment_id, schedule.id, active=False)
    second = await applied(driver, "Switched Off", URL, schedule={**DAILY, "cron": "0 10 * * *"})
    (schedule,) = (await driver.client.read_deployment(first.deployment_id)).schedules
    assert (schedule.schedule.cron, schedule.active, second.switched_off) == ("0 10 * * *", False, True)


async def test_a_schedule_that_the_file_had_off_goes_on_when_the_file_says_so(driver) -> None:
    first = await applied(driver, "Enabled Later", URL, schedule={**DAILY, "enabled": False})
    (schedule,) = (await driver.client.read_deployment(first.deployment_id)).schedules
    assert not schedule.active
    second = await applied(driver, "Enabled Later", URL, schedule=DAILY)
    (schedule,) = (await driver.client.read_deployment(first.deployment_id)).schedules
    assert (schedule.active, second.switched_off) == (True, False)


@pytest.mark.parametrize("schedule", [None, {**DAILY, "enabled": False}])
async def test_without_a_schedule_or_with_one_that_is_off_it_deploys_and_is_not_scheduled(driver, schedule) -> None:
    name = "Off" if schedule else "None"
    deployment = (await applied(driver, f"Unscheduled {name}", URL, schedule=schedule)).deployment_id
    scheduled = await driver.client.read_flow_runs(
        flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    )
    assert scheduled == []


async def test_a_schedule_makes_runs_at_the_local_hour(driver) -> None:
    deployment = (await applied(driver, "Scheduled", URL, schedule=DAILY)).deployment_id

    async def look() -> list[FlowRun]:
        return await driver.client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        )

    runs = await until(look, "scheduled runs: with SQLAlchemy 2.1 Prefect makes none, silently")
    from zoneinfo import ZoneInfo

    hours = {run.expected_start_time.astimezone(ZoneInfo("America/New_York")).hour for run in runs}
    assert hours == {9}
    assert min(run.expected_start_time for run in runs) < datetime.now(UTC) + timedelta(days=1, hours=1)


async def test_what_was_changed_on_the_server_is_put_right(driver) -> None:
    first = await applied(driver, "Drifted", URL, schedule=DAILY)
    from prefect.client.schemas.actions import DeploymentUpdate

    await driver.client.update_deployment(
        first.deployment_id, DeploymentUpdate(parameters={"campaign": {"name": "x"}}, tags=["other"])
    )
    second = await applied(driver, "Drifted", URL, schedule=DAILY)
    deployment = await driver.client.read_deployment(first.deployment_id)
    assert second.change is Change.CHANGED
    assert deployment.parameters == second.compiled.parameters
    assert sorted(deployment.tags) == ["campaign"]


async def test_the_work_pool_is_of_our_type(driver) -> None:
    await applied(driver, "Pooled", URL)
    assert (await driver.client.read_work_pool("campaigns")).type == "campaign"


async def test_a_work_pool_of_another_type_is_left_alone_and_mentioned(driver, monkeypatch) -> None:
    await driver.client.create_work_pool(WorkPoolCreate(name="elsewhere", type="process"))
    monkeypatch.setattr("prefect_campaigns.deployments.applying.observed.WORK_POOL", "elsewhere")
    result = await apply([campaign("Pooled Elsewhere", URL)], store=driver.store, settings=driver.settings)
    assert "of type process" in but_strays(result.notes)[-1]
    assert (await driver.client.read_work_pool("elsewhere")).type == "process"


async def test_prefect_refuses_parameters_that_are_no_campaign(driver, http, in_stack) -> None:
    deployment = (await applied(driver, "Strict", URL)).deployment_id
    answer = await http.post(
        f"{in_stack.server.api_url}/deployments/{deployment}/create_flow_run",
        json={"parameters": {"campaign": {"name": "x"}}, "enforce_parameter_schema": True},
    )
    assert answer.status_code == 409


async def test_a_slack_webhook_becomes_prefects_own_block_and_is_shown_nowhere(driver, in_stack, http) -> None:
    from prefect.blocks.notifications import SlackWebhook

    secret = "https://hooks.slack.com/services/T000/B000/topsecret42"
    one = await applied(driver, "Slacked", URL, notifications={"onFailure": {"slack": secret}})
    (webhook,) = one.compiled.secrets
    assert (await SlackWebhook.aload(webhook.block_name)).url.get_secret_value() == secret
    deployment = await http.get(f"{in_stack.server.api_url}/deployments/{one.deployment_id}")
    automations = await http.post(f"{in_stack.server.api_url}/automations/filter", json={})
    row = await driver.store.get_campaign("slacked")
    for shown in (deployment.text, automations.text, row.campaign.model_dump_json()):
        assert "topsecret42" not in shown
    for written in in_stack.database.parent.glob(f"{in_stack.database.name}*"):
        assert b"topsecret42" not in written.read_bytes()


async def test_a_slack_block_that_is_not_there_is_said_before_anything_is_deployed(driver) -> None:
    with pytest.raises(ServerError, match="slack-webhook/nobody"):
        await applied(driver, "No Channel", URL, notifications={"onFailure": {"slack": "slack-webhook/nobody"}})
    names = [deployment.name for deployment in await driver.client.read_deployments(limit=200)]
    assert "no-channel" not in names


async def test_without_a_mail_server_campaigns_run_and_apply_says_that_no_mail_will_be_sent(
    driver, engines: DemoEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect_campaigns.blocks.settings import load_settings
    from prefect_campaigns.deployments.applying import saved_mail

    for name in ("SMTP_HOST", "SMTP_PORT", "SMTP_TYPE", "SMTP_FROM"):
        monkeypatch.delenv(name)
    # The stack's server has a mail server by now; a name that is not there stands for one that has none.
    monkeypatch.setattr(saved_mail, "SMTP_BLOCK_NAME", "campaigns-no-smtp")
    unmailed = campaign("Unmailed", engines.url, only=1, notifications={"onFailure": {"email": "x@example.com"}})
    result = await apply([unmailed], store=driver.store, settings=load_settings())
    assert "No mail will be sent" in result.notes[0] and "SMTP_HOST" in result.notes[0]
    flow_run = await driver.run(result.campaigns[0].deployment_id)
    assert flow_run.state.name == "Completed"


async def test_a_mail_block_that_lost_its_mail_server_is_mended(driver) -> None:
    told = {"onComplete": {"email": "mended@example.com"}}
    await applied(driver, "Mended", URL, notifications=told)
    (name, *_) = await our_automations(driver, "mended@example.com")
    (automation,) = await driver.client.read_automations_by_name(name)
    document = await driver.client.read_block_document(automation.actions[0].block_document_id)
    # As when somebody deletes the block of the mail server, and with it every reference to it.
    broken = BlockDocumentUpdate(data={"sender": "campaigns@example.com"}, merge_existing_data=False)
    await driver.client.update_block_document(document.id, broken)
    await applied(driver, "Mended", URL, notifications=told)
    mended = await CampaignEmail.aload(document.name)
    assert mended.recipient == "mended@example.com" and mended.credentials.smtp_server


async def test_two_applies_at_once_make_no_doubles(driver) -> None:
    told = {"onComplete": {"email": "atonce@example.com"}}
    await asyncio.gather(*(driver.deploy("At Once", URL, notifications=told) for _ in range(2)))
    assert len(await our_automations(driver, "atonce@example.com")) == 2


async def test_a_schedule_that_a_person_added_beside_ours_is_taken_away_and_ours_stays_off(driver) -> None:
    first = await applied(driver, "Second Schedule", URL, schedule=DAILY)
    (ours,) = (await driver.client.read_deployment(first.deployment_id)).schedules
    await driver.client.update_deployment_schedule(first.deployment_id, ours.id, active=False)
    theirs = CronSchedule(cron="30 4 * * *", timezone="UTC")
    await driver.client.create_deployment_schedules(first.deployment_id, [(theirs, True)])
    await applied(driver, "Second Schedule", URL, schedule=DAILY)
    (left,) = (await driver.client.read_deployment(first.deployment_id)).schedules
    assert (left.id, left.schedule.cron, left.active) == (ours.id, DAILY["cron"], False)


async def test_whoever_a_run_in_progress_tells_is_told_though_the_campaign_tells_another_by_now(
    driver, engines
) -> None:
    engines.hang_next("/api/prospect")
    told = {"onFailure": {"email": "before@example.com"}}
    steps = {"prospecting": {"timeout": 8000}}
    deployment = await driver.deploy("Told Another", engines.url, only=1, steps=steps, notifications=told)
    flow_run = await driver.start(deployment)
    await driver.in_state(flow_run.id, "Running")
    told = {"onFailure": {"email": "after@example.com"}}
    await driver.deploy("Told Another", engines.url, only=1, steps=steps, notifications=told)
    assert "campaigns: failure → before@example.com" in await our_automations(driver, "before@example.com")
    await driver.ended(flow_run.id)
