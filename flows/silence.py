"""Noticing who is silent, by our own looks and our own clock: whatever could not be heard counts for nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import anyio


class Watch:
    """Since when each of some has been silent: what it last said has not changed.

    Args:
        seconds: how long is long enough.
        gap_seconds: how long may lie between two looks; after a longer time everybody is watched anew.
        clock: seconds that pass, however the time of day is set.
    """

    def __init__(
        self, seconds: float, *, gap_seconds: float = 60.0, clock: Callable[[], float] = anyio.current_time
    ) -> None:
        self._seconds = seconds
        self._gap_seconds = gap_seconds
        self._looked_at: float | None = None
        self._clock = clock
        self._silent: dict[Hashable, tuple[object, float]] = {}

    def look(self, said: Mapping[Any, object]) -> None:
        """Take note of what each has said last; who is not among them is forgotten."""
        now = self._clock()
        if self._looked_at is not None and now - self._looked_at > self._gap_seconds:
            # Nobody has looked: a process that stood still finds everybody silent.
            self._silent = {}
        before, self._looked_at = self._silent, now
        self._silent = {
            who: before[who] if who in before and before[who][0] == word else (word, now) for who, word in said.items()
        }

    def forget(self) -> None:
        """Begin anew: nobody could be heard."""
        self._silent = {}

    def is_silent(self, who: Hashable) -> bool:
        """Whether it has been silent for long enough."""
        return who in self._silent and self._clock() - self._silent[who][1] >= self._seconds
