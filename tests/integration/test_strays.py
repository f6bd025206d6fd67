"""Deployments of campaigns that the books do not know: said, paused, deleted, and run without spending anything."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from campaign_files import campaign
from driving import Driver
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from prefect_campaigns.blocks.store_types import AuditAction, PausedBy
from prefect_campaigns.deployments.applying.apply import apply
from prefect_campaigns.deployments.applying.planning import make_plan
from prefect_campaigns.deployments.applying.removal import delete_stray
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.driving.emergency import start_all, stop_all
from prefect_campaigns.deployments.driving.standing import read_states
from prefect_campaigns.deployments.driving.strays import find_campaign_or_stray, find_in_books, pause_stray
from prefect_campaigns.errors import UnknownCampaign, WrongState
from prefect_campaigns.models import Campaign

NOWHERE = "http://127.0.0.1:9"
ADA = "ada@laptop"


async def stray(driver: Driver, made: Campaign) -> DeploymentResponse:
    """Apply a campaign, and lose its row, as a restored backup does that is older."""
    (deployment_id,) = await driver.apply(made)
    await driver.store.delete_campaign(made.slug)
    return await driver.client.read_deployment(deployment_id)


async def is_there(driver: Driver, deployment_id: UUID) -> bool:
    try:
        await driver.client.read_deployment(deployment_id)
    except ObjectNotFound:
        return False
    return True


async def test_its_run_fails_and_asks_nobody_for_anything(driver: Driver, engines: DemoEngines) -> None:
    made = campaign("Stray That Runs", engines.url, budget={"daily": 5})
    deployment = await stray(driver, made)

    ended = await driver.run(deployment.id)

    assert ended.state is not None and ended.state.name == "Failed"
    assert ended.state.message == (
        "UnknownCampaign: the store has no campaign 'stray-that-runs'; `campaigns apply` puts it there"
    )
    assert engines.requests == []
    assert await driver.store.get_run(str(ended.id)) is None
    await delete_stray(driver.client, driver.store, deployment, actor=ADA)


async def test_it_is_found_by_whatever_it_is_called_and_suggested_for_what_is_nearly_that(driver: Driver) -> None:
    client, store = driver.client, driver.store
    deployment = await stray(driver, campaign("Stray Outreach", NOWHERE, only=1))
    flow_id = deployment.flow_id
    foreign = await client.create_deployment(flow_id, "stray-of-others", entrypoint="marketing.py:campaign")

    for name in ("Stray Outreach", "stray-outreach", "campaign/stray-outreach", str(deployment.id)):
        found = await find_campaign_or_stray(client, store, name)
        assert isinstance(found, DeploymentResponse) and found.id == deployment.id
    with pytest.raises(UnknownCampaign, match="did you mean stray-outreach"):
        await find_campaign_or_stray(client, store, "stray-outreech")
    with pytest.raises(UnknownCampaign, match="there is no campaign 'stray-of-others'"):
        await find_campaign_or_stray(client, store, "stray-of-others")
    with pytest.raises(
        UnknownCampaign, match=r"Deployment campaign/stray-outreach is not in the books.*campaigns apply"
    ):
        await find_in_books(client, store, "stray-outreach")

    await client.delete_deployment(foreign)
    await delete_stray(client, store, deployment, actor=ADA)


async def test_of_a_row_that_does_not_know_its_deployment_the_id_finds_the_campaign(driver: Driver) -> None:
    made = campaign("Not Quite Stray", NOWHERE, only=1)
    deployment = await stray(driver, made)
    await driver.store.save_campaign(made)
    found = await find_in_books(driver.client, driver.store, str(deployment.id))
    assert (found.key, found.deployment_id) == ("not-quite-stray", None)


async def test_the_plan_and_the_list_say_what_it_is_and_what_to_do(driver: Driver) -> None:
    client, store = driver.client, driver.store
    # No more than ten are named, and there may be some of other tests.
    for left in (await read_states(store, await store.list_campaigns(), with_strays=True)).strays:
        await delete_stray(client, store, left, actor=ADA)
    made = campaign("Stray Listed", NOWHERE, only=1)
    deployment = await stray(driver, made)

    async def notes(*compiled_of: Campaign) -> str:
        result = await apply(compiled_of, store=store, settings=driver.settings)
        plan = await make_plan(client, store, driver.settings, [], origins={})
        return "\n".join((*result.notes, *plan.notes))

    said = await notes()
    assert "campaign/stray-listed" in said and "not in the books" in said
    assert "campaigns apply of its file takes it into these, and campaigns delete " in said
    listed = await read_states(store, await store.list_campaigns(), with_strays=True)
    assert "stray-listed" in {one.name for one in listed.strays}
    # Which other campaigns there are is nobody's question who asks for one.
    assert (await read_states(store, [])).strays == ()

    await driver.apply(made)
    assert (await store.get_campaign("stray-listed")).deployment_id == deployment.id
    assert "stray-listed" not in await notes()


async def test_it_is_paused_in_prefect_and_stays_so_when_an_apply_takes_it_in(driver: Driver) -> None:
    made = campaign("Stray Paused", NOWHERE, only=1, schedule={"cron": "0 9 * * *"})
    deployment = await stray(driver, made)

    await pause_stray(
        driver.client, driver.store, deployment, reason="wrong books", actor=ADA, now=datetime(2026, 5, 13, tzinfo=UTC)
    )

    paused = await driver.client.read_deployment(deployment.id)
    assert paused.paused and paused.description.startswith("**Paused.** wrong books. Since 2026-05-13")
    assert paused.tags == deployment.tags and paused.parameters == deployment.parameters
    (line,) = await driver.store.list_audit(campaign_key="stray-paused", limit=1)
    assert (line.action, line.actor, line.detail["reason"]) == (AuditAction.CAMPAIGN_PAUSED, ADA, "wrong books")
    result = await apply([made], store=driver.store, settings=driver.settings)
    assert (await driver.client.read_deployment(deployment.id)).paused
    (applied,) = result.campaigns
    assert applied.pause is not None and applied.pause.reason == "paused in Prefect"


async def test_one_that_an_apply_takes_in_while_everything_is_stopped_is_paused_by_the_stop(driver: Driver) -> None:
    client, store = driver.client, driver.store
    daily = {"cron": "0 9 * * *"}
    before, after = (campaign(f"Stray {when} Stop", NOWHERE, only=1, schedule=daily) for when in ("Before", "After"))
    held = await stray(driver, before)
    stopped = await stop_all(client, store, actor=ADA, reason="wrong list", cancel_running=False)
    try:
        # One that the stop has found, and one that came after it, as by a restored backup.
        assert "stray-before-stop" in stopped.strays
        (came_after,) = await driver.apply(after)
        await store.delete_campaign(after.slug)
        await client.resume_deployment(came_after)

        result = await apply([before, after], store=store, settings=driver.settings)

        for one, deployment_id in zip(result.campaigns, (held.id, came_after), strict=True):
            assert one.pause is not None and one.pause.by is PausedBy.STOP
            assert (await store.get_campaign(one.compiled.slug)).pause == one.pause
            shown = await client.read_deployment(deployment_id)
            assert shown.paused and shown.description.startswith(
                "**Paused.** emergency stop by ada@laptop: wrong list."
            )
    finally:
        started = await start_all(client, store, actor=ADA)
    both = {before.slug, after.slug}
    assert both <= set(started.resumed) and not both & set(started.strays)
    assert not any([(await client.read_deployment(one)).paused for one in (held.id, came_after)])


async def test_one_that_the_end_of_the_stop_could_not_resume_is_resumed_when_an_apply_takes_it_in(
    driver: Driver,
) -> None:
    client, store = driver.client, driver.store
    made = campaign("Stray Left Behind", NOWHERE, only=1, schedule={"cron": "0 9 * * *"})
    deployment = await stray(driver, made)
    await stop_all(client, store, actor=ADA, reason=None, cancel_running=False)
    # The stop has ended, and whoever ended it died before anything was resumed.
    await store.set_stop(None)
    try:
        (applied,) = (await apply([made], store=store, settings=driver.settings)).campaigns
        assert applied.pause is None and (await store.get_campaign(made.slug)).pause is None
        assert not (await client.read_deployment(deployment.id)).paused
    finally:
        await start_all(client, store, actor=ADA)


async def test_deleting_it_takes_its_runs_and_what_nobody_else_needs(driver: Driver) -> None:
    client, store = driver.client, driver.store
    told = {"onComplete": {"email": "stray-only@example.com"}}
    deployment = await stray(driver, campaign("Stray Deleted", NOWHERE, only=1, notifications=told))
    later = await driver.start_later(deployment.id)
    automation = "campaigns: complete → stray-only@example.com"
    assert await client.read_automations_by_name(automation)

    await delete_stray(client, store, deployment, actor=ADA)

    assert not await is_there(driver, deployment.id)
    with pytest.raises(ObjectNotFound):
        await client.read_flow_run(later.id)
    assert await client.read_automations_by_name(automation) == []
    (line,) = await store.list_audit(campaign_key="stray-deleted", limit=1)
    assert (line.action, line.actor, line.detail["state"]) == (
        AuditAction.CAMPAIGN_DELETED,
        ADA,
        "not in the books",
    )


async def test_what_an_apply_has_taken_in_meanwhile_is_not_deleted_as_a_stray(driver: Driver) -> None:
    made = campaign("Stray No More", NOWHERE, only=1)
    deployment = await stray(driver, made)
    await driver.apply(made)
    with pytest.raises(WrongState, match="stray-no-more is in the books by now"):
        await delete_stray(driver.client, driver.store, deployment, actor=ADA)
    assert await is_there(driver, deployment.id)
