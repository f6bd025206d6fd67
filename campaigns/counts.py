"""What an engine counted, read from its result, under the names of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_Table = Mapping[str, tuple[str, ...]]

_PROSPECTING: _Table = {
    "prospects_generated": ("found", "count", "prospectsFound", "saved"),
    "prospects_verified": ("verified",),
}
_ANALYSIS: _Table = {
    "leads_analyzed": ("analyzed", "count"),
    "grade_a": ("gradeA",),
    "grade_b": ("gradeB",),
    "grade_c": ("gradeC",),
}
_COMPOSE: _Table = {
    "emails_composed": ("composed", "count"),
    "emails_ready": ("ready",),
    "avg_quality": ("avgQuality", "averageQuality"),
}
_SEND: _Table = {
    "emails_sent": ("sent", "count"),
    "emails_failed": ("failed",),
    "emails_queued": ("queued",),
}
_TABLES: Mapping[str, _Table] = {
    "prospecting": _PROSPECTING,
    "analysis": _ANALYSIS,
    "outreach": _COMPOSE,
    "sender": _SEND,
}

COUNT_KEYS = frozenset(key for table in _TABLES.values() for keys in table.values() for key in keys)
"""Every key of a result that is a count of some engine."""


def read_counts(engine: str, sends_something: bool, result: Any) -> dict[str, float]:
    """Return what the engine counted: ``{"prospects_generated": 20.0, "prospects_verified": 16.0}``.

    A count is read at the top of the result, else under its ``results``, from the first key of its row that holds a
    count: a number, a numeric string, or a list, which counts its items. Anything else is as good as absent; this
    never raises. An engine that nobody has heard of counts nothing, unless the step sends: then what it sent counts.
    """
    table = _table(engine, sends_something)
    places = [place for place in (result, _under_results(result)) if isinstance(place, Mapping)]
    counts: dict[str, float] = {}
    for name, keys in table.items():
        found = (_count(place.get(key)) for place in places for key in keys)
        count = next((count for count in found if count is not None), None)
        if count is not None:
            counts[name] = count
    return counts


def _table(engine: str, sends_something: bool) -> _Table:
    # The outreach engine composes and sends; only the step tells which.
    if sends_something and engine not in ("prospecting", "analysis"):
        return _SEND
    return _TABLES.get(engine, {})


def _under_results(result: Any) -> Any:
    return result.get("results") if isinstance(result, Mapping) else None


def _count(value: Any) -> float | None:
    if isinstance(value, list):
        return float(len(value))
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None
