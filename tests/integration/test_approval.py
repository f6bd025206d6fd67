"""A step that a person has to approve: suspended, mailed, nothing held; then approved, or not in time."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from decimal import Decimal
from typing import Any

import httpx
import pytest
from campaign_files import COMPOSE, SEND
from driving import Driver, until
from mails import mails_to
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import AwaitingRetry, Cancelled, Cancelling
from prefect_proxy import PrefectProxy
from real_stack import Stack

from prefect_campaigns.blocks.store_types import ApprovalState, AuditAction, Lease
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.driving.runs import approve_run, cancel_run, retry_run
from prefect_campaigns.errors import WrongState
from prefect_campaigns.flows.approval import NOT_APPROVED
from prefect_campaigns.flows.approval_timeout import end_waiting
from prefect_campaigns.results import RunStatus, StepStatus

HOUR, SOON = 3_600_000, 1_000


@pytest.fixture
def suspended(driver: Driver, engines: DemoEngines, request: pytest.FixtureRequest) -> Any:
    """Run a campaign up to the sending that has to be approved."""

    async def run(
        *,
        waits: int = HOUR,
        on_timeout: str = "abort",
        cost: Any = None,
        outreach: Any = None,
        to_its_end: bool = False,
        **options: Any,
    ) -> FlowRun:
        approval = {"timeout": waits, "onTimeout": on_timeout}
        sending = {"approval": approval, "estimatedCost": cost, **({"params": {}} if outreach else {})}
        steps = {"sending": sending, **({"outreach": outreach} if outreach else {})}
        name = request.node.name.removeprefix("test_")[:60]
        deployment = await driver.deploy(name, engines.url, steps=steps, **options)
        flow_run = await driver.start(deployment)
        if waits == SOON or to_its_end:
            return await driver.ended(flow_run.id)
        return await driver.in_state(flow_run.id, "Suspended")

    return run


async def audited(driver: Driver, flow_run: FlowRun) -> list[tuple[AuditAction, str]]:
    entries = await driver.store.list_audit(limit=200)
    return [(one.action, one.actor) for one in entries if one.detail.get("runId") == str(flow_run.id)]


async def test_it_is_mailed_holds_nothing_and_goes_on_when_somebody_approves(
    driver: Driver, engines: DemoEngines, in_stack: Stack, suspended: Any
) -> None:
    told = {"onApproval": {"email": "boss@example.com"}, "onFailure": {"email": "ops3@example.com"}}
    flow_run = await suspended(notifications=told)
    (mail,) = await mails_to(in_stack, "boss@example.com", 1)
    assert mail.message["Subject"].startswith("Suspended: ")
    batch = '{"batchId": "batch-'
    for said in ("Step 'sending' waits for approval", "About to be sent: 5 emails that are ready", SEND, batch):
        assert said in mail.text, mail.text
    assert f"campaigns approve {flow_run.name}" in mail.text.replace("\n", " ")
    assert engines.requests_to(SEND) == []

    # The campaign is free for other runs, no money is reserved, and the worker has forgotten the run.
    key = flow_run.parameters["campaign"]["name"].replace("_", "-")
    lease = await driver.store.acquire_lease(
        key, run_id="another", run_name="another", holder="x", ttl_seconds=60, waiting_since=flow_run.created
    )
    assert isinstance(lease, Lease)
    await driver.store.release_lease(lease)
    status = await driver.store.budget_status(key)
    assert {limit.reserved for limit in status.limits} == {Decimal(0)}
    report = await driver.store.get_run(str(flow_run.id))
    assert (report.status, report.state_name, report.completed_at) == (RunStatus.RUNNING, "Suspended", None)

    approval = await approve_run(driver.client, driver.store, flow_run, actor="ada@laptop")
    assert (approval.state, approval.decided_by) == (ApprovalState.APPROVED, "ada@laptop")
    ended = await driver.ended(flow_run.id)
    assert ended.state.name == "Completed"
    assert [request.path for request in engines.requests if request.method == "POST"].count(SEND) == 1
    assert len(engines.requests_to("/api/prospect")) == 1, "what was done before is not done again"
    assert await audited(driver, flow_run) == [(AuditAction.STEP_APPROVED, "ada@laptop")]
    assert (await driver.store.get_run(str(flow_run.id))).total_cost == engines.charged
    with pytest.raises(WrongState, match="approved already"):
        await approve_run(driver.client, driver.store, ended, actor="ada@laptop")
    assert not [one for one in in_stack.mail.messages if "ops3@example.com" in one.recipients]


async def test_whoever_resumes_it_in_prefect_has_approved_it(driver, engines, suspended) -> None:
    flow_run = await suspended()
    await driver.client.resume_flow_run(flow_run.id)
    assert (await driver.ended(flow_run.id)).state.name == "Completed"
    assert len(engines.requests_to(SEND)) == 1
    assert await audited(driver, flow_run) == [(AuditAction.STEP_APPROVED, "somebody in Prefect")]


async def test_who_resumes_it_in_time_has_approved_it_however_late_a_worker_takes_it_up(
    driver: Driver, engines: DemoEngines, suspended: Any
) -> None:
    flow_run = await suspended(waits=8_000)
    await driver.client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=True))
    try:
        await driver.client.resume_flow_run(flow_run.id)
        (approval,) = await driver.store.list_approvals(run_id=str(flow_run.id))

        async def is_over() -> bool:
            return current_clock().now() > approval.expires_at

        await until(is_over, "the end of the waiting")
        said = await end_waiting(driver.client, driver.store, str(flow_run.id), "sending")
        assert "resumed in time" in said
    finally:
        await driver.client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=False))
    ended = await driver.ended(flow_run.id)
    assert ended.state.name == "Completed", ended.state
    assert len(engines.requests_to(SEND)) == 1
    assert await audited(driver, flow_run) == [(AuditAction.STEP_APPROVED, "somebody in Prefect")]


async def test_what_nobody_approves_in_time_is_aborted_mailed_and_asked_for_anew_by_a_retry(
    driver: Driver, engines: DemoEngines, in_stack: Stack, suspended: Any
) -> None:
    flow_run = await suspended(waits=SOON, notifications={"onFailure": {"email": "late@example.com"}})
    assert (flow_run.state.name, flow_run.state.type.value) == (NOT_APPROVED, "CANCELLED")
    assert "was not approved by" in flow_run.state.message
    report = await driver.store.get_run(str(flow_run.id))
    assert (report.status, report.state_name) == (RunStatus.ABORTED, NOT_APPROVED)
    assert report.steps[-1].status is StepStatus.PENDING
    assert engines.requests_to(SEND) == []
    assert await audited(driver, flow_run) == [(AuditAction.STEP_EXPIRED, "the clock")]
    subjects = [mail.message["Subject"] for mail in await mails_to(in_stack, "late@example.com", 2)]
    assert sorted(subject.split(":")[0] for subject in subjects) == [NOT_APPROVED, "Suspended"]

    await driver.client.set_flow_run_state(flow_run.id, AwaitingRetry(), force=True)

    async def asked_again() -> bool:
        approvals = await driver.store.list_approvals(run_id=str(flow_run.id))
        return approvals[-1].asked_at > report.started_at and len(await audited(driver, flow_run)) == 2

    await until(asked_again, "the approval to be asked for anew, and not given again")
    ended = await driver.ended(flow_run.id)
    assert ended.state.name == NOT_APPROVED
    assert engines.requests_to(SEND) == []


async def test_a_campaign_may_go_on_without(driver, engines, suspended) -> None:
    flow_run = await suspended(waits=SOON, on_timeout="continue")
    assert flow_run.state.name == "Completed"
    assert len(engines.requests_to(SEND)) == 1
    report = await driver.store.get_run(str(flow_run.id))
    assert any("nobody approved it by" in warning for warning in report.steps[-1].warnings), report.steps[-1]


async def test_what_is_cancelled_while_it_waits_is_never_sent(driver, engines, suspended) -> None:
    flow_run = await suspended()
    await cancel_run(driver.client, driver.store, flow_run, actor="ada@laptop")
    assert (await driver.client.read_flow_run(flow_run.id)).state.name == "Cancelled"
    (approval,) = await driver.store.list_approvals(run_id=str(flow_run.id))
    assert approval.state is ApprovalState.WITHDRAWN
    assert (await driver.store.get_run(str(flow_run.id))).status is RunStatus.ABORTED
    # A retry is no approval.
    await driver.client.set_flow_run_state(flow_run.id, AwaitingRetry(), force=True)
    await driver.in_state(flow_run.id, "Suspended")
    assert engines.requests_to(SEND) == []


async def test_of_several_who_approve_at_once_one_does_and_is_on_record(driver: Driver, suspended: Any) -> None:
    flow_run = await suspended()
    approvals = (approve_run(driver.client, driver.store, flow_run, actor="ada@laptop") for _ in range(3))
    outcomes = await asyncio.gather(*approvals, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, WrongState)]
    assert len(refused) == 2 and all("is approved already by ada@laptop at " in str(one) for one in refused), outcomes
    assert (await driver.ended(flow_run.id)).state.name == "Completed"
    assert await audited(driver, flow_run) == [(AuditAction.STEP_APPROVED, "ada@laptop")]


async def test_an_approval_is_on_record_once_though_the_resumption_failed_at_first(
    driver: Driver, engines: DemoEngines, in_stack: Stack, suspended: Any
) -> None:
    flow_run = await suspended()
    proxy = PrefectProxy(in_stack.server.api_url.removesuffix("/api"))
    proxy.break_at(1, is_heard=False)
    async with serve(proxy) as url, PrefectClient(f"{url}/api") as broken:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), pytest.raises(httpx.HTTPError):
            await approve_run(broken, driver.store, flow_run, actor="ada@laptop")
    await proxy.close()
    assert proxy.writes[0].endswith("/resume")
    assert await in_books(driver, flow_run) == (RunStatus.RUNNING, ApprovalState.APPROVED)
    assert await audited(driver, flow_run) == [(AuditAction.STEP_APPROVED, "ada@laptop")]
    await approve_run(driver.client, driver.store, flow_run, actor="bob@laptop")
    assert (await driver.ended(flow_run.id)).state.name == "Completed"
    assert await audited(driver, flow_run) == [(AuditAction.STEP_APPROVED, "ada@laptop")]


async def test_what_is_approved_in_the_moment_before_it_is_suspended_goes_on(
    driver: Driver, engines: DemoEngines, in_stack: Stack, suspended: Any
) -> None:
    decide = (
        "CREATE TRIGGER decided_at_once AFTER INSERT ON approvals WHEN NEW.campaign_key LIKE 'what-is-approved-in-%'"
        " BEGIN UPDATE approvals SET state = 'approved', decided_at = NEW.asked_at, decided_by = 'ada'"
        " WHERE id = NEW.id; END"
    )
    with closing(sqlite3.connect(in_stack.database, timeout=30, isolation_level=None)) as db:
        db.execute(decide)
        try:
            flow_run = await suspended(to_its_end=True)
        finally:
            db.execute("DROP TRIGGER decided_at_once")
    assert flow_run.state.name == "Completed", flow_run.state
    assert len(engines.requests_to(SEND)) == 1


async def cancelled_in_prefect(driver: Driver, flow_run: FlowRun) -> FlowRun:
    """Press Cancel in the Prefect UI."""
    await driver.client.set_flow_run_state(flow_run.id, Cancelling())
    return await driver.ended(flow_run.id)


async def in_books(driver: Driver, flow_run: FlowRun) -> tuple[RunStatus, ApprovalState]:
    (approval,) = await driver.store.list_approvals(run_id=str(flow_run.id))
    return (await driver.store.get_run(str(flow_run.id))).status, approval.state


async def test_what_is_cancelled_in_prefect_is_not_approved_and_closed_in_the_books(
    driver: Driver, engines: DemoEngines, suspended: Any
) -> None:
    flow_run = await suspended()
    await cancelled_in_prefect(driver, flow_run)
    assert await in_books(driver, flow_run) == (RunStatus.RUNNING, ApprovalState.WAITING)
    # As the command read it before.
    with pytest.raises(WrongState, match="in Prefect it is Cancelled; the approval of step 'sending' is withdrawn"):
        await approve_run(driver.client, driver.store, flow_run, actor="ada@laptop")
    assert await in_books(driver, flow_run) == (RunStatus.ABORTED, ApprovalState.WITHDRAWN)
    assert await audited(driver, flow_run) == []
    ended = await driver.client.read_flow_run(flow_run.id)
    with pytest.raises(WrongState, match="has ended already, as Cancelled"):
        await cancel_run(driver.client, driver.store, ended, actor="ada@laptop")
    await retry_run(driver.client, driver.store, ended, actor="bob@laptop")
    again = await driver.in_state(flow_run.id, "Suspended")
    assert engines.requests_to(SEND) == []

    ended = await cancelled_in_prefect(driver, again)
    done = await cancel_run(driver.client, driver.store, ended, actor="ada@laptop")
    assert "'sending' is withdrawn; the run, which was still going in the books, is aborted there" in (done or "")
    report = await driver.store.get_run(str(flow_run.id))
    assert (report.status, report.state_name) == (RunStatus.ABORTED, "Cancelled")
    assert "Cancelled; put down by ada@laptop" in report.message


async def test_the_end_of_the_waiting_closes_in_the_books_what_was_cancelled_in_prefect(driver, suspended) -> None:
    flow_run = await suspended(waits=8_000)
    await driver.client.set_flow_run_state(flow_run.id, Cancelled(), force=True)

    async def closed() -> bool:
        return await in_books(driver, flow_run) == (RunStatus.ABORTED, ApprovalState.WITHDRAWN)

    await until(closed, "the books to be told")
    assert await audited(driver, flow_run) == []


async def test_what_it_has_spent_itself_does_not_stop_an_approved_run(driver, engines, suspended) -> None:
    flow_run = await suspended(budget={"daily": 0.037}, cost=0)
    status = await driver.store.budget_status(flow_run.parameters["campaign"]["name"].replace("_", "-"))
    assert status.limits[0].reached, "the limit is reached by what was spent before the sending"
    await driver.client.resume_flow_run(flow_run.id)
    ended = await driver.ended(flow_run.id)
    assert ended.state.name == "Completed", ended.state
    assert len(engines.requests_to(SEND)) == 1


async def test_a_step_that_failed_before_is_not_tried_again_by_the_approval(driver, engines) -> None:
    engines.fail_next("/api/analyze", status=400)
    steps = {
        "analysis": {"onFailure": "continue"},
        "outreach": {"params": {}},
        "sending": {"approval": {"timeout": HOUR}, "params": {}},
    }
    deployment = await driver.deploy("Failed Before Its Approval", engines.url, steps=steps)
    flow_run = await driver.start(deployment)
    await driver.in_state(flow_run.id, "Suspended")
    await driver.client.resume_flow_run(flow_run.id)
    ended = await driver.ended(flow_run.id)
    assert ended.state.name == "Partial", ended.state
    assert len(engines.requests_to("/api/analyze")) == 1
    assert len(engines.requests_to(SEND)) == 1


async def test_a_retry_asks_anew_before_it_sends_what_nobody_has_seen(
    driver: Driver, engines: DemoEngines, suspended: Any
) -> None:
    engines.fail_next(COMPOSE, status=400)
    flow_run = await suspended(outreach={"onFailure": "continue"})
    assert "About to be sent: 5 leads" in flow_run.state.message
    engines.fail_next(SEND, status=400)
    await approve_run(driver.client, driver.store, flow_run, actor="ada@laptop")
    ended = await driver.ended(flow_run.id)
    assert ended.state.name == "Failed", ended.state
    assert len(engines.requests_to(SEND)) == 1

    await retry_run(driver.client, driver.store, ended, actor="bob@laptop")
    again = await driver.in_state(flow_run.id, "Suspended")
    assert "About to be sent: 5 emails" in again.state.message
    (approval,) = await driver.store.list_approvals(run_id=str(flow_run.id))
    assert (approval.state, approval.decided_by) == (ApprovalState.WAITING, None)
    assert len(engines.requests_to(SEND)) == 1
    await approve_run(driver.client, driver.store, again, actor="ada@laptop")
    assert (await driver.ended(flow_run.id)).state.name == "Completed"
    assert len(engines.requests_to(SEND)) == 2
