"""A person who applies and runs campaigns from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from campaign_files import campaign
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.client.schemas.sorting import TaskRunSort
from prefect.states import AwaitingRetry, Scheduled

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.deployments.applying.apply import apply
from prefect_campaigns.models import Campaign

T = TypeVar("T")
END_SECONDS = 100.0
SOON, SELDOM = 0.05, 0.5
"""How many seconds after a look the next one comes: a server that is asked all the time does little else."""


async def until(look: Callable[[], Awaitable[T | None]], what: str, *, seconds: float = END_SECONDS) -> T:
    """Look again and again, ever more seldom, until there is something to see."""
    pause = SOON
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = await look()
                if found:
                    return found
                await asyncio.sleep(pause)
                pause = min(pause * 1.3, SELDOM)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} seconds: {what}") from None


class Driver:
    """Applies campaigns and runs them to their end, as people do from outside."""

    def __init__(self, client: PrefectClient, store: SqliteStore, settings: Settings) -> None:
        self.client = client
        self.store = store
        self.settings = settings

    async def apply(self, *campaigns: Campaign) -> list[UUID]:
        """Apply campaigns; return their deployments' ids."""
        result = await apply(campaigns, store=self.store, settings=self.settings)
        return [one.deployment_id for one in result.campaigns]

    async def deploy(self, name: str, url: str, **options: Any) -> UUID:
        """Apply one campaign of the usual four steps."""
        (deployment_id,) = await self.apply(campaign(name, url, **options))
        return deployment_id

    async def start(self, deployment_id: UUID, *, in_seconds: float = 0) -> FlowRun:
        """Ask for a run, now or in a while."""
        when = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(seconds=in_seconds)) if in_seconds else None
        return await self.client.create_flow_run_from_deployment(deployment_id, state=when)

    async def start_later(self, deployment_id: UUID) -> FlowRun:
        """Ask for a run so late that no worker takes it up."""
        return await self.start(deployment_id, in_seconds=86_400)

    async def ended(self, flow_run_id: UUID, *, seconds: float = END_SECONDS) -> FlowRun:
        """Wait for a run's end."""

        async def look() -> FlowRun | None:
            flow_run = await self.client.read_flow_run(flow_run_id)
            return flow_run if flow_run.state and flow_run.state.is_final() else None

        return await until(look, f"the end of run {flow_run_id}", seconds=seconds)

    async def all_ended(self, flow_run_ids: Sequence[UUID], *, seconds: float) -> list[FlowRun]:
        """Wait for the end of several runs; return them in the same order."""

        async def look() -> dict[UUID, FlowRun] | None:
            runs = await self.client.read_flow_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(flow_run_ids)))
            )
            ended = {run.id: run for run in runs if run.state and run.state.is_final()}
            return ended if len(ended) == len(flow_run_ids) else None

        ended = await until(look, f"the end of {len(flow_run_ids)} runs", seconds=seconds)
        return [ended[flow_run_id] for flow_run_id in flow_run_ids]

    async def in_state(self, flow_run_id: UUID, name: str) -> FlowRun:
        """Wait for a run to be in a state of that name."""

        async def look() -> FlowRun | None:
            flow_run = await self.client.read_flow_run(flow_run_id)
            return flow_run if flow_run.state and flow_run.state.name == name else None

        return await until(look, f"run {flow_run_id} in state {name}")

    async def run(self, deployment_id: UUID) -> FlowRun:
        """Run a campaign to its end."""
        return await self.ended((await self.start(deployment_id)).id)

    async def retry(self, flow_run: FlowRun) -> FlowRun:
        """Press Retry in the Prefect UI, and wait for the end."""
        await self.client.set_flow_run_state(flow_run.id, AwaitingRetry(), force=True)
        return await self.ended(flow_run.id)

    async def step_runs(self, flow_run_id: UUID, count: int) -> list[TaskRun]:
        """Return the run's step tasks in the order in which they ran; they reach the server a little late."""

        async def look() -> list[TaskRun] | None:
            runs = await self.client.read_task_runs(
                task_run_filter=TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id])),
                sort=TaskRunSort.EXPECTED_START_TIME_ASC,
            )
            steps = [run for run in runs if run.name != "check_budget"]
            done = [run for run in steps if run.state and run.state.is_final()]
            return steps if len(done) >= count else None

        return await until(look, f"{count} task runs")

    async def logged(self, flow_run_id: UUID, *texts: str) -> None:
        """Wait until the run's log has these in Prefect, which is a little late."""

        async def look() -> bool:
            lines = await self.client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])))
            return all(any(text in line.message for line in lines) for text in texts)

        await until(look, f"{texts} in the log of run {flow_run_id}")

    async def runs_of(self, deployment_id: UUID) -> dict[datetime | None, FlowRun]:
        """Return the runs of a deployment, by when they are due."""
        runs = await self.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
        )
        return {run.expected_start_time: run for run in runs}
