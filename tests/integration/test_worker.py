"""What a campaign worker does with one run while it has others."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from campaign_files import ANALYZE, PROSPECT
from driving import until
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Scheduled, Suspended

from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.running.places import Places
from prefect_campaigns.deployments.running.result_storage import ResultStorage
from prefect_campaigns.deployments.running.run_loop import RunLoop
from prefect_campaigns.deployments.running.taken_run import TakenRun
from prefect_campaigns.flows.control import Leaving


async def test_a_run_that_is_suspended_from_outside_ends_before_its_next_step_and_goes_on_when_resumed(
    driver, engines
) -> None:
    engines.pace = 0.3
    flow_run = await driver.start(await driver.deploy("Suspended Outside", engines.url, only=2))

    async def is_asked() -> bool:
        return bool(engines.requests)

    await until(is_asked, "the first request")
    answer = await driver.client.set_flow_run_state(flow_run.id, Suspended(timeout_seconds=600))
    assert answer.status.value == "ACCEPT"

    async def has_let_go() -> bool:
        held = await driver.store.acquire_lease(
            "suspended-outside",
            run_id="looks",
            run_name="looks",
            holder="looks",
            ttl_seconds=1,
            waiting_since=datetime.now(UTC) - timedelta(days=1),
        )
        return not hasattr(held, "expires_at") or held.run_id == "looks"

    await until(has_let_go, "the end of its execution")
    assert [request.path for request in engines.requests] == [PROSPECT], "the second step has not begun"
    assert (await driver.client.read_flow_run(flow_run.id)).state_name == "Suspended"
    engines.pace = 0
    await driver.client.resume_flow_run(flow_run.id)
    assert (await driver.ended(flow_run.id)).state_name == "Completed"
    assert [request.path for request in engines.requests if request.path == PROSPECT] == [PROSPECT]


async def test_a_deployment_of_another_flow_is_refused_in_words(driver) -> None:
    client = driver.client
    # It makes the work pool where there is none yet.
    await driver.apply()
    flow_id = await client.create_flow_from_name("somebody-elses")
    deployment_id = await client.create_deployment(
        flow_id=flow_id, name="theirs", entrypoint="theirs.flows.main", work_pool_name=WORK_POOL
    )
    ended = await driver.run(deployment_id)
    assert ended.state.name == "Failed"
    assert "runs the flows of prefect_campaigns only, and was given 'theirs.flows.main'" in ended.state.message
    await client.delete_deployment(deployment_id)


async def test_a_run_that_is_cancelled_before_its_time_never_begins(driver, engines) -> None:
    deployment = await driver.deploy("Cancelled Before", engines.url, only=1)
    flow_run = await driver.start(deployment, in_seconds=5)
    await driver.in_state(flow_run.id, "Pending")
    await driver.client.set_flow_run_state(flow_run.id, Cancelling())
    assert (await driver.ended(flow_run.id)).state_name == "Cancelled"
    await asyncio.sleep(max(0.0, (flow_run.next_scheduled_start_time - datetime.now(UTC)).total_seconds()) + 1)
    assert engines.requests == []
    assert (await driver.client.read_flow_run(flow_run.id)).state_name == "Cancelled"


async def test_a_run_that_is_written_down_as_cancelled_ends_all_the_same(driver, engines) -> None:
    engines.hang_next(PROSPECT)
    flow_run = await driver.start(await driver.deploy("Written Down", engines.url, only=1))

    async def is_asked() -> bool:
        return bool(engines.requests)

    await until(is_asked, "the request")
    await driver.client.set_flow_run_state(flow_run.id, Cancelled(), force=True)

    async def is_told() -> bool:
        report = await driver.store.get_run(str(flow_run.id))
        return report is not None and report.state_name == "Cancelled"

    await until(is_told, "its end in the books", seconds=10)
    assert (await driver.client.read_flow_run(flow_run.id)).state_name == "Cancelled"


async def test_a_run_that_hangs_and_one_that_talks_without_end_harm_no_other(driver, engines) -> None:
    engines.hang_next(ANALYZE)
    hangs = await driver.start(await driver.deploy("Hangs", engines.url, only=2))
    # Its engine says something of each company.
    talker = await driver.deploy("Talks", engines.url, only=1, steps={"prospecting": {"params": {"count": 2000}}})
    talking = await driver.start(talker)
    quick = await driver.start(await driver.deploy("Quick Beside Them", engines.url, only=1))
    assert (await driver.ended(quick.id, seconds=20)).state_name == "Completed"
    assert (await driver.ended(talking.id)).state_name == "Completed"
    await driver.client.set_flow_run_state(hangs.id, Cancelling())
    assert (await driver.ended(hangs.id)).state_name == "Cancelled"


async def test_another_kind_of_worker_runs_a_campaign_and_stays_calm_when_the_budget_stops_it(
    driver, engines, in_stack
) -> None:
    await driver.client.create_work_pool(WorkPoolCreate(name="by-process", type="process"))
    log = in_stack.home / "worker.log"
    runs, before = [], len(log.read_text())
    for name, budget in (("By Process", 5), ("By Process Without Money", 0)):
        deployment = await driver.deploy(name, engines.url, only=1, budget={"daily": budget})
        await driver.client.update_deployment(deployment, DeploymentUpdate(work_pool_name="by-process"))
        runs.append(await driver.client.create_flow_run_from_deployment(deployment, state=Scheduled()))
    with in_stack.worker_of("by-process", kind="process"):
        ended = await driver.all_ended([run.id for run in runs], seconds=100)
    assert [run.state_name for run in ended] == ["Completed", "BudgetExceeded"]
    reports = [await driver.store.get_run(str(run.id)) for run in runs]
    assert [report.state_name for report in reports] == ["Completed", "BudgetExceeded"]
    said = log.read_text()[before:]
    assert "Worker 'test of by-process' started!" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("end", [Completed, Failed, Crashed])
async def test_a_claim_that_comes_after_the_run_has_ended_leaves_it_as_it_ended(driver, engines, end) -> None:
    deployment = await driver.deploy(f"Claimed Late {end.__name__}", engines.url, only=1)
    flow_run = await driver.start(deployment, in_seconds=3600)
    await driver.client.set_flow_run_state(flow_run.id, end(message="Why it ended"), force=True)
    taken = TakenRun(
        flow_run,
        looked_at=time.monotonic(),
        leaving=Leaving("late"),
        client=driver.client,
        loop=RunLoop(),
        storage=ResultStorage(),
        places=Places(1, keep_seconds=60),
    )
    assert not await taken.claim()
    states = sorted(await driver.client.read_flow_run_states(flow_run.id), key=lambda state: state.timestamp)
    assert [state.name for state in states] == ["Scheduled", end().name, "Pending", end().name]
    assert states[-1].message == "Why it ended"
