"""What a campaign may spend, has spent and will likely spend."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, Pause, Reservation, Stop
from prefect_campaigns.budget import BudgetStatus, LimitStatus
from prefect_campaigns.deployments.driving.standing import CampaignState, Standing
from prefect_campaigns.forecast import Exhaustion, LikelyCost, exhaustions, fire_times, likely_cost, runs_left
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunReport, RunStatus

_RUNS_READ = 25
DAYS_SHOWN = 30


@dataclass(frozen=True, kw_only=True)
class BudgetView:
    """A campaign's money at one moment.

    Attributes:
        last_run: the last run that ended and cost something.
        next_run: when it is due by itself; None when it is not.
        reached: at which of the runs to come each limit is reached that will be.
        runs_left: for how many runs the money lasts that is left now; None without a limit or a likely cost.
        unconfirmed: the requests that are booked at their estimate, whenever they were made.
        spent_by_day: what was spent on each of the last thirty days of the campaign's timezone, today the last.
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
    spent_by_day: Mapping[date, Decimal]

    @property
    def zone(self) -> tzinfo:
        """The timezone of the campaign's windows."""
        return self.state.record.campaign.timezone

    @property
    def unconfirmed_cost(self) -> Decimal:
        """What the unconfirmed requests are booked at, in US dollars."""
        return sum((one.booked or Decimal(0) for one in self.unconfirmed), Decimal(0))


async def view_budget(store: CampaignStore, state: CampaignState) -> BudgetView:
    """Gather what the store knows of a campaign's money, and look ahead."""
    campaign = state.record.campaign
    status = await store.budget_status(campaign.slug)
    account_zone = ZoneInfo((await store.account_budget()).timezone)
    runs = await store.run_outlines(campaign_key=campaign.slug, limit=_RUNS_READ)
    likely = likely_cost(campaign, runs)
    # In a thread: of a campaign that runs every minute it takes half a second.
    next_run, reached = await asyncio.to_thread(look_ahead, state, status, likely, account_zone=account_zone)
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
        spent_by_day=await spent_by_day(store, state.record, days=DAYS_SHOWN, now=status.at),
    )


async def spent_by_day(
    store: CampaignStore, record: CampaignRecord, *, days: int, now: datetime
) -> Mapping[date, Decimal]:
    """Return what a campaign spent on each of the last so many days of its timezone, today the last."""
    today = now.astimezone(record.campaign.timezone).date()
    shown = [today - timedelta(days=back) for back in reversed(range(days))]
    spent = await store.spent_by_day(since=shown[0], until=today, campaign_key=record.key)
    return {day: spent.get(day, Decimal(0)) for day in shown}


def look_ahead(
    state: CampaignState, status: BudgetStatus, likely: LikelyCost | None, *, account_zone: tzinfo
) -> tuple[datetime | None, Sequence[Exhaustion]]:
    """Return when a campaign is next due by itself, and at which of its runs each limit will be reached."""
    schedule, since = state.record.campaign.schedule, runs_after(state, status.at)
    if schedule is None or since is None:
        return None, ()
    next_run = next(fire_times(schedule, after=since))
    if likely is None:
        return next_run, ()
    zones = {"zone": state.record.campaign.timezone, "account_zone": account_zone}
    due = lambda after: fire_times(schedule, after=after)  # noqa: E731 - it has no name to be called by
    return next_run, exhaustions(status, due, likely.amount, since=since, **zones)


def runs_after(state: CampaignState, now: datetime) -> datetime | None:
    """Return after which instant the campaign runs by itself; None when it does not."""
    if state.standing is Standing.ACTIVE:
        return now
    if state.standing is Standing.PAUSED and state.pause is not None and state.pause.until is not None:
        # A run that is due at the very moment of the reset happens.
        return max(now, state.pause.until) - timedelta.resolution
    return None


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
        "days": [{"day": day.isoformat(), "spent": format_money(spent)} for day, spent in view.spent_by_day.items()],
        "unconfirmed": {"count": len(view.unconfirmed), "booked": format_money(view.unconfirmed_cost)},
    }
