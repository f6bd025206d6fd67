"""A campaign on one page, for eighty columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from prefect_campaigns.deployments.cli.budget_lines import limit_lines
from prefect_campaigns.deployments.cli.printing import SHOWN_ID, STANDING_STYLES, recipient_names, runs_table, strip
from prefect_campaigns.deployments.driving.campaign_view import CampaignView
from prefect_campaigns.deployments.driving.standing import Standing, describe_state, describe_stop
from prefect_campaigns.instants import when
from prefect_campaigns.models import Campaign, Step
from prefect_campaigns.money import format_money

_INDENT = (0, 0, 0, 2)


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
    yield Text.assemble(strip(view.runs), ("  oldest first", "dim"))
    yield runs_table(view.runs)
