"""The stores that the contract is tried on.

A store joins by its name in STORES and the fixtures <name>_stores and <name>_spender.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from store_cases import (
    SettableClock,
    SpendMany,
    StoreFactory,
    assert_books_are_whole,
    make_campaign,
    take_lease,
)
from supabase_rig import Project

from prefect_campaigns.blocks.sqlite import ledger
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease, Reservation
from prefect_campaigns.blocks.supabase.store import SupabaseStore
from prefect_campaigns.blocks.supabase.values import lease_text

STORES = ("sqlite", "supabase")


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def sqlite_stores(tmp_path: Path, clock: SettableClock) -> StoreFactory:
    return lambda: SqliteStore(tmp_path / "campaigns.db", clock=clock)


@pytest.fixture
def supabase_stores(clean_supabase: Project, clock: SettableClock) -> StoreFactory:
    return lambda: SupabaseStore(clean_supabase.url, clean_supabase.secret_key, clock=clock)


async def sqlite_spends(store: CampaignStore, lease: Lease, amount: Decimal, times: int) -> None:
    assert isinstance(store, SqliteStore)

    def spend_all(db: sqlite3.Connection, now: datetime) -> None:
        # In one transaction: the sum is what is tried, not the disk.
        for number in range(times):
            step = f"step {number}"
            held = ledger.reserve(db, now, lease, step=step, attempt=1, estimated_cost=amount, hold_seconds=60)
            assert isinstance(held, Reservation)
            ledger.settle(db, now, lease, ledger.mark_sent(db, lease, held), amount, is_result=False)

    await store._file.write(spend_all)


@pytest.fixture
def sqlite_spender() -> SpendMany:
    return sqlite_spends


@pytest.fixture
def supabase_spender(supabase: Project, clock: SettableClock) -> SpendMany:
    async def spend(store: CampaignStore, lease: Lease, amount: Decimal, times: int) -> None:
        await asyncio.to_thread(
            supabase.sql, SUPABASE_SPENDS.format(lease=lease_text(lease), amount=amount, times=times, now=clock.now())
        )

    return spend


SUPABASE_SPENDS = """
do $do$
declare
    v_request text;
begin
    for n in 1..{times} loop
        v_request := public.campaigns_reserve('{lease}', 'step ' || n, 1, {amount}, 60, '{now}') -> 'value';
        perform public.campaigns_mark_sent('{lease}', v_request);
        perform public.campaigns_settle('{lease}', v_request, {amount}, null, '{now}');
        -- Each of the acts is a transaction elsewhere; thousands in one would find their totals ever more slowly.
        commit;
    end loop;
end
$do$
"""


@pytest.fixture(params=STORES)
def store_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def make_store(store_name: str, request: pytest.FixtureRequest) -> StoreFactory:
    """Makes stores that keep the same data, as several processes do."""
    make: StoreFactory = request.getfixturevalue(f"{store_name}_stores")
    return make


@pytest.fixture
def spend_many(store_name: str, request: pytest.FixtureRequest) -> SpendMany:
    """Makes thousands of bookings by the store's own acts, without a round trip for each."""
    spend: SpendMany = request.getfixturevalue(f"{store_name}_spender")
    return spend


@pytest.fixture
async def store(make_store: StoreFactory) -> AsyncIterator[CampaignStore]:
    """An open store with one campaign without limits; its books are added up after every test."""
    async with make_store() as opened:
        await opened.save_campaign(make_campaign())
        yield opened
        await assert_books_are_whole(opened)


@pytest.fixture
async def lease(store: CampaignStore) -> Lease:
    return await take_lease(store)
