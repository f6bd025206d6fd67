"""The tables of ``make bench`` about runs, and what is asked of their ratios."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from growth import Growth
from rich.console import Console
from rich.table import Table
from runs import CrowdCost, RunCost


@dataclass(frozen=True)
class Ratio:
    """Two figures of one run of the benchmark, and what is asked of them.

    Attributes:
        wanted: the ratio that is asked for: at most, or at least where ``is_least``.
    """

    what: str
    value: float
    against: str
    other: float
    wanted: float
    is_least: bool = False

    @property
    def ratio(self) -> float:
        """The figure as a part of the other."""
        return self.value / self.other

    @property
    def is_met(self) -> bool:
        """Whether it is as asked."""
        return self.ratio >= self.wanted if self.is_least else self.ratio <= self.wanted


def crowd_of(cost: RunCost, count: int) -> CrowdCost | None:
    """Return what so many at once cost, if that was measured."""
    return next((one for one in cost.crowds if one.count == count), None)


def ratios(ours: RunCost, process: RunCost | None, script: RunCost | None, bare: RunCost | None) -> list[Ratio]:
    """Hold the campaign worker against Prefect's process worker, the flow in a script, and bare Prefect tasks."""
    found = []
    if process is not None:
        mine, theirs = (one.crowds[0] for one in (ours, process))
        found += [
            Ratio("trigger to first request, ms", ours.median_first_ms, process.way, process.median_first_ms, 0.1),
            Ratio("worker CPU of a run, s", mine.worker_cpu, process.way, theirs.worker_cpu, 0.05),
            Ratio("runs a second", mine.runs_per_second, process.way, theirs.runs_per_second, 10, is_least=True),
        ]
        if ours.memory_mb is not None and process.memory_mb is not None:
            found.append(Ratio("memory of a run, MB", ours.memory_mb, process.way, process.memory_mb, 1 / 30))
    if script is not None:
        found += [
            Ratio("trigger to first request, ms", ours.median_first_ms, script.way, script.median_first_ms, 2),
            Ratio("first to last request, ms", ours.median_steps_ms, script.way, script.median_steps_ms, 1.1),
        ]
    if bare is not None:
        found.append(Ratio("first to last request, ms", ours.median_steps_ms, bare.way, bare.median_steps_ms, 1.3))
    return found


def peer_ratios(ours: RunCost | None, n8n: RunCost | None) -> list[Ratio]:
    """Hold the campaign worker against n8n, by as many runs at once as both have been asked for."""
    if ours is None or n8n is None:
        return []
    mine, theirs = ours.crowds[-1], n8n.crowds[-1]
    what = f"runs a second, {mine.count} at once"
    return [Ratio(what, mine.runs_per_second, n8n.way, theirs.runs_per_second, 1 / 3, is_least=True)]


def growth_ratios(grown: Sequence[Growth]) -> list[Ratio]:
    """Hold the run of each kind's largest size against that of its smallest."""
    found = []
    for kind in dict.fromkeys(one.kind for one in grown):
        smallest, *_, largest = (one for one in grown if one.kind == kind)
        few, many = f"{smallest.count:,} {kind}", f"{largest.count:,} {kind}"
        found += [
            Ratio(f"CPU of a run with {many}, s", largest.cpu, few, smallest.cpu, 1.2),
            Ratio(f"worker CPU of a run with {many}, s", largest.worker_cpu, few, smallest.worker_cpu, 1.2),
            Ratio(f"seconds a run with {many}", 1 / largest.runs_per_second, few, 1 / smallest.runs_per_second, 1.2),
        ]
    return found


def show_runs(console: Console, costs: Iterable[RunCost]) -> None:
    """Print what runs cost, a line for each way."""
    table = Table(title="One run of four requests, and many at once")
    for column in ("way", "to first request (ms)", "first to last (ms)", "at once", "runs/s", "CPU, worker (s)"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for column in ("CPU, server (s)", "memory (MB)"):
        table.add_column(column, justify="right")
    for cost in costs:
        for place, crowd in enumerate(cost.crowds or [None]):
            table.add_row(
                "" if place else cost.way,
                "" if place else spread(cost.first_ms),
                "" if place else spread(cost.steps_ms),
                *(
                    ("",) * 4
                    if crowd is None
                    else (
                        str(crowd.count),
                        f"{crowd.runs_per_second:.2f}",
                        f"{crowd.worker_cpu:.3f}",
                        f"{crowd.server_cpu:.3f}",
                    )
                ),
                "" if place or cost.memory_mb is None else f"{cost.memory_mb:.2f}",
            )
    console.print(table)


def show_growth(console: Console, grown: Iterable[Growth]) -> None:
    """Print what a run costs on a server that has much."""
    table = Table(title="A run on a server that has much")
    columns = ("with", "to first request (ms)", "runs/s", "CPU, worker (s)", "CPU, server (s)")
    for column in (*columns, "for a look (s)", "idle (cores)"):
        table.add_column(column, justify="left" if column == "with" else "right")
    for one in grown:
        table.add_row(
            f"{one.count:,} {one.kind}",
            f"{one.first_ms:.0f}",
            f"{one.runs_per_second:.2f}",
            f"{one.worker_cpu:.3f}",
            f"{one.server_cpu:.3f}",
            f"{one.look_cpu:.3f}",
            f"{one.idle_cpu:.2f}",
        )
    console.print(table)


def show_ratios(console: Console, found: Iterable[Ratio]) -> None:
    """Print ratios, and what is asked of them."""
    table = Table(title="Side by side")
    for column in ("what", "ours", "against", "theirs", "ratio", "wanted", ""):
        table.add_column(column, justify="left" if column in ("what", "against", "") else "right")
    for one in found:
        wanted = f"{'≥' if one.is_least else '≤'} {one.wanted:.3g}"
        mark = "[green]met[/]" if one.is_met else "[red]missed[/]"
        figures = f"{one.value:.3g}", one.against, f"{one.other:.3g}", f"{one.ratio:.3g}"
        table.add_row(one.what, *figures, wanted, mark)
    console.print(table)


def spread(values: Sequence[float]) -> str:
    """Return the median of figures, the least and the largest."""
    if not values:
        return ""
    return f"{median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def as_line(kind: str, one: Any) -> dict[str, Any]:
    """Return a figure as a line of JSON has it."""
    derived = {"ratio": one.ratio, "is_met": one.is_met} if isinstance(one, Ratio) else {}
    return {"kind": kind, **asdict(one), **derived}
