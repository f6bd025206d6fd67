"""What is done to runs: starting one, finding it, trying it again, cancelling it, approving its next step."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import AwaitingRetry

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import ApprovalRecord, ApprovalState, AuditAction, CampaignRecord
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.applying.alone import APPROVING, alone
from prefect_campaigns.deployments.driving.audit import record as record_audit
from prefect_campaigns.deployments.driving.cancelling import end_runs
from prefect_campaigns.deployments.driving.lookup import as_uuid
from prefect_campaigns.deployments.driving.standing import CampaignState, ask_states
from prefect_campaigns.errors import EverythingStopped, NotDeployed, StoreError, UnknownRun, WrongState
from prefect_campaigns.faults import examine
from prefect_campaigns.flows.approval import waits_for
from prefect_campaigns.flows.campaign import FLOW_NAME
from prefect_campaigns.flows.closing import close_ended
from prefect_campaigns.flows.paused_deployment import read_deployment
from prefect_campaigns.flows.versions import parameters_of
from prefect_campaigns.versions import version_of

MIN_ID = 8
"""How much of a run's id is enough to name it by."""

_RECENT = 200
"""Among how many of the newest runs a near miss, or the beginning of an id, is looked for."""


async def refuse_while_stopped(store: CampaignStore) -> None:
    """Let nothing begin while the emergency stop stands.

    Raises:
        EverythingStopped: it does.
    """
    if (stop := await store.read_stop()) is not None:
        raise EverythingStopped(by=stop.by, reason=stop.reason, since=stop.since)


async def start_run(
    client: PrefectClient,
    store: CampaignStore,
    record: CampaignRecord,
    *,
    actor: str,
    parameters: Mapping[str, Any] | None = None,
    once: UUID | None = None,
) -> FlowRun:
    """Start a campaign now, and write down who has.

    Args:
        parameters: what differs from the deployment's own parameters.
        once: names the wish: a run that was started by it is the one that is returned again.

    Raises:
        EverythingStopped: the emergency stop stands.
        NotDeployed: the campaign has no deployment, or the books do not know which.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    await refuse_while_stopped(store)
    if record.deployment_id is None:
        raise unknown_deployment(record.key)
    try:
        flow_run = await client.create_flow_run_from_deployment(
            record.deployment_id,
            parameters=dict(parameters) if parameters else None,
            # Prefect's client repeats a request whose answer is lost; with a key that is still one run.
            idempotency_key=str(once or uuid4()),
        )
    except PrefectHTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:
            raise _not_deployed(record.key) from None
        raise
    beginning = {name: value for name, value in (parameters or {}).items() if name not in ("campaign", "version")}
    detail = _run_detail(flow_run, **beginning)
    if parameters and "campaign" in parameters:
        detail["changed"] = True
    try:
        await _record(client, store, actor, AuditAction.RUN_STARTED, record.key, detail)
    except StoreError as error:
        # Whoever hears that it failed would start another.
        raise StoreError(f"run {flow_run.name} has been started, which could not be written down: {error}") from error
    return flow_run


def unknown_deployment(key: str) -> NotDeployed:
    """Return what to say of a campaign whose row knows no deployment, as after a create that was killed."""
    return NotDeployed(
        f"the books do not know the deployment of {key}: an apply of it broke off, or none has been made;"
        " `campaigns apply` of its file finishes it"
    )


def _not_deployed(key: str) -> NotDeployed:
    return NotDeployed(f"{key} has no deployment on the Prefect server; `campaigns apply` makes it")


async def parameters_to_run(client: PrefectClient, record: CampaignRecord) -> dict[str, Any]:
    """Return campaign and version as a run would do them that is started now.

    That is what stands in the books, whatever version of it the deployment has: an apply may have been broken off.
    Where a person has edited the deployment's parameters in Prefect, it is these.

    Raises:
        NotDeployed: the campaign has no deployment.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    deployment = await read_deployment(client, record)
    if deployment is None or not isinstance(deployment.parameters.get("campaign"), dict):
        raise _not_deployed(record.key)
    parameters = {name: deployment.parameters.get(name) for name in ("campaign", "version")}
    campaign, _ = examine(parameters["campaign"])
    is_edited = campaign is None or version_of(campaign) != parameters["version"]
    return parameters if is_edited else parameters_of(record.campaign)


def _run_detail(flow_run: FlowRun, **more: Any) -> dict[str, Any]:
    return {"run": flow_run.name, "runId": str(flow_run.id), **more}


async def _record(
    client: PrefectClient,
    store: CampaignStore,
    actor: str,
    action: AuditAction,
    key: str | None,
    detail: Mapping[str, Any],
) -> None:
    await record_audit(client, store, actor=actor, action=action, campaign_key=key, detail=detail)


async def find_run(client: PrefectClient, store: CampaignStore, text: str) -> FlowRun:
    """Return the run of a campaign that is meant: by its id, the beginning of its id, or its name.

    Raises:
        UnknownRun: there is none, or there are several of that name; says which ones are near, or that it was removed.
        StoreError: the store is not there to be asked about one that Prefect does not know.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    wanted = text.strip()
    if (run_id := as_uuid(wanted)) is not None:
        found = await _read(client, FlowRunFilter(id=FlowRunFilterId(any_=[run_id])), limit=1)
    else:
        found = await _read(client, FlowRunFilter(name=FlowRunFilterName(any_=[wanted])), limit=_RECENT)
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownRun(f"{len(found)} runs are named {wanted!r}; name one by its id: {_ids(found)}")
    recent = await _read(client, None, limit=_RECENT)
    begun = [run for run in recent if len(wanted) >= MIN_ID and str(run.id).startswith(wanted.lower())]
    if len(begun) == 1:
        return begun[0]
    if run_id is not None and (known := await store.get_run(str(run_id))) is not None:
        raise UnknownRun(
            f"this Prefect server keeps nothing of run {known.run_name!r}: it was purged, erased or deleted, or is"
            " another server's; it has no logs here, and cannot be retried"
        )
    near = difflib.get_close_matches(wanted.lower(), [run.name for run in recent], n=3, cutoff=0.6)
    hint = (
        f"did you mean {' or '.join(dict.fromkeys(near))}?"
        if near
        else "`campaigns runs NAME` lists a campaign's, those too that were purged or erased, which are gone from there"
    )
    raise UnknownRun(f"there is no run {wanted!r} of a campaign on the Prefect server; {hint}")


def _ids(runs: Sequence[FlowRun]) -> str:
    more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
    return f"{' or '.join(str(run.id) for run in runs[:3])}{more}"


async def _read(client: PrefectClient, wanted: FlowRunFilter | None, *, limit: int) -> list[FlowRun]:
    return await client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW_NAME])),
        flow_run_filter=wanted,
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=limit,
    )


async def campaign_of(store: CampaignStore, flow_run: FlowRun) -> str | None:
    """Return the key of the campaign that a run is of; None where the books know neither."""
    report = await store.get_run(str(flow_run.id))
    if report is not None:
        return report.campaign_key
    deployed = {row.deployment_id: row.key for row in await store.list_campaigns() if row.deployment_id is not None}
    return deployed.get(flow_run.deployment_id) if flow_run.deployment_id else None


async def state_of_campaign(client: PrefectClient, store: CampaignStore, flow_run: FlowRun) -> CampaignState | None:
    """Return how the campaign of a run stands; None where the books do not know it.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    key = await campaign_of(store, flow_run)
    if key is None:
        return None
    (state,) = await ask_states(client, store, [await store.get_campaign(key)])
    return state


async def retry_run(client: PrefectClient, store: CampaignStore, flow_run: FlowRun, *, actor: str) -> None:
    """Let a run that has ended without completing go on at the step that failed, as Prefect's own Retry does.

    Raises:
        EverythingStopped: the emergency stop stands.
        WrongState: it has completed, or has not ended yet.
        NotDeployed: its campaign's deployment is gone.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    await refuse_while_stopped(store)
    name = flow_run.state_name or "Unknown"
    if flow_run.state is None or not flow_run.state.is_final():
        raise WrongState(f"run {flow_run.name} has not ended: it is {name}. There is nothing to retry yet")
    if name == "Completed":
        raise WrongState(f"run {flow_run.name} has completed; `campaigns run` starts another")
    key = await campaign_of(store, flow_run)
    try:
        await client.read_deployment(flow_run.deployment_id or UUID(int=0))
    except ObjectNotFound:
        raise _not_deployed(key or f"the campaign of run {flow_run.name}") from None
    message = f"Retried by {actor}"
    _expect(await client.set_flow_run_state(flow_run.id, AwaitingRetry(message=message)), flow_run, "retried")
    await _record(client, store, actor, AuditAction.RUN_RETRIED, key, _run_detail(flow_run, ended=name))


async def cancel_run(client: PrefectClient, store: CampaignStore, flow_run: FlowRun, *, actor: str) -> str | None:
    """Cancel a run, and wait for its end: one that goes on, waits, is scheduled, or is suspended.

    Of one that has ended in Prefect although the books have it going, as one has that was cancelled in Prefect while it
    waited for a person, the books are put right.

    Returns:
        What was put right, in a clause; None where the run was cancelled.

    Raises:
        WrongState: it has ended already, in the books, too; or they cannot be put right yet.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    if flow_run.state is not None and flow_run.state.is_final():
        return await _put_right(client, store, flow_run, actor=actor)
    was = flow_run.state_name
    (ended,) = await end_runs(client, store, [flow_run], actor=actor)
    if ended.state is None or not ended.state.is_cancelled():
        raise WrongState(f"run {flow_run.name} ended as {ended.state_name} before it could be cancelled")
    key = await campaign_of(store, flow_run)
    await _record(client, store, actor, AuditAction.RUN_CANCELLED, key, _run_detail(flow_run, was=was))
    return None


async def _put_right(client: PrefectClient, store: CampaignStore, flow_run: FlowRun, *, actor: str) -> str:
    closed = await close_ended(client, store, flow_run.id, actor=actor)
    done = closed.describe() if closed else ""
    if closed is None or closed.is_held or not done:
        raise WrongState(f"run {flow_run.name} has ended already, as {flow_run.state_name}{done and f'; {done}'}")
    key = await campaign_of(store, flow_run)
    detail = _run_detail(flow_run, ended=flow_run.state_name, putRight=done)
    await _record(client, store, actor, AuditAction.RUN_CANCELLED, key, detail)
    return done


async def approve_run(client: PrefectClient, store: CampaignStore, flow_run: FlowRun, *, actor: str) -> ApprovalRecord:
    """Approve the step that a suspended run waits for, and let the run go on.

    Safe to repeat: a run that was approved and has not gone on goes on. Of several at once one approves and writes that
    down, and the others hear that it has been approved already. Nothing is decided unless Prefect says that the
    run is suspended for that question now; of one that has ended there, the books are put right.

    Raises:
        EverythingStopped: the emergency stop stands.
        UnknownRun: it has been deleted meanwhile.
        WrongState: the run waits for no approval, or not any more.
        ServerError: another one has been approving for two minutes.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    await refuse_while_stopped(store)
    async with alone(store, doing=f"approving {flow_run.name}", at=APPROVING):
        return await _approve(client, store, flow_run, actor=actor)


async def _approve(client: PrefectClient, store: CampaignStore, flow_run: FlowRun, *, actor: str) -> ApprovalRecord:
    asked = await store.list_approvals(run_id=str(flow_run.id))
    if not asked:
        raise WrongState(f"run {flow_run.name} waits for no approval: it is {flow_run.state_name}")
    latest = asked[-1]
    flow_run = await _as_it_waits(client, store, flow_run, latest, actor=actor)
    decided = latest
    if latest.state is ApprovalState.WAITING and latest.expires_at <= current_clock().now():
        raise WrongState(
            f"step {latest.step!r} of run {flow_run.name} had to be approved by {latest.expires_at:%Y-%m-%d %H:%M} UTC"
        )
    if latest.state is ApprovalState.WAITING:
        decided = await store.decide_approval(str(flow_run.id), latest.step, ApprovalState.APPROVED, by=actor)
    if decided.state is not ApprovalState.APPROVED:
        raise WrongState(_decided(flow_run, decided))
    # Before it goes on: that it was approved must not be lost to a server that does not answer.
    await _record_approval(client, store, flow_run, decided)
    _expect(await client.resume_flow_run(flow_run.id), flow_run, "resumed")
    return decided


async def _record_approval(
    client: PrefectClient, store: CampaignStore, flow_run: FlowRun, approval: ApprovalRecord
) -> None:
    """Write down who has approved a question, unless an earlier try has."""
    detail = _run_detail(flow_run, step=approval.step, askedAt=approval.asked_at.isoformat())
    lines = await store.list_audit(campaign_key=approval.campaign_key, limit=_RECENT)
    if any(line.action is AuditAction.STEP_APPROVED and line.detail == detail for line in lines):
        return
    by = approval.decided_by or ""
    await _record(client, store, by, AuditAction.STEP_APPROVED, approval.campaign_key, detail)


async def _as_it_waits(
    client: PrefectClient, store: CampaignStore, flow_run: FlowRun, latest: ApprovalRecord, *, actor: str
) -> FlowRun:
    """Return the run as Prefect has it now, suspended for the question that was asked last.

    Raises:
        UnknownRun: it has been deleted.
        WrongState: it is not suspended for that.
    """
    try:
        flow_run = await client.read_flow_run(flow_run.id)
    except ObjectNotFound:
        raise UnknownRun(f"run {flow_run.name} has been deleted") from None
    if waits_for(flow_run.state, latest):
        return flow_run
    closed = await close_ended(client, store, flow_run.id, actor=actor)
    if latest.state is not ApprovalState.WAITING:
        raise WrongState(_decided(flow_run, latest))
    done = closed.describe() if closed else ""
    raise WrongState(
        f"run {flow_run.name} does not wait for the approval of step {latest.step!r} now: in Prefect it is"
        f" {flow_run.state_name}{done and f'; {done}'}"
    )


def _decided(flow_run: FlowRun, approval: ApprovalRecord) -> str:
    by = f" by {approval.decided_by}" if approval.decided_by else ""
    at = f" at {approval.decided_at:%Y-%m-%d %H:%M} UTC" if approval.decided_at else ""
    return f"step {approval.step!r} of run {flow_run.name} is {approval.state} already{by}{at}"


def _expect(asked: OrchestrationResult[Any], flow_run: FlowRun, done: str) -> None:
    """Complain where Prefect did not do it: somebody else was quicker."""
    if asked.status is SetStateStatus.ACCEPT:
        return
    reason = getattr(asked.details, "reason", None) or "it is in another state by now"
    raise WrongState(f"run {flow_run.name} could not be {done}: {reason}")
