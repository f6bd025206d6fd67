"""Writing down the end of a run that no worker executes, and whose end nobody else writes down."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

import anyio
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import ApprovalState, Lease
from prefect_campaigns.clock import current_clock
from prefect_campaigns.results import RunReport, RunStatus

_LEASE_SECONDS = 30.0
_TURN_SECONDS = 3.0
_POLL_SECONDS = 0.25


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


async def end_in_prefect(client: PrefectClient, run_id: UUID) -> str | None:
    """Return the name of the state in which a run has ended, or ``Deleted``; None if it has not."""
    try:
        state = (await client.read_flow_run(run_id)).state
    except ObjectNotFound:
        return "Deleted"
    return (state.name or state.type.value) if state is not None and state.is_final() else None


async def close_ended(client: PrefectClient, store: CampaignStore, run_id: UUID, *, actor: str) -> Closed | None:
    """Close what the books hold open of a run that has ended in Prefect; None where it has not ended.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    ended = await end_in_prefect(client, run_id)
    if ended is None:
        return None
    why = f"The run has ended in Prefect as {ended}; put down by {actor}"
    return await close_record(store, str(run_id), actor=actor, state_name=ended, why=why)


async def close_record(store: CampaignStore, run_id: str, *, actor: str, state_name: str, why: str) -> Closed:
    """Withdraw the approvals that a run waits for, and write it down as aborted if it is going in the books.

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
    lease = await _take_lease(store, report)
    if lease is None:
        return Closed(withdrawn=tuple(withdrawn), is_held=True)
    try:
        # Whoever had the lease may have ended it meanwhile.
        report = await store.get_run(run_id)
        is_going = report is not None and report.status is RunStatus.RUNNING
        if report is not None and is_going:
            aborted = {
                "status": RunStatus.ABORTED,
                "state_name": state_name,
                "message": f"{why}\n{report.summary()}.",
                "completed_at": current_clock().now(),
            }
            await store.finish_run(lease, report.model_copy(update=aborted))
    finally:
        await store.release_lease(lease)
    return Closed(withdrawn=tuple(withdrawn), is_aborted=is_going)


async def _take_lease(store: CampaignStore, report: RunReport) -> Lease | None:
    """Take the campaign's lease for a moment; None where another run keeps it for longer than that."""
    key, run_id, holder, began = report.campaign_key, report.run_id, uuid4().hex, anyio.current_time()
    while True:
        lease = await store.acquire_lease(
            key,
            run_id=run_id,
            run_name=report.run_name,
            holder=holder,
            ttl_seconds=_LEASE_SECONDS,
            waiting_since=report.started_at,
        )
        if isinstance(lease, Lease):
            return lease
        if anyio.current_time() - began >= _TURN_SECONDS:
            await store.leave_queue(key, run_id=run_id)
            return None
        await anyio.sleep(_POLL_SECONDS)
