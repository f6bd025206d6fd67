"""A campaign whose apply was killed before its row knew its deployment: the deployment is one all the same."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from campaign_files import campaign
from driving import Driver
from prefect.exceptions import ObjectNotFound

from prefect_campaigns.blocks.store_types import CampaignRecord, PausedBy
from prefect_campaigns.deployments.applying.removal import delete_campaign
from prefect_campaigns.deployments.cli.log_commands import newest_run
from prefect_campaigns.deployments.driving.runs import start_run
from prefect_campaigns.deployments.driving.standing import Standing, ask_states
from prefect_campaigns.errors import NotDeployed, UnknownRun
from prefect_campaigns.flows.pausing import pause_by_person
from prefect_campaigns.flows.resuming import resume_by_person

NOWHERE = "http://127.0.0.1:9"
ADA = "ada@laptop"


async def killed(driver: Driver, name: str) -> tuple[UUID, CampaignRecord]:
    """Create a campaign as an apply does that dies before its last word to the books."""
    made = campaign(name, NOWHERE, only=1, schedule={"cron": "0 9 * * *"})
    (deployment_id,) = await driver.apply(made)
    await driver.store.delete_campaign(made.slug)
    record = await driver.store.save_campaign(made)
    assert record.deployment_id is None
    return deployment_id, record


async def test_it_is_paused_and_shown_and_resumed(driver: Driver) -> None:
    client, store, now = driver.client, driver.store, datetime.now(UTC)
    deployment_id, record = await killed(driver, "Killed Creation")

    await pause_by_person(client, store, record, reason="do not send", now=now)
    deployment = await client.read_deployment(deployment_id)
    assert deployment.paused and "do not send" in deployment.description
    (alone,) = await ask_states(client, store, [await store.get_campaign(record.key)])
    among_all = {one.record.key: one for one in await ask_states(client, store, await store.list_campaigns())}
    for state in (alone, among_all[record.key]):
        assert state.standing is Standing.PAUSED_BY_PERSON and state.pause is not None
        assert state.pause.by is PausedBy.PERSON

    await driver.apply(record.campaign)
    assert (await client.read_deployment(deployment_id)).paused, "an apply that finishes it leaves it paused"

    await resume_by_person(client, store, await store.get_campaign(record.key), now=now)
    assert not (await client.read_deployment(deployment_id)).paused


async def test_who_starts_it_or_asks_for_its_logs_hears_what_to_do(driver: Driver) -> None:
    client, store = driver.client, driver.store
    deployment_id, record = await killed(driver, "Killed And Started")
    what_to_do = (
        "the books do not know the deployment of killed-and-started: an apply of it broke off, or none has been made;"
        " `campaigns apply` of its file finishes it"
    )
    with pytest.raises(NotDeployed) as of_start:
        await start_run(client, store, record, actor=ADA)
    with pytest.raises(NotDeployed) as of_logs:
        await newest_run(client, record)
    assert str(of_start.value) == str(of_logs.value) == what_to_do

    await driver.apply(record.campaign)
    record = await store.get_campaign(record.key)
    assert record.deployment_id == deployment_id
    with pytest.raises(UnknownRun, match="killed-and-started has not run yet"):
        await newest_run(client, record)


async def test_its_deployment_is_deleted_with_it(driver: Driver) -> None:
    deployment_id, record = await killed(driver, "Killed And Deleted")
    later = await driver.start_later(deployment_id)

    await delete_campaign(driver.client, driver.store, record, actor=ADA)

    with pytest.raises(ObjectNotFound):
        await driver.client.read_deployment(deployment_id)
    with pytest.raises(ObjectNotFound):
        await driver.client.read_flow_run(later.id)
