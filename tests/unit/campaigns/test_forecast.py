"""What the next runs will likely cost, when they are due, and when a limit will be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import dropwhile, islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.server.schemas.schedules import CronSchedule

from prefect_campaigns.budget import BudgetStatus, LimitStatus, Period, Scope, windows
from prefect_campaigns.forecast import (
    begins_at,
    due_from,
    due_times,
    exhaustions,
    fire_times,
    kept_by,
    likely_cost,
    runs_left,
)
from prefect_campaigns.models import Campaign, Schedule
from prefect_campaigns.results import RunReport, RunStatus

NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)
"""A Wednesday."""

NEW_YORK, HAVANA = "America/New_York", "America/Havana"


def run(cost: str, status: RunStatus = RunStatus.COMPLETED) -> RunReport:
    return RunReport(
        run_id="r",
        run_name="azure-fox",
        campaign_key="spring",
        campaign_name="Spring",
        status=status,
        started_at=NOON,
        total_cost=Decimal(cost),
    )


def campaign(*estimates: str | None) -> Campaign:
    return Campaign.model_validate(
        {
            "name": "Spring",
            "steps": [
                {"name": f"s{n}", "engine": "any", "endpoint": "http://localhost:9/x", "estimatedCost": estimate}
                for n, estimate in enumerate(estimates or (None,))
            ],
        }
    )


# Of likely_cost: the costs of the last runs, newest first; what the next will cost, and of how many runs that is made.
LIKELY = [
    # One is all there is to go by.
    (["0.5"], "0.5", 1),
    # The one in the middle; an outlier changes nothing.
    (["0.10", "9.00", "0.20"], "0.20", 3),
    # Of two in the middle their mean, rounded up to a millionth.
    (["0.10", "0.20"], "0.15", 2),
    (["0.000001", "0.000002"], "0.000002", 2),
    # The last five, and not those before.
    (["1", "1", "1", "2", "2", "100", "100", "100", "100"], "1", 5),
    # Runs that cost nothing say nothing: they were skipped, or failed at their first request.
    (["0", "0", "0", "0", "0", "0.3"], "0.3", 1),
]


@pytest.mark.parametrize(("costs", "expected", "of_runs"), LIKELY)
def test_the_likely_cost_is_the_median_of_the_last_five_that_cost_something(
    costs: list[str], expected: str, of_runs: int
) -> None:
    likely = likely_cost(campaign("7"), [run(cost) for cost in costs])
    assert likely is not None
    assert (likely.amount, likely.runs) == (Decimal(expected), of_runs)
    assert likely.lowest <= likely.amount <= likely.highest


def test_a_run_that_goes_on_has_not_said_what_it_costs() -> None:
    likely = likely_cost(campaign(), [run("0.9", RunStatus.RUNNING), run("0.2", RunStatus.FAILED)])
    assert likely is not None and likely.amount == Decimal("0.2")


def test_before_any_run_the_estimates_of_the_steps_are_all_there_is() -> None:
    likely = likely_cost(campaign("0.10", None, "0.025"), [run("0")])
    assert likely is not None
    assert (likely.amount, likely.runs) == (Decimal("0.125"), 0)
    assert likely_cost(campaign(None), []) is None


def local(times: Iterator[datetime], zone: str, number: int) -> list[str]:
    return [f"{time.astimezone(ZoneInfo(zone)):%a %d %b %H:%M %z}" for time in islice(times, number)]


# Of fire_times: cron, timezone, after when (UTC), and what the local clocks show.
FIRES = [
    # At nine in New York, on both sides of the change to summer time.
    ("0 9 * * SAT,MON", NEW_YORK, "2026-03-07T12:00", ["Sat 07 Mar 09:00 -0500", "Mon 09 Mar 09:00 -0400"]),
    # A time that is skipped comes an hour early, as Prefect has it.
    ("30 2 * * *", NEW_YORK, "2026-03-08T05:00", ["Sun 08 Mar 01:30 -0500", "Mon 09 Mar 02:30 -0400"]),
    # Of a time that comes twice, the first.
    ("30 1 * * *", NEW_YORK, "2026-11-01T04:00", ["Sun 01 Nov 01:30 -0400", "Mon 02 Nov 01:30 -0500"]),
    # Every hour that passes, the one that comes again too.
    ("0 * * * *", NEW_YORK, "2026-11-01T04:30", ["Sun 01 Nov 01:00 -0400", "Sun 01 Nov 01:00 -0500"]),
    ("0 * * * *", NEW_YORK, "2026-03-08T05:30", ["Sun 08 Mar 01:00 -0500", "Sun 08 Mar 03:00 -0400"]),
    # Hours that are named, or of days that are: but for the one that comes again.
    ("0 0-9 * * *", NEW_YORK, "2026-11-01T04:30", ["Sun 01 Nov 01:00 -0400", "Sun 01 Nov 02:00 -0500"]),
    ("0 * * * SUN", NEW_YORK, "2026-11-01T04:30", ["Sun 01 Nov 01:00 -0400", "Sun 01 Nov 02:00 -0500"]),
    # Asked within the hour that comes again: what the wall clock shows has been.
    ("*/30 0-9 * * *", NEW_YORK, "2026-11-01T06:05", ["Sun 01 Nov 02:00 -0500", "Sun 01 Nov 02:30 -0500"]),
    # A midnight that is skipped: when its day begins, whenever that is asked.
    ("0 0 * * *", HAVANA, "2026-03-07T06:00", ["Sun 08 Mar 01:00 -0400", "Mon 09 Mar 00:00 -0400"]),
    ("30 0 * * *", HAVANA, "2026-03-08T04:45", ["Sun 08 Mar 01:00 -0400", "Mon 09 Mar 00:30 -0400"]),
    # It falls together with the run of one o'clock, and does not with that of half past eleven.
    ("0 0,1 * * *", HAVANA, "2026-03-07T07:00", ["Sun 08 Mar 01:00 -0400", "Mon 09 Mar 00:00 -0400"]),
    ("30 0,23 * * *", HAVANA, "2026-03-07T07:00", ["Sat 07 Mar 23:30 -0500", "Sun 08 Mar 23:30 -0400"]),
    # A midnight that comes twice: at the first.
    ("0 0 * * *", HAVANA, "2026-10-31T06:00", ["Sun 01 Nov 00:00 -0400", "Mon 02 Nov 00:00 -0500"]),
    # The very moment is not after it.
    ("0 9 * * *", "UTC", "2026-05-13T09:00", ["Thu 14 May 09:00 +0000"]),
    # An alias.
    ("@monthly", "UTC", "2026-05-13T09:00", ["Mon 01 Jun 00:00 +0000", "Wed 01 Jul 00:00 +0000"]),
    # A day that is not in every year.
    ("0 0 29 2 *", "UTC", "2026-05-13T09:00", ["Tue 29 Feb 00:00 +0000"]),
]


@pytest.mark.parametrize(("cron", "zone", "after", "expected"), FIRES)
def test_runs_are_due_when_local_clocks_show_it(cron: str, zone: str, after: str, expected: list[str]) -> None:
    since = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert local(fire_times(Schedule(cron=cron, timezone=zone), after=since), zone, len(expected)) == expected


ZONES = [NEW_YORK, "Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Cairo", "UTC"]
CRONS = ["0 * * * *", "*/30 * * * *", "30 2 * * *", "0 9 * * MON", "15 1,2,3 * * *", "@daily", "*/7 0-4 * * *"]
CLOCK_CHANGES = ["2026-03-08", "2026-11-01", "2026-03-29", "2026-10-25", "2026-04-05", "2026-10-04", "2026-04-24"]


@settings(max_examples=100, deadline=None)
@given(
    cron=st.sampled_from(CRONS),
    zone=st.sampled_from(ZONES),
    day=st.sampled_from(CLOCK_CHANGES),
    minutes=st.integers(-2000, 2000),
    microseconds=st.sampled_from([0, 500, 999_999, 30_000_000]),
)
async def test_prefect_makes_them_when_they_are_due(
    cron: str, zone: str, day: str, minutes: int, microseconds: int
) -> None:
    after = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(minutes=minutes, microseconds=microseconds)
    schedule = Schedule(cron=cron, timezone=zone)
    kept_cron, kept_zone = kept_by(schedule)
    theirs = await CronSchedule(cron=kept_cron, timezone=kept_zone).get_dates(n=10, start=after)
    # Prefect gives some that are past, within an hour that comes again.
    expected = sorted({datetime.fromtimestamp(time.timestamp(), UTC) for time in theirs if time > after})
    assert list(islice(due_times(schedule, after=after), len(expected))) == expected
    begin = sorted({begins_at(schedule, due) for due in expected})
    assert list(islice(fire_times(schedule, after=min(begin) - timedelta.resolution), len(begin))) == begin
    for at in begin:
        assert due_from(schedule, at) in (at, *expected)


# Of kept_by: cron, timezone, and by which timezone Prefect keeps it.
KEPT = [
    ("0 * * * *", NEW_YORK, "UTC"),
    ("*/5 * * * *", "Europe/Berlin", "UTC"),
    ("@hourly", "Africa/Casablanca", "UTC"),
    # Hours, days or months are named.
    ("0 9 * * *", NEW_YORK, NEW_YORK),
    ("0 */2 * * *", NEW_YORK, NEW_YORK),
    ("0 * * * MON-FRI", NEW_YORK, NEW_YORK),
    ("0 * 1 * *", NEW_YORK, NEW_YORK),
    ("@daily", NEW_YORK, NEW_YORK),
    # Clocks show other minutes than those of UTC, all year or half of it.
    ("0 * * * *", "Asia/Kolkata", "Asia/Kolkata"),
    ("0 * * * *", "Australia/Lord_Howe", "Australia/Lord_Howe"),
]


@pytest.mark.parametrize(("cron", "zone", "kept"), KEPT)
def test_a_cron_of_every_hour_is_kept_by_utc(cron: str, zone: str, kept: str) -> None:
    assert kept_by(Schedule(cron=cron, timezone=zone)) == (cron, kept)


# Of begins_at: cron, timezone, when the run is due, and when it begins.
BEGINNINGS = [
    ("0 0 * * *", HAVANA, "2026-03-08T04:00", "2026-03-08T05:00"),
    ("30 0 * * *", "Africa/Cairo", "2026-04-23T21:30", "2026-04-23T22:00"),
    ("0 0 * * *", "Asia/Beirut", "2026-03-28T21:00", "2026-03-28T22:00"),
    # It is half past eleven that is meant, and that is there.
    ("30 0,23 * * *", HAVANA, "2026-03-08T04:30", "2026-03-08T04:30"),
    # On any other day; and skipped, but on the same day.
    ("0 0 * * *", HAVANA, "2026-03-09T04:00", "2026-03-09T04:00"),
    ("30 2 * * *", NEW_YORK, "2026-03-08T06:30", "2026-03-08T06:30"),
]


@pytest.mark.parametrize(("cron", "zone", "due", "begins"), BEGINNINGS)
def test_a_run_begins_no_earlier_than_its_day(cron: str, zone: str, due: str, begins: str) -> None:
    schedule = Schedule(cron=cron, timezone=zone)
    at, wanted = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (due, begins))
    assert begins_at(schedule, at) == wanted
    # Whoever wants the runs from then on asks Prefect for those since.
    assert due_from(schedule, wanted) == at


def test_a_run_of_which_the_schedule_knows_nothing_begins_when_it_is_due() -> None:
    due = datetime(2026, 3, 8, 4, 12, tzinfo=UTC)
    assert begins_at(Schedule(cron="0 0 * * *", timezone=HAVANA), due) == due


def test_an_instant_without_a_timezone_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a timezone"):
        next(fire_times(Schedule(cron="0 9 * * *"), after=datetime(2026, 5, 13)))


def status(
    *, spent: str = "0", reserved: str = "0", account: dict[str, str] | None = None, **limits: str
) -> BudgetStatus:
    """Return limits at noon, all of which have as much spent and reserved."""

    def of(scope: Scope, given: dict[str, str]) -> tuple[LimitStatus, ...]:
        return tuple(
            LimitStatus(
                scope=scope,
                window=window,
                limit=Decimal(given[window.period]) if window.period in given else None,
                spent=Decimal(spent),
                reserved=Decimal(reserved),
            )
            for window in windows(NOON, UTC)
        )

    return BudgetStatus(at=NOON, limits=of(Scope.CAMPAIGN, limits), account=of(Scope.ACCOUNT, account or {}))


def at(*instants: datetime) -> Callable[[datetime], Iterator[datetime]]:
    return lambda after: dropwhile(lambda instant: instant <= after, instants)


def by(cron: str) -> Callable[[datetime], Iterator[datetime]]:
    return lambda after: fire_times(Schedule(cron=cron), after=after)


daily_at_nine, hourly, minutely = by("0 9 * * *"), by("0 * * * *"), by("* * * * *")


def reached(now: BudgetStatus, due: Callable[[datetime], Iterator[datetime]], cost: str) -> dict[str, tuple[str, int]]:
    found = exhaustions(now, due, Decimal(cost), since=NOON, zone=UTC, account_zone=UTC)
    return {one.limit.name: (f"{one.at:%d %b %H:%M}", one.run) for one in found}


# Of exhaustions: the status, when runs are due, what each costs, and which limits are reached when, by which run.
REACHED: list[tuple[dict[str, Any], Any, str, dict[str, tuple[str, int]]]] = [
    # There is no limit.
    ({}, daily_at_nine, "1", {}),
    # Each day begins anew: one run a day never gets there.
    ({"daily": "1.50", "spent": "1.40"}, daily_at_nine, "1", {}),
    # The next run alone is too much for any day.
    ({"daily": "0.50"}, daily_at_nine, "1", {"daily": ("14 May 09:00", 1)}),
    # Within this very day: 13:00, 14:00, 15:00.
    ({"daily": "3", "spent": "1"}, hourly, "1", {"daily": ("13 May 15:00", 3)}),
    # What is reserved counts.
    ({"daily": "3", "spent": "1", "reserved": "1"}, hourly, "1", {"daily": ("13 May 14:00", 2)}),
    # Up to the limit is not past it; the run after that may not start.
    ({"weekly": "2"}, daily_at_nine, "1", {"weekly": ("16 May 09:00", 3)}),
    # The week ends before it gets there, and the next one is whole: the fifth run from Sunday on.
    ({"weekly": "4"}, daily_at_nine, "1", {"weekly": ("21 May 09:00", 8)}),
    # A week's limit that lasts for every week, and a month's that does not last for this one.
    ({"weekly": "7", "monthly": "10"}, daily_at_nine, "1", {"monthly": ("24 May 09:00", 11)}),
    # Not this month, and then the next.
    ({"monthly": "29"}, daily_at_nine, "1", {"monthly": ("30 Jun 09:00", 48)}),
    ({"monthly": "30"}, daily_at_nine, "1", {}),
    # What a day's limit stops is not spent: no week gets there.
    ({"daily": "0.5", "weekly": "2"}, daily_at_nine, "1", {"daily": ("14 May 09:00", 1)}),
    # Three a day, from midnight on, and the one that is stopped: the week has three days for its seven.
    ({"daily": "3", "weekly": "7"}, hourly, "1", {"daily": ("13 May 16:00", 4), "weekly": ("15 May 01:00", 10)}),
    # Nothing runs before the longer of two is over.
    (
        {"daily": "2", "weekly": "2", "monthly": "4"},
        hourly,
        "1",
        {"daily": ("13 May 15:00", 3), "weekly": ("13 May 15:00", 3), "monthly": ("17 May 02:00", 6)},
    ),
    # The account's limit holds it back as its own does.
    (
        {"weekly": "4", "account": {"daily": "3"}},
        hourly,
        "1",
        {"account daily": ("13 May 16:00", 4), "weekly": ("14 May 01:00", 6)},
    ),
    # However many runs a day's limit holds back: two a day, and the second month is the longer one.
    (
        {"daily": "0.05", "monthly": "1"},
        minutely,
        "0.024",
        {"daily": ("13 May 12:03", 3), "monthly": ("21 Jun 00:01", 119)},
    ),
    # Reached already: even a run that costs nothing may not start, this week.
    ({"weekly": "1", "spent": "1"}, daily_at_nine, "0", {"weekly": ("14 May 09:00", 1)}),
    # A limit of 0 holds for ever, and the others have nothing to hold.
    ({"daily": "0"}, daily_at_nine, "0", {"daily": ("14 May 09:00", 1)}),
    ({"daily": "0", "weekly": "2"}, daily_at_nine, "1", {"daily": ("14 May 09:00", 1)}),
    # Runs that cost nothing reach nothing.
    ({"daily": "1"}, hourly, "0", {}),
    # The account's, too.
    ({"account": {"weekly": "1"}}, daily_at_nine, "1", {"account weekly": ("15 May 09:00", 2)}),
    # A run far away is looked at all the same.
    (
        {"daily": "0.50"},
        at(datetime(2027, 2, 1, 9, tzinfo=UTC), datetime(2028, 2, 1, 9, tzinfo=UTC)),
        "1",
        {"daily": ("01 Feb 09:00", 1)},
    ),
    # Nothing is due.
    ({"daily": "0.50"}, at(), "1", {}),
]


@pytest.mark.parametrize(("given_status", "due", "cost", "expected"), REACHED)
def test_a_limit_is_reached_by_the_run_that_it_stops(
    given_status: dict[str, Any], due: Any, cost: str, expected: dict[str, tuple[str, int]]
) -> None:
    assert reached(status(**given_status), due, cost) == expected


def test_windows_end_in_the_timezone_of_their_limit() -> None:
    # Sunday begins in Kiritimati while it is Saturday morning in UTC.
    kiritimati = ZoneInfo("Pacific/Kiritimati")
    limits = [
        LimitStatus(window=window, limit=Decimal(2), spent=Decimal(0), reserved=Decimal(0), scope=scope)
        for scope, zone in ((Scope.CAMPAIGN, kiritimati), (Scope.ACCOUNT, UTC))
        for window in windows(NOON, zone)
        if window.period is Period.WEEKLY
    ]
    now = BudgetStatus(at=NOON, limits=(limits[0],), account=(limits[1],))
    due = at(*(datetime(2026, 5, day, 12, tzinfo=UTC) for day in (14, 15, 16)))
    found = exhaustions(now, due, Decimal(1), since=NOON, zone=kiritimati, account_zone=UTC)
    assert [one.limit.name for one in found] == ["account weekly"]


def test_a_campaign_that_runs_every_minute_is_looked_ahead_in_no_time() -> None:
    assert reached(status(monthly="1000000"), minutely, "0.01") == {}


@pytest.mark.parametrize(
    ("given_status", "cost", "expected"),
    [
        # The tightest limit decides; what is begun is not a whole run.
        ({"daily": "5", "weekly": "2.50"}, "1", 2),
        ({"daily": "5", "spent": "4", "reserved": "0.50"}, "1", 0),
        ({"account": {"monthly": "3"}}, "1", 3),
        # Without a limit, or at no cost, there is no end to them.
        ({}, "1", None),
        ({"daily": "5"}, "0", None),
    ],
)
def test_the_money_that_is_left_lasts_for_so_many_runs(
    given_status: dict[str, Any], cost: str, expected: int | None
) -> None:
    assert runs_left(status(**given_status), Decimal(cost)) == expected
