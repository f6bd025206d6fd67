"""What a campaign may spend, has spent and will likely spend: gathered, and shown with bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from rich.text import Text

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Pause, PausedBy, Reservation, Stop
from prefect_campaigns.budget import AccountBudget, BudgetStatus, LimitStatus, Scope
from prefect_campaigns.deployments.cli.printing import local_time, time_until, when
from prefect_campaigns.deployments.driving.standing import CampaignState, Standing
from prefect_campaigns.flows.pausing import BEING_DELETED, NO_REASON
from prefect_campaigns.forecast import Exhaustion, LikelyCost, exhaustions, fire_times, likely_cost, runs_left
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunReport, RunStatus

BAR_CELLS = 24
LEGEND = "█ spent  ▒ reserved  ░ left"

RUNS, GOES_ON = "this run runs all the same", "this run goes on all the same"
"""What ``warnings_of`` says becomes of a run."""

_RUNS_READ = 25
_INDENT = " " * 9


@dataclass(frozen=True, kw_only=True)
class BudgetView:
    """A campaign's money at one moment.

    Attributes:
        last_run: the last run that ended and cost something.
        next_run: when it is due by itself; None when it is not.
        reached: at which of the runs to come each limit is reached that will be.
        runs_left: for how many runs the money lasts that is left now; None without a limit or a likely cost.
        unconfirmed: the requests that are booked at their estimate, whenever they were made.
    """

    state: CampaignState
    status: BudgetStatus
    account_zone: tzinfo
    likely: LikelyCost | None
    last_run: RunReport | None
    next_run: datetime | None
    reached: Sequence[Exhaustion]
    runs_left: int | None
    unconfirmed: Sequence[Reservation]

    @property
    def zone(self) -> tzinfo:
        """The timezone of the campaign's windows."""
        return self.state.record.campaign.timezone


async def view_budget(store: CampaignStore, state: CampaignState) -> BudgetView:
    """Gather what the store knows of a campaign's money, and look ahead."""
    campaign = state.record.campaign
    status = await store.budget_status(campaign.slug)
    account_zone = ZoneInfo((await store.account_budget()).timezone)
    runs = await store.list_runs(campaign.slug, limit=_RUNS_READ)
    likely = likely_cost(campaign, runs)
    next_run: datetime | None = None
    reached: Sequence[Exhaustion] = ()
    if (schedule := campaign.schedule) is not None and (since := _runs_after(state, status.at)) is not None:
        next_run = next(fire_times(schedule, after=since))
        if likely is not None:
            zones = {"zone": campaign.timezone, "account_zone": account_zone}
            reached = exhaustions(
                status, lambda after: fire_times(schedule, after=after), likely.amount, since=since, **zones
            )
    return BudgetView(
        state=state,
        status=status,
        account_zone=account_zone,
        likely=likely,
        last_run=next((run for run in runs if run.status is not RunStatus.RUNNING and run.total_cost > 0), None),
        next_run=next_run,
        reached=reached,
        runs_left=runs_left(status, likely.amount) if likely else None,
        unconfirmed=await store.unconfirmed(campaign.slug),
    )


def _runs_after(state: CampaignState, now: datetime) -> datetime | None:
    """Return after which instant the campaign runs by itself; None when it does not."""
    if state.standing is Standing.ACTIVE:
        return now
    if state.standing is Standing.PAUSED and state.pause is not None and state.pause.until is not None:
        # A run that is due at the very moment of the reset happens.
        return max(now, state.pause.until) - timedelta.resolution
    return None


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
        yield Text(f"{bookings} unconfirmed, {format_money(_unconfirmed_sum(view))} in all; listed by", style="yellow")
        yield Text(f"{_INDENT}campaigns budget {view.state.record.key} --unconfirmed")


def _unconfirmed_sum(view: BudgetView) -> Decimal:
    return sum((one.booked or Decimal(0) for one in view.unconfirmed), Decimal(0))


def _percent(share: Decimal) -> str:
    return f"{(share * 100).normalize():f}"


def describe_state(state: CampaignState, *, now: datetime) -> str | None:
    """Say in one line why a campaign does not run by itself; None when it does, or has no schedule to run by.

    Instants are by the clocks of the campaign's timezone, and name it: nothing else may, where this is shown.
    """
    pause, zone = state.pause, state.record.campaign.timezone
    if state.standing is Standing.ACTIVE:
        return None
    if state.standing is Standing.NOT_DEPLOYED:
        return "Not deployed: the Prefect server has no such deployment; `campaigns apply` makes it."
    if state.standing is Standing.NOT_ENABLED:
        return "Not enabled: its schedule says so."
    if pause is None:
        return "Paused by a person: its schedule is switched off in Prefect."
    if pause.by is PausedBy.STOP:
        return f"Stopped since {local_time(pause.since, zone, now=now)} ({zone}): {pause.reason}"
    by = " by a person" if pause.by is PausedBy.PERSON and pause.reason != BEING_DELETED else ""
    until = f" until {local_time(pause.until, zone, now=now)}" if pause.until else ""
    why = "" if pause.reason == NO_REASON else f": {pause.reason}"
    return f"Paused{by} since {local_time(pause.since, zone, now=now)}{until} ({zone}){why}"


def warnings_of(state: CampaignState | None, what: str, *, now: datetime) -> list[str]:
    """Say what becomes of a run although a person has its campaign paused; nothing where none has."""
    if state is None or state.standing is not Standing.PAUSED_BY_PERSON:
        return []
    return [f"{state.record.key}: {what}. {describe_state(state, now=now)}"]


def describe_stop(stop: Stop) -> str:
    """Say that the emergency stop stands, who has said so, why, and what ends it."""
    return (
        f"Everything is stopped since {stop.since:%Y-%m-%d %H:%M} UTC, by {stop.by}: {stop.reason}."
        " To go on: campaigns start --all"
    )


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
        yield Text(f"The next run will likely cost {format_money(view.likely.amount)}: {_basis(view.likely)}.")
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


def _basis(likely: LikelyCost) -> str:
    if likely.runs == 0:
        return "the sum of its steps' estimates"
    if likely.runs == 1:
        return "what the last one did"
    low, high = format_money(likely.lowest), format_money(likely.highest)
    spread = f" ({low} to {high})" if low != high else ""
    return f"the median of {likely.runs} runs{spread}"


def _runs(count: int) -> str:
    return "no run" if count == 0 else "one more run" if count == 1 else f"{count} more runs"


def _ordinal(run: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(run % 10 if run // 10 % 10 != 1 else 0, "th")
    return "the next run" if run == 1 else f"the {run}{ending} run"


def limit_json(limit: LimitStatus) -> dict[str, Any]:
    """Return a limit as programs read it."""
    return {
        "name": limit.name,
        "scope": limit.scope.value,
        "period": limit.window.period.value if limit.window else None,
        "limit": None if limit.limit is None else format_money(limit.limit),
        "spent": format_money(limit.spent),
        "reserved": format_money(limit.reserved),
        "left": None if limit.left is None else format_money(limit.left),
        "reached": limit.reached,
        "resetsAt": limit.window.end.isoformat() if limit.window else None,
    }


def state_json(state: CampaignState) -> dict[str, Any]:
    """Return how a campaign stands, as programs read it."""
    return {"state": state.standing.value, "pause": pause_json(state.pause) if state.pause else None}


def pause_json(pause: Pause) -> dict[str, Any]:
    """Return a pause, as programs read it."""
    return {
        "by": pause.by.value,
        "reason": pause.reason,
        "since": pause.since.isoformat(),
        "until": pause.until.isoformat() if pause.until else None,
    }


def stop_json(stop: Stop | None) -> dict[str, Any] | None:
    """Return the emergency stop, as programs read it; None while none stands."""
    return {"by": stop.by, "reason": stop.reason, "since": stop.since.isoformat()} if stop else None


def view_json(view: BudgetView) -> dict[str, Any]:
    """Return a campaign's money, as programs read it."""
    campaign, likely = view.state.record.campaign, view.likely
    return {
        "campaign": campaign.slug,
        "name": campaign.name,
        "timezone": str(campaign.timezone),
        **state_json(view.state),
        "limits": [limit_json(limit) for limit in view.status.all],
        "perRun": None if campaign.budget.per_run is None else format_money(campaign.budget.per_run),
        "perLead": None if campaign.budget.per_lead is None else format_money(campaign.budget.per_lead),
        "alertAt": [float(share) for share in campaign.budget.alert_at],
        "nextRun": view.next_run.isoformat() if view.next_run else None,
        "likelyCost": likely
        and {
            "amount": format_money(likely.amount),
            "lowest": format_money(likely.lowest),
            "highest": format_money(likely.highest),
            "runs": likely.runs,
        },
        "runsLeft": view.runs_left,
        "reached": [{"limit": one.limit.name, "at": one.at.isoformat(), "run": one.run} for one in view.reached],
        "unconfirmed": {"count": len(view.unconfirmed), "booked": format_money(_unconfirmed_sum(view))},
    }
