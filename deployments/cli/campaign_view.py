"""All there is to know of a campaign on one page: gathered, and shown for eighty columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import ApprovalRecord, CampaignRecord, Stop
from prefect_campaigns.deployments.cli.budget_view import (
    BudgetView,
    describe_state,
    describe_stop,
    limit_lines,
    stop_json,
    view_budget,
    view_json,
)
from prefect_campaigns.deployments.cli.printing import SHOWN_ID, STANDING_STYLES, recipient_names, runs_table, when
from prefect_campaigns.deployments.driving.standing import CampaignState, Standing, read_states
from prefect_campaigns.forecast import fire_times
from prefect_campaigns.models import Campaign, Step
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunReport

FIRE_TIMES = 3
RUNS_SHOWN = 5

_INDENT = (0, 0, 0, 2)


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


def page(view: CampaignView) -> RenderableType:
    """Return the page."""
    sections: dict[str, list[RenderableType]] = {
        "Schedule": list(_schedule_lines(view)),
        "Steps": list(_step_lines(view.campaign)),
        "Budget": list(_budget_lines(view)),
        "Who is told": list(_told_lines(view.campaign)),
        "Last runs": list(_runs(view)),
    }
    parts: list[RenderableType] = [*_head(view)]
    for title, lines in sections.items():
        if lines:
            parts += [Text(), Text(title, style="bold"), *(Padding(line, _INDENT, expand=False) for line in lines)]
    return Group(*parts)


def _head(view: CampaignView) -> Iterator[Text]:
    campaign, standing = view.campaign, view.state.standing
    style = STANDING_STYLES.get(standing, "yellow")
    yield Text.assemble((campaign.name, "bold"), "  ", (standing.words, style))
    yield Text(f"campaign/{campaign.slug}, id {view.state.record.id}", style="dim")
    if campaign.description:
        yield Text(campaign.description)
    if why := describe_state(view.state, now=view.budget.status.at):
        yield Text(why, style=style)
    if view.stop is not None and standing is not Standing.STOPPED:
        yield Text(describe_stop(view.stop), style="red")
    for one in view.waiting:
        run = f"{one.run_name} (its id is {one.approval.run_id[:SHOWN_ID]})"
        until = f"until {one.approval.expires_at:%Y-%m-%d %H:%M} UTC"
        yield Text(
            f"Step {one.approval.step} waits for somebody to approve it, {until}: campaigns approve {run}",
            style="yellow",
        )


def _schedule_lines(view: CampaignView) -> Iterator[Text]:
    schedule = view.campaign.schedule
    if schedule is None:
        yield Text(f"by hand: campaigns run {view.campaign.slug}")
        return
    overlap = "" if schedule.overlap == "queue" else "; skips a run while another goes on"
    yield Text(f"{schedule.cron}  {schedule.timezone}{overlap}")
    for due in view.next_runs:
        yield Text(when(due, view.budget.zone, now=view.budget.status.at))
    if not view.next_runs:
        yield Text("does not run by itself as it stands", style="dim")


def _step_lines(campaign: Campaign) -> Iterator[Text]:
    for number, step in enumerate(campaign.steps, start=1):
        yield Text.assemble(f"{number}. ", (step.name, "cyan"), f"  {step.method} {step.endpoint}")
        yield Text(f"   {_remarks(step)}", style="dim")


def _remarks(step: Step) -> str:
    retries = step.retry_policy.attempts
    remarks = [
        f"at most {step.timeout_seconds:g} s",
        "1 retry" if retries == 1 else f"{retries} retries" if retries else "",
        "sends" if step.sends_something else "",
        "waits for approval" if step.approval else "",
        f"estimated {format_money(step.estimated_cost)}" if step.estimated_cost is not None else "",
        f"on failure {step.on_failure}" if step.on_failure != "abort" else "",
        "ends the run" if step.on_success == "abort" else "",
    ]
    return ", ".join(filter(None, remarks))


def _budget_lines(view: CampaignView) -> Iterator[Text]:
    status, budget = view.budget.status, view.campaign.budget
    for limit in status.limits:
        yield from limit_lines(limit, view.budget.zone, now=status.at, alert_at=budget.alert_at)
    for name, amount in (("perRun", budget.per_run), ("perLead", budget.per_lead)):
        if amount is not None:
            yield Text.assemble((f"{name:<9}", "bold"), f"{format_money(amount)} at the most")
    if view.budget.likely is not None:
        yield Text(f"the next run will likely cost {format_money(view.budget.likely.amount)} (US dollars)", style="dim")


def _told_lines(campaign: Campaign) -> Iterator[Text]:
    told = campaign.notifications
    if told is None:
        return
    for event, recipients in (
        ("when complete", told.on_complete),
        ("of failures", told.on_failure),
        ("of the budget", told.on_budget or told.on_failure),
        ("of approvals", (told.on_approval or told.on_failure) if any(s.approval for s in campaign.steps) else None),
    ):
        if names := recipient_names(recipients):
            yield Text(f"{event}: {', '.join(names)}")


def _runs(view: CampaignView) -> Iterator[RenderableType]:
    if not view.runs:
        yield Text(f"none yet: campaigns run {view.campaign.slug}", style="dim")
        return
    yield runs_table(view.runs)


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
