"""What somebody changes in Prefect: the plan shows it and an apply puts it right, or it is theirs to change."""

from __future__ import annotations

from typing import Any

from campaign_files import campaign
from driving import Driver
from operating import Operator
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect_proxy import PrefectProxy

from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.flows.versions import parameters_of
from prefect_campaigns.models import Campaign

URL = "http://127.0.0.1:9"
DAILY = {"cron": "0 9 * * *", "timezone": "America/New_York"}


async def test_each_drift_is_shown_by_the_plan_and_put_right_by_apply_once(
    driver: Driver, operator: Operator, proxy: PrefectProxy
) -> None:
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


async def test_each_field_that_somebody_changed_is_shown_and_put_right_at_once(
    driver: Driver, operator: Operator, proxy: PrefectProxy
) -> None:
    client, one = driver.client, campaign("Edited In Prefect", URL, only=1)
    (applied,) = (await operator.apply(one)).campaigns
    await client.create_work_pool(WorkPoolCreate(name="pool-of-others", type="process"))
    shared = await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name="of-others", limit=3))
    edited = {
        "description": "mine",
        "tags": ["mine"],
        "entrypoint": "marketing.py:campaign",
        "path": "/srv/marketing",
        "work_pool_name": "pool-of-others",
        "enforce_parameter_schema": False,
        "parameter_openapi_schema": {},
        "concurrency_options": {"collision_strategy": "CANCEL_NEW"},
    }
    names = {"description", "tags", "entrypoint", "path", "workPool", "enforceParameterSchema", "parameterSchema"}
    for limit, limited in (
        ({"concurrency_limit": 2}, "concurrencyLimit"),
        ({"global_concurrency_limit_id": str(shared)}, "globalConcurrencyLimit"),
    ):
        path = f"/deployments/{applied.deployment_id}"
        (await client.request("PATCH", path, json={**edited, **limit})).raise_for_status()
        (plan,) = (await operator.plan(one)).campaigns
        assert {change.field for change in plan.fields} == {*names, "concurrencyOptions", limited}
        proxy.pass_on()
        await operator.apply(one)
        assert len([write for write in proxy.writes if write.endswith(str(applied.deployment_id))]) == 1
        assert not (await operator.plan(one)).has_changes
    assert (await client.read_global_concurrency_limit_by_name("of-others")).id == shared, "others may go by it"
    await client.delete_work_pool("pool-of-others")


async def test_work_queue_and_job_variables_are_left_to_whoever_runs_the_workers(
    driver: Driver, operator: Operator
) -> None:
    def version(text: str) -> Campaign:
        return campaign("Queued Elsewhere", URL, only=1, description=text)

    (applied,) = (await operator.apply(version("one"))).campaigns
    chosen = {"work_pool_name": WORK_POOL, "work_queue_name": "urgent", "job_variables": {"env": {"REGION": "eu"}}}
    path = f"/deployments/{applied.deployment_id}"
    (await driver.client.request("PATCH", path, json=chosen)).raise_for_status()
    assert not (await operator.plan(version("one"))).has_changes
    await operator.apply(version("two"))
    there = await driver.client.read_deployment(applied.deployment_id)
    assert there.description == "two"
    assert {name: getattr(there, name) for name in chosen} == chosen
