"""Which timezones there are, asked once.

Prefect asks for every schedule that it reads, and Python opens six hundred files each time: a quarter of what a busy
server did, and most of an apply of a thousand campaigns.
"""

from __future__ import annotations

import sys
import zoneinfo
from functools import cache

_ask = zoneinfo.available_timezones


@cache
def _remembered() -> frozenset[str]:
    return frozenset(_ask())


def remember_timezones() -> None:
    """Ask once in this process, also where Prefect is imported already; doing so again does nothing."""
    zoneinfo.available_timezones = _remembered  # type: ignore[assignment]
    # It takes the function from its module.
    if (taken := sys.modules.get("prefect.types._datetime")) is not None:
        taken.available_timezones = _remembered  # type: ignore[attr-defined]
