"""How long something takes."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Figure:
    """How long something took, in milliseconds, and what it is held against within the same run."""

    name: str
    median_ms: float
    slowest_ms: float
    against: str = ""
    ratio: float | None = None


class Stopwatch:
    """Times several acts in turn, so that what slows the machine down for a while slows all of them."""

    def __init__(self) -> None:
        self._taken: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Time one act."""
        began = time.perf_counter()
        yield
        self._taken[name].append((time.perf_counter() - began) * 1000)

    def figure(self, name: str, *, against: str = "") -> Figure:
        """Return how long an act took, held against another; the first time of each is not counted."""
        median, slowest = statistics.median(self._taken[name][1:]), max(self._taken[name][1:])
        if not against:
            return Figure(name, median, slowest)
        return Figure(name, median, slowest, against, round(median / statistics.median(self._taken[against][1:]), 3))


def measure(name: str, act: Callable[[], object], *, times: int) -> Figure:
    """Time an act again and again, after one that is not counted."""
    stopwatch = Stopwatch()
    for _ in range(times + 1):
        with stopwatch.time(name):
            act()
    return stopwatch.figure(name)


def against(figure: Figure, other: Figure) -> Figure:
    """Hold a figure against another of the same run."""
    return replace(figure, against=other.name, ratio=round(figure.median_ms / other.median_ms, 3))
