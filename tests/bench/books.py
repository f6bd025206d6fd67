"""What an act of the ledger costs on both stores: with nothing in it, and with a million lines."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

from figures import Figure, Stopwatch
from supabase_rig import Project, start_project, what_is_missing

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease
from prefect_campaigns.blocks.supabase.client import SupabaseApi
from prefect_campaigns.blocks.supabase.store import SupabaseStore
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, RunStatus

TIMES = 300
COST = Decimal("0.000001")
LINES_OF_A_REQUEST = 3

# A million lines as the acts would have written them, for the campaign and the step that are measured.
SQLITE_FILL = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {requests})
INSERT INTO reservations (campaign_key, run_id, step, attempt, state, estimate, booked, daily_window, weekly_window,
    monthly_window, account_day, reserved_at, expires_at)
SELECT '{key}', 'filled ' || (n / 4), 'measured ' || (n % 4), 1, 'settled', 1, 1, 'daily:2026-01-01',
    'weekly:2025-12-28', 'monthly:2026-01-01', '2026-01-01', '2026-01-01', '2026-01-01' FROM numbers;
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {lines})
INSERT INTO ledger (at, campaign_key, run_id, step, attempt, kind, spent, reserved, daily_window, weekly_window,
    monthly_window, account_day)
SELECT '2026-01-01', '{key}', 'filled ' || (n / 12), 'measured ' || (n / 3 % 4), 1, 'settle', 1, 0,
    'daily:2026-01-01', 'weekly:2025-12-28', 'monthly:2026-01-01', '2026-01-01' FROM numbers;
ANALYZE;
"""
SUPABASE_FILL = """
insert into campaign_reservations (campaign_key, run_id, step, attempt, state, estimate, booked, campaign_day,
    account_day, reserved_at, expires_at)
select '{key}', 'filled ' || n / 4, 'measured ' || n % 4, 1, 'settled', 0.000001, 0.000001, '2026-01-01', '2026-01-01',
    '2026-01-01', '2026-01-01' from generate_series(1, {requests}) n;
insert into campaign_ledger (at, campaign_key, run_id, step, attempt, kind, spent, reserved, campaign_day, account_day)
select '2026-01-01', '{key}', 'filled ' || n / 12, 'measured ' || n / 3 % 4, 1, 'settle', 0.000001, 0, '2026-01-01',
    '2026-01-01' from generate_series(1, {lines}) n;
analyze;
"""
PLAIN_RPC = """
create table bench_rows (id bigint generated always as identity primary key, n integer not null);
create function bench_insert(n integer) returns jsonb language sql set search_path = '' as $$
    insert into public.bench_rows (n) values ($1) returning jsonb_build_object('value', id) $$;
grant insert, select on bench_rows to service_role;
grant execute on function bench_insert to service_role;
"""


class Books:
    """One run of one campaign, whose requests are reserved and settled again and again."""

    def __init__(self, store: CampaignStore, lease: Lease, name: str) -> None:
        self._store = store
        self._lease = lease
        self.reserve = f"{name}: reserve"
        self.settle = f"{name}: settle"
        self._attempts = itertools.count(1)

    async def request(self, stopwatch: Stopwatch) -> None:
        """Keep the books of one request."""
        step, attempt = "measured 1", next(self._attempts)
        with stopwatch.time(self.reserve):
            held = await self._store.reserve(
                self._lease, step=step, attempt=attempt, estimated_cost=None, hold_seconds=3600
            )
        sent = await self._store.mark_sent(self._lease, held)
        with stopwatch.time(self.settle):
            await self._store.settle(self._lease, sent, COST)


@asynccontextmanager
async def opened(store: SqliteStore | SupabaseStore, campaign: Campaign, name: str) -> AsyncIterator[Books]:
    """Open the store, with a run of the campaign in it."""
    async with store:
        await store.save_campaign(campaign)
        run_id = str(uuid4())
        lease = await store.acquire_lease(
            campaign.slug,
            run_id=run_id,
            run_name="bench",
            holder="bench",
            ttl_seconds=3600,
            waiting_since=datetime.now(UTC),
        )
        assert isinstance(lease, Lease)
        report = RunReport(
            run_id=run_id,
            run_name="bench",
            campaign_key=campaign.slug,
            campaign_name=campaign.name,
            status=RunStatus.RUNNING,
            started_at=datetime.now(UTC),
        )
        await store.start_run(lease, report)
        yield Books(store, lease, name)
        await store.release_lease(lease)


async def bench_sqlite(campaign: Campaign, lines: int) -> list[Figure]:
    """The acts on a SQLite file without lines, and in turn on one that is full of them."""
    with tempfile.TemporaryDirectory() as folder:
        empty, full = Path(folder) / "empty.db", Path(folder) / "full.db"
        async with opened(SqliteStore(full), campaign, "SQLite"):
            pass
        with closing(sqlite3.connect(full)) as db:
            db.executescript(SQLITE_FILL.format(key=campaign.slug, lines=lines, requests=lines // LINES_OF_A_REQUEST))
        stopwatch = Stopwatch()
        async with (
            opened(SqliteStore(empty), campaign, "SQLite, no lines") as few,
            opened(SqliteStore(full), campaign, f"SQLite, {lines:,} lines") as many,
        ):
            for _ in range(TIMES):
                await few.request(stopwatch)
                await many.request(stopwatch)
    return [
        stopwatch.figure(few.reserve),
        stopwatch.figure(few.settle),
        stopwatch.figure(many.reserve, against=few.reserve),
        stopwatch.figure(many.settle, against=few.settle),
    ]


async def bench_supabase(campaign: Campaign, lines: int) -> list[Figure]:
    """The acts on a Supabase project, in turn with a plain function that inserts one row and with a full project."""
    if reason := what_is_missing():
        print(f"Supabase is not measured: {reason}")
        return []
    with start_project() as empty, start_project() as full:
        for project in (empty, full):
            project.migrate()
            project.sql(PLAIN_RPC)
            project.restart_api()
        async with opened(_store(full), campaign, "Supabase"):
            pass
        full.sql(SUPABASE_FILL.format(key=campaign.slug, lines=lines, requests=lines // LINES_OF_A_REQUEST))
        plain = "Supabase: a plain rpc that inserts one row"
        stopwatch = Stopwatch()
        # The store's own connection: what differs is what the function does.
        api = SupabaseApi(empty.url, empty.secret_key, timeout_seconds=30)
        await api.open()
        async with (
            opened(_store(empty), campaign, "Supabase, no lines") as few,
            opened(_store(full), campaign, f"Supabase, {lines:,} lines") as many,
        ):
            for number in range(TIMES):
                with stopwatch.time(plain):
                    await api.call("bench_insert", n=number)
                await few.request(stopwatch)
                await many.request(stopwatch)
        await api.close()
    return [
        stopwatch.figure(plain),
        stopwatch.figure(few.reserve, against=plain),
        stopwatch.figure(few.settle, against=plain),
        stopwatch.figure(many.reserve, against=few.reserve),
        stopwatch.figure(many.settle, against=few.settle),
    ]


def _store(project: Project) -> SupabaseStore:
    return SupabaseStore(project.url, project.secret_key)
