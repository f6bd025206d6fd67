"""Fifty reservations at once against a limit of twenty, in a race that is widened until it shows.

A plain hammer proves nothing: without its lock, too, a store may come out right by being quick. So a reservation is
made to dawdle between the look at the limits and the end of its act. A store that locks grants exactly twenty; its
unlocked twin, which is tried beside it, must grant more, or this test could not fail.

A store joins by its name in RACERS and a fixture ``<name>_racers``.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import pytest
from store_cases import SettableClock, StoreFactory, account_books, assert_books_are_whole, make_campaign, take_lease
from store_cases import reserve as reserve_one
from supabase_rig import Project

from prefect_campaigns.blocks.sqlite.file import SqliteFile
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease
from prefect_campaigns.blocks.supabase.store import SupabaseStore
from prefect_campaigns.budget import AccountBudget
from prefect_campaigns.errors import BudgetRefused

T = TypeVar("T")

RACERS = ("sqlite", "supabase")
ROUNDS = 10
TWIN_ROUNDS = 3
STORES = 5
LIMIT = 20
DAWDLE_SECONDS = 0.005

Racers = Callable[[int, bool], StoreFactory]
"""Makes stores of the books of a round, whose reservations dawdle: those that lock, or their unlocked twins."""

Prepare = Callable[[CampaignStore], Awaitable[list[Lease]]]
"""Sets a limit of twenty; returns the lease that each store reserves for."""


class DawdlingFile(SqliteFile):
    """A file in which every reservation takes its time between the look at the totals and their change."""

    async def open(self) -> None:
        await super().open()
        await self._on_thread(self._dawdle)

    def _dawdle(self) -> None:
        assert self._connection is not None
        self._connection.create_function("dawdle", 0, lambda: time.sleep(DAWDLE_SECONDS))
        self._connection.execute(
            "CREATE TEMP TRIGGER dawdling BEFORE INSERT ON main.reservations BEGIN SELECT dawdle(); END"
        )


class UnlockedFile(DawdlingFile):
    """A file whose transactions are none: every statement is committed by itself."""

    def _transaction(self, kind: str, work: Callable[[sqlite3.Connection, datetime], T], deadline: float) -> T:
        assert self._connection is not None
        self._wait_at_most(self._connection, deadline)
        return work(self._connection, self._clock.now())


class RacingStore(SqliteStore):
    def __init__(self, path: Path, file: type[SqliteFile]) -> None:
        super().__init__(path)
        self._file = file(path, clock=SettableClock(), timeout_seconds=30)


@pytest.fixture
def sqlite_racers(tmp_path: Path) -> Racers:
    def racers(number: int, is_locked: bool) -> StoreFactory:
        path = tmp_path / f"{number}.db"
        return lambda: RacingStore(path, DawdlingFile if is_locked else UnlockedFile)

    return racers


DAWDLE = """
create or replace function campaigns_dawdle() returns trigger language plpgsql as $$
begin
    perform pg_sleep({seconds});
    return new;
end
$$;
create or replace trigger dawdling before insert on campaign_reservations
    for each row execute function campaigns_dawdle();
"""

LOCKS = {
    "campaigns_reserve": "perform public.campaigns_lock_books();",
    # The lease's row holds back those who reserve for one campaign, too.
    "campaigns_lease_error": "for update",
}
"""By function of the database, what its unlocked twin leaves out."""


@pytest.fixture
def supabase_racers(supabase: Project) -> Iterator[Racers]:
    locked = {name: source for name in LOCKS for (source,) in supabase.rows(DEFINITION, name)}
    assert all(locked[name].count(lock) == 1 for name, lock in LOCKS.items())

    def racers(number: int, is_locked: bool) -> StoreFactory:
        supabase.clean()
        # The API lets so many through at once. In step, they could come out at exactly the limit by chance.
        supabase.sql(DAWDLE.format(seconds="0.02" if is_locked else "0.02 + 0.08 * random()"))
        for name, source in locked.items():
            supabase.sql(source if is_locked else source.replace(LOCKS[name], ""))
        return lambda: SupabaseStore(supabase.url, supabase.secret_key, clock=SettableClock(), timeout_seconds=30)

    try:
        yield racers
    finally:
        supabase.sql("drop function campaigns_dawdle cascade")
        for source in locked.values():
            supabase.sql(source)


DEFINITION = "select pg_get_functiondef(oid) from pg_proc where proname = $1"


@pytest.fixture(params=RACERS)
def racers(request: pytest.FixtureRequest) -> Racers:
    found: Racers = request.getfixturevalue(f"{request.param}_racers")
    return found


async def for_the_campaigns_limit(store: CampaignStore) -> list[Lease]:
    await store.save_campaign(make_campaign(daily=LIMIT))
    return [await take_lease(store)] * STORES


async def for_the_accounts_limit(store: CampaignStore) -> list[Lease]:
    """Each store reserves for a campaign of its own."""
    await store.set_account_budget(AccountBudget(daily=Decimal(LIMIT)))
    leases = []
    for number in range(STORES):
        record = await store.save_campaign(make_campaign(f"Campaign {number}"))
        leases.append(await take_lease(store, f"run-{number}", key=record.key))
    return leases


async def race(make_store: StoreFactory, prepare: Prepare) -> int:
    """Return how many of fifty reservations of 1.00, made at once through five stores, were granted."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(make_store()) for _ in range(STORES)]
        leases = await prepare(stores[0])
        answers = await asyncio.gather(
            *(
                reserve_one(stores[number % STORES], leases[number % STORES], "1.00", attempt=number + 1)
                for number in range(50)
            ),
            return_exceptions=True,
        )
        failures = [
            answer for answer in answers if isinstance(answer, BaseException) and not isinstance(answer, BudgetRefused)
        ]
        assert failures == []
        granted = sum(not isinstance(answer, BaseException) for answer in answers)
        assert (await account_books(stores[-1]))["daily"] == (0, granted)
        await assert_books_are_whole(stores[-1])
        return granted


RACES = pytest.mark.parametrize("prepare", [for_the_campaigns_limit, for_the_accounts_limit])


@RACES
async def test_exactly_twenty_are_granted_ten_times_out_of_ten(racers: Racers, prepare: Prepare) -> None:
    assert [await race(racers(number, True), prepare) for number in range(ROUNDS)] == [LIMIT] * ROUNDS


@RACES
async def test_without_the_lock_more_than_twenty_are_granted(racers: Racers, prepare: Prepare) -> None:
    granted = [await race(racers(number, False), prepare) for number in range(TWIN_ROUNDS)]
    assert max(granted) > LIMIT, granted
