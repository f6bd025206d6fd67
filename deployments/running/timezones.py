"""Which timezones there are, asked once.

Prefect asks for every schedule that it reads, and Python opens six hundred files each time: a tenth of all that a busy
server did, and most of an apply of a thousand campaigns.
"""

from __future__ import annotations

import zoneinfo
from functools import cache


def remember_timezones() -> None:
    """Ask once in this process; to be called before Prefect is imported, which takes the function from its module."""
    zoneinfo.available_timezones = cache(zoneinfo.available_timezones)
