"""Deleting a campaign: what is its own goes, what others need stays, and what it has spent stays spent."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest
from campaign_files import PROSPECT, campaign
from driving import Driver, until
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect_proxy import PrefectProxy
from real_stack import Stack

from prefect_campaigns.blocks.store_types import AuditAction
from prefect_campaigns.deployments.applying.apply import apply
from prefect_campaigns.deployments.applying.removal import delete_campaign
from prefect_campaigns.deployments.compile import compile_campaign
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.driving.standing import ask_states, describe_state
from prefect_campaigns.errors import UnknownCampaign
from prefect_campaigns.flows.pausing import NO_REASON, pause_by_person

ADA = "ada@laptop"


async def flow_runs(driver: Driver, deployment_id) -> list[FlowRun]:
    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
    return await driver.client.read_flow_runs(flow_run_filter=wanted)


async def automation_names(driver: Driver) -> set[str]:
    names, offset = set[str](), 0
    while page := await driver.client.read_automations(offset=offset):
        offset += len(page)
        names |= {one.name for one in page}
    return names


async def block_exists(driver: Driver, name: str, slug: str) -> bool:
    try:
        await driver.client.read_block_document_by_name(name, slug)
    except ObjectNotFound:
        return False
    return True


async def test_all_that_is_its_own_goes_and_what_others_need_stays(driver: Driver, engines: DemoEngines) -> None:
    client, store = driver.client, driver.store
    both, alone = {"email": "both@example.com"}, {"email": "deleted-only@example.com"}
    doomed = campaign(
        "Doomed",
        engines.url,
        only=1,
        steps={"prospecting": {"headers": {"X-Api-Key": "s3cr3t-of-the-doomed"}}},
        schedule={"cron": "0 3 * * *"},
        notifications={"onFailure": both, "onComplete": alone},
    )
    kept = campaign("Not Doomed", engines.url, only=1, notifications={"onFailure": both})
    doomed_id, kept_id = await driver.apply(doomed, kept)
    assert (await driver.run(doomed_id)).state.name == "Completed"
    kept_run = await driver.run(kept_id)
    engines.hang_next(PROSPECT)
    going = await driver.start(doomed_id)
    later = await driver.start_later(doomed_id)

    async def is_going() -> bool:
        return len(engines.requests_to(PROSPECT)) == 3

    await until(is_going, "the request of the run that is cancelled")
    spent = (await store.budget_status("doomed")).limits[0].spent
    assert spent > 0
    record = await store.get_campaign("doomed")
    (secret,) = [one.block_name for one in compile_campaign(doomed).secrets]
    recipients = {one.recipient.label: one.recipient.block_name for one in compile_campaign(doomed).automations}
    assert await block_exists(driver, secret, "secret")

    await delete_campaign(client, store, record, actor=ADA)

    with pytest.raises(UnknownCampaign):
        await store.get_campaign("doomed")
    with pytest.raises(ObjectNotFound):
        await client.read_deployment(doomed_id)
    assert await flow_runs(driver, doomed_id) == []
    for run in (going, later):
        with pytest.raises(ObjectNotFound):
            await client.read_flow_run(run.id)
    assert await store.get_run(str(going.id)) is None
    assert not await block_exists(driver, secret, "secret")
    assert not await block_exists(driver, recipients["deleted-only@example.com"], "campaign-email")
    assert await block_exists(driver, recipients["both@example.com"], "campaign-email")
    names = await automation_names(driver)
    assert not [name for name in names if "deleted-only@example.com" in name]
    assert "campaigns: failure → both@example.com" in names
    assert (await client.read_flow_run(kept_run.id)).state.name == "Completed"
    (entry, *_) = await store.list_audit(campaign_key="doomed")
    assert (entry.action, entry.actor, entry.detail["id"]) == (AuditAction.CAMPAIGN_DELETED, ADA, str(record.id))

    # Made again, it has spent what it had spent, and perhaps what the run did that was cancelled.
    await driver.apply(doomed)
    assert (await store.budget_status("doomed")).limits[0].spent >= spent > Decimal(0)


async def test_a_deletion_that_broke_off_is_finished_by_saying_it_again(driver: Driver, engines: DemoEngines) -> None:
    deployment_id = await driver.deploy("Half Deleted", engines.url, only=1)
    run = await driver.run(deployment_id)
    record = await driver.store.get_campaign("half-deleted")
    # As if it had died after the deployment was gone.
    await driver.client.delete_deployment(deployment_id)
    await delete_campaign(driver.client, driver.store, record, actor=ADA)
    with pytest.raises(ObjectNotFound):
        await driver.client.read_flow_run(run.id)
    with pytest.raises(UnknownCampaign):
        await delete_campaign(driver.client, driver.store, record, actor=ADA)


async def test_a_deletion_that_broke_off_says_so_and_an_apply_takes_back_that_and_no_other_pause(
    driver: Driver, in_stack: Stack
) -> None:
    client, store = driver.client, driver.store
    made = [
        campaign(name, "http://127.0.0.1:9", only=1)
        for name in ("Broke Off", "Broke Off On Leave", "Broke Off And Paused")
    ]
    deployments = await driver.apply(*made)
    begun, on_leave, after_all = [await store.get_campaign(one.slug) for one in made]
    await pause_by_person(client, store, on_leave, reason="leave", now=datetime.now(UTC))
    proxy = PrefectProxy(in_stack.server.api_url.removesuffix("/api"))
    async with serve(proxy) as url:
        for record in (begun, on_leave, after_all):
            # As the pause has passed, and nothing after it.
            proxy.break_at(2, is_heard=False)
            with temporary_settings({PREFECT_API_URL: f"{url}/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
                async with get_client() as cut_off:
                    with pytest.raises(httpx.HTTPError):
                        await delete_campaign(cut_off, store, record, actor=ADA)
    await proxy.close()
    assert all([(await client.read_deployment(one)).paused for one in deployments])
    state, *_ = await ask_states(client, store, [await store.get_campaign(one.slug) for one in made])
    described = describe_state(state, now=datetime.now(UTC))
    assert described is not None and "its deletion has begun" in described and "by a person" not in described

    await pause_by_person(client, store, await store.get_campaign(after_all.key), reason=None, now=datetime.now(UTC))
    result = await apply(made, store=store, settings=driver.settings)
    assert [one.pause.reason if one.pause else None for one in result.campaigns] == [None, "leave", NO_REASON]
    assert [(await client.read_deployment(one)).paused for one in deployments] == [False, True, True]
    assert [(await store.get_campaign(one.slug)).pause is None for one in made] == [True, False, False]
