"""What people pause and resume while an apply writes it: the apply does not undo it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from campaign_files import campaign
from driving import Driver
from operating import Operator
from prefect_proxy import PrefectProxy

from prefect_campaigns.blocks.store_types import Pause, PausedBy
from prefect_campaigns.flows.pausing import pause_by_person
from prefect_campaigns.flows.resuming import resume_by_person
from prefect_campaigns.models import Campaign

URL = "http://127.0.0.1:9"
DAILY = {"cron": "0 9 * * *", "timezone": "America/New_York"}


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
    proxy.pass_on()
    proxy.meanwhile = f"PATCH /api/deployments/{deployment}", lambda: paused_meanwhile(driver, "paused-while-changed")
    await operator.apply(version("two"))
    assert proxy.meanwhile is None
    there = await driver.client.read_deployment(deployment)
    assert there.paused and there.description.startswith("**Paused.** do not send.")
    assert there.description.endswith("two")
    # Whatever Prefect's scheduler was about to make. A run of a paused deployment would run all the same.
    assert not [write for write in proxy.writes if write.endswith("/schedule")]


async def test_what_a_person_resumed_in_prefect_is_not_paused_again_by_a_change(driver, operator) -> None:
    def version(text: str) -> Campaign:
        return campaign("Resumed There", URL, only=1, schedule=DAILY, budget={"daily": 5}, description=text)

    (applied,) = (await operator.apply(version("one"))).campaigns
    pause = Pause(by=PausedBy.BUDGET, reason="budget: weekly 1.00 reached, spent 1.00", since=datetime.now(UTC))
    await driver.store.set_pause("resumed-there", pause, replacing=None)
    await operator.apply(version("two"))
    assert not (await driver.client.read_deployment(applied.deployment_id)).paused
