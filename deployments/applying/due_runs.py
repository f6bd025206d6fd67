"""Runs that are due while their deployment is being changed.

Prefect deletes a deployment's scheduled runs that lie ahead whenever the deployment changes, and its scheduler makes
them anew some seconds later, from then on: a run that falls due in between is lost. So whoever changes a deployment
waits while a run is about to be due, which Prefect leaves alone from then on; and should it all take longer, makes
again the runs that were deleted although their moment has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import anyio
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Scheduled

from prefect_campaigns.clock import Clock
from prefect_campaigns.flows.paused_deployment import schedule_own_run

AHEAD = timedelta(minutes=2)
"""How far ahead runs are noted: longer than a change takes."""


SOON = timedelta(seconds=12)
"""How near a run has to be to be waited for: longer than Prefect's scheduler takes to make the runs anew."""

_A_MOMENT_SECONDS = 0.5


async def between_runs(client: PrefectClient, deployment_id: UUID, *, clock: Clock) -> list[FlowRun]:
    """Wait until no run is about to be due, twelve seconds at the most, and return what ``about_to_be_due`` does."""
    now = clock.now()
    noted = await about_to_be_due(client, deployment_id, now=now)
    times = [run.expected_start_time for run in noted if run.expected_start_time is not None]
    waits = [at.timestamp() - now.timestamp() for at in times if now < at <= now + SOON]
    if not waits:
        return noted
    await anyio.sleep(max(waits) + _A_MOMENT_SECONDS)
    return await about_to_be_due(client, deployment_id, now=clock.now())


async def about_to_be_due(client: PrefectClient, deployment_id: UUID, *, now: datetime) -> list[FlowRun]:
    """Return the deployment's scheduled runs that are due and not begun, or will be due in two minutes."""
    runs = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=now + AHEAD),
        )
    )
    return [run for run in runs if run.auto_scheduled]


async def make_again(
    client: PrefectClient, deployment_id: UUID, noted: Sequence[FlowRun], *, now: datetime, is_scheduled: bool
) -> None:
    """Make the noted runs again that are gone although they are due by now, and the schedule's next run.

    A run that is made again has the new parameters, and the name and key of the old one, by which it is made once.

    Args:
        is_scheduled: whether the deployment has a schedule that is active.
    """
    due = [run for run in noted if run.expected_start_time is not None and run.expected_start_time <= now]
    if due:
        there = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id for run in due]))
        )
        for run in due:
            if run.id not in {one.id for one in there}:
                await client.create_flow_run_from_deployment(
                    deployment_id,
                    name=run.name,
                    state=Scheduled(scheduled_time=run.expected_start_time),
                    idempotency_key=run.idempotency_key,
                )
    if is_scheduled:
        # The next one may be due before the scheduler looks.
        await schedule_own_run(client, deployment_id, now)
