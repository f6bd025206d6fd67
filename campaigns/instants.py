"""Instants and spans of time as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

_MINUTE, _HOUR = 60, 3600


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


def duration(seconds: float) -> str:
    """Return how long something took: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        parts = (whole // _MINUTE, "min"), (whole % _MINUTE, "s")
    else:
        minutes = round(seconds / _MINUTE)
        parts = (minutes // 60, "h"), (minutes % 60, "min")
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
