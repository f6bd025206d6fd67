"""The record of one run while it goes on."""

from __future__ import annotations

import logging
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import httpx
from prefect.client.schemas.objects import FlowRun

from prefect_campaigns.blocks.store import CampaignStore, Lease, Reservation
from prefect_campaigns.clock import Clock
from prefect_campaigns.models import Campaign, Step
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus

RunLogger = logging.Logger | logging.LoggerAdapter[logging.Logger]
"""What Prefect's get_run_logger gives."""

_IDEMPOTENCY_NAMESPACE = UUID("6a1f6e0e-59a5-4c1c-9df0-6f3f1b6f5d2c")


def trigger_type(flow_run: FlowRun) -> str:
    """Return what made the run, in the words of the REST API: ``scheduled`` or ``manual``."""
    return "scheduled" if flow_run.auto_scheduled else "manual"


class CampaignRun:
    """What the steps of a run share, and what they have done so far.

    Every change of a step is written to the store as it happens, so that a run that is killed leaves what it did.
    """

    # No dataclass: Prefect looks into those for the states of upstream tasks, and the flow run carries its own.
    def __init__(
        self,
        *,
        campaign: Campaign,
        flow_run: FlowRun,
        store: CampaignStore,
        lease: Lease,
        http: httpx.AsyncClient,
        clock: Clock,
    ) -> None:
        self.campaign = campaign
        self.flow_run = flow_run
        self.store = store
        self.lease = lease
        self.http = http
        self.clock = clock
        self.started_at: datetime = clock.now()
        self.steps: list[StepResult] = []

    @property
    def run_id(self) -> str:
        """The Prefect flow run's id."""
        return str(self.flow_run.id)

    @property
    def results(self) -> dict[str, Any]:
        """The results of the steps that have completed, for the references of later ones."""
        return {step.name: step.result for step in self.steps if step.status is StepStatus.COMPLETED}

    def idempotency_key(self, step: Step) -> str:
        """Return the key of the step's requests: the same over retries and over a resumed run."""
        return str(uuid5(_IDEMPOTENCY_NAMESPACE, f"{self.run_id}/{step.name}"))

    async def begin(self) -> None:
        """Write the run's record, taking up what an earlier execution of this run has left."""
        earlier = await self.store.get_run(self.run_id)
        recorded = {step.name: step for step in earlier.steps} if earlier else {}
        if earlier:
            self.started_at = earlier.started_at
        self.steps = [
            recorded.get(step.name)
            or StepResult(name=step.name, engine=step.engine, position=position, status=StepStatus.PENDING)
            for position, step in enumerate(self.campaign.steps)
        ]
        await self.store.start_run(self.lease, await self.report())

    async def save(self, step: StepResult) -> None:
        """Write down where a step stands."""
        self.steps[step.position] = step
        await self.store.save_step(self.lease, step)

    async def settle(self, step: StepResult, reservation: Reservation, amount: Decimal) -> None:
        """Write down a finished step and what it cost, in one act."""
        await self.store.settle(self.lease, reservation, amount, step=step)
        self.steps[step.position] = step

    async def report(
        self,
        status: RunStatus = RunStatus.RUNNING,
        *,
        state_name: str | None = None,
        message: str | None = None,
    ) -> RunReport:
        """Return the run as it stands; its cost is the ledger's."""
        return RunReport(
            run_id=self.run_id,
            run_name=self.flow_run.name,
            campaign_key=self.campaign.slug,
            campaign_name=self.campaign.name,
            status=status,
            state_name=state_name,
            message=message,
            trigger_type=trigger_type(self.flow_run),
            started_at=self.started_at,
            completed_at=None if status is RunStatus.RUNNING else self.clock.now(),
            total_cost=await self.store.run_cost(self.run_id),
            steps=tuple(self.steps),
        )
