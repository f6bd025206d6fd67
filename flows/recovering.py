"""Seeing to a run that nobody executes any more: its worker's process was killed, its machine is gone.

Prefect calls such runs zombies: they are Running, or Pending, for ever. The lease decides. Whoever sees to a run takes
its lease first, which is not to be had while it is renewed; from then on an execution that lives on nevertheless, cut
off from the store, can write nothing any more.

A run that was going becomes Crashed, which people are mailed. Then, unless its campaign says otherwise, it goes on
once: it is Scheduled again under the name of Recovering, and whoever takes it up does what is left of it, as after a
retry. It does not go on where a step that sends was under way: nobody knows what has gone out.

A run that had not begun is handed back, and nobody is mailed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_logger
from prefect.states import Cancelled, Crashed

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease, LeaseHeld
from prefect_campaigns.clock import current_clock
from prefect_campaigns.errors import InvalidCampaign
from prefect_campaigns.flows.closing import (
    CLOSING,
    broken_off,
    close_attempts,
    end_record,
    summary_of,
)
from prefect_campaigns.flows.leaving import RECOVERING, give_back
from prefect_campaigns.flows.paused_deployment import CAMPAIGN_FLOW_NAME
from prefect_campaigns.flows.reporting import leave_report, leave_report_of
from prefect_campaigns.flows.steps import UNANSWERED, must_not_repeat
from prefect_campaigns.loader import validate_object
from prefect_campaigns.models import Campaign, slug_of
from prefect_campaigns.results import RunReport, RunStatus, StepStatus

_logger = get_logger("campaigns.recovering")

FENCE_SECONDS = 60.0
"""How long the lease is held by which a run is seen to."""

LOST_FOR = timedelta(days=1)
"""After how long a run is not worth going on with: what it has found is old, and its next ones have run since."""

BY_A_PERSON = "AwaitingRetry"
"""The name of the state with which a person, or Prefect, begins a run anew; what was before counts no more."""

_FIRST_OF_ALL = datetime.fromtimestamp(0, UTC)


async def recover(client: PrefectClient, store: CampaignStore, flow_run: FlowRun, *, gone: str) -> str | None:
    """See to a run that nobody executes any more; return what was done, in words.

    Safe to call again after an error or a crash. One caller at a time.

    Args:
        flow_run: as it was when nobody executed it; if Prefect has it in another state by now, nothing is done.
        gone: what is to be said of whoever executed it: ``worker 'laptop' has vanished``.

    Returns:
        An empty text where there is nothing to do; None where somebody still holds its lease.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    if (await client.read_flow(flow_run.flow_id)).name != CAMPAIGN_FLOW_NAME:
        # Safe to run twice, and with no books of its own.
        return await _hand_back(client, flow_run, gone) if await _is_as_it_was(client, flow_run) else ""
    key = await _campaign_key(client, flow_run)
    lease = await _fence(store, key, flow_run)
    if isinstance(lease, LeaseHeld) and lease.run_id == str(flow_run.id):
        return None
    try:
        if not await _is_as_it_was(client, flow_run):
            return ""
        return await _Recovery(client, store, flow_run, lease if isinstance(lease, Lease) else None, gone).act()
    finally:
        if isinstance(lease, Lease):
            await store.release_lease(lease)


async def _campaign_key(client: PrefectClient, flow_run: FlowRun) -> str:
    if flow_run.deployment_id is not None:
        with suppress(ObjectNotFound):
            return (await client.read_deployment(flow_run.deployment_id)).name
    campaign = flow_run.parameters.get("campaign")
    return slug_of(str(campaign.get("name", ""))) if isinstance(campaign, dict) else ""


async def _fence(store: CampaignStore, key: str, flow_run: FlowRun) -> Lease | LeaseHeld:
    """Take the campaign's lease, ahead of all that wait for it, or say who has it."""
    lease = await store.acquire_lease(
        key,
        run_id=str(flow_run.id),
        run_name=f"{CLOSING}{flow_run.name}",
        holder=uuid4().hex,
        ttl_seconds=FENCE_SECONDS,
        waiting_since=_FIRST_OF_ALL,
    )
    if isinstance(lease, LeaseHeld):
        # First of all that wait, it would be in their way; an execution that lives asks again every second.
        await store.leave_queue(key, run_id=str(flow_run.id))
    return lease


async def _is_as_it_was(client: PrefectClient, flow_run: FlowRun) -> bool:
    try:
        state = (await client.read_flow_run(flow_run.id)).state
    except ObjectNotFound:
        return False
    return state is not None and flow_run.state is not None and state.id == flow_run.state.id


async def _hand_back(client: PrefectClient, flow_run: FlowRun, why: str) -> str:
    state = await give_back(client, flow_run.id, why=f"Handed back: {why}", due=datetime.now(UTC))
    return "" if state is None else "handed back"


class _Recovery:
    """What is done with one run, by its state in Prefect and in the books.

    Args:
        lease: the campaign's; None where another run has it, so that nothing can be written of this one.
    """

    def __init__(
        self, client: PrefectClient, store: CampaignStore, flow_run: FlowRun, lease: Lease | None, gone: str
    ) -> None:
        self._client = client
        self._store = store
        self._flow_run = flow_run
        self._lease = lease
        self._gone = gone

    async def act(self) -> str:
        state = self._flow_run.state
        report = await self._store.get_run(str(self._flow_run.id))
        if state is None or state.is_scheduled() or state.is_paused():
            return ""
        if report is not None and report.status is not RunStatus.RUNNING and not state.is_cancelling():
            return await self._say_its_end(state, report)
        if state.is_cancelling():
            await self._set(Cancelled(message=f"The run was cancelled; {self._gone}"))
            return await self._end_in_books(report, "Cancelled", RunStatus.ABORTED, "cancelled")
        if state.is_pending() or (report is None and not state.is_final()):
            return await _hand_back(self._client, self._flow_run, self._gone)
        if report is not None and (state.is_running() or state.is_crashed()):
            return await self._crash(state, report)
        return ""

    async def _say_its_end(self, state: State, report: RunReport) -> str:
        """Tell Prefect how the run has ended: whoever executed it wrote that into the books, and could not say so.

        Where Prefect has heard that end, the run was begun anew since, and had not got as far as the books.
        """
        if state.is_final():
            return ""
        states = await self._client.read_flow_run_states(self._flow_run.id)
        if any(one.is_final() and (one.name, one.message) == (report.state_name, report.message) for one in states):
            return await _hand_back(self._client, self._flow_run, self._gone)
        await leave_report(self._client, self._store, report, now=current_clock().now(), logger=_logger)
        await self._set(state_of(report))
        return f"{report.state_name}, as it had ended in the books"

    async def _crash(self, state: State, report: RunReport) -> str:
        """Let it be Crashed, and then go on if it may."""
        under_way = await self._close_what_is_under_way(report)
        obstacle = await self._obstacle(report)
        unfinished = next((step.name for step in report.steps if step.status in _UNFINISHED), None)
        goes_on = f"It goes on{f' at step {unfinished!r}' if unfinished else ''}, on another worker"
        reasons = [f"The run was broken off: {self._gone}", *under_way, obstacle or goes_on]
        report = await self._store.get_run(report.run_id) or report
        message = "\n".join([*reasons, await summary_of(self._store, report)])
        now = current_clock().now()
        crashed = {"status": RunStatus.FAILED, "state_name": "Crashed", "message": message, "completed_at": now}
        ended = report.model_copy(update=crashed)
        await leave_report(self._client, self._store, ended, now=now, logger=_logger)
        if not state.is_crashed():
            await self._set(Crashed(message=message))
        if obstacle is not None:
            return await self._end_in_books(report, "Crashed", RunStatus.FAILED, f"crashed; {obstacle}", reasons)
        given = await give_back(
            self._client,
            self._flow_run.id,
            why=f"{goes_on}, since {self._gone}",
            due=datetime.now(UTC),
            name=RECOVERING,
            even_crashed=True,
        )
        if given is None:
            # Its deployment is deleted, or somebody has ended it in this moment.
            refused = "It does not go on: Prefect does not let it"
            return await self._end_in_books(report, "Crashed", RunStatus.FAILED, f"crashed; {refused}", [refused])
        return f"crashed; {goes_on}"

    async def _close_what_is_under_way(self, report: RunReport) -> list[str]:
        """Book what was left open, and say of each step that was under way what may have come of it."""
        said = []
        for step in report.steps:
            if step.status is StepStatus.RUNNING:
                if self._lease is not None:
                    await close_attempts(self._store, self._lease, step.name)
                attempts = await self._store.attempts(report.run_id, step.name)
                said.append(f"Step {step.name!r} was {broken_off(step, attempts)}")
        return said

    async def _obstacle(self, report: RunReport) -> str | None:
        """Say why the run does not go on; None where it does."""
        campaign = self._campaign()
        if campaign is None or campaign.on_crash == "fail":
            return "It does not go on: its campaign says so (onCrash)" if campaign else "It does not go on"
        steps = {step.name: step for step in campaign.steps}
        for recorded in report.steps:
            step = steps.get(recorded.name)
            if recorded.status is not StepStatus.RUNNING or step is None or not must_not_repeat(step):
                continue
            attempts = await self._store.attempts(report.run_id, recorded.name)
            if any(attempt.state in UNANSWERED for attempt in attempts):
                return f"It does not go on: what step {recorded.name!r} sends must not be sent twice"
        lost_for = current_clock().now() - _last_sign(report)
        if lost_for > LOST_FOR:
            return f"It does not go on: nothing was heard of it for {lost_for.total_seconds() / 3600:.0f} hours"
        states = await self._client.read_flow_run_states(self._flow_run.id)
        if RECOVERING in names_since_a_person_began_it(states):
            return "It does not go on: it has once already"
        return None

    def _campaign(self) -> Campaign | None:
        """Return the campaign that the run does."""
        try:
            return validate_object(self._flow_run.parameters.get("campaign"), source="the run's parameters")
        except InvalidCampaign:
            return None

    async def _end_in_books(
        self, report: RunReport | None, state_name: str, status: RunStatus, done: str, reasons: Sequence[str] = ()
    ) -> str:
        # Where another run has the lease, the worker that looks after what has ended in Prefect does it later.
        if report is not None and self._lease is not None:
            await end_record(
                self._store,
                self._lease,
                report,
                status=status,
                state_name=state_name,
                why="\n".join(reasons) or f"The run was cancelled; {self._gone}",
            )
            if status is RunStatus.ABORTED:
                await leave_report_of(self._client, self._store, report.run_id, logger=_logger)
        return done

    async def _set(self, state: State) -> None:
        with suppress(ObjectNotFound):
            await self._client.set_flow_run_state(self._flow_run.id, state)


def _last_sign(report: RunReport) -> datetime:
    """Return when a run has last written anything down."""
    moments = [report.started_at]
    moments += [at for step in report.steps for at in (step.started_at, step.completed_at) if at is not None]
    return max(moments)


_UNFINISHED = (StepStatus.RUNNING, StepStatus.PENDING)


def names_since_a_person_began_it(states: Sequence[State]) -> list[str]:
    """Return the names of a run's states since it was last begun anew by a person, oldest first."""
    names = [state.name or "" for state in sorted(states, key=lambda state: state.timestamp)]
    begun = max((place for place, name in enumerate(names) if name == BY_A_PERSON), default=0)
    return names[begun:]


def state_of(report: RunReport) -> State:
    """Return the state in which a run has ended, as the books have it."""
    name = report.state_name or report.status.value.capitalize()
    if name == "Crashed":
        type = StateType.CRASHED
    elif name == "Skipped":
        type = StateType.COMPLETED
    else:
        type = _TYPES[report.status]
    return State(type=type, name=name, message=report.message)


_TYPES = {
    RunStatus.COMPLETED: StateType.COMPLETED,
    RunStatus.PARTIAL: StateType.COMPLETED,
    RunStatus.FAILED: StateType.FAILED,
    RunStatus.ABORTED: StateType.CANCELLED,
}
