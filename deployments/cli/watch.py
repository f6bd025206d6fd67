"""Following one run, and showing it: live while it goes on, as a report when it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.urls import url_for
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.budget import BudgetStatus
from prefect_campaigns.deployments.cli.printing import plain_table
from prefect_campaigns.deployments.cli.waiting import TakingUp, what_it_waits_for
from prefect_campaigns.deployments.driving.progress import NO_PROGRESS, Progress, read_progress
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunReport, StepResult, StepStatus, describe_counts

POLL_SECONDS = 0.5

_STEP_STYLES = {
    StepStatus.PENDING: ("·", "dim"),
    StepStatus.RUNNING: ("▶", "cyan"),
    StepStatus.COMPLETED: ("✓", "green"),
    StepStatus.FAILED: ("✗", "red"),
    StepStatus.SKIPPED: ("-", "dim"),
}


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run as it is seen at one moment.

    Attributes:
        record: what the store has of it; None before it has begun.
        progress: what each step last said of itself.
        waiting: what the run waits for, and what to do about it; None while it goes on.
    """

    flow_run: FlowRun
    record: RunReport | None
    progress: Progress = NO_PROGRESS
    waiting: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the run is in a final state."""
        return self.flow_run.state is not None and self.flow_run.state.is_final()

    @property
    def is_suspended(self) -> bool:
        """Whether the run waits for a person."""
        return self.flow_run.state is not None and self.flow_run.state.is_paused()

    @property
    def state_name(self) -> str:
        """The name of the run's Prefect state."""
        return (self.flow_run.state and self.flow_run.state.name) or "Unknown"


async def follow(client: PrefectClient, store: CampaignStore, flow_run_id: UUID) -> AsyncIterator[RunView]:
    """Yield the run again and again until it has ended, waits for a person, or has found no worker for two minutes.

    The last view is that of its end. A server that is away for a moment is waited for, up to Prefect's own patience.
    """
    asked = TakingUp()
    while True:
        flow_run = await client.read_flow_run(flow_run_id)
        view = RunView(
            flow_run=flow_run,
            record=await store.get_run(str(flow_run_id)),
            progress=(await read_progress(client, [flow_run_id])).get(flow_run_id, NO_PROGRESS),
            waiting=await what_it_waits_for(client, store, flow_run, asked),
        )
        yield view
        if view.ended or view.is_suspended or asked.in_vain:
            return
        await asyncio.sleep(POLL_SECONDS)


async def watch(console: Console, client: PrefectClient, store: CampaignStore, flow_run_id: UUID) -> RunView:
    """Show the run live until ``follow`` ends, and return how it stands then."""
    last: RunView | None = None
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            async for last in follow(client, store, flow_run_id):
                live.update(run_table(last), refresh=True)
    else:
        said: set[str] = set()
        async for last in follow(client, store, flow_run_id):
            for line in _lines(last):
                if line not in said:
                    said.add(line)
                    console.print(line, highlight=False, markup=False)
    assert last is not None  # noqa: S101 - follow yields at least once
    return last


def _lines(view: RunView) -> list[str]:
    lines = [f"  {view.flow_run.name}: {view.state_name}"]
    if view.waiting:
        lines.append(f"  {view.waiting}")
    for step in view.record.steps if view.record else ():
        if step.status is not StepStatus.PENDING:
            attempt = f", attempt {step.attempts}" if step.attempts > 1 else ""
            lines.append(f"  {step.name}: {step.status}{attempt}")
        if said := _progress_of(view, step):
            lines.append(f"  {step.name}: {said}")
    return lines


def _progress_of(view: RunView, step: StepResult) -> str:
    said = view.progress.of(step.name)
    return said.describe() if said else ""


def print_run(console: Console, view: RunView) -> None:
    """Print a run that is watched no more: its steps, what it says of itself, and where to see it."""
    console.print(run_table(view))
    if view.ended and view.flow_run.state and view.flow_run.state.message:
        console.print(f"\n{view.flow_run.state.message}", markup=False)
    if url := url_for(view.flow_run):
        # A line of its own, which no wrapping breaks: people click on it.
        console.print(f"\n{url}\n", soft_wrap=True)


def run_table(view: RunView) -> RenderableType:
    """Return the run's steps as a table, under its name and state; before it has begun there are no steps."""
    title = Text.assemble((view.flow_run.name, "bold"), "  ", view.state_name)
    if view.waiting:
        title.append(f"\n{view.waiting}", style="yellow")
    if view.record is None:
        return title
    numbers = ("Requests", "Time", "Cost (USD)")
    table = plain_table("", "Step", *numbers, "", right=numbers)
    for step in view.record.steps:
        sign, style = _STEP_STYLES[step.status]
        table.add_row(
            Text(sign, style=style),
            Text(step.name, style=style),
            str(step.attempts or ""),
            f"{step.duration_seconds:.1f} s" if step.duration_seconds is not None else "",
            "" if step.cost is None else format_money(step.cost),
            Text(_detail(view, step)),
        )
    return Group(title, table)


def _detail(view: RunView, step: StepResult) -> str:
    if step.status is StepStatus.FAILED:
        return step.error or ""
    if step.status is StepStatus.COMPLETED:
        return ", ".join(describe_counts(step.counts))
    return _progress_of(view, step)


def budget_table(status: BudgetStatus) -> Table:
    """Return what is left of each limit as a table; of the account's, of those that are set."""
    numbers = ("Spent", "Limit", "Left")
    table = plain_table("Budget", *numbers, right=numbers)
    for limit in (*status.limits, *(one for one in status.account if one.limit is not None)):
        table.add_row(
            limit.name,
            format_money(limit.spent),
            "none" if limit.limit is None else format_money(limit.limit),
            "" if limit.left is None else format_money(limit.left),
        )
    return table
