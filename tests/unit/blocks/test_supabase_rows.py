"""What people find in the tables of a Supabase project, beside what the store's acts return."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import pytest
from store_cases import (
    KEY,
    NOON,
    RUN_1,
    SettableClock,
    make_campaign,
    make_report,
    make_step,
    reserve,
    send,
    spend,
    take_lease,
)
from supabase_rig import Project

from prefect_campaigns.blocks.store_types import Lease, Pause, PausedBy
from prefect_campaigns.blocks.supabase import values
from prefect_campaigns.blocks.supabase.store import SupabaseStore
from prefect_campaigns.budget import Period, window, windows
from prefect_campaigns.errors import StoreError
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunStatus, StepStatus


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def store(clean_supabase: Project, clock: SettableClock) -> AsyncIterator[SupabaseStore]:
    async with SupabaseStore(clean_supabase.url, clean_supabase.secret_key, clock=clock) as store:
        await store.save_campaign(make_campaign())
        yield store


@pytest.fixture
async def lease(store: SupabaseStore) -> Lease:
    return await take_lease(store)


def row(project: Project, table: str) -> dict[str, Any]:
    """Return the only row of a table."""
    ((text,),) = project.rows(f"select to_jsonb(t)::text from {table} t")  # noqa: S608
    found: dict[str, Any] = json.loads(text, parse_float=Decimal)
    return found


class TestCampaignRow:
    async def test_it_says_in_columns_what_its_config_says(self, supabase: Project, store: SupabaseStore) -> None:
        campaign = make_campaign(timezone="Asia/Tokyo").model_copy(
            update={"description": "Gäste", "metadata": {"project_id": "p-1"}}
        )
        await store.save_campaign(campaign)
        found = row(supabase, "campaigns")
        assert (found["description"], found["schedule_cron"], found["project_id"]) == ("Gäste", "0 9 * * MON", "p-1")
        assert (found["status"], found["key"], found["name"]) == ("active", KEY, "Spring Outreach")

    async def test_what_the_config_says_no_more_goes(self, supabase: Project, store: SupabaseStore) -> None:
        await store.save_campaign(make_campaign(timezone="Asia/Tokyo"))
        await store.save_campaign(make_campaign())
        assert row(supabase, "campaigns")["schedule_cron"] is None

    async def test_its_status_follows_the_pause(self, supabase: Project, store: SupabaseStore) -> None:
        pause = Pause(by=PausedBy.BUDGET, reason="budget: daily 5.00 reached", since=NOON, until=NOON)
        await store.set_pause(KEY, pause, replacing=None)
        assert row(supabase, "campaigns")["status"] == "paused"
        await store.save_campaign(make_campaign(daily=9))
        assert row(supabase, "campaigns")["status"] == "paused"
        await store.set_pause(KEY, None, replacing=pause)
        assert row(supabase, "campaigns")["status"] == "active"

    async def test_a_status_that_a_person_set_by_hand_is_a_persons_pause(
        self, supabase: Project, store: SupabaseStore
    ) -> None:
        supabase.sql("update campaigns set status = 'paused'")
        pause = (await store.get_campaign(KEY)).pause
        assert pause == Pause(by=PausedBy.PERSON, reason="paused by hand", since=NOON)

    async def test_it_counts_runs_and_cost(
        self, supabase: Project, store: SupabaseStore, lease: Lease, clock: SettableClock
    ) -> None:
        await store.start_run(lease, make_report())
        await store.start_run(lease, make_report())  # resumed
        await spend(store, lease, "0.000001")
        lost = await store.book_unconfirmed(lease, await send(store, lease, "3", attempt=2))
        await send(store, lease, "2", attempt=3, hold_seconds=60)
        clock.advance(minutes=5)
        await store.budget_status(KEY)
        await store.settle(lease, lost, Decimal("0.5"))
        skipped = make_report("run-2", status=RunStatus.ABORTED, started_at=NOON + timedelta(hours=1))
        await store.record_skipped_run(skipped)
        found = row(supabase, "campaigns")
        assert (found["total_runs"], found["total_cost"]) == (1, Decimal("2.500001"))
        assert datetime.fromisoformat(found["last_run_at"]) == NOON

    @pytest.mark.parametrize("kind", ["uuid", "uuid references projects", "varchar(3)"])
    async def test_a_project_that_does_not_fit_its_column_is_left_out(
        self, supabase: Project, store: SupabaseStore, kind: str
    ) -> None:
        supabase.sql("create table projects (id uuid primary key); alter table campaigns rename project_id to theirs")
        try:
            supabase.sql(f"alter table campaigns add project_id {kind}")
            for project_id in ("none of these", str(UUID(int=1)), None):
                campaign = make_campaign().model_copy(update={"metadata": {"project_id": project_id}})
                assert (await store.save_campaign(campaign)).campaign == campaign
        finally:
            supabase.sql(
                "alter table campaigns drop project_id; alter table campaigns rename theirs to project_id;"
                "drop table projects"
            )

    async def test_every_number_of_a_campaign_comes_back_as_it_went(self, store: SupabaseStore) -> None:
        params = {"big": 2**70, "small": 1e-300, "exact": 0.1, "whole": 5.0, "huge": 1e22, "not": [None, True, "ü 🎉"]}
        campaign = Campaign.model_validate(
            {
                **make_campaign("Numbers", daily="0.000001", monthly=1_000_000_000).model_dump(by_alias=True),
                "steps": [{"name": "a", "engine": "b", "endpoint": "http://x/y", "params": params}],
            }
        )
        await store.save_campaign(campaign)
        assert (await store.get_campaign("numbers")).campaign == campaign

    async def test_a_timezone_that_the_database_does_not_know_is_refused(
        self, supabase: Project, store: SupabaseStore
    ) -> None:
        campaign = make_campaign(timezone="America/New_York", daily=5)
        assert campaign.schedule
        for zone in ("Mars/Olympus", "america/new_york", "5", "PST", ""):
            # As of a machine with a newer time zone database.
            schedule = campaign.schedule.model_copy(update={"timezone": zone})
            newer = campaign.model_copy(update={"schedule": schedule})
            with pytest.raises(StoreError, match=f"database does not know the timezone '{zone}' of campaign '{KEY}'"):
                await store.save_campaign(newer)
        # And nothing is written.
        assert (await store.get_campaign(KEY)).campaign == make_campaign()
        await store.save_campaign(campaign)
        assert supabase.rows("select config #>> '{schedule,timezone}' from campaigns") == [("America/New_York",)]

    @pytest.mark.parametrize("text", ["a \x00 in it", "half a pair: \ud800"])
    async def test_a_character_that_postgresql_cannot_keep_is_told(self, store: SupabaseStore, text: str) -> None:
        campaign = make_campaign().model_copy(update={"metadata": {"note": text}})
        with pytest.raises(StoreError, match=r"'spring-outreach' holds the character U\+0000 or half of a surrogate"):
            await store.save_campaign(campaign)


class TestRunRow:
    async def test_it_sums_up_its_steps_and_what_they_cost(
        self, supabase: Project, store: SupabaseStore, lease: Lease, clock: SettableClock
    ) -> None:
        await spend(store, lease, "0.25", step="before the run was written down")
        await store.start_run(lease, make_report(trigger_type="scheduled"))
        sent = await send(store, lease, "1")
        done = make_step(status=StepStatus.COMPLETED, cost=Decimal("0.75"), counts={"prospects_generated": 20})
        await store.settle(lease, sent, Decimal("0.75"), step=done)
        await store.save_step(lease, make_step("analyze", 1, status=StepStatus.FAILED, error="HTTP 500 \x00 \ud800"))
        await store.save_step(lease, make_step("send", 2, status=StepStatus.SKIPPED))
        clock.advance(minutes=5)
        await store.finish_run(lease, make_report(status=RunStatus.PARTIAL, state_name="Partial", message="2 of 3"))
        found = row(supabase, "campaign_runs")
        assert found["id"] == found["run_id"] == RUN_1
        assert found["campaign_id"] == row(supabase, "campaigns")["id"]
        assert (found["status"], found["trigger_type"], found["state_name"]) == ("partial", "scheduled", "Partial")
        assert (found["steps_completed"], found["steps_failed"], found["total_cost"]) == (1, 1, 1)
        assert found["errors"] == [{"step": "analyze", "error": "HTTP 500 \\x00 \\ud800"}]
        assert found["results"]["find"] == {
            "status": "completed",
            "cost": Decimal("0.75"),
            "counts": {"prospects_generated": 20},
        }
        assert datetime.fromisoformat(found["completed_at"]) == clock.now()

    async def test_a_later_correction_shows(self, supabase: Project, store: SupabaseStore, lease: Lease) -> None:
        await store.start_run(lease, make_report())
        await store.book_unconfirmed(lease, await send(store, lease, "2"))
        await store.finish_run(lease, make_report(status=RunStatus.FAILED))
        await store.correct(KEY, run_id=RUN_1, step="find", attempt=1, amount=Decimal("0.1"), by="Ada", note="invoice")
        assert row(supabase, "campaign_runs")["total_cost"] == Decimal("0.1")
        assert supabase.rows('select kind, "by", note, spent::text from campaign_ledger order by id desc limit 1') == [
            ("correct", "Ada", "invoice", "-1.900000")
        ]

    async def test_deleting_a_row_by_hand_takes_what_hangs_on_it(
        self, supabase: Project, store: SupabaseStore, lease: Lease
    ) -> None:
        await store.start_run(lease, make_report(steps=(make_step(),)))
        await spend(store, lease, "1")
        supabase.sql("delete from campaigns")
        assert await store.get_run(RUN_1) is None
        assert supabase.rows("select count(*) from campaign_run_steps") == [(0,)]
        assert await store.run_cost(RUN_1) == 1


class TestClock:
    async def test_without_a_clock_all_go_by_the_databases(self, clean_supabase: Project) -> None:
        async with SupabaseStore(clean_supabase.url, clean_supabase.secret_key) as store:
            before = datetime.now(UTC)
            record = await store.save_campaign(make_campaign())
            lease = await take_lease(store, since=before)
            held = await reserve(store, lease, hold_seconds=90)
            status = await store.budget_status(KEY)
            # PostgreSQL runs on this machine, whose clock may be set meanwhile, but not by a minute.
            for instant in (record.created_at, held.reserved_at, status.at):
                assert abs(instant - before) < timedelta(minutes=1)
            assert held.expires_at - held.reserved_at == timedelta(seconds=90)


ZONES = [
    "UTC",
    "America/New_York",
    "America/Santiago",  # goes forward at midnight
    "America/Havana",  # goes forward at midnight, back over it
    "America/St_Johns",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Apia",  # skipped a whole day
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
]


def changes(zone: ZoneInfo, start: datetime, *, years: int) -> Iterator[datetime]:
    """Yield the hours of these years at whose end the zone's clocks change."""
    for number in range(years * 365):
        day = start + timedelta(days=number)
        if day.astimezone(zone).utcoffset() != (day + timedelta(days=1)).astimezone(zone).utcoffset():
            hours = [day + timedelta(hours=hour) for hour in range(25)]
            for hour, following in pairwise(hours):
                if hour.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset():
                    yield following


def instants() -> list[tuple[datetime, str]]:
    """Return instants of two decades, many of them close to where the clocks of a zone change."""
    chance = random.Random(20260513)  # noqa: S311
    start = datetime(2005, 1, 1, tzinfo=UTC)
    found = [(start + timedelta(days=chance.uniform(0, 7300)), chance.choice(ZONES)) for _ in range(2000)]
    for zone in ZONES:
        for change in changes(ZoneInfo(zone), start, years=20):
            found += [(change + timedelta(hours=chance.uniform(-26, 26)), zone) for _ in range(4)]
            found += [(change + timedelta(microseconds=n), zone) for n in (-1, 0, 1)]
    return found


def test_the_database_reckons_windows_as_python_does(supabase: Project) -> None:
    pairs = instants()
    assert len(pairs) > 3000
    rows = supabase.rows(
        "select array_agg(w.period || ':' || w.first_day order by w.place)"
        " from jsonb_to_recordset($1::jsonb) as p (n integer, at timestamptz, zone text)"
        " cross join lateral campaigns_windows('any', campaigns_local_day(p.at, p.zone), '2026-05-13')"
        "   with ordinality as w (scope, campaign_key, period, first_day, place)"
        " where w.scope = 'campaign' group by p.n order by p.n",
        json.dumps([{"n": n, "at": at.isoformat(), "zone": zone} for n, (at, zone) in enumerate(pairs)]),
    )
    for (at, zone), (keys,) in zip(pairs, rows, strict=True):
        assert keys == [window.key for window in windows(at, ZoneInfo(zone))], (at, zone)


SETTLED = datetime(2023, 1, 1, tzinfo=UTC)
"""A year about which all versions of the time zone database agree. Of later ones older versions do not know all: that
of the tests' PostgreSQL (2024a) gives America/Asuncion a winter time in 2025, which Paraguay did away with in 2024."""

OTHER_RULES = {f"Antarctica/{name}" for name in ("Vostok", "Mawson", "Davis", "Casey", "Syowa")}
"""Those that other tests of this process may have given other rules to; see tests/support/zones.py."""


def midnights() -> Iterator[tuple[datetime, str]]:
    """Yield the instants around which a day of Python's zones begins or its clocks change."""
    tick = timedelta(microseconds=1)
    for name in sorted(available_timezones() - OTHER_RULES):
        zone = ZoneInfo(name)
        seasons = [SETTLED + timedelta(days=14), SETTLED + timedelta(days=195)]
        for at in (*seasons, *changes(zone, SETTLED, years=1)):
            day = window(Period.DAILY, at, zone)
            for instant in (day.start, at, day.end):
                yield instant - tick, name
                yield instant, name


def test_a_day_is_the_same_there_as_here_in_every_timezone(supabase: Project) -> None:
    """PostgreSQL takes some names for abbreviations: CET, EET, MET and WET had no summer time there."""
    pairs = list(midnights())
    rows = supabase.rows(
        "select p.n, campaigns_local_day(p.at, p.zone)::text"
        " from jsonb_to_recordset($1::jsonb) as p (n integer, at timestamptz, zone text)"
        " join pg_timezone_names z on z.name = p.zone",
        json.dumps([{"n": n, "at": at.isoformat(), "zone": zone} for n, (at, zone) in enumerate(pairs)]),
    )
    assert len({pairs[n][1] for n, _ in rows}) > 400
    different = {pairs[n] for n, day in rows if day != str(pairs[n][0].astimezone(ZoneInfo(pairs[n][1])).date())}
    assert different == set()


def test_a_day_leaves_the_timezone_of_the_session_as_it_was(supabase: Project) -> None:
    query = (
        "select current_setting('timezone'), campaigns_local_day('2026-07-13 22:30Z', 'CET')::text,"
        " campaigns_knows_zone('Mars/Olympus'), current_setting('timezone')"
    )
    assert supabase.rows(query) == [("UTC", "2026-07-14", False, "UTC")]


def test_a_window_begins_and_ends_where_its_key_says_whatever_the_rules_here() -> None:
    """The database, of an older version say, is in the next day already: its key is what the books go by."""
    limit = {"scope": "campaign", "period": "daily", "limit": "5.00", "spent": "5.00", "reserved": "0.00"}
    row = {
        "at": "2026-05-13T21:30:00+00:00",
        "zone": "Europe/Berlin",
        "account_zone": "UTC",
        "limits": [limit | {"first_day": "2026-05-14"}],
    }
    (found,) = values.budget_status(row).limits
    assert found.window == window(Period.DAILY, datetime(2026, 5, 14, 12, tzinfo=UTC), ZoneInfo("Europe/Berlin"))


def test_where_the_books_differ_is_said_as_the_sqlite_store_says_it() -> None:
    row = {"window": "daily:2026-05-13", "source": "totals"}
    amounts = {"spent": "0.024000", "reserved": "0.000000", "line_spent": "12.500000", "line_reserved": "0.100000"}
    assert values.difference(KEY, {**row, **amounts}) == (
        f"{KEY}, daily:2026-05-13: spent 0.024 and reserved 0.00 by the totals, 12.50 and 0.10 by the ledger"
    )
