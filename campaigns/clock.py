"""The one source of time, so that a test can set it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Says what time it is."""

    def now(self) -> datetime:
        """Return the current instant, always aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current instant in UTC."""
        return datetime.now(UTC)


_current: ContextVar[Clock | None] = ContextVar("clock", default=None)


def set_clock() -> Clock | None:
    """Return the clock that ``using_clock`` has set here; None where it has set none."""
    return _current.get()


def current_clock() -> Clock:
    """Return the clock that is in use here: the machine's, unless ``using_clock`` has set another."""
    return set_clock() or SystemClock()


@contextmanager
def using_clock(clock: Clock) -> Iterator[None]:
    """Let all that runs in the block, and in the tasks it starts, take the time from this clock."""
    token = _current.set(clock)
    try:
        yield
    finally:
        _current.reset(token)
