"""How long something takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """How long something took, in milliseconds, and what it is held against within the same run."""

    name: str
    median_ms: float
    slowest_ms: float
    against: str = ""
    ratio: float | None = None


def measure(name: str, act: Callable[[], object], *, times: int) -> Figure:
    """Time an act, after one that is not counted."""
    act()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append((time.perf_counter() - began) * 1000)
    return Figure(name, statistics.median(taken), max(taken))


async def measure_async(name: str, act: Callable[[int], Awaitable[object]], *, times: int) -> Figure:
    """Time an act that is awaited, after one that is not counted; it is given its number."""
    await act(-1)
    taken = []
    for number in range(times):
        began = time.perf_counter()
        await act(number)
        taken.append((time.perf_counter() - began) * 1000)
    return Figure(name, statistics.median(taken), max(taken))


def against(figure: Figure, other: Figure) -> Figure:
    """Hold a figure against another of the same run."""
    return Figure(
        figure.name, figure.median_ms, figure.slowest_ms, other.name, round(figure.median_ms / other.median_ms, 3)
    )
