"""What a campaign may spend, has spent and will likely spend: lines with bars, for eighty columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo

from rich.text import Text

from prefect_campaigns.budget import AccountBudget, BudgetStatus, LimitStatus, Scope
from prefect_campaigns.deployments.cli.printing import sparkline
from prefect_campaigns.deployments.driving.budget_view import BudgetView
from prefect_campaigns.deployments.driving.standing import describe_state
from prefect_campaigns.instants import local_time, time_until, when
from prefect_campaigns.money import format_money
from prefect_campaigns.report_words import basis

BAR_CELLS = 24
LEGEND = "█ spent  ▒ reserved  ░ left"

_INDENT = " " * 9


def bar(limit: LimitStatus, alert_at: Sequence[Decimal] = (), *, cells: int = BAR_CELLS) -> Text:
    """Return a limit as a bar: spent █, reserved ▒, left ░, and a line where somebody is told.

    However little is spent or left, it shows.
    """
    whole = limit.limit or Decimal(0)
    used = limit.spent + limit.reserved
    spent_to = _cell(limit.spent, whole, cells)
    used_to = max(_cell(used, whole, cells), min(spent_to + (limit.reserved > 0), cells))
    style = "red" if limit.reached else "yellow" if alert_at and used >= whole * min(alert_at) else "green"
    text = Text()
    marks = {min(int(cells * share), cells - 1) for share in alert_at}
    for cell in range(cells):
        sign, colour = ("█", style) if cell < spent_to else ("▒", style) if cell < used_to else ("░", "dim")
        text.append(*(("│", "bold") if cell in marks else (sign, colour)))
    return text


def _cell(amount: Decimal, whole: Decimal, cells: int) -> int:
    if amount <= 0:
        return 0
    if amount >= whole:
        return cells
    return min(max(round(cells * amount / whole), 1), cells - 1)


def limit_lines(limit: LimitStatus, zone: tzinfo, *, now: datetime, alert_at: Sequence[Decimal] = ()) -> Iterator[Text]:
    """Yield what there is to say of a window's limit: the bar and when it resets, then the amounts."""
    assert limit.window is not None  # noqa: S101 - of the limit of a run there is no status to show
    resets = f"resets {when(limit.window.end, zone, now=now)}"
    name = f"{limit.window.period:<{len(_INDENT)}}"
    reserved = f", {format_money(limit.reserved)} reserved" if limit.reserved else ""
    spent = f"{format_money(limit.spent)} spent{reserved}"
    if not limit.limit:
        # No new window lifts a limit of 0.
        words = f"no limit, {resets}" if limit.limit is None else "limit 0.00: nothing may be spent"
        yield Text.assemble((name, "bold"), words)
        yield Text(f"{_INDENT}{spent}")
        return
    percent = (limit.spent + limit.reserved) / limit.limit * 100
    used = "<1" if 0 < percent < 1 else str(int(percent))
    yield Text.assemble((name, "bold"), bar(limit, alert_at), f"  {used:>3} %  ", resets)
    yield Text(f"{_INDENT}{spent}, {format_money(limit.left or Decimal(0))} left of {format_money(limit.limit)}")


def account_lines(status: BudgetStatus, budget: AccountBudget) -> Iterator[Text]:
    """Yield what all campaigns together have spent, against the limits that are set for them."""
    yield Text.assemble(("All campaigns together", "bold"), f"  {budget.timezone}")
    for limit in status.account:
        yield from limit_lines(limit, ZoneInfo(budget.timezone), now=status.at)


def view_lines(view: BudgetView) -> Iterator[Text]:
    """Yield a campaign's money, line by line, for eighty columns."""
    campaign, now = view.state.record.campaign, view.status.at
    yield Text(campaign.name, style="bold")
    yield Text(f"campaign/{campaign.slug}, {campaign.timezone}", style="dim")
    if pause_line := describe_state(view.state, now=now):
        yield Text(pause_line, style="yellow")
    alerts = ", ".join(f"{_percent(share)} %" for share in sorted(campaign.budget.alert_at))
    yield Text(f"{LEGEND}{f'  │ told at {alerts}' if alerts else ''}  (US dollars)", style="dim")
    for limit in view.status.limits:
        yield from limit_lines(limit, view.zone, now=now, alert_at=campaign.budget.alert_at)
    yield from _per_lines(view)
    if any(view.spent_by_day.values()):
        most = format_money(max(view.spent_by_day.values()))
        days = sparkline([*view.spent_by_day.values()])
        yield Text.assemble(("30 days  ", "bold"), days, f"  at the most {most} on a day")
    account = [limit for limit in view.status.account if limit.limit is not None]
    if account:
        yield Text()
        yield Text.assemble(("All campaigns together", "bold"), f"  {view.account_zone}")
        for limit in account:
            yield from limit_lines(limit, view.account_zone, now=now, alert_at=campaign.budget.alert_at)
    yield from _unconfirmed_lines(view)
    yield Text()
    yield from _outlook(view)


def _unconfirmed_lines(view: BudgetView) -> Iterator[Text]:
    if view.unconfirmed:
        bookings = "1 booking is" if len(view.unconfirmed) == 1 else f"{len(view.unconfirmed)} bookings are"
        yield Text()
        yield Text(f"{bookings} unconfirmed, {format_money(view.unconfirmed_cost)} in all; listed by", style="yellow")
        yield Text(f"{_INDENT}campaigns budget {view.state.record.key} --unconfirmed")


def _percent(share: Decimal) -> str:
    return f"{(share * 100).normalize():f}"


def _per_lines(view: BudgetView) -> Iterator[Text]:
    budget, last = view.state.record.campaign.budget, view.last_run
    cost = f"; the last run cost {format_money(last.total_cost)}" if last else ""
    if budget.per_run is not None:
        yield Text.assemble(("perRun   ", "bold"), f"{format_money(budget.per_run)} at the most{cost}")
    if budget.per_lead is not None:
        leads = int(last.counts.get("prospects_generated", 0)) if last else 0
        each = (
            f"; the last run {format_money((last.total_cost / leads).quantize(Decimal('0.000001')))}"
            if last and leads
            else ""
        )
        yield Text.assemble(("perLead  ", "bold"), f"{format_money(budget.per_lead)} at the most{each}")


def _outlook(view: BudgetView) -> Iterator[Text]:
    now = view.status.at
    if view.likely is None:
        yield Text("The cost of the next run is not known: none has cost anything, and no step says.")
    else:
        yield Text(f"The next run will likely cost {format_money(view.likely.amount)}: {basis(view.likely)}.")
    if view.next_run is not None:
        yield Text(f"It is due {when(view.next_run, view.zone, now=now)}.")
    if view.likely is None:
        return
    if view.next_run is None:
        if view.runs_left is not None:
            yield Text(f"The money that is left lasts for {_runs(view.runs_left)} at that cost.")
    elif not any(limit.limit is not None for limit in view.status.all):
        yield Text("There is no limit that it could reach.")
    elif not view.reached:
        yield Text("At that pace no limit is reached.")
    for one in view.reached:
        at = f"{local_time(one.at, view.zone, now=now)} ({time_until(one.at, now=now)})"
        # What other campaigns spend brings the account's limits nearer.
        pace = "At the latest" if one.limit.scope is Scope.ACCOUNT else "At that pace"
        yield Text(f"{pace} {one.limit.name} stops {_ordinal(one.run)}, {at}.")


def _runs(count: int) -> str:
    return "no run" if count == 0 else "one more run" if count == 1 else f"{count} more runs"


def _ordinal(run: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(run % 10 if run // 10 % 10 != 1 else 0, "th")
    return "the next run" if run == 1 else f"the {run}{ending} run"
