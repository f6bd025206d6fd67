"""A clock that a test sets."""

from __future__ import annotations

from datetime import datetime, timedelta


class SettableClock:
    """A clock that stands still until it is told."""

    def __init__(self, now: datetime) -> None:
        self.instant = now

    def now(self) -> datetime:
        return self.instant

    def advance(self, **duration: float) -> None:
        self.instant += timedelta(**duration)
