"""How commands print: plain tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from prefect_campaigns.blocks.store_types import PausedBy, RunBrief
from prefect_campaigns.deployments.driving.standing import Standing
from prefect_campaigns.models import Recipients
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunReport, RunStatus

STANDING_STYLES = {Standing.ACTIVE: "green", Standing.NOT_ENABLED: "dim", Standing.STOPPED: "red"}
"""How it is shown how a campaign stands; anything else is yellow."""

PAUSERS = {PausedBy.BUDGET: "the budget", PausedBy.PERSON: "a person", PausedBy.STOP: "the emergency stop"}
"""Who has paused a campaign, in words that follow ``paused by``."""

RUN_STYLES = {
    RunStatus.COMPLETED: "green",
    RunStatus.PARTIAL: "yellow",
    RunStatus.FAILED: "red",
    RunStatus.ABORTED: "yellow",
    RunStatus.RUNNING: "cyan",
}

_OUTCOMES = {
    RunStatus.COMPLETED: ("✓", "green"),
    RunStatus.PARTIAL: ("!", "yellow"),
    RunStatus.FAILED: ("✗", "red"),
    RunStatus.ABORTED: ("-", "yellow"),
    RunStatus.RUNNING: ("▶", "cyan"),
}

_LEVELS = "▁▂▃▄▅▆▇█"

SHOWN_ID = 8
"""How much of a run's id is shown, and is enough to name the run by."""


class PlainTable(Table):
    """A table whose lines end where their text does, and not in blanks; it has no title."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Render it."""
        for line in Segment.split_lines(cast(Iterable[Segment], super().__rich_console__(console, options))):
            yield from _without_blanks_at_its_end(line)
            yield Segment.line()


def _without_blanks_at_its_end(line: list[Segment]) -> list[Segment]:
    for end in range(len(line), 0, -1):
        if text := line[end - 1].text.rstrip():
            return [*line[: end - 1], line[end - 1]._replace(text=text)]
    return []


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """Return a table without lines; the columns that ``right`` names hold numbers."""
    table = PlainTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of a ``Listing``.

    Attributes:
        beneath: what its last columns say, in a sentence.
    """

    cells: Sequence[str]
    beneath: str
    style: StyleType = ""


class Listing:
    """A table of which only the first columns are shown where not all fit; what the others say stands beneath them."""

    def __init__(self, *columns: str, first: int, entries: Sequence[Entry]) -> None:
        self._columns = columns
        self._first = first
        self._entries = entries

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Render it as a table where that fits, else in two lines an entry."""
        table = plain_table(*self._columns)
        for entry in self._entries:
            table.add_row(*map(Text, entry.cells), style=entry.style)
        fits = Measurement.get(console, options, table).maximum < options.max_width
        yield from (table,) if fits else self._folded()

    def _folded(self) -> Iterator[RenderableType]:
        rows = [row[: self._first] for row in (self._columns, *(entry.cells for entry in self._entries))]
        widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
        header, *lines = ("  ".join(map(set_cell_size, row, widths)).rstrip() for row in rows)
        yield Text(header, style="bold")
        for line, entry in zip(lines, self._entries, strict=True):
            yield Text(line, style=entry.style, overflow="fold")
            yield Padding(Text(entry.beneath, style="dim", overflow="fold"), (0, 0, 0, 2), expand=False)


def runs_table(runs: Sequence[RunReport]) -> Table:
    """Return runs as a table."""
    numbers = ("Steps", "Cost (USD)")
    table = plain_table("Started (UTC)", "Run", "State", *numbers, right=numbers)
    for run in runs:
        table.add_row(
            f"{run.started_at:%Y-%m-%d %H:%M}",
            run.run_name,
            f"[{RUN_STYLES[run.status]}]{run.state_name or run.status}[/]",
            f"{run.steps_completed}/{len(run.steps)}",
            format_money(run.total_cost),
        )
    return table


def strip(runs: Sequence[RunBrief | RunReport]) -> Text:
    """Return the outcomes of runs, which come newest first, as signs, the newest last: ``✓✓✗✓▶``."""
    return Text.assemble(*(_OUTCOMES[run.status] for run in reversed(runs)))


def sparkline(values: Sequence[Decimal]) -> str:
    """Return amounts as a row of columns, the largest as high as a line: ``▁▃█ ▂``; nothing is a blank."""
    most = max(values, default=Decimal(0))
    if most <= 0:
        return " " * len(values)
    last = len(_LEVELS) - 1
    return "".join(_LEVELS[min(int(value / most * last + Decimal("0.5")), last)] if value else " " for value in values)


def recipient_names(recipients: Recipients | None) -> list[str]:
    """Return who is told, with the block of a Slack channel and not its address."""
    if recipients is None:
        return []
    return [*recipients.email, *([recipients.slack] if recipients.slack else [])]
