"""Instants and spans of time as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from prefect_campaigns.instants import duration, local_time, time_until

NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)
"""A Wednesday; eight in the morning in New York."""

NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (timedelta(0), "now"),
        (timedelta(seconds=-90), "now"),
        (timedelta(seconds=10), "in 1 min"),
        (timedelta(minutes=59, seconds=40), "in 1 h"),
        (timedelta(hours=5), "in 5 h"),
        (timedelta(hours=1, minutes=20), "in 1 h 20 min"),
        (timedelta(hours=15, minutes=50), "in 16 h"),
        (timedelta(days=3, hours=4, minutes=10), "in 3 d 4 h"),
        (timedelta(days=8), "in 8 d"),
    ],
)
def test_how_far_off_an_instant_is(ahead: timedelta, expected: str) -> None:
    assert time_until(NOON + ahead, now=NOON) == expected


def test_an_instant_is_told_by_local_clocks_with_its_year_when_that_is_another() -> None:
    assert local_time(NOON, NEW_YORK, now=NOON) == "Wed 13 May 08:00"
    new_year = datetime(2027, 1, 1, 2, tzinfo=UTC)
    assert local_time(new_year, UTC, now=NOON) == "Fri 1 Jan 2027 02:00"
    assert local_time(new_year, NEW_YORK, now=NOON) == "Thu 31 Dec 21:00"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (3599.6, "1 h"),
        (7800, "2 h 10 min"),
        (86_400, "24 h"),
    ],
)
def test_how_long_something_took(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected
