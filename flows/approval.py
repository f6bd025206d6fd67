"""A step that a person has to say yes to: the run suspends before it, and holds nothing while it waits.

It suspends as Prefect's own ``suspend_flow_run`` does: its state is Suspended, no worker has it, and whoever resumes
it (in the Prefect UI, by ``campaigns approve``, through an API) lets it be executed again, from the start, over the
results of the steps that are done. The lease goes back with the execution, and no money is reserved before somebody
says yes.

Whether somebody did stands in the store, beside who and when. A run that was resumed although the store still waits was
resumed in Prefect, which is a yes; it is told from a retry by what follows its suspension in the history of its states.
At the moment at which the waiting ends a flow run of ``expire-approval`` writes that down and resumes the run, which
then ends or goes on as its campaign says. Should that run not happen, Prefect itself fails the run an hour later.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from prefect import State
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import Abort, ObjectNotFound, Pause
from prefect.states import Scheduled, Suspended
from prefect.utilities.engine import propose_state

from prefect_campaigns.blocks.store_types import ApprovalRecord, ApprovalState, AuditAction, AuditEntry
from prefect_campaigns.errors import ApprovalExpired, ServerError
from prefect_campaigns.flows.messages import one_line
from prefect_campaigns.flows.run import CampaignRun
from prefect_campaigns.models import Step
from prefect_campaigns.results import RunStatus, describe_counts

NOT_APPROVED = "NotApproved"
"""The name of the state (type CANCELLED) of a run that nobody approved in time."""

SUSPENDED, RESUMING = "Suspended", "Resuming"

EXPIRE_FLOW_NAME = "expire-approval"
EXPIRE_DEPLOYMENT = f"{EXPIRE_FLOW_NAME}/campaigns"
"""The deployment whose runs end the waiting for approvals; ``campaigns apply`` makes it."""

GRACE = timedelta(hours=1)
"""How long after its end Prefect keeps a suspended run that nothing of ours has resumed; then it fails it."""

IN_PREFECT = "somebody in Prefect"
MAX_PARAMS = 500


async def require_approval(run: CampaignRun, index: int) -> None:
    """Return when a person has approved the step, or its campaign goes on without; suspend the run until then.

    Raises:
        Pause: the run is suspended; this execution of it is over.
        ApprovalExpired: nobody has approved it in time, and the campaign says to abort then.
        ServerError: it could not be suspended.
    """
    step = run.campaign.steps[index]
    if step.approval is None:
        return
    approval = await _decided(run, step)
    if approval is None:
        await _suspend(run, step)
    elif approval.state is ApprovalState.APPROVED:
        run.logger.info("%s: approved by %s", step.name, approval.decided_by)
    elif step.approval.on_timeout == "abort":
        raise ApprovalExpired(f"Step {step.name!r} was not approved by {_moment(approval)}, and the run ends there")
    else:
        run.warn(step, f"nobody approved it by {_moment(approval)}, and the campaign says to go on")


async def _decided(run: CampaignRun, step: Step) -> ApprovalRecord | None:
    """Return the approval once it is decided; None when it has to be asked for, for the first time or anew."""
    approvals = await run.patiently(lambda: run.store.list_approvals(run_id=run.run_id))
    approval = next((one for one in approvals if one.step == step.name), None)
    if approval is None or approval.state is ApprovalState.APPROVED:
        return approval
    if not await was_resumed(run.flow_run.id):
        # Retried after the waiting had ended, or executed again before the run had been suspended.
        return None
    if approval.state is not ApprovalState.WAITING:
        return approval
    in_time = run.clock.now() < approval.expires_at
    state, by = (ApprovalState.APPROVED, IN_PREFECT) if in_time else (ApprovalState.EXPIRED, "the clock")
    decided = await run.patiently(lambda: run.store.decide_approval(run.run_id, step.name, state, by=by))
    if decided.state is state and decided.decided_by == by:
        await run.store.record_audit(audit_of(decided))
    return decided


def audit_of(approval: ApprovalRecord) -> AuditEntry:
    """Return what the audit says of an approval that was decided."""
    action = AuditAction.STEP_APPROVED if approval.state is ApprovalState.APPROVED else AuditAction.STEP_EXPIRED
    return AuditEntry(
        at=approval.decided_at or approval.asked_at,
        actor=approval.decided_by or "",
        action=action,
        campaign_key=approval.campaign_key,
        detail={"runId": approval.run_id, "step": approval.step},
    )


async def was_resumed(flow_run_id: Any) -> bool:
    """Whether the run's last suspension ended by resuming it, and not by cancelling it or otherwise."""
    async with get_client() as client:
        states = await client.read_flow_run_states(flow_run_id)
    names = [state.name for state in sorted(states, key=lambda state: state.timestamp)]
    if SUSPENDED not in names:
        return False
    since = names[len(names) - 1 - names[::-1].index(SUSPENDED) :]
    # What ends here began with the resumption: a retry comes after another end.
    return since[1:2] == [RESUMING] and "AwaitingRetry" not in since


async def _suspend(run: CampaignRun, step: Step) -> None:
    assert step.approval is not None  # noqa: S101 - the caller has looked
    timeout_seconds = step.approval.timeout_seconds
    approval = await run.patiently(
        lambda: run.store.ask_approval(run.lease, step=step.name, timeout_seconds=timeout_seconds)
    )
    message = await _question(run, step, approval)
    async with get_client() as client:
        # First, so that a crash leaves no run waiting that nothing ends.
        await schedule_expiry(client, approval)
        report = await run.report(RunStatus.RUNNING, state_name=SUSPENDED, message=message)
        await run.patiently(lambda: run.store.suspend_run(run.lease, report))
        # A key of its own for each time that it is asked: Prefect lets one key suspend a run once.
        proposed: State[Any] = Suspended(
            pause_expiration_time=approval.expires_at + GRACE,
            pause_key=f"{step.name} {approval.asked_at.isoformat()}",
            message=message,
        )
        try:
            state = await propose_state(client=client, state=proposed, flow_run_id=run.flow_run.id)
        except Abort as error:
            raise ServerError(f"the run could not be suspended for its approval: {error}") from error
    if state.type is not StateType.PAUSED:
        raise ServerError(f"the run could not be suspended for its approval: it is {state.name}")
    run.logger.info("%s", message)
    raise Pause(state=state)


async def schedule_expiry(client: PrefectClient, approval: ApprovalRecord) -> None:
    """Make the flow run that ends the waiting; one for each moment, however often this is asked for.

    Raises:
        ServerError: the deployment of such runs is not there.
    """
    try:
        deployment = await client.read_deployment_by_name(EXPIRE_DEPLOYMENT)
    except ObjectNotFound:
        raise ServerError(f"there is no deployment {EXPIRE_DEPLOYMENT}; `campaigns apply` makes it") from None
    await client.create_flow_run_from_deployment(
        deployment.id,
        name=f"expire-{approval.campaign_key}",
        parameters={"run_id": approval.run_id, "step": approval.step},
        state=Scheduled(scheduled_time=approval.expires_at),
        idempotency_key=f"expire {approval.run_id} {approval.step} {approval.expires_at.isoformat()}",
    )


async def _question(run: CampaignRun, step: Step, approval: ApprovalRecord) -> str:
    """Return what people are asked: what is about to be sent, to how many, until when, and how to say yes."""
    assert step.approval is not None  # noqa: S101 - as above
    report = await run.report()
    counted = describe_counts(report.counts)
    what = f"{step.method} {step.endpoint}"
    then = "the run ends" if step.approval.on_timeout == "abort" else "the step is done all the same"
    lines = [
        f"Step {step.name!r} waits for approval: {what}",
        f"About to be sent: {_audience(report.counts)}",
        *([f"So far: {', '.join(counted)}"] if counted else []),
        f"With: {one_line(json.dumps(step.params, ensure_ascii=False), limit=MAX_PARAMS)}",
        f"Approve it by {_moment(approval)}: campaigns approve {run.flow_run.name}, or Resume in Prefect."
        f" When nobody does, {then}.",
        f"{report.summary()}.",
    ]
    return "\n".join(lines)


_READY = (
    ("emails_ready", "emails that are ready"),
    ("emails_composed", "emails that are composed"),
    ("leads_analyzed", "leads"),
    ("prospects_verified", "prospects"),
    ("prospects_generated", "prospects"),
)


def _audience(counts: Any) -> str:
    for name, words in _READY:
        if name in counts:
            return f"{counts[name]:g} {words}"
    return "no step before it has counted anything"


def _moment(approval: ApprovalRecord) -> str:
    return f"{approval.expires_at:%Y-%m-%d %H:%M} UTC"


def waiting_in(approvals: Sequence[ApprovalRecord]) -> ApprovalRecord | None:
    """Return the one that waits."""
    return next((one for one in approvals if one.state is ApprovalState.WAITING), None)
