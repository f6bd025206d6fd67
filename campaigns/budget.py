"""Budget windows: which day, week and month an instant falls into, and what a limit says about it.

A window is a key, not a counter that somebody resets: at local midnight the key changes, and a new key starts at
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum

from prefect_campaigns.models import Budget
from prefect_campaigns.money import format_money


class Period(StrEnum):
    """How long a limit holds before it starts anew."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


@dataclass(frozen=True, kw_only=True)
class Window:
    """One day, week or month in a campaign's timezone.

    Attributes:
        key: names the window in the books, by its first local day: ``weekly:2026-03-08``. It carries no timezone,
            so that changing a campaign's timezone does not hand it a fresh budget.
        start, end: the instants (UTC) at which it begins and at which the next one begins.
    """

    period: Period
    key: str
    start: datetime
    end: datetime


def _first_days(period: Period, day: date) -> tuple[date, date]:
    """Return the first day of the period that ``day`` is in, and the first day of the next."""
    if period is Period.DAILY:
        return day, day + timedelta(days=1)
    if period is Period.WEEKLY:
        sunday = day - timedelta(days=(day.weekday() + 1) % 7)
        return sunday, sunday + timedelta(days=7)
    first = day.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


def _local_midnight(day: date, zone: tzinfo) -> datetime:
    """Return the first instant of a local day.

    Where clocks go forward at midnight the day begins at 01:00; where they go back over midnight it begins at the
    first of the two midnights (PEP 495, fold=0).
    """
    naive = datetime(day.year, day.month, day.day)
    instant = naive.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if instant.astimezone(zone).date() < day:
        # Midnight does not exist: the local time jumped over it, and fold=0 reads it with the offset before.
        instant = naive.replace(tzinfo=zone, fold=1).astimezone(UTC)
        while instant.astimezone(zone).date() < day:
            instant += timedelta(minutes=15)
    return instant


def window_key(period: Period, day: date) -> str:
    """Return the key of the window that a local day falls into: ``weekly:2026-03-08``."""
    return f"{period}:{_first_days(period, day)[0].isoformat()}"


def window(period: Period, at: datetime, zone: tzinfo) -> Window:
    """Return the window of ``period`` that the instant falls into, in the given timezone.

    Raises:
        ValueError: ``at`` is naive.
    """
    if at.tzinfo is None:
        raise ValueError("an instant needs a timezone")
    return window_from(period, at.astimezone(zone).date(), zone)


def window_from(period: Period, day: date, zone: tzinfo) -> Window:
    """Return the window of ``period`` that a local day falls into; its first day will do."""
    first, following = _first_days(period, day)
    return Window(
        period=period,
        key=window_key(period, first),
        start=_local_midnight(first, zone),
        end=_local_midnight(following, zone),
    )


def windows(at: datetime, zone: tzinfo) -> tuple[Window, Window, Window]:
    """Return the day, the week (from Sunday) and the month that the instant falls into."""
    return (
        window(Period.DAILY, at, zone),
        window(Period.WEEKLY, at, zone),
        window(Period.MONTHLY, at, zone),
    )


class Scope(StrEnum):
    """What a limit is a limit of."""

    CAMPAIGN = "campaign"
    ACCOUNT = "account"
    RUN = "run"


@dataclass(frozen=True, kw_only=True)
class LimitStatus:
    """What is spent and reserved against one limit (None: there is none), in US dollars.

    Attributes:
        window: None for the limit of a run (``perRun``), which no new day ends.
    """

    scope: Scope = Scope.CAMPAIGN
    window: Window | None
    limit: Decimal | None
    spent: Decimal
    reserved: Decimal

    @property
    def name(self) -> str:
        """What the limit is called: ``daily``, ``account weekly``, ``perRun``."""
        if self.window is None:
            return "perRun"
        return f"account {self.window.period}" if self.scope is Scope.ACCOUNT else str(self.window.period)

    @property
    def left(self) -> Decimal | None:
        """What may still be reserved; None without a limit, never negative."""
        return None if self.limit is None else max(self.limit - self.spent - self.reserved, Decimal(0))

    @property
    def reached(self) -> bool:
        """Whether a run may not start."""
        return self.limit is not None and self.spent + self.reserved >= self.limit

    def would_pass(self, amount: Decimal) -> bool:
        """Whether reserving the amount would pass the limit. Nothing passes a limit by costing nothing."""
        return self.limit is not None and amount > 0 and self.spent + self.reserved + amount > self.limit

    def refuses(self, amount: Decimal | None) -> bool:
        """Whether a step may not reserve the amount; one that nobody knows (None) is refused at a reached limit."""
        return self.reached if amount is None else self.would_pass(amount)

    def describe(self) -> str:
        """Return the limit in words: ``budget: daily 5.00 reached, spent 5.02``."""
        if self.limit is None:
            return f"budget: no {self.name} limit, spent {format_money(self.spent)}"
        reserved = f", reserved {format_money(self.reserved)}" if self.reserved else ""
        verb = "reached" if self.reached else "would be passed"
        return f"budget: {self.name} {format_money(self.limit)} {verb}, spent {format_money(self.spent)}{reserved}"


def describe_limits(limits: Iterable[LimitStatus]) -> str:
    """Return the limits in words, one after the other."""
    return "; ".join(limit.describe() for limit in limits)


_PASSED = re.compile(r"budget: ([a-z ]+) ([0-9.]+) would be passed, spent ([0-9.]+)(?:, reserved ([0-9.]+))?")


def read_passed(description: str) -> dict[str, tuple[Decimal, Decimal]]:
    """Return what ``describe_limits`` has said of limits that would be passed: each by name, and how much was used."""
    return {
        name: (Decimal(limit), Decimal(spent) + Decimal(reserved or 0))
        for name, limit, spent, reserved in _PASSED.findall(description)
    }


def first_moment_without(limits: Iterable[LimitStatus]) -> datetime | None:
    """Return when the last of these windows ends: the first moment at which none of the limits holds any more.

    None where there is no such moment: a limit of 0 holds in every window, and that of a run has none.
    """
    ends: list[datetime] = []
    for limit in limits:
        if limit.window is None or limit.limit == 0:
            return None
        ends.append(limit.window.end)
    return max(ends, default=None)


@dataclass(frozen=True, kw_only=True)
class BudgetStatus:
    """The limits that hold for a campaign, at one instant.

    Attributes:
        limits: the campaign's own day, week and month.
        account: the day, week and month of all campaigns together.
    """

    at: datetime
    limits: tuple[LimitStatus, ...]
    account: tuple[LimitStatus, ...] = ()

    @property
    def all(self) -> tuple[LimitStatus, ...]:
        """The campaign's own limits, then those of the account."""
        return (*self.limits, *self.account)

    @property
    def reached(self) -> tuple[LimitStatus, ...]:
        """The limits that keep a run from starting."""
        return tuple(limit for limit in self.all if limit.reached)


@dataclass(frozen=True, kw_only=True)
class AccountBudget:
    """What all campaigns together may spend, in US dollars, in windows of a timezone of their own."""

    daily: Decimal | None = None
    weekly: Decimal | None = None
    monthly: Decimal | None = None
    timezone: str = "UTC"


def limits_of(budget: Budget | AccountBudget) -> Iterator[tuple[Period, Decimal | None]]:
    """Yield every period with the limit for it."""
    yield Period.DAILY, budget.daily
    yield Period.WEEKLY, budget.weekly
    yield Period.MONTHLY, budget.monthly


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A share of a limit that has been spent; people are told of it once.

    Attributes:
        threshold: the share, above 0 and up to 1.
    """

    limit: LimitStatus
    threshold: Decimal

    @property
    def key(self) -> str:
        """Names it among the campaign's alerts, for ever: ``campaign daily:2026-05-13 0.8``."""
        window = self.limit.window.key if self.limit.window else ""
        return f"{self.limit.scope} {window} {self.threshold.normalize():f}"


def alerts_due(status: BudgetStatus, thresholds: Sequence[Decimal]) -> tuple[Alert, ...]:
    """Return the shares that what is spent has come up to, limit by limit, the smallest share first."""
    return tuple(
        Alert(limit=limit, threshold=threshold)
        for limit in status.all
        if limit.limit
        for threshold in sorted(thresholds)
        if limit.spent >= limit.limit * threshold
    )
