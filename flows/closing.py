"""Writing down the end of a run that no worker executes, and whose end nobody else writes down."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import anyio
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_logger

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import ApprovalState, AttemptState, Lease, Reservation
from prefect_campaigns.clock import current_clock
from prefect_campaigns.flows.reporting import leave_report_of
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus

ASKED_AT_ONCE = 200
"""After how many runs Prefect is asked in one request; it answers for no more."""

TURN_SECONDS = 3.0
"""How long somebody who wants a run's end written down waits for the campaign's lease."""

CLOSING = "the closing of "
"""How the name in a lease begins that is held only to write down a run's end."""

OLDER_BOOKS = "Prefect has begun it, and the books, which are older, know nothing of it: mails may have gone out"

_LEASE_SECONDS = 30.0
_POLL_SECONDS = 0.25

_logger = get_logger("campaigns.closing")


@dataclass(frozen=True, kw_only=True)
class Closed:
    """What was written down of a run's end.

    Attributes:
        withdrawn: the steps that wait for no approval any more.
        is_aborted: the run, which was going in the books, is aborted there.
        is_held: it is not, because somebody keeps the campaign's lease.
    """

    withdrawn: tuple[str, ...] = ()
    is_aborted: bool = False
    is_held: bool = False

    def describe(self) -> str:
        """Say in a clause what was put right; nothing where nothing was."""
        said = [f"the approval of step {step!r} is withdrawn" for step in self.withdrawn]
        if self.is_aborted:
            said.append("the run, which was still going in the books, is aborted there")
        if self.is_held:
            said.append("in the books it is still going, for somebody keeps the campaign's lease")
        return "; ".join(said)


async def find_ended(client: PrefectClient, store: CampaignStore) -> list[UUID]:
    """Return the runs that have ended in Prefect, or are deleted there, although the books have them going or waiting.

    But none that was going and has crashed, for which ``recovering`` is there. Asks Prefect once for all of them, or
    for every two hundred. A run that it does not know is deleted where it knows the deployment of the run's campaign;
    otherwise it is the run of another Prefect server.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    # Of runs that end by themselves the books are told first: what is going here, and has ended there, was not told.
    going = dict(await store.running_runs())
    waiting = {one.run_id: one.campaign_key for one in await store.list_approvals(waiting_only=True)}
    going |= waiting
    states = await _states(client, [UUID(run_id) for run_id in going])
    known = {
        id: state is not None and state.is_final() and (not state.is_crashed() or str(id) in waiting)
        for id, state in states.items()
    }
    unknown = {run_id: key for run_id, key in going.items() if UUID(run_id) not in known}
    own = await _deployed_here(client, store, set(unknown.values()))
    return [UUID(run_id) for run_id, key in going.items() if known.get(UUID(run_id), key in own)]


async def _states(client: PrefectClient, run_ids: Sequence[UUID]) -> dict[UUID, State[Any] | None]:
    """Return the states of the runs that Prefect knows."""
    found: dict[UUID, State[Any] | None] = {}
    for start in range(0, len(run_ids), ASKED_AT_ONCE):
        ids = FlowRunFilterId(any_=list(run_ids[start : start + ASKED_AT_ONCE]))
        runs = await client.read_flow_runs(flow_run_filter=FlowRunFilter(id=ids), limit=ASKED_AT_ONCE)
        found |= {run.id: run.state for run in runs}
    return found


async def _deployed_here(client: PrefectClient, store: CampaignStore, keys: set[str]) -> set[str]:
    """Return which of these campaigns have their deployment on this Prefect server."""
    if not keys:
        return set()
    rows = [row for row in await store.list_campaigns() if row.key in keys]
    deployments = [row.deployment_id for row in rows if row.deployment_id is not None]
    here: set[UUID] = set()
    for start in range(0, len(deployments), ASKED_AT_ONCE):
        ids = DeploymentFilterId(any_=deployments[start : start + ASKED_AT_ONCE])
        found = await client.read_deployments(deployment_filter=DeploymentFilter(id=ids), limit=ASKED_AT_ONCE)
        here |= {deployment.id for deployment in found}
    return {row.key for row in rows if row.deployment_id in here}


async def end_in_prefect(client: PrefectClient, run_id: UUID) -> str | None:
    """Return the name of the state in which a run has ended, or ``Deleted``; None if it has not."""
    try:
        state = (await client.read_flow_run(run_id)).state
    except ObjectNotFound:
        return "Deleted"
    return (state.name or state.type.value) if state is not None and state.is_final() else None


async def close_ended(
    client: PrefectClient, store: CampaignStore, run_id: UUID, *, actor: str, turn_seconds: float = TURN_SECONDS
) -> Closed | None:
    """Close what the books hold open of a run that has ended in Prefect; None where it has not ended.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    ended = await end_in_prefect(client, run_id)
    if ended is None:
        return None
    why = f"The run has ended in Prefect as {ended}; put down by {actor}"
    begun = await _begun_steps(client, run_id)
    closed = await close_record(
        store, str(run_id), actor=actor, state_name=ended, why=why, begun=begun, turn_seconds=turn_seconds
    )
    if closed.is_aborted:
        await leave_report_of(client, store, str(run_id), logger=_logger)
    return closed


async def _begun_steps(client: PrefectClient, run_id: UUID) -> set[str]:
    """Return the names of the steps that have begun, as far as Prefect knows."""
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    return {task_run.name for task_run in await client.read_task_runs(flow_run_filter=of_run)}


async def close_record(
    store: CampaignStore,
    run_id: str,
    *,
    actor: str,
    state_name: str,
    why: str,
    begun: Collection[str] = (),
    turn_seconds: float = TURN_SECONDS,
) -> Closed:
    """Withdraw the approvals that a run waits for, and write it down as aborted if it is going in the books.

    What a dead execution of it has left under way is booked first: money that was reserved goes back where no request
    has left, and is booked at its estimate, unconfirmed, where one has.

    Args:
        begun: the steps that have begun in Prefect; one of which the books know nothing may have sent.
        turn_seconds: how long it waits for the campaign's lease.

    Raises:
        StoreError: the store is not there.
    """
    withdrawn = []
    for approval in await store.list_approvals(run_id=run_id, waiting_only=True):
        decided = await store.decide_approval(run_id, approval.step, ApprovalState.WITHDRAWN, by=actor)
        withdrawn += [approval.step] if decided.state is ApprovalState.WITHDRAWN else []
    report = await store.get_run(run_id)
    if report is None or report.status is not RunStatus.RUNNING:
        return Closed(withdrawn=tuple(withdrawn))
    lease = await _take_lease(store, report, turn_seconds=turn_seconds)
    if lease is None:
        return Closed(withdrawn=tuple(withdrawn), is_held=True)
    try:
        # Whoever had the lease may have ended it meanwhile.
        report = await store.get_run(run_id)
        is_going = report is not None and report.status is RunStatus.RUNNING
        if report is not None and is_going:
            await end_record(store, lease, report, begun=begun, state_name=state_name, why=why)
    finally:
        await store.release_lease(lease)
    return Closed(withdrawn=tuple(withdrawn), is_aborted=is_going)


async def _unrecorded(store: CampaignStore, report: RunReport, begun: Collection[str]) -> set[str]:
    """Return the steps that have begun although the books know nothing of it; but none that surely sends nothing."""
    steps = (await store.get_campaign(report.campaign_key)).campaign.steps
    harmless = {step.name for step in steps if not step.sends_something}
    return {step.name for step in report.steps if step.status is StepStatus.PENDING} & set(begun) - harmless


async def end_record(
    store: CampaignStore,
    lease: Lease,
    report: RunReport,
    *,
    begun: Collection[str] = (),
    status: RunStatus = RunStatus.ABORTED,
    state_name: str,
    why: str,
) -> None:
    """Write down the end of the lease's run, which is going in the books, and book what it has left under way.

    Args:
        begun: as for close_record.

    Raises:
        StoreError: the store is not there.
    """
    unrecorded = await _unrecorded(store, report, begun)
    now, under_way = current_clock().now(), []
    for step in report.steps:
        attempts = await close_attempts(store, lease, step.name)
        if step.status is StepStatus.RUNNING:
            failed = failed_step(step, attempts, broken_off(step, attempts), at=now)
        elif step.name in unrecorded:
            failed = failed_step(step, attempts, OLDER_BOOKS, at=now).model_copy(update={"is_unrecorded": True})
        else:
            continue
        await store.save_step(lease, failed)
        under_way.append(failure_in_words(failed))
    report = await store.get_run(report.run_id) or report
    ended = {
        "status": status,
        "state_name": state_name,
        "message": "\n".join([why, *under_way, await summary_of(store, report)]),
        "completed_at": now,
    }
    await store.finish_run(lease, report.model_copy(update=ended))


async def summary_of(store: CampaignStore, report: RunReport) -> str:
    """Say in a sentence what a run did, and how much of its cost no engine has said."""
    unconfirmed = [one for one in await store.unconfirmed(report.campaign_key) if one.run_id == report.run_id]
    if not unconfirmed:
        return f"{report.summary()}."
    requests = "1 request" if len(unconfirmed) == 1 else f"{len(unconfirmed)} requests"
    booked = sum((one.booked or Decimal(0) for one in unconfirmed), Decimal(0))
    return f"{report.summary()}, of which {format_money(booked)} USD unconfirmed ({requests})."


async def close_attempts(store: CampaignStore, lease: Lease, step_name: str) -> list[Reservation]:
    """Book or release what an execution of the lease's run that died has left open; return all requests of the step.

    Whoever holds the lease knows that nobody else is still at it.
    """
    attempts = []
    for attempt in await store.attempts(lease.run_id, step_name):
        if attempt.state is AttemptState.HELD:
            attempt = await store.release(lease, attempt)
        elif attempt.state is AttemptState.SENT:
            attempt = await store.book_unconfirmed(lease, attempt)
        attempts.append(attempt)
    return attempts


def broken_off(step: StepResult, attempts: Iterable[Reservation]) -> str:
    """Say in one line that a step was broken off, and what may have come of it."""
    if not any(attempt.state is AttemptState.UNCONFIRMED for attempt in attempts):
        return "broken off"
    return f"broken off while its request was under way{': mails may have gone out' if step.sent_as else ''}"


def failure_in_words(step: StepResult) -> str:
    """Say in one line that a step failed, and why."""
    return f"Step {step.name!r} failed: {step.error}"


def failed_step(step: StepResult, attempts: Iterable[Reservation], error: str, *, at: datetime) -> StepResult:
    """Return the record of a step that has failed, with what it has cost all the same."""
    cost = sum((attempt.booked or Decimal(0) for attempt in attempts), Decimal(0))
    failed = {"status": StepStatus.FAILED, "completed_at": at, "cost": cost, "error": error}
    return step.model_copy(update=failed)


async def _take_lease(store: CampaignStore, report: RunReport, *, turn_seconds: float) -> Lease | None:
    """Take the campaign's lease for a moment; None where another run keeps it for longer than that."""
    key, run_id, holder, began = report.campaign_key, report.run_id, uuid4().hex, anyio.current_time()
    while True:
        lease = await store.acquire_lease(
            key,
            run_id=run_id,
            run_name=f"{CLOSING}{report.run_name}",
            holder=holder,
            ttl_seconds=_LEASE_SECONDS,
            waiting_since=report.started_at,
        )
        if isinstance(lease, Lease):
            return lease
        if anyio.current_time() - began >= turn_seconds:
            await store.leave_queue(key, run_id=run_id)
            return None
        await anyio.sleep(_POLL_SECONDS)
