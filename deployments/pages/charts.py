"""Charts as geometry: what a template draws as SVG, in units of which a chart is 720 wide.

Each chart says in a sentence what it shows, for those who do not see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from prefect_campaigns.money import format_money

WIDTH = 720.0
HEIGHT = 160.0
_ROOM_ABOVE = 0.1
"""How much of a chart's height stays free above its largest value."""

_LEAST = 1.5
"""How high the smallest amount is drawn that is not nothing."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One column.

    Attributes:
        title: what it stands for, in words.
        is_over: whether it is above the limit.
    """

    x: float
    y: float
    width: float
    height: float
    title: str
    is_over: bool


@dataclass(frozen=True, kw_only=True)
class BarChart:
    """Columns, with a line where the limit is (None: there is none)."""

    bars: Sequence[Bar]
    limit_y: float | None
    top: str
    first: str
    last: str
    summary: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value of a line, and what it stands for, in words."""

    x: float
    y: float
    title: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """The values of one name over time; where one is missing the line is broken."""

    name: str
    points: Sequence[Point]
    path: str


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """Lines, with a line where the limit is (None: there is none)."""

    lines: Sequence[Line]
    limit_y: float | None
    top: str
    first: str
    last: str
    summary: str


def spend_chart(spent: Mapping[date, Decimal], limit: Decimal | None) -> BarChart | None:
    """Return what was spent on each day against a day's limit; None where there are no days."""
    if not spent:
        return None
    days = sorted(spent)
    top = max(*spent.values(), limit or Decimal(0), Decimal("0.000001"))
    step = WIDTH / len(days)
    bars = [_bar(place, step, day, spent[day], top, limit) for place, day in enumerate(days)]
    total, most = sum(spent.values(), Decimal(0)), max(spent.values())
    over = f"; {sum(bar.is_over for bar in bars)} days above the limit of {format_money(limit)}" if limit else ""
    return BarChart(
        bars=[bar for bar in bars if bar.height],
        limit_y=None if limit is None else _height(limit, top),
        top=format_money(top),
        first=_day(days[0]),
        last=_day(days[-1]),
        summary=(
            f"Spent from {_day(days[0])} to {_day(days[-1])}: {format_money(total)} USD,"
            f" at the most {format_money(most)} on a day{over}."
        ),
    )


def _bar(place: int, step: float, day: date, amount: Decimal, top: Decimal, limit: Decimal | None) -> Bar:
    y = _height(amount, top)
    height = max(HEIGHT - y, _LEAST) if amount else 0.0
    return Bar(
        x=round(place * step + step * 0.1, 2),
        y=round(HEIGHT - height, 2),
        width=round(step * 0.8, 2),
        height=round(height, 2),
        title=f"{_day(day)}: {format_money(amount)} USD",
        is_over=limit is not None and amount > limit,
    )


def _height(value: Decimal | float, top: Decimal | float) -> float:
    """Return the y of a value; SVG counts from above."""
    return round(HEIGHT * (1 - float(value) / (float(top) * (1 + _ROOM_ABOVE))), 2)


def _day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"


def line_chart(
    names: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Decimal | float | None]]],
    *,
    limit: Decimal | None = None,
    money: bool = False,
    what: str,
) -> LineChart | None:
    """Return one line a name over the rows, each with what it is called and a value a name; None without any value.

    Args:
        money: whether the values are amounts in US dollars.
        what: what the chart shows, in words.
    """
    known = [value for _, values in rows for value in values if value is not None]
    if not known:
        return None
    top = max(*known, limit or 0, Decimal("0.000001") if money else 1)
    step = WIDTH / max(len(rows) - 1, 1)
    lines = [
        _line(name, [(label, values[place]) for label, values in rows], step, top, money=money)
        for place, name in enumerate(names)
    ]
    return LineChart(
        lines=[line for line in lines if line.points],
        limit_y=None if limit is None else _height(limit, top),
        top=_value(top, money=money),
        first=rows[0][0],
        last=rows[-1][0],
        summary=f"{what}, from {rows[0][0]} to {rows[-1][0]}: at the most {_value(max(known), money=money)}.",
    )


def _line(
    name: str, values: Sequence[tuple[str, Decimal | float | None]], step: float, top: Decimal | float, *, money: bool
) -> Line:
    points: list[Point] = []
    path: list[str] = []
    is_broken = True
    for place, (label, value) in enumerate(values):
        if value is None:
            is_broken = True
            continue
        # A single row stands in the middle.
        x = round(place * step, 2) if len(values) > 1 else WIDTH / 2
        y = _height(value, top)
        points.append(Point(x=x, y=y, title=f"{label}, {name}: {_value(value, money=money)}"))
        path.append(f"{'M' if is_broken else 'L'}{x:g} {y:g}")
        is_broken = False
    return Line(name=name, points=points, path=" ".join(path))


def _value(value: Decimal | float, *, money: bool) -> str:
    return format_money(Decimal(value)) if money else f"{value:,.0f}"
