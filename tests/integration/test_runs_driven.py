"""Runs that a person finds, retries and cancels, in each state that they can be in."""

from __future__ import annotations

import pytest
from campaign_files import PROSPECT, campaign
from driving import Driver, until
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.states import Pending

from prefect_campaigns.blocks.store_types import AuditAction
from prefect_campaigns.deployments.cli.waiting import TakingUp, what_it_waits_for
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.driving.dry_run import look_ahead
from prefect_campaigns.deployments.driving.run_changes import change_params, typed
from prefect_campaigns.deployments.driving.runs import cancel_run, find_run, parameters_to_run, retry_run, start_run
from prefect_campaigns.deployments.driving.standing import ask_states
from prefect_campaigns.errors import NotDeployed, UnknownRun, WrongState
from prefect_campaigns.flows.versions import parameters_of
from prefect_campaigns.models import Campaign

ADA = "ada@laptop"


async def test_a_failed_run_is_found_and_goes_on_at_the_failed_step_and_a_completed_one_is_not_retried(
    driver: Driver, engines: DemoEngines
) -> None:
    client, store = driver.client, driver.store
    engines.fail_next("/api/analyze", status=400)
    await driver.deploy("Driven Retry", engines.url, only=2)
    started = await start_run(client, store, await store.get_campaign("driven-retry"), actor=ADA)
    failed = await driver.ended(started.id)
    assert failed.state.name == "Failed"
    first = (await store.get_run(str(started.id))).steps[1]
    assert first.duration_seconds is not None

    for name in (started.name, str(started.id), str(started.id)[:8]):
        assert (await find_run(client, store, name)).id == started.id
    with pytest.raises(UnknownRun, match=f"there is no run '{started.name}x' .* did you mean {started.name}"):
        await find_run(client, store, f"{started.name}x")

    await retry_run(client, store, failed, actor=ADA)
    again = await driver.ended(started.id)
    assert again.state.name == "Completed"
    assert len(engines.requests_to(PROSPECT)) == 1
    second = (await store.get_run(str(started.id))).steps[1]
    assert second.started_at > first.completed_at, "the time between a run's end and its retry is no work"
    with pytest.raises(WrongState, match="has completed; `campaigns run` starts another"):
        await retry_run(client, store, again, actor=ADA)
    with pytest.raises(WrongState, match="has ended already, as Completed"):
        await cancel_run(client, store, again, actor=ADA)
    entries = await store.list_audit(campaign_key="driven-retry", limit=2)
    done = [(entry.action, entry.detail["run"]) for entry in entries]
    assert done == [(AuditAction.RUN_RETRIED, started.name), (AuditAction.RUN_STARTED, started.name)]

    await client.delete_deployment(again.deployment_id)
    with pytest.raises(NotDeployed):
        await start_run(client, store, await store.get_campaign("driven-retry"), actor=ADA)
    with pytest.raises(NotDeployed):
        await retry_run(client, store, failed, actor=ADA)


async def test_what_is_changed_and_foretold_is_what_would_run(driver: Driver, engines: DemoEngines) -> None:
    def written(count: int) -> Campaign:
        return campaign(
            "Driven Version", engines.url, only=1, steps={"prospecting": {"params": {"count": count, "x": 1}}}
        )

    client, store = driver.client, driver.store
    (deployment,) = await driver.apply(written(5))
    # An apply that is broken off leaves the deployment as it was.
    record = await store.save_campaign(written(9))
    assert await parameters_to_run(client, record) == parameters_of(written(9))
    (state,) = await ask_states(client, store, [record])
    (foretold,) = (await look_ahead(client, store, state, {})).steps
    assert foretold.request.params == {"count": 9, "x": 1}

    parameters = await parameters_to_run(client, record)
    parameters["campaign"] = change_params(parameters["campaign"], typed(["steps.prospecting.x=2"]))
    await driver.ended((await start_run(client, store, record, actor=ADA, parameters=parameters)).id)
    # Made like the version that the deployment still has, it is a change all the same.
    back = change_params(parameters_of(written(9))["campaign"], typed(["steps.prospecting.count=5"]))
    parameters = {**await parameters_to_run(client, record), "campaign": back}
    await driver.ended((await start_run(client, store, record, actor=ADA, parameters=parameters)).id)
    await driver.run(deployment)
    sent = [request.params for request in engines.requests_to(PROSPECT)]
    assert sent == [{"count": 9, "x": 2}, {"count": 5, "x": 1}, {"count": 9, "x": 1}]

    # What a person has edited in Prefect runs as it is edited.
    edited = {**parameters_of(written(5)), "campaign": parameters_of(written(7))["campaign"]}
    await client.update_deployment(deployment, DeploymentUpdate(parameters=edited))
    assert await parameters_to_run(client, record) == edited


async def test_a_run_is_cancelled_whether_it_goes_waits_or_is_due_later(driver: Driver, engines: DemoEngines) -> None:
    client, store = driver.client, driver.store
    engines.hang_next(PROSPECT)
    deployment = await driver.deploy("Driven Cancel", engines.url, only=1)
    going = await driver.start(deployment)

    async def asked() -> bool:
        return bool(engines.requests_to(PROSPECT))

    await until(asked, "a request")
    waiting = await driver.start(deployment)
    later = await driver.start_later(deployment)
    waiting = await driver.in_state(waiting.id, "Waiting")
    assert going.name in (await what_it_waits_for(client, store, waiting, TakingUp()) or "")
    for run in (later, waiting, going):
        await cancel_run(client, store, await client.read_flow_run(run.id), actor=ADA)
        assert (await client.read_flow_run(run.id)).state.name == "Cancelled"
    assert (await store.get_run(str(going.id))).status == "aborted"
    assert len(engines.requests_to(PROSPECT)) == 1


@pytest.mark.usefixtures("no_worker")
async def test_runs_that_nobody_executes_end_all_the_same(driver: Driver, engines: DemoEngines) -> None:
    client, store = driver.client, driver.store
    deployment = await driver.deploy("Driven Orphans", engines.url, only=1)
    due, taken_up, retried = [await driver.start(deployment) for _ in range(3)]
    # As a worker leaves it that dies with the run.
    await client.set_flow_run_state(taken_up.id, Pending(), force=True)
    await client.update_flow_run(retried.id, infrastructure_pid="gone")

    asked = TakingUp()
    due = await client.read_flow_run(due.id)
    assert await what_it_waits_for(client, store, due, asked) is None
    asked.since -= 60
    said = await what_it_waits_for(client, store, due, asked)
    assert said == ("Work pool campaigns is paused, and no worker takes the run up: prefect work-pool resume campaigns")
    for run in (due, taken_up, retried):
        await cancel_run(client, store, await client.read_flow_run(run.id), actor=ADA)
        assert (await client.read_flow_run(run.id)).state.name == "Cancelled"
