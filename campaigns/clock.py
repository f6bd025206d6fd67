"""The one source of time, so that a test can set it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Uptime:
    """How long a machine has been running, by a clock that nobody sets.

    Attributes:
        boot: names when it was booted; of another boot the seconds say nothing.
    """

    boot: str
    seconds: float


class Clock(Protocol):
    """Says what time it is."""

    def now(self) -> datetime:
        """Return the current instant, always aware, in UTC."""
        ...

    def uptime(self) -> Uptime | None:
        """Return how long the machine has been running, the same to all its processes; None where nobody knows."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current instant in UTC."""
        return datetime.now(UTC)

    def uptime(self) -> Uptime | None:
        """Return how long it has been running, without the time that it slept."""
        boot = _boot()
        return None if boot is None else Uptime(boot, time.monotonic())


@cache
def _boot() -> str | None:
    """Return what Linux calls this boot of the machine, and the clock that counts from it; None on others.

    Processes of one machine may have such a clock of their own (time_namespaces(7)).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/time')}"
    except OSError:
        return None


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
