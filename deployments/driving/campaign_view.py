"""A campaign at one moment: how it stands, what it may spend, when it is due, and how its last runs went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import ApprovalRecord, CampaignRecord, Stop
from prefect_campaigns.deployments.driving.budget_view import BudgetView, stop_json, view_budget, view_json
from prefect_campaigns.deployments.driving.standing import CampaignState, read_states
from prefect_campaigns.forecast import fire_times
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport

FIRE_TIMES = 3
RUNS_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class WaitingStep:
    """A step that waits for somebody to approve it.

    Attributes:
        run_name: its run's; the books know a run before it waits.
    """

    approval: ApprovalRecord
    run_name: str


@dataclass(frozen=True, kw_only=True)
class CampaignView:
    """A campaign at one moment.

    Attributes:
        next_runs: when it is due by itself; none where it is not.
        runs: its newest runs.
        waiting: the steps that wait for somebody to approve them.
    """

    budget: BudgetView
    stop: Stop | None
    next_runs: Sequence[datetime]
    runs: Sequence[RunReport]
    waiting: Sequence[WaitingStep]
    server_problem: str | None

    @property
    def state(self) -> CampaignState:
        """How it stands."""
        return self.budget.state

    @property
    def campaign(self) -> Campaign:
        """What was applied."""
        return self.state.record.campaign


async def view_campaign(store: CampaignStore, record: CampaignRecord) -> CampaignView:
    """Gather what the books and the Prefect server know of a campaign."""
    states = await read_states(store, [record])
    budget = await view_budget(store, states.campaigns[0])
    due: Sequence[datetime] = ()
    if (schedule := record.campaign.schedule) is not None and budget.next_run is not None:
        due = list(islice(fire_times(schedule, after=budget.next_run - timedelta.resolution), FIRE_TIMES))
    return CampaignView(
        budget=budget,
        stop=states.stop,
        next_runs=due,
        runs=await store.list_runs(record.key, limit=RUNS_SHOWN),
        waiting=[
            await _with_its_run(store, approval)
            for approval in await store.list_approvals(campaign_key=record.key, waiting_only=True)
        ],
        server_problem=states.server_problem,
    )


async def _with_its_run(store: CampaignStore, approval: ApprovalRecord) -> WaitingStep:
    run = await store.get_run(approval.run_id)
    return WaitingStep(approval=approval, run_name=run.run_name if run else approval.run_id)


def campaign_json(view: CampaignView) -> dict[str, Any]:
    """Return the campaign, as programs read it; ``config`` is the campaign as it was written, without secrets."""
    record = view.state.record
    return {
        **view_json(view.budget),
        "id": str(record.id),
        "slug": record.key,
        "deployment": f"campaign/{record.key}",
        "deploymentId": str(record.deployment_id) if record.deployment_id else None,
        "origin": record.origin,
        "stop": stop_json(view.stop),
        "nextRuns": [due.isoformat() for due in view.next_runs],
        "waitingForApproval": [
            {
                "runId": one.approval.run_id,
                "name": one.run_name,
                "step": one.approval.step,
                "until": one.approval.expires_at.isoformat(),
            }
            for one in view.waiting
        ],
        "runs": [run.model_dump(mode="json", exclude={"steps"}) for run in view.runs],
        "config": record.campaign.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "serverProblem": view.server_problem,
    }
