"""Budget windows: local days, weeks from Sunday, months, right across every change of the clocks."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_campaigns.budget import LimitStatus, Period, limits_of, window, windows
from prefect_campaigns.models import Budget

NEW_YORK = "America/New_York"


def instant(text: str) -> datetime:
    """Return an instant written in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "zone", "at", "key", "start", "end"),
    [
        # a day is local: late on the 9th in New York is the 10th in UTC
        ("daily", NEW_YORK, "2026-06-10T02:00", "daily:2026-06-09", "2026-06-09T04:00", "2026-06-10T04:00"),
        # the last and the first moment of a day
        ("daily", NEW_YORK, "2026-06-10T03:59:59", "daily:2026-06-09", "2026-06-09T04:00", "2026-06-10T04:00"),
        ("daily", NEW_YORK, "2026-06-10T04:00", "daily:2026-06-10", "2026-06-10T04:00", "2026-06-11T04:00"),
        # clocks go forward at 02:00 on 8 March: a day of 23 hours
        ("daily", NEW_YORK, "2026-03-08T12:00", "daily:2026-03-08", "2026-03-08T05:00", "2026-03-09T04:00"),
        # clocks go back at 02:00 on 1 November: a day of 25 hours
        ("daily", NEW_YORK, "2026-11-01T12:00", "daily:2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00"),
        # the second 01:30 of that day belongs to it as the first does
        ("daily", NEW_YORK, "2026-11-01T05:30", "daily:2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00"),
        ("daily", NEW_YORK, "2026-11-01T06:30", "daily:2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00"),
        # the weeks that begin with these days are an hour shorter and longer
        ("weekly", NEW_YORK, "2026-03-11T12:00", "weekly:2026-03-08", "2026-03-08T05:00", "2026-03-15T04:00"),
        ("weekly", NEW_YORK, "2026-11-04T12:00", "weekly:2026-11-01", "2026-11-01T04:00", "2026-11-08T05:00"),
        # a week begins on Sunday 00:00 and ends with Saturday
        ("weekly", NEW_YORK, "2026-06-07T03:59:59", "weekly:2026-05-31", "2026-05-31T04:00", "2026-06-07T04:00"),
        ("weekly", NEW_YORK, "2026-06-07T04:00", "weekly:2026-06-07", "2026-06-07T04:00", "2026-06-14T04:00"),
        # a week over the turn of the year
        ("weekly", "UTC", "2026-01-01T00:00", "weekly:2025-12-28", "2025-12-28T00:00", "2026-01-04T00:00"),
        # months, with both changes in them, a leap February and December
        ("monthly", NEW_YORK, "2026-03-31T12:00", "monthly:2026-03-01", "2026-03-01T05:00", "2026-04-01T04:00"),
        ("monthly", NEW_YORK, "2026-11-15T12:00", "monthly:2026-11-01", "2026-11-01T04:00", "2026-12-01T05:00"),
        ("monthly", "UTC", "2028-02-29T23:59", "monthly:2028-02-01", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("monthly", "UTC", "2026-12-31T23:59", "monthly:2026-12-01", "2026-12-01T00:00", "2027-01-01T00:00"),
        # midnight does not exist in Santiago on 6 September 2026: the day begins at 01:00
        ("daily", "America/Santiago", "2026-09-06T05:00", "daily:2026-09-06", "2026-09-06T04:00", "2026-09-07T03:00"),
        ("daily", "America/Santiago", "2026-09-06T03:59", "daily:2026-09-05", "2026-09-05T04:00", "2026-09-06T04:00"),
        # the hour before midnight comes twice there on 4 April: a day of 25 hours
        ("daily", "America/Santiago", "2026-04-05T03:30", "daily:2026-04-04", "2026-04-04T03:00", "2026-04-05T04:00"),
        # midnight comes twice in Havana on 1 November 2026: the day begins with the first
        ("daily", "America/Havana", "2026-11-01T04:30", "daily:2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00"),
        ("daily", "America/Havana", "2026-11-01T05:30", "daily:2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00"),
        # midnight does not exist in Havana on 8 March
        ("daily", "America/Havana", "2026-03-08T05:00", "daily:2026-03-08", "2026-03-08T05:00", "2026-03-09T04:00"),
        # Beirut's clocks go forward at midnight, on a Sunday: a week begins at 01:00
        ("weekly", "Asia/Beirut", "2026-03-30T12:00", "weekly:2026-03-29", "2026-03-28T22:00", "2026-04-04T21:00"),
        # half hours, and a change of half an hour
        ("daily", "Asia/Kolkata", "2026-06-09T18:30", "daily:2026-06-10", "2026-06-09T18:30", "2026-06-10T18:30"),
        (
            "daily",
            "Australia/Lord_Howe",
            "2026-10-03T14:00",
            "daily:2026-10-04",
            "2026-10-03T13:30",
            "2026-10-04T13:00",
        ),
        # Samoa left out 30 December 2011: the 29th ends where the 31st begins
        ("daily", "Pacific/Apia", "2011-12-30T09:00", "daily:2011-12-29", "2011-12-29T10:00", "2011-12-30T10:00"),
        ("daily", "Pacific/Apia", "2011-12-30T10:00", "daily:2011-12-31", "2011-12-30T10:00", "2011-12-31T10:00"),
    ],
)
def test_windows_begin_and_end_at_local_midnights(
    period: str, zone: str, at: str, key: str, start: str, end: str
) -> None:
    found = window(Period(period), instant(at), ZoneInfo(zone))
    assert (found.key, found.start, found.end) == (key, instant(start), instant(end))


@settings(deadline=None)
@given(
    period=st.sampled_from(list(Period)),
    at=st.datetimes(datetime(2000, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC)),
    zone=st.sampled_from(
        [NEW_YORK, "Europe/London", "America/Santiago", "America/Havana", "Asia/Beirut", "Asia/Amman", "Asia/Gaza",
         "America/Asuncion", "Africa/Cairo", "Atlantic/Azores", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Tehran"]
    ),
)  # fmt: skip
def test_every_instant_is_in_one_window_and_windows_leave_no_gap(period: Period, at: datetime, zone: str) -> None:
    here = window(period, at, ZoneInfo(zone))
    assert here.start <= at < here.end
    assert window(period, here.start, ZoneInfo(zone)) == here
    following = window(period, here.end, ZoneInfo(zone))
    assert following.start == here.end and following.key > here.key


def test_all_three_windows_of_an_instant_come_together() -> None:
    keys = [each.key for each in windows(instant("2026-06-10T12:00"), ZoneInfo("UTC"))]
    assert keys == ["daily:2026-06-10", "weekly:2026-06-07", "monthly:2026-06-01"]


def test_an_instant_without_a_timezone_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a timezone"):
        window(Period.DAILY, datetime(2026, 6, 10), ZoneInfo("UTC"))


def status(limit: str | None, spent: str, reserved: str = "0") -> LimitStatus:
    """Return a daily limit with what is spent and reserved against it."""
    return LimitStatus(
        window=window(Period.DAILY, datetime.combine(date(2026, 6, 10), datetime.min.time(), UTC), UTC),
        limit=None if limit is None else Decimal(limit),
        spent=Decimal(spent),
        reserved=Decimal(reserved),
    )


@pytest.mark.parametrize(
    ("limit", "spent", "reserved", "reached", "left"),
    [
        ("5", "4.999999", "0", False, "0.000001"),  # a millionth is left
        ("5", "5", "0", True, "0"),  # exactly the limit
        ("5", "4", "1", True, "0"),  # what is reserved counts
        ("5", "5.02", "0", True, "0"),  # passed by an engine that asked for more
        ("0", "0", "0", True, "0"),  # nothing may be spent
        (None, "1000", "0", False, None),  # no limit
    ],
)
def test_a_limit_is_reached_by_what_is_spent_and_reserved(
    limit: str | None, spent: str, reserved: str, reached: bool, left: str | None
) -> None:
    found = status(limit, spent, reserved)
    assert found.reached is reached
    assert found.left == (None if left is None else Decimal(left))


@pytest.mark.parametrize(
    ("limit", "spent", "amount", "passes"),
    [
        ("5", "4", "1", False),  # up to the limit
        ("5", "4", "1.000001", True),  # past it
        ("5", "5", "0", False),  # nothing costs nothing
        ("0", "0", "0", False),
        ("0", "0", "0.000001", True),
        (None, "9", "9", False),  # no limit
    ],
)
def test_a_reservation_may_go_up_to_a_limit_and_not_past_it(
    limit: str | None, spent: str, amount: str, passes: bool
) -> None:
    assert status(limit, spent).would_pass(Decimal(amount)) is passes


@pytest.mark.parametrize(
    ("limit", "spent", "reserved", "words"),
    [
        ("5", "5.02", "0", "budget: daily 5.00 reached, spent 5.02"),
        ("5", "4", "1", "budget: daily 5.00 reached, spent 4.00, reserved 1.00"),
        ("5", "4", "0.5", "budget: daily 5.00 would be passed, spent 4.00, reserved 0.50"),
        (None, "4", "0", "budget: no daily limit, spent 4.00"),
    ],
)
def test_a_limit_is_told_in_words(limit: str | None, spent: str, reserved: str, words: str) -> None:
    assert status(limit, spent, reserved).describe() == words


def test_absent_is_no_limit_and_zero_is_one() -> None:
    limits = dict(limits_of(Budget.model_validate({"daily": 0, "monthly": 80})))
    assert limits == {Period.DAILY: Decimal(0), Period.WEEKLY: None, Period.MONTHLY: Decimal(80)}


def test_a_window_outlasts_no_change_of_the_campaigns_timezone() -> None:
    # The key names the day and not the zone: another timezone does not make another budget.
    at = instant("2026-06-10T12:00")
    assert window(Period.DAILY, at, ZoneInfo(NEW_YORK)).key == window(Period.DAILY, at, UTC).key
    assert window(Period.DAILY, at, UTC).end - window(Period.DAILY, at, UTC).start == timedelta(days=1)
