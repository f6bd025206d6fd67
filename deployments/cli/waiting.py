"""What a run waits for that does not go on, and what to do about it, in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import anyio
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, WorkerStatus
from prefect.exceptions import ObjectNotFound

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.cli.printing import SHOWN_ID
from prefect_campaigns.deployments.compile import WORK_POOL, WORK_POOL_TYPE

PATIENCE_SECONDS = 8.0
"""How long a run may wait for a worker before anything is said; a busy one needs a moment."""

LOOK_SECONDS = 5.0
"""How often it is asked who could take the run up."""

IN_VAIN_SECONDS = 120.0
"""How long somebody who watches waits for a worker."""

START_WORKER = f"prefect worker start --pool {WORK_POOL} --type {WORK_POOL_TYPE}"


@dataclass
class TakingUp:
    """How long a run has been waiting for a worker by now, and what was last said of it."""

    since: float | None = None
    looked_at: float = 0.0
    said: str | None = None

    @property
    def in_vain(self) -> bool:
        """Whether that is longer than somebody should go on waiting for."""
        return self.since is not None and anyio.current_time() - self.since > IN_VAIN_SECONDS


async def what_it_waits_for(
    client: PrefectClient, store: CampaignStore, flow_run: FlowRun, asked: TakingUp
) -> str | None:
    """Say what a run waits for; None while it goes on, or will in a moment."""
    state = flow_run.state
    if state is None or not _is_due(flow_run, state, now=current_clock().now()):
        asked.since = None
    if state is None or state.is_final():
        return None
    if state.name == "Waiting":
        return state.message
    if state.is_paused():
        return await _for_whom(store, flow_run)
    if state.is_scheduled():
        return await _for_a_worker(client, flow_run, state, asked)
    return None


def _is_due(flow_run: FlowRun, state: State[object], *, now: datetime) -> bool:
    return state.is_scheduled() and _due_at(flow_run, state) <= now


def _due_at(flow_run: FlowRun, state: State[object]) -> datetime:
    return state.state_details.scheduled_time or flow_run.expected_start_time or state.timestamp


async def _for_whom(store: CampaignStore, flow_run: FlowRun) -> str:
    waiting = await store.list_approvals(run_id=str(flow_run.id), waiting_only=True)
    if not waiting:
        return f"It is suspended, and goes on when somebody resumes it in the Prefect UI: {flow_run.state_name}"
    approval = waiting[-1]
    return (
        f"It waits for somebody to approve step {approval.step}, until {approval.expires_at:%Y-%m-%d %H:%M} UTC:"
        f" campaigns approve {flow_run.name} (its id is {str(flow_run.id)[:SHOWN_ID]}), or resume it in the Prefect UI"
    )


async def _for_a_worker(client: PrefectClient, flow_run: FlowRun, state: State[object], asked: TakingUp) -> str | None:
    now = anyio.current_time()
    if (due := _due_at(flow_run, state)) > current_clock().now():
        return f"It is due at {due:%Y-%m-%d %H:%M:%S} UTC"
    if asked.since is None:
        asked.since, asked.said, asked.looked_at = now, None, 0.0
    if now - asked.since >= PATIENCE_SECONDS and now - asked.looked_at >= LOOK_SECONDS:
        asked.looked_at, asked.said = now, await _who_could(client)
    return asked.said


async def _who_could(client: PrefectClient) -> str:
    """Say why nobody takes up runs, as far as the server knows."""
    try:
        pool = await client.read_work_pool(WORK_POOL)
        workers = await client.read_workers_for_work_pool(WORK_POOL)
    except ObjectNotFound:
        return f"There is no work pool {WORK_POOL}, which campaigns apply makes"
    if pool.is_paused:
        return f"Work pool {WORK_POOL} is paused, and no worker takes the run up: prefect work-pool resume {WORK_POOL}"
    if not any(worker.status is WorkerStatus.ONLINE for worker in workers):
        return f"No worker is there to take the run up. To start one: {START_WORKER} (or campaigns up)"
    return "The worker has not taken the run up yet"
