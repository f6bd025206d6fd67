"""A step that a person has to say yes to: the run suspends before it, and holds nothing while it waits.

It suspends as Prefect's own ``suspend_flow_run`` does: its state is Suspended, no worker has it, and whoever resumes
it (in the Prefect UI, by ``campaigns approve``, through an API) lets it be executed again, from the start, over the
results of the steps that are done. The lease goes back with the execution, and no money is reserved before somebody
says yes.

Whether somebody did stands in the store, beside who and when. A run that was resumed although the store still waits was
resumed in Prefect, which is a yes. Either way it is a yes to one question: it holds for what is executed between the
resumption that followed that question and the next end of the run, as the history of the run's states tells. A retry of
a run that has ended asks anew, since what it is about to send may be something else.

At the moment at which the waiting ends a flow run of ``expire-approval`` writes that down and resumes the run, which
then ends or goes on as its campaign says. Should that run not happen, Prefect itself fails the run an hour later.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect import State
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import Abort, ObjectNotFound, Pause
from prefect.states import Scheduled, Suspended
from prefect.utilities.engine import propose_state

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import ApprovalRecord, ApprovalState, AuditAction, AuditEntry
from prefect_campaigns.errors import ApprovalExpired, ServerError
from prefect_campaigns.flows.messages import one_line
from prefect_campaigns.flows.requests import show_request
from prefect_campaigns.flows.run import CampaignRun
from prefect_campaigns.models import Step
from prefect_campaigns.results import RunStatus, describe_counts

NOT_APPROVED = "NotApproved"
"""The name of the state (type CANCELLED) of a run that nobody approved in time."""

SUSPENDED, RESUMING, RETRYING = "Suspended", "Resuming", "AwaitingRetry"

EXPIRE_FLOW_NAME = "expire-approval"
EXPIRE_DEPLOYMENT = f"{EXPIRE_FLOW_NAME}/campaigns"
"""The deployment whose runs end the waiting for approvals; ``campaigns apply`` makes it."""

GRACE = timedelta(hours=1)
"""How long after its end Prefect keeps a suspended run that nothing of ours has resumed; then it fails it."""

IN_PREFECT = "somebody in Prefect"
MAX_PARAMS = 500


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """That a run was suspended and resumed, and has not ended since.

    Attributes:
        question: the key of the suspension, which is that of the question (``question_key``) if it was ours.
        at: when it was resumed.
    """

    question: str | None
    at: datetime

    @property
    def step(self) -> str | None:
        """The name of the step before which it was suspended."""
        return self.question.rsplit(" ", 1)[0] if self.question else None


async def read_resumption(client: PrefectClient, flow_run_id: UUID) -> Resumption | None:
    """Return how the run's last suspension ended, if by resuming it; None, too, where the run has ended after that."""
    states = sorted(await client.read_flow_run_states(flow_run_id), key=lambda state: state.timestamp)
    last = max((at for at, state in enumerate(states) if state.name == SUSPENDED), default=None)
    if last is None:
        return None
    since = states[last + 1 :]
    # A retry is no resumption: it comes after an end, and what it executes nobody was asked about.
    if not since or since[0].name != RESUMING or any(one.is_final() or one.name == RETRYING for one in since):
        return None
    return Resumption(question=states[last].state_details.pause_key, at=since[0].timestamp)


def question_key(approval: ApprovalRecord) -> str:
    """Return the key of the suspension that goes with a question: Prefect lets one key suspend a run once."""
    return f"{approval.step} {approval.asked_at.astimezone(UTC).isoformat()}"


def waits_for(state: State[Any] | None, approval: ApprovalRecord) -> bool:
    """Whether a run in that state is suspended for that question."""
    return state is not None and state.is_paused() and state.state_details.pause_key == question_key(approval)


def resumed_in_time(resumption: Resumption | None, approval: ApprovalRecord) -> bool:
    """Whether the run was resumed after that question, before its end."""
    return (
        resumption is not None and resumption.question == question_key(approval) and resumption.at < approval.expires_at
    )


async def require_approval(run: CampaignRun, index: int, resumption: Resumption | None) -> None:
    """Return when a person has approved the step, or its campaign goes on without; suspend the run until then.

    Args:
        resumption: how this execution of the run came about.

    Raises:
        Pause: the run is suspended; this execution of it is over.
        ApprovalExpired: nobody has approved it in time, and the campaign says to abort then.
        ServerError: it could not be suspended.
    """
    step = run.campaign.steps[index]
    if step.approval is None:
        return
    approval = await _decided(run, step, resumption)
    if approval is None:
        await _suspend(run, step)
    elif approval.state is ApprovalState.APPROVED:
        run.logger.info("%s: approved by %s", step.name, approval.decided_by)
    elif step.approval.on_timeout == "abort":
        raise ApprovalExpired(f"Step {step.name!r} was not approved by {_moment(approval)}, and the run ends there")
    else:
        run.warn(step, f"nobody approved it by {_moment(approval)}, and the campaign says to go on")


async def _decided(run: CampaignRun, step: Step, resumption: Resumption | None) -> ApprovalRecord | None:
    """Return the approval once it is decided; None when it has to be asked for, for the first time or anew."""
    approvals = await run.patiently(lambda: run.store.list_approvals(run_id=run.run_id))
    approval = next((one for one in approvals if one.step == step.name), None)
    if approval is None or resumption is None or resumption.question != question_key(approval):
        # Not asked yet; or retried after its end, executed again before it had been suspended, or suspended by others.
        return None
    if approval.state is ApprovalState.WITHDRAWN:
        return None
    if approval.state is not ApprovalState.WAITING:
        return approval
    # By when it was resumed, however late a worker takes the run up.
    in_time = resumed_in_time(resumption, approval)
    state, by = (ApprovalState.APPROVED, IN_PREFECT) if in_time else (ApprovalState.EXPIRED, "the clock")
    decided = await run.patiently(lambda: run.store.decide_approval(run.run_id, step.name, state, by=by))
    if decided.state is state and decided.decided_by == by:
        await run.patiently(lambda: _record_once(run.store, audit_of(decided)))
    return decided


async def _record_once(store: CampaignStore, entry: AuditEntry) -> None:
    """Write a line of the audit, unless that was done and only the answer was lost."""
    if entry not in await store.list_audit(campaign_key=entry.campaign_key):
        await store.record_audit(entry)


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
        report = await run.patiently(lambda: run.report(RunStatus.RUNNING, state_name=SUSPENDED, message=message))
        await run.patiently(lambda: run.store.suspend_run(run.lease, report))
        proposed: State[Any] = Suspended(
            pause_expiration_time=approval.expires_at + GRACE,
            pause_key=question_key(approval),
            message=message,
        )
        try:
            state = await propose_state(client=client, state=proposed, flow_run_id=run.flow_run.id)
        except Abort as error:
            raise ServerError(f"the run could not be suspended for its approval: {error}") from error
        if state.type is not StateType.PAUSED:
            raise ServerError(f"the run could not be suspended for its approval: it is {state.name}")
        await _resume_if_decided(client, run, approval)
    run.logger.info("%s", message)
    raise Pause(state=state)


async def _resume_if_decided(client: PrefectClient, run: CampaignRun, asked: ApprovalRecord) -> None:
    """Let a run go on whose question was decided in the moment before it was suspended: nobody else resumes it."""
    approvals = await run.patiently(lambda: run.store.list_approvals(run_id=run.run_id))
    now = next((one for one in approvals if one.step == asked.step and one.asked_at == asked.asked_at), None)
    if now is not None and now.state in (ApprovalState.APPROVED, ApprovalState.EXPIRED):
        await client.resume_flow_run(run.flow_run.id)


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
    report = await run.patiently(run.report)
    counted = describe_counts(report.counts)
    what, shown = f"{step.method} {step.endpoint}", show_request(run.campaign, step, results=run.results)
    then = "the run ends" if step.approval.on_timeout == "abort" else "the step is done all the same"
    lines = [
        f"Step {step.name!r} waits for approval: {what}",
        f"About to be sent: {_audience(report.counts)}",
        *([f"So far: {', '.join(counted)}"] if counted else []),
        f"With: {one_line(json.dumps(shown.params, ensure_ascii=False), limit=MAX_PARAMS)}",
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
