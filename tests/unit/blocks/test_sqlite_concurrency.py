"""What several SQLite stores and several processes do to one file at once."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import (
    KEY,
    RUN_1,
    SettableClock,
    ask_lease,
    make_campaign,
    take_lease,
    today,
)

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import AttemptState, Lease
from prefect_campaigns.errors import StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "campaigns.db"


def integrity(path: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA integrity_check").fetchall()


@asynccontextmanager
async def processes(path: Path, deed: str, count: int) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Run store_process.py several times; all have opened the store and wait for a line."""
    script = Path(__file__).with_name("store_process.py")
    started = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, str(script), str(path), deed, f"process {number}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for number in range(count)
    ]
    try:
        async with asyncio.timeout(60):
            for process in started:
                assert await process.stdout.readline() == b"ready\n"
            yield started
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
            await process.communicate()


class TestProcesses:
    async def test_two_at_once_do_not_pass_a_limit(self, path: Path) -> None:
        async with SqliteStore(path) as store:
            await store.save_campaign(make_campaign(daily=20))
            async with processes(path, "reserve", 2) as started:
                outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in started))
            assert sum(int(output) for output, _ in outputs) == 20
            assert await today(store) == ("0.000000", "20.000000")
            assert await store.verify_totals(KEY) == []

    async def test_one_that_is_killed_leaves_whole_books(self, path: Path) -> None:
        async with SqliteStore(path) as store:
            await store.save_campaign(make_campaign())
        async with processes(path, "spend", 1) as (process,):
            process.stdin.write(b"go\n")
            for _ in range(40):
                said = int(await process.stdout.readline())
            process.kill()
            rest, _ = await process.communicate()
            said = max([said, *map(int, rest.split(b"\n")[:-1])])
        async with SqliteStore(path) as store:
            attempts = await store.attempts(RUN_1, "process 0")
            settled = [attempt for attempt in attempts if attempt.state is AttemptState.SETTLED]
            # What it said was on the disk is there; at most one more may be.
            assert said <= len(settled) <= said + 1
            assert len(attempts) - len(settled) in (0, 1)
            assert await store.run_cost(RUN_1) == len(settled) * Decimal("0.001")
            assert await store.verify_totals(KEY) == []
            assert integrity(path) == [("ok",)]


CENTS = st.integers(0, 300).map(lambda cents: Decimal(cents) / 100)
KINDS = st.sampled_from(["reserve", "reserve", "sent", "sent", "settle", "unconfirmed", "release", "wait"])
# What, for which step, with what amount, through which of two stores.
ACTS_AT_ONCE = st.lists(st.tuples(KINDS, st.integers(0, 5), CENTS, st.integers(0, 1)), min_size=1, max_size=4)


async def act(store: SqliteStore, lease: Lease, kind: str, step: str, amount: Decimal) -> Decimal:
    """Do it; return by how much it went above what was reserved or booked for it before."""
    if kind == "reserve":
        await store.reserve(lease, step=step, attempt=1, estimated_cost=amount, hold_seconds=100)
        return Decimal(0)
    (before,) = await store.attempts(lease.run_id, step)
    if kind == "settle":
        after = await store.settle(lease, before, amount)
        return Decimal(0) if after == before else max(amount - before.estimate, Decimal(0))
    write = {"sent": store.mark_sent, "unconfirmed": store.book_unconfirmed, "release": store.release}[kind]
    await write(lease, before)
    return Decimal(0)


@settings(max_examples=40, deadline=None)
@given(limit=CENTS, rounds=st.lists(ACTS_AT_ONCE, max_size=15))
def test_no_order_of_acts_passes_a_limit_but_by_what_was_settled_above_its_estimate(
    limit: Decimal, rounds: list[list[tuple[str, int, Decimal, int]]]
) -> None:
    async def scenario(path: Path) -> None:
        clock = SettableClock()
        above = Decimal(0)
        async with SqliteStore(path, clock=clock) as one, SqliteStore(path, clock=clock) as two:
            await one.save_campaign(make_campaign(daily=limit))
            lease = await take_lease(one)
            for acts in rounds:
                clock.advance(seconds=sum(40 for kind, *_ in acts if kind == "wait"))
                answers = await asyncio.gather(
                    *(
                        act((one, two)[which], lease, kind, f"step {step}", amount)
                        for kind, step, amount, which in acts
                        if kind != "wait"
                    ),
                    return_exceptions=True,
                )
                # An act that is not legal by then is refused; one for a step without a reservation finds none.
                refused = [answer for answer in answers if not isinstance(answer, Decimal)]
                assert all(isinstance(answer, (StoreError, ValueError)) for answer in refused), refused
                above += sum((answer for answer in answers if isinstance(answer, Decimal)), Decimal(0))
                daily = (await two.budget_status(KEY)).limits[0]
                assert daily.spent + daily.reserved <= limit + above
                assert await one.verify_totals(KEY) == []

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder) / "campaigns.db"))


async def test_waiting_runs_of_several_stores_take_turns(path: Path) -> None:
    clock = SettableClock()
    async with SqliteStore(path, clock=clock) as one, SqliteStore(path, clock=clock) as two:
        first = await take_lease(one, "run-1")
        assert not isinstance(await ask_lease(two, "run-2"), Lease)
        await one.release_lease(first)
        assert (await take_lease(two, "run-2")).fence == 2


async def test_a_store_that_is_opened_and_closed_beside_another_takes_no_lock_away(path: Path) -> None:
    async with SqliteStore(path) as one:
        await one.save_campaign(make_campaign("One"))
        async with SqliteStore(path):
            pass
        # A process that thinks it is the last to close the file removes the write-ahead log.
        script = f"import sqlite3; sqlite3.connect({str(path)!r}).execute('PRAGMA table_info(campaigns)').fetchall()"
        for _ in range(2):
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
            assert await process.wait() == 0
        assert path.with_name(f"{path.name}-wal").exists()
        await one.save_campaign(make_campaign("Two"))
        async with SqliteStore(path) as two:
            assert len(await two.list_campaigns()) == 2
