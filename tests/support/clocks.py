"""A clock that a test sets."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

from prefect_campaigns.clock import SystemClock, Uptime


class SettableClock:
    """A clock that stands still until it is told: that time passes, or that somebody sets it."""

    def __init__(self, now: datetime) -> None:
        self.instant = now
        self._boot = uuid4().hex
        self._set_by = timedelta()

    def now(self) -> datetime:
        return self.instant

    def uptime(self) -> Uptime:
        return Uptime(self._boot, (self.instant - self._set_by).timestamp())

    def advance(self, **duration: float) -> None:
        self.instant += timedelta(**duration)

    def step(self, **duration: float) -> None:
        """Set the clock, forward or back, while no time passes."""
        self._set_by += timedelta(**duration)
        self.instant += timedelta(**duration)


class SteppedClock(SystemClock):
    """The machine's clock as it would be had somebody set it by so much."""

    def __init__(self, by: timedelta) -> None:
        self._by = by

    def now(self) -> datetime:
        return super().now() + self._by
