"""What the next run will likely cost, when runs are due, and at which of them a limit will be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import ROUND_CEILING, Decimal
from itertools import islice
from typing import Protocol
from zoneinfo import ZoneInfo

from croniter import croniter
from pydantic import BaseModel, ConfigDict

from prefect_campaigns.budget import BudgetStatus, LimitStatus, Period, Scope, window, window_from
from prefect_campaigns.models import Campaign, Schedule
from prefect_campaigns.money import Money
from prefect_campaigns.results import RunStatus

RUNS_LOOKED_AT = 5
MAX_RUNS_AHEAD = 7 * 24 * 60
"""How many runs are looked ahead at the most: a week of a campaign that runs every minute, in half a second."""

_MICRO = Decimal("0.000001")

_LONGEST_JUMP = timedelta(hours=3)
"""How far clocks jump at the most; Antarctica/Troll's jump two hours."""


class LikelyCost(BaseModel):
    """What a run will likely cost, in US dollars.

    Attributes:
        amount: the median of what the last runs cost.
        lowest, highest: the least and the most of what they cost.
        runs: how many runs it is made of; 0 when it is the sum of what the steps are estimated at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: Money
    lowest: Money
    highest: Money
    runs: int


class Costly(Protocol):
    """What a run cost, of whatever else is known of it."""

    @property
    def status(self) -> RunStatus:
        """Where it stands, or how it ended."""
        ...

    @property
    def total_cost(self) -> Decimal:
        """What is booked for it, in US dollars."""
        ...


def likely_cost(campaign: Campaign, runs: Iterable[Costly]) -> LikelyCost | None:
    """Return the median cost of the last five runs that ended and cost something.

    Of an even number of runs it is the mean of the two in the middle, rounded up. Before any run has cost something it
    is the sum of the steps' ``estimatedCost``; None when no step has one.

    Args:
        runs: the campaign's runs, newest first.
    """
    ended = (run.total_cost for run in runs if run.status is not RunStatus.RUNNING and run.total_cost > 0)
    costs = sorted(islice(ended, RUNS_LOOKED_AT))
    if costs:
        middle = costs[(len(costs) - 1) // 2] + costs[len(costs) // 2]
        amount = (middle / 2).quantize(_MICRO, rounding=ROUND_CEILING)
        return LikelyCost(amount=amount, lowest=costs[0], highest=costs[-1], runs=len(costs))
    estimates = [step.estimated_cost for step in campaign.steps if step.estimated_cost is not None]
    if not estimates:
        return None
    total = sum(estimates, Decimal(0))
    return LikelyCost(amount=total, lowest=total, highest=total, runs=0)


def fire_times(schedule: Schedule, *, after: datetime) -> Iterator[datetime]:
    """Yield the instants (UTC) after an instant at which the schedule's runs begin, without end.

    Those at which Prefect makes them due, save that a run begins no earlier than its day (``begins_at``).

    Raises:
        ValueError: ``after`` is naive.
    """
    last = after
    for _, begins in _due_times(schedule, after=after - _LONGEST_JUMP):
        if begins > last:
            last = begins
            yield begins


def due_times(schedule: Schedule, *, after: datetime) -> Iterator[datetime]:
    """Yield the instants (UTC) after an instant at which Prefect makes the schedule's runs due, without end.

    As Prefect's CronSchedule does it: the cron is matched against the local wall clock. Of an hour that comes twice
    the first one counts, and a time that is skipped comes an hour early, with the offset that holds after the jump;
    runs that would then fall together are one. A cron of every hour is matched against UTC (``kept_by``).

    Raises:
        ValueError: ``after`` is naive.
    """
    return (due for due, _ in _due_times(schedule, after=after))


def begins_at(schedule: Schedule, due: datetime) -> datetime:
    """Return when a run begins that Prefect has made due then.

    That is then, save where clocks go forward at midnight: the run of a midnight that is skipped is due an hour early,
    and so on the day before, by whose budget it would be refused. It begins with its own day.
    """
    at, begins = next(_due_times(schedule, after=due - timedelta.resolution))
    return begins if at == due else due


def due_from(schedule: Schedule, since: datetime) -> datetime:
    """Return the instant since when Prefect makes the runs due that begin at ``since`` or later."""
    runs = _due_times(schedule, after=since - _LONGEST_JUMP)
    return min(next(due for due, begins in runs if begins >= since), since)


def kept_by(schedule: Schedule) -> tuple[str, str]:
    """Return the cron and the timezone by which Prefect keeps the schedule.

    A cron that leaves hour, day, month and weekday open, such as ``0 * * * *``, means every hour that passes. By local
    clocks Prefect would leave the hour out that comes twice. By UTC it does not, where both show the same minutes.
    """
    fields, _ = croniter.expand(schedule.cron)
    zone = ZoneInfo(schedule.timezone)
    offsets = (zone.utcoffset(datetime(2026, month, 1)) for month in range(1, 13))
    is_open = all(field == ["*"] for field in fields[1:])
    if is_open and not any(offset and offset % timedelta(hours=1) for offset in offsets):
        return schedule.cron, "UTC"
    return schedule.cron, schedule.timezone


def _due_times(schedule: Schedule, *, after: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield when runs are due after an instant, and when each begins."""
    if after.tzinfo is None:
        raise ValueError("an instant needs a timezone")
    cron, timezone = kept_by(schedule)
    zone, last = ZoneInfo(timezone), after
    local = croniter(cron, after.astimezone(zone).replace(tzinfo=None, fold=0))
    while True:
        wall = local.get_next(datetime)
        due = min(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if due > last:
            last = due
            is_early = due.astimezone(zone).date() < wall.date()
            yield due, window_from(Period.DAILY, wall.date(), zone).start if is_early else due


@dataclass(frozen=True, kw_only=True)
class Exhaustion:
    """The run at which a limit will be reached.

    Attributes:
        limit: the limit, as it stands now.
        at: when that run is due.
        run: which of the runs from now on it is; 1 is the next.
    """

    limit: LimitStatus
    at: datetime
    run: int


@dataclass
class _Pace:
    """A limit as the runs eat it up, window by window."""

    limit: LimitStatus
    zone: tzinfo
    period: Period
    ends_at: datetime
    used: Decimal

    def stops(self, at: datetime, cost: Decimal) -> bool:
        """Whether the limit stops a run of that cost; an instant after the window's end begins the next window."""
        if at >= self.ends_at:
            self.used, self.ends_at = Decimal(0), window(self.period, at, self.zone).end
        most = self.limit.limit or Decimal(0)
        return self.used >= most or self.used + cost > most


def exhaustions(
    status: BudgetStatus,
    due: Callable[[datetime], Iterable[datetime]],
    cost: Decimal,
    *,
    since: datetime,
    zone: tzinfo,
    account_zone: tzinfo,
) -> Sequence[Exhaustion]:
    """Return at which run each limit will be reached if every run costs the same; limits that hold out are left out.

    A limit is reached by the first run that it keeps from starting, or that would pass it before its window ends. That
    run costs nothing, and pauses the campaign until the windows of all limits that stop it are over: a day's limit
    holds back what a week's would have to bear. That goes on to the end of the campaign's next month, and to the next
    run in any case; a limit of 0 ends it.

    Args:
        due: when runs are due after an instant, in order; without end, it may be.
        since: after which instant the campaign runs.
        zone: the timezone of the campaign's windows.
        account_zone: that of the account's.
    """
    zones = {Scope.CAMPAIGN: zone, Scope.ACCOUNT: account_zone}
    paces = [
        _Pace(limit, zones[limit.scope], limit.window.period, limit.window.end, limit.spent + limit.reserved)
        for limit in status.all
        if limit.limit is not None and limit.window is not None
    ]
    until = window(Period.MONTHLY, window(Period.MONTHLY, status.at, zone).end, zone).end
    found: dict[int, Exhaustion] = {}
    times = iter(due(since))
    for number in range(1, MAX_RUNS_AHEAD + 1):
        at = next(times, None)
        if at is None or len(found) == len(paces) or (at > until and number > 1):
            break
        stopping = [index for index, pace in enumerate(paces) if pace.stops(at, cost)]
        for index in stopping:
            found.setdefault(index, Exhaustion(limit=paces[index].limit, at=at, run=number))
        if not stopping:
            for pace in paces:
                pace.used += cost
        elif all(paces[index].limit.limit for index in stopping):
            times = iter(due(max(paces[index].ends_at for index in stopping) - timedelta.resolution))
        else:
            break
    return list(found.values())


def runs_left(status: BudgetStatus, cost: Decimal) -> int | None:
    """Return for how many runs the money lasts that is left now; None without a limit, or when runs cost nothing."""
    left = [limit.left for limit in status.all if limit.left is not None]
    return int(min(left) / cost) if left and cost > 0 else None
