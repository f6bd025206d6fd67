"""What becomes of the tables that users of the orchestrator before us have in their projects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from store_cases import (
    NOON,
    RUN_1,
    SettableClock,
    amounts,
    assert_books_are_whole,
    make_campaign,
    make_report,
    spend,
    take_lease,
)
from supabase_rig import Project

from prefect_campaigns.blocks.store_types import PausedBy
from prefect_campaigns.blocks.supabase.migrate import migrate, whole_sql
from prefect_campaigns.blocks.supabase.store import SupabaseStore
from prefect_campaigns.errors import BudgetRefused, StoreError
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, RunStatus

TABLES = """
create table campaigns (
    id uuid primary key default gen_random_uuid(),
    name text not null,
    description text,
    config jsonb not null,
    schedule_cron text,
    status text default 'active' check (status in ('active', 'paused', 'completed', 'error')),
    last_run_at timestamptz,
    next_run_at timestamptz,
    total_runs integer default 0,
    total_cost decimal(10,2) default 0,
    project_id text,
    created_at timestamptz default now(),
    updated_at timestamptz default now()
);
create table campaign_runs (
    id uuid primary key default gen_random_uuid(),
    campaign_id uuid references campaigns(id) on delete cascade,
    started_at timestamptz default now(),
    completed_at timestamptz,
    status text default 'running' check (status in ('running', 'completed', 'failed', 'aborted')),
    steps_completed integer default 0,
    steps_failed integer default 0,
    results jsonb,
    total_cost decimal(10,2) default 0,
    errors jsonb,
    trigger_type text default 'scheduled'
);
create index idx_campaign_runs_campaign_id on campaign_runs(campaign_id);
create table campaign_notes (campaign_id uuid references campaigns(id), note text);
grant all on all tables in schema public to anon, authenticated, service_role;
"""
"""Tables as the reference's users have them, and a table of their own beside these."""

CONFIG: dict[str, Any] = {
    "name": "Weekly Restaurant Outreach",
    "schedule": {"cron": "0 9 * * MON", "timezone": "America/New_York", "enabled": True},
    "budget": {"daily": 5.00, "weekly": 20.00, "monthly": 80.00},
    "steps": [
        {
            "name": "prospecting",
            "engine": "prospecting",
            "endpoint": "http://localhost:3010/api/prospect",
            "params": {"rating": 4.5, "city": "Zürich"},
            "timeout": 300000,
            "retry": {"attempts": 3, "delay": 5000, "backoff": "exponential"},
            "onSuccess": "continue",
            "onFailure": "abort",
        }
    ],
    "notifications": {"onComplete": {"email": "me@example.com", "slack": None}},
    "metadata": {"project_id": "p-1", "tags": ["restaurants"]},
}


@pytest.fixture
def before(supabase: Project) -> Iterator[Project]:
    """A project with the reference's tables, empty and not yet migrated."""
    with supabase.database() as project:
        project.sql(TABLES)
        yield project


@pytest.fixture
def old(clean_supabase: Project) -> Project:
    """A migrated project; rows that a test adds to its tables are as if they had been there before."""
    return clean_supabase


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


def add_campaign(project: Project, name: str, **columns: Any) -> UUID:
    row = {"id": str(uuid4()), "name": name, "config": {**CONFIG, "name": name}, **columns}
    _insert(project, "campaigns", row)
    return UUID(row["id"])


def add_run(project: Project, campaign_id: UUID | None, **columns: Any) -> str:
    row = {
        "id": str(uuid4()),
        "campaign_id": campaign_id and str(campaign_id),
        "started_at": NOON.isoformat(),
        "status": "completed",
    } | columns
    _insert(project, "campaign_runs", row)
    return str(row["id"])


def _insert(project: Project, table: str, row: dict[str, Any]) -> None:
    columns = ", ".join(row)
    project.sql(
        f"insert into {table} ({columns}) select {columns} from jsonb_populate_record(null::{table}, $1::jsonb)",  # noqa: S608
        json.dumps(row),
    )


def rows_as_they_were(project: Project, table: str) -> list[tuple[str]]:
    """Return the rows with the reference's columns only, amounts as they compare."""
    columns = TABLES.split(f"create table {table} (")[1].split("\n);")[0].strip().splitlines()
    names = [column.split()[0] for column in columns]
    shown = ", ".join(f"trim_scale({name})" if name == "total_cost" else name for name in names)
    return project.rows(f"select row({shown})::text from {table} order by 1")  # noqa: S608


def store_of(project: Project, clock: SettableClock) -> SupabaseStore:
    return SupabaseStore(project.url, project.secret_key, clock=clock)


async def warnings_of_migrating(project: Project) -> list[str]:
    """Apply the migrations as somebody does who pastes them, and return what that person is warned of."""
    said: list[str] = []
    connection = await asyncpg.connect(project.database_url)
    try:
        connection.add_log_listener(lambda _, message: said.append(message.message))
        await connection.execute("set client_min_messages = warning")
        await connection.execute(whole_sql())
    finally:
        await connection.close()
    return said


class TestTables:
    async def test_no_row_and_no_column_is_lost(self, before: Project) -> None:
        first = add_campaign(
            before,
            "Zürich, Gaststätten 🍝",
            description="seit 2019",
            schedule_cron="0 9 * * MON",
            status="error",
            last_run_at="2026-05-04T09:00:00+00:00",
            next_run_at="2026-05-11T09:00:00+00:00",
            total_runs=7,
            total_cost=12345678.99,
            project_id="p-1",
        )
        add_campaign(before, "nothing but NULL", status=None, total_runs=None, total_cost=None, created_at=None)
        for status in ("running", "completed", "failed", "aborted", None):
            add_run(
                before,
                first,
                status=status,
                total_cost=0.07,
                steps_completed=2,
                results={"prospecting": {"found": 20}},
                errors=[{"step": "x", "error": "no"}],
                trigger_type="manual",
            )
        add_run(before, None, total_cost=None, started_at=None)
        before.sql("insert into campaign_notes select id, 'mine' from campaigns")
        rows = [rows_as_they_were(before, table) for table in ("campaigns", "campaign_runs")]
        await migrate(before.database_url)
        assert [rows_as_they_were(before, table) for table in ("campaigns", "campaign_runs")] == rows
        assert before.rows("select count(*) from campaign_notes") == [(2,)]
        types = before.rows(
            "select distinct attrelid::regclass::text, format_type(atttypid, atttypmod) from pg_attribute"
            " where attname = 'total_cost' and attrelid in ('campaigns'::regclass, 'campaign_runs'::regclass)"
        )
        assert sorted(types) == [("campaign_runs", "numeric(18,6)"), ("campaigns", "numeric(18,6)")]

    async def test_a_partial_run_may_be_written_then(self, before: Project) -> None:
        await migrate(before.database_url)
        campaign_id = add_campaign(before, "Any")
        add_run(before, campaign_id, status="partial")

    async def test_the_columns_that_some_tables_lack_are_added(self, supabase: Project, clock: SettableClock) -> None:
        with supabase.database() as short:
            short.sql(
                "create table campaigns (id uuid primary key default gen_random_uuid(), name text not null,"
                " config jsonb not null, schedule_cron text, status text default 'active');"
                "create table campaign_runs (id uuid primary key default gen_random_uuid(), campaign_id uuid not null"
                " references campaigns(id) on delete cascade, status text default 'running', started_at timestamp)"
            )
            campaign_id = add_campaign(short, "Any")
            add_run(short, campaign_id, status="stopped", started_at="2026-05-13T12:00:00")
            await migrate(short.database_url)
            async with store_of(short, clock) as store:
                (run,) = await store.list_runs("any")
                assert (run.started_at, run.status, run.total_cost) == (NOON, RunStatus.ABORTED, 0)
                await spend(store, await take_lease(store, key="any"), "1")

    async def test_their_campaigns_go_on_from_there(self, before: Project, clock: SettableClock) -> None:
        campaign_id = add_campaign(before, "Spring Outreach", total_cost="4.50", total_runs=1)
        run_id = add_run(before, campaign_id, total_cost="4.50", status="completed")
        await migrate(before.database_url)
        async with store_of(before, clock) as store:
            assert (await store.get_campaign("spring-outreach")).id == campaign_id
            lease = await take_lease(store)
            with pytest.raises(BudgetRefused, match=r"daily 5\.00 would be passed, spent 4\.50"):
                await spend(store, lease, "0.51")
            await store.start_run(lease, make_report())
            await spend(store, lease, "0.123456")
            assert [run.run_id for run in await store.list_runs("spring-outreach")] == sorted([run_id, RUN_1])
            figures = (await store.campaign_figures())["spring-outreach"]
            assert (figures.runs, figures.cost, figures.last_run_at) == (2, Decimal("4.623456"), NOON)
        assert before.rows("select total_runs, total_cost::text from campaigns") == [(2, "4.623456")]

    async def test_whoever_used_the_browsers_key_needs_the_secret_one_now(self, before: Project) -> None:
        assert before.rows("select has_table_privilege('anon', 'campaigns', 'delete')") == [(True,)]
        await migrate(before.database_url)
        assert before.rows("select has_table_privilege('anon', 'campaigns', 'delete')") == [(False,)]

    async def test_whoever_read_them_through_a_view_needs_the_secret_key_too(self, before: Project) -> None:
        """A view reads as its owner does, past the privileges and the row-level security of whoever asks."""
        before.sql(
            "create view progress as select c.name, r.status from campaigns c join campaign_runs r on true;"
            "create schema inner_views; create view inner_views.names as select name from campaigns;"
            'create view "Names of ours" as select * from inner_views.names;'
            "create materialized view kept as select count(*) from campaign_runs;"
            "create view notes as select note from campaign_notes;"
            'grant select on progress, "Names of ours", kept, notes to anon, authenticated;'
            "grant select (name) on progress to public"
        )
        warnings = await warnings_of_migrating(before)
        assert warnings == [
            f"the view {view} shows campaigns or their runs: from now on it is read with the secret key only"
            for view in ('"Names of ours"', "kept", "progress")
        ]
        for role in ("anon", "authenticated"):
            allowed = before.rows(
                "select relname::text from pg_class where relkind in ('v', 'm')"
                " and relnamespace = 'public'::regnamespace and (has_table_privilege($1, oid, 'select, update')"
                " or has_any_column_privilege($1, oid, 'select, update'))",
                role,
            )
            # A user's own affair stays so.
            assert allowed == [("notes",)]


class TestKeys:
    async def test_each_gets_the_slug_of_its_name_and_keeps_its_id(self, old: Project, clock: SettableClock) -> None:
        ids = {
            add_campaign(old, name): key for name, key in {"Älpli & Söhne": "alpli-sohne", "北京": "bei-jing"}.items()
        }
        async with store_of(old, clock) as store:
            assert {record.id: record.key for record in await store.list_campaigns()} == ids

    async def test_of_one_slug_the_oldest_active_one_gets_it(self, old: Project, clock: SettableClock) -> None:
        keys = {
            # Active ones before others, the older before the younger.
            add_campaign(old, "Spring", created_at="2026-01-04T00:00:00+00:00"): "spring-3",
            add_campaign(old, "spring!", created_at="2026-01-02T00:00:00+00:00"): "spring",
            add_campaign(old, "SPRING", created_at="2026-01-01T00:00:00+00:00", status="paused"): "spring-4",
            # The slug of its own name, though it came last.
            add_campaign(old, "Spring 2", created_at="2026-01-05T00:00:00+00:00"): "spring-2",
            # Without a letter or digit there is no slug.
            add_campaign(old, "🎉", created_at="2026-01-01T00:00:00+00:00"): "campaign",
            add_campaign(old, "!", created_at="2026-01-02T00:00:00+00:00"): "campaign-2",
        }
        async with store_of(old, clock) as store:
            assert {record.id: record.key for record in await store.list_campaigns()} == keys

    async def test_applying_takes_over_the_row(self, old: Project, clock: SettableClock) -> None:
        campaign_id = add_campaign(old, "Spring Outreach", total_runs=3, total_cost=7, description="old")
        async with store_of(old, clock) as store:
            record = await store.save_campaign(make_campaign(daily=1), deployment_id=uuid4())
        assert record.id == campaign_id
        assert old.rows("select total_runs, trim_scale(total_cost)::text, description from campaigns") == [
            (3, "7", "old")
        ]

    async def test_two_that_open_it_at_once_agree(self, old: Project, clock: SettableClock) -> None:
        for day in range(1, 4):
            add_run(old, add_campaign(old, "Spring", created_at=f"2026-01-0{day}T00:00:00+00:00"), total_cost=1)
        # The rig's server grants things at its first request, and fails when several come first.
        async with httpx.AsyncClient(headers={"apikey": old.secret_key}) as http:
            await http.get(f"{old.url}/rest/v1/campaigns", timeout=30)
        stores = [store_of(old, clock) for _ in range(4)]
        await asyncio.gather(*(store.__aenter__() for store in stores))
        try:
            keys = [record.key for record in await stores[0].list_campaigns()]
            assert keys == ["spring", "spring-2", "spring-3"]
            assert amounts((await stores[1].account_status()).account)["daily"] == (3, 0)
        finally:
            for store in stores:
                await store.__aexit__(None, None, None)


class TestConfigs:
    async def test_the_references_shape_is_read(self, old: Project, clock: SettableClock) -> None:
        add_campaign(old, "Weekly Restaurant Outreach")
        add_campaign(old, "Bare", config={**CONFIG, "name": "Bare", "schedule": "0 9 * * MON", "budget": None})
        async with store_of(old, clock) as store:
            bare, weekly = await store.list_campaigns()
            assert weekly.campaign == Campaign.model_validate(CONFIG)
            assert bare.campaign.schedule and bare.campaign.schedule.timezone == "UTC"
            limits = (await store.budget_status(weekly.key)).limits
            assert [limit.limit for limit in limits] == [5, 20, 80]
            assert [limit.limit for limit in (await store.budget_status("bare")).limits] == [None] * 3

    async def test_one_that_cannot_be_read_does_not_hide_the_others(
        self, old: Project, clock: SettableClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        add_campaign(old, "Readable")
        broken = add_campaign(old, "Broken", config={"name": "Broken", "steps": []})
        add_run(old, broken, total_cost=3)
        async with store_of(old, clock) as store:
            for _ in range(2):
                assert [record.key for record in await store.list_campaigns()] == ["readable"]
            assert [
                message for message in caplog.messages if "'broken' holds no campaign" in message
            ] == caplog.messages
            assert len(caplog.messages) == 1
            with pytest.raises(StoreError, match="'broken' holds no campaign that can be used: /steps"):
                await store.get_campaign("broken")
            # What it has spent counts all the same.
            assert amounts((await store.budget_status("broken")).limits)["daily"] == (3, 0)

    async def test_one_that_was_applied_and_cannot_be_read_is_told(self, old: Project, clock: SettableClock) -> None:
        async with store_of(old, clock) as store:
            await store.save_campaign(make_campaign(), deployment_id=uuid4())
            old.sql("update campaigns set config = '{}'")
            with pytest.raises(StoreError, match="'spring-outreach' holds no campaign that can be used"):
                await store.list_campaigns()

    @pytest.mark.parametrize(
        ("path", "value", "reason"),
        [
            ("{budget,daily}", '"five"', "daily is"),
            ("{budget,daily}", "-5", "daily is -5"),
            ("{budget,dialy}", "5", "dialy is 5"),  # a typo must not mean "no limit"
            ("{budget}", "[5]", "it is no object"),
            ("{budget,perRun}", "true", "perRun is true"),
            ("{schedule,timezone}", '"Mars/Olympus"', "its timezone is Mars/Olympus"),
        ],
    )
    async def test_a_budget_that_cannot_be_read_is_no_reason_to_spend(
        self, clean_supabase: Project, clock: SettableClock, path: str, value: str, reason: str
    ) -> None:
        async with store_of(clean_supabase, clock) as store:
            await store.save_campaign(make_campaign(timezone="Asia/Tokyo", daily=5))
            clean_supabase.sql("update campaigns set config = jsonb_set(config, $1::text::text[], $2)", path, value)
            for act in (store.budget_status("spring-outreach"), spend(store, await take_lease(store), "1")):
                with pytest.raises(StoreError, match=f"holds no budget that can be read: {reason}"):
                    await act

    async def test_one_that_was_paused_stays_paused(self, old: Project, clock: SettableClock) -> None:
        add_campaign(old, "Spring Outreach", status="paused", updated_at=NOON.isoformat())
        async with store_of(old, clock) as store:
            pause = (await store.get_campaign("spring-outreach")).pause
            assert pause and (pause.by, pause.since, pause.until) == (PausedBy.PERSON, NOON, None)
            assert not await store.set_pause("spring-outreach", None, replacing=None)
            assert await store.set_pause("spring-outreach", None, replacing=pause)
            assert (await store.get_campaign("spring-outreach")).pause is None


class TestRuns:
    async def test_an_old_run_is_read_as_a_report(self, old: Project, clock: SettableClock) -> None:
        campaign_id = add_campaign(old, "Spring Outreach")
        run_id = add_run(
            old, campaign_id, status="failed", total_cost="0.70", trigger_type=None, errors=[{"step": "x"}]
        )
        async with store_of(old, clock) as store:
            report = await store.get_run(run_id)
            assert report == RunReport(
                run_id=run_id,
                run_name=run_id[:8],
                campaign_key="spring-outreach",
                campaign_name="Spring Outreach",
                status=RunStatus.FAILED,
                started_at=NOON,
                total_cost=Decimal("0.7"),
            )
            assert list(await store.list_runs("spring-outreach")) == [report]

    async def test_what_they_cost_is_booked_where_they_began(self, old: Project, clock: SettableClock) -> None:
        campaign_id = add_campaign(old, "Spring Outreach")
        # Half past eleven at night, on Saturday, in New York; in UTC it is Sunday already.
        add_run(old, campaign_id, started_at="2026-05-10T03:30:00+00:00", total_cost=1)
        add_run(old, campaign_id, started_at="2026-05-12T12:00:00+00:00", total_cost="0.07", status="failed")
        add_run(old, campaign_id, started_at="2026-05-13T11:00:00+00:00", total_cost="0.02", status="completed")
        add_run(old, campaign_id, started_at="2026-04-30T12:00:00+00:00", total_cost=30)
        add_run(old, campaign_id, total_cost=0)
        add_run(old, campaign_id, total_cost=None)
        add_run(old, add_campaign(old, "Other"), total_cost=2)
        add_run(old, None, total_cost=64)
        async with store_of(old, clock) as store:
            status = await store.budget_status("spring-outreach")
            assert amounts(status.limits) == {
                "daily": (Decimal("0.02"), 0),
                "weekly": (Decimal("0.09"), 0),
                "monthly": (Decimal("1.09"), 0),
            }
            # Those of the account are UTC's.
            assert amounts(status.account) == {
                "daily": (Decimal("2.02"), 0),
                "weekly": (Decimal("3.09"), 0),
                "monthly": (Decimal("3.09"), 0),
            }
            await assert_books_are_whole(store)
        assert old.rows("select key, trim_scale(total_cost)::text from campaigns order by 1") == [
            ("other", "2"),
            ("spring-outreach", "31.09"),
        ]

    async def test_it_is_booked_once_and_counts_against_the_limits(self, old: Project, clock: SettableClock) -> None:
        campaign_id = add_campaign(old, "Spring Outreach")
        add_run(old, campaign_id, total_cost="4.50")
        for _ in range(2):
            async with store_of(old, clock) as store:
                assert amounts((await store.budget_status("spring-outreach")).limits)["daily"] == (Decimal("4.5"), 0)
        # Somebody still runs the old program beside ours.
        add_run(old, campaign_id, total_cost="0.25")
        async with store_of(old, clock) as store:
            lease = await take_lease(store)
            with pytest.raises(BudgetRefused, match=r"daily 5\.00 would be passed, spent 4\.75"):
                await spend(store, lease, "0.26")
            await assert_books_are_whole(store)

    async def test_one_that_still_goes_on_is_booked_when_it_has_ended(self, old: Project, clock: SettableClock) -> None:
        campaign_id = add_campaign(old, "Spring Outreach")
        run_id = add_run(old, campaign_id, status="running", total_cost="1")
        async with store_of(old, clock) as store:
            assert amounts((await store.budget_status("spring-outreach")).limits)["daily"] == (0, 0)
        old.sql("update campaign_runs set status = 'completed', total_cost = 2 where id = $1::uuid", UUID(run_id))
        async with store_of(old, clock) as store:
            assert amounts((await store.budget_status("spring-outreach")).limits)["daily"] == (2, 0)

    async def test_one_that_never_ended_is_booked_a_day_later(self, old: Project, clock: SettableClock) -> None:
        add_run(old, add_campaign(old, "Spring Outreach"), status="running", total_cost="1")
        clock.advance(days=1)
        async with store_of(old, clock) as store:
            assert (await store.account_status()).account[1].spent == 1

    @pytest.mark.parametrize("status", ["running", None, "completed"])
    async def test_one_of_which_nothing_says_when_it_was_is_booked_at_once_and_once(
        self, old: Project, clock: SettableClock, status: str | None
    ) -> None:
        campaign_id = add_campaign(old, "Spring Outreach", created_at="2026-01-01T00:00:00+00:00")
        add_run(old, campaign_id, status=status, started_at=None, total_cost=3)
        # Ten minutes old; the other says nothing of going on.
        add_run(old, campaign_id, status=None, started_at="2026-05-13T11:50:00+00:00", total_cost="0.5")
        for _ in range(2):
            async with store_of(old, clock) as store:
                books = amounts((await store.budget_status("spring-outreach")).limits)
                assert books["daily"] == books["monthly"] == (Decimal("3.5"), 0)
                await assert_books_are_whole(store)
            clock.advance(hours=1)
        assert old.rows("select count(*) from campaign_ledger") == [(2,)]

    async def test_a_time_of_creation_says_when_it_was(self, old: Project, clock: SettableClock) -> None:
        campaign_id = add_campaign(old, "Spring Outreach")
        old.sql("alter table campaign_runs add created_at timestamptz")
        try:
            for created_at in ("2026-05-12T12:00:00+00:00", None):
                add_run(old, campaign_id, status="running", started_at=None, total_cost=2, created_at=created_at)
            async with store_of(old, clock) as store:
                books = amounts((await store.budget_status("spring-outreach")).limits)
                assert books == {"daily": (2, 0), "weekly": (4, 0), "monthly": (4, 0)}
        finally:
            old.sql("alter table campaign_runs drop created_at")

    async def test_they_are_booked_in_the_summer_time_of_their_campaign(
        self, old: Project, clock: SettableClock
    ) -> None:
        config = {**CONFIG, "schedule": {"cron": "0 9 * * MON", "timezone": "CET"}}
        add_run(old, add_campaign(old, "Spring", config=config), started_at="2026-05-12T22:30:00+00:00", total_cost=1)
        async with store_of(old, clock):
            pass
        assert old.rows("select campaign_day::text, account_day::text from campaign_ledger") == [
            ("2026-05-13", "2026-05-12")
        ]

    async def test_a_campaign_whose_timezone_nobody_knows_is_booked_in_utc(
        self, old: Project, clock: SettableClock
    ) -> None:
        config = {**CONFIG, "schedule": {"cron": "0 9 * * MON", "timezone": "Mars/Olympus"}}
        add_run(old, add_campaign(old, "Spring", config=config), started_at="2026-05-13T23:59:59+00:00", total_cost=1)
        async with store_of(old, clock):
            pass
        assert old.rows("select campaign_day::text from campaign_ledger") == [("2026-05-13",)]

    async def test_deleting_a_campaign_deletes_its_old_runs_and_keeps_what_they_cost(
        self, old: Project, clock: SettableClock
    ) -> None:
        run_id = add_run(old, add_campaign(old, "Spring Outreach"), total_cost=3)
        async with store_of(old, clock) as store:
            await store.delete_campaign("spring-outreach")
            assert await store.get_run(run_id) is None
            assert await store.run_cost(run_id) == 3
            await store.save_campaign(make_campaign())
            assert amounts((await store.budget_status("spring-outreach")).limits)["daily"] == (3, 0)
        assert old.rows("select trim_scale(total_cost)::text from campaigns") == [("3",)]
