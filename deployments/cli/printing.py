"""How commands print: plain tables, and instants as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo

from rich.table import Table

from prefect_campaigns.deployments.driving.standing import Standing
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunReport, RunStatus

STANDING_STYLES = {Standing.ACTIVE: "green", Standing.NOT_ENABLED: "dim", Standing.STOPPED: "red"}
"""How it is shown how a campaign stands; anything else is yellow."""

RUN_STYLES = {
    RunStatus.COMPLETED: "green",
    RunStatus.PARTIAL: "yellow",
    RunStatus.FAILED: "red",
    RunStatus.ABORTED: "yellow",
    RunStatus.RUNNING: "cyan",
}

_MINUTE, _HOUR = 60, 3600


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """Return a table without lines; the columns that ``right`` names hold numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


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


def local_time(instant: datetime, zone: tzinfo, *, now: datetime) -> str:
    """Return an instant by the clocks of a timezone: ``Thu 14 May 00:00``; with its year when that is another one."""
    local = instant.astimezone(zone)
    year = f" {local.year}" if local.year != now.astimezone(zone).year else ""
    return f"{local:%a} {local.day} {local:%b}{year} {local:%H:%M}"


def time_until(instant: datetime, *, now: datetime) -> str:
    """Return how far off an instant is: ``in 5 h``, ``in 1 h 20 min``, ``in 3 d 4 h``, ``now``."""
    seconds = (instant - now) / timedelta(seconds=1)
    if seconds <= 0:
        return "now"
    if seconds < 10 * _HOUR:
        hours, minutes = divmod(max(round(seconds / _MINUTE), 1), 60)
        parts = (hours, "h"), (minutes, "min")
    else:
        days, hours = divmod(round(seconds / _HOUR), 24)
        parts = (days, "d"), (hours, "h")
    return f"in {' '.join(f'{count} {unit}' for count, unit in parts if count)}"


def when(instant: datetime, zone: tzinfo, *, now: datetime) -> str:
    """Return an instant and how far off it is: ``Thu 14 May 00:00, in 5 h``."""
    return f"{local_time(instant, zone, now=now)}, {time_until(instant, now=now)}"
