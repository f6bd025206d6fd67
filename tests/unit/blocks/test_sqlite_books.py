"""The SQLite store's books: what stands in them, and that reading them costs the same however long they are."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from store_cases import (
    KEY,
    RUN_1,
    SettableClock,
    assert_books_are_whole,
    make_campaign,
    make_report,
    make_step,
    reserve,
    send,
    spend,
    take_lease,
)

from prefect_campaigns.blocks.sqlite import verify
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import ApprovalState, AuditAction, AuditEntry, Lease, Pause, PausedBy
from prefect_campaigns.budget import AccountBudget
from prefect_campaigns.errors import BudgetRefused, StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "campaigns.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(path, clock=SettableClock()) as store:
        await store.save_campaign(make_campaign())
        yield store
        await assert_books_are_whole(store)


@pytest.fixture
async def lease(store: SqliteStore) -> Lease:
    return await take_lease(store)


def by_hand(path: Path, *statements: str) -> list[sqlite3.Row]:
    """Do to the file what a person with a database tool does."""
    with closing(sqlite3.connect(path)) as db, db:
        return [row for statement in statements for row in db.execute(statement)]


class TestBooks:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE ledger SET spent = 0",
            "DELETE FROM ledger",
            "INSERT OR REPLACE INTO ledger SELECT * FROM ledger LIMIT 1",  # deletes without the trigger for that
        ],
    )
    async def test_the_ledger_is_append_only(
        self, store: SqliteStore, lease: Lease, path: Path, statement: str
    ) -> None:
        await spend(store, lease, "1")
        with pytest.raises(sqlite3.IntegrityError, match="the ledger is append-only"):
            by_hand(path, statement)

    async def test_every_change_of_an_amount_is_a_line(self, store: SqliteStore, lease: Lease, path: Path) -> None:
        await store.book_unconfirmed(lease, await send(store, lease, "2"))
        await store.release(lease, await reserve(store, lease, "3", attempt=2))
        await store.start_run(lease, make_report())
        await store.settle(lease, await send(store, lease, "4", attempt=3), Decimal("4.5"), step=make_step())
        assert by_hand(path, "SELECT attempt, kind, spent / 1e6, reserved / 1e6 FROM ledger ORDER BY id") == [
            (1, "reserve", 0, 2),
            (1, "unconfirmed", 2, -2),
            (2, "reserve", 0, 3),
            (2, "release", 0, -3),
            (3, "reserve", 0, 4),
            (1, "correct", -2, 0),
            (3, "settle", 4.5, -4),
        ]

    async def test_a_correction_says_who_made_it_and_why(self, store: SqliteStore, lease: Lease, path: Path) -> None:
        for step in ("heard", "asked"):
            await store.book_unconfirmed(lease, await send(store, lease, "2", step=step))
        await store.settle(lease, (await store.attempts(RUN_1, "heard"))[0], Decimal(1))
        await store.correct(
            KEY, run_id=RUN_1, step="asked", attempt=1, amount=Decimal(2), by="Ada \ud800", note="as estimated: 2.00"
        )
        lines = by_hand(path, """SELECT step, spent / 1e6, "by", note FROM ledger WHERE kind = 'correct' ORDER BY id""")
        # A lone surrogate cannot be written, and what a person says is not refused for one.
        assert lines == [("heard", -1, None, None), ("asked", 0, "Ada \\ud800", "as estimated: 2.00")]

    @pytest.mark.parametrize(
        ("deed", "complaint"),
        [
            (
                "UPDATE totals SET spent = 0 WHERE window_key = 'daily:2026-05-13'",
                "spring-outreach, daily:2026-05-13: spent 0.00 and reserved 0.00 by the totals,"
                " 1.00 and 0.00 by the ledger",
            ),
            (
                "UPDATE totals SET reserved = 2000000 WHERE campaign_key = '@account' AND window_key LIKE 'weekly:%'",
                "account, weekly:2026-05-10: spent 1.00 and reserved 2.00 by the totals, 1.00 and 0.00 by the ledger",
            ),
            (
                "UPDATE reservations SET account_day = '2026-05-12'",
                "account, daily:2026-05-12: spent 1.00 and reserved 0.00 by the reservations,"
                " 0.00 and 0.00 by the ledger",
            ),
            (
                "DELETE FROM reservations",
                "spring-outreach, monthly:2026-05-01: spent 0.00 and reserved 0.00 by the reservations,"
                " 1.00 and 0.00 by the ledger",
            ),
        ],
    )
    async def test_books_that_were_cooked_are_found_out(self, path: Path, deed: str, complaint: str) -> None:
        async with SqliteStore(path, clock=SettableClock()) as store:
            await store.save_campaign(make_campaign())
            await spend(store, await take_lease(store), "1")
            await assert_books_are_whole(store)
            by_hand(path, deed)
            assert complaint in [*await store.verify_totals(KEY), *await store.verify_totals(None)]


class TestAccountRow:
    @pytest.mark.parametrize(
        ("deed", "complaint"),
        [
            (
                "UPDATE account_budget SET timezone = 'Mars'",
                "the timezone of the account, 'Mars', is not in the time zone",
            ),
            ("UPDATE account_budget SET timezone = 'America'", "the timezone of the account, 'America', is not in"),
            ("DELETE FROM account_budget", "the store has no row with the budget of the account"),
        ],
    )
    async def test_a_budget_that_cannot_be_read_lets_nothing_be_spent(
        self, store: SqliteStore, lease: Lease, path: Path, deed: str, complaint: str
    ) -> None:
        by_hand(path, deed)
        with pytest.raises(StoreError, match=complaint):
            await reserve(store, lease)
        await store.set_account_budget(AccountBudget())
        await reserve(store, lease)


class TestLongBooks:
    async def act(self, store: SqliteStore) -> None:
        """Do everything that a store does in a run and after it."""
        await store.save_campaign(make_campaign(daily=100, perRun=90, timezone="America/New_York"))
        await store.set_account_budget(AccountBudget(weekly=Decimal(1000)))
        lease = await take_lease(store)
        await store.start_run(lease, make_report())
        for step in ("unheard of", "find"):
            await reserve(store, lease, None, step=step)
        lost = await store.book_unconfirmed(lease, await send(store, lease, "2", attempt=2))
        await store.settle(lease, await send(store, lease, "2", attempt=3), Decimal(3), step=make_step())
        await store.settle_late(lost, Decimal(1))
        late = await send(store, lease, "2", step="late")
        await store.settle_late(late, Decimal(1), step=make_step("late"))
        await send(store, lease, "2", step="expired", hold_seconds=0)
        await store.release(lease, await reserve(store, lease, step="released"))
        with pytest.raises(BudgetRefused):
            await reserve(store, lease, "200", step="too much")
        for expired in await store.unconfirmed(KEY):
            await store.correct(
                KEY, run_id=RUN_1, step=expired.step, attempt=1, amount=Decimal(1), by="Ada", note="invoice"
            )
        await store.budget_status(KEY)
        await store.account_status()
        await store.claim_alerts(KEY, ["campaign daily:2026-05-13 0.8"])
        await store.alert_told(KEY, "campaign daily:2026-05-13 0.8")
        await store.set_pause(KEY, Pause(by=PausedBy.PERSON, reason="", since=lease.expires_at), replacing=None)
        await store.ask_approval(lease, step="late", timeout_seconds=60)
        await store.suspend_run(lease, make_report())
        await store.decide_approval(RUN_1, "late", ApprovalState.APPROVED, by="Ada")
        for asked in ({"campaign_key": KEY}, {"run_id": RUN_1}, {"waiting_only": True}):
            await store.list_approvals(**asked)
        await store.record_audit(AuditEntry(at=lease.expires_at, actor="Ada", action=AuditAction.STEP_APPROVED))
        await store.list_audit()
        await store.list_audit(campaign_key=KEY)
        await store.finish_run(lease, make_report())
        await store.campaign_figures()
        await store.run_cost(RUN_1)
        await store.get_run(RUN_1)
        await store.list_runs(KEY)
        await store.running_runs()
        await store.release_lease(lease)
        await store.delete_campaign(KEY)

    async def test_no_act_reads_a_whole_table_of_them(self, path: Path) -> None:
        statements: list[str] = []
        async with SqliteStore(path, clock=SettableClock()) as store:
            await store._file.read(lambda db: db.set_trace_callback(statements.append))
            await self.act(store)
        with closing(sqlite3.connect(path)) as db:
            plans = {
                statement: [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}")]
                for statement in statements
                if re.match("SELECT|INSERT|UPDATE|DELETE", statement)
            }
        assert len(plans) > 100
        scans = {
            (statement, step)
            for statement, plan in plans.items()
            for step in plan
            # What waits and what runs have an index of their own, and of the audit the newest are read, up to a limit.
            if re.match(r"SCAN (reservations|ledger|totals|alerts|run_steps|leases|lease_queue)", step)
            or re.match(r"SCAN (approvals|audit|runs)(?! USING INDEX (waiting_|audit_by_time|running_))", step)
        }
        assert scans == set()

    async def test_adding_them_up_holds_up_no_other_act(
        self, store: SqliteStore, lease: Lease, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The ledger is as long here as it takes the other act to be done."""
        is_reading, may_go_on = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        real = verify.verify_totals

        def slow(db: sqlite3.Connection, campaign_key: str | None) -> list[str]:
            first = real(db, campaign_key)
            loop.call_soon_threadsafe(is_reading.set)
            asyncio.run_coroutine_threadsafe(may_go_on.wait(), loop).result(timeout=10)
            # What was booked meanwhile is not seen: it is one view of the books.
            assert db.execute("SELECT count(*) FROM ledger").fetchone()[0] == 0
            return first

        monkeypatch.setattr(verify, "verify_totals", slow)
        verifying = asyncio.create_task(store.verify_totals(KEY))
        await is_reading.wait()
        await spend(store, lease, "1")
        may_go_on.set()
        assert await verifying == []
        monkeypatch.undo()

    async def test_who_does_not_wait_for_the_sum_any_more_ends_it(self, store: SqliteStore) -> None:
        endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        began, ended = threading.Event(), threading.Event()

        def count(db: sqlite3.Connection) -> None:
            began.set()
            try:
                db.execute(endless).fetchone()
            finally:
                ended.set()

        counting = asyncio.create_task(store._file.read_aside(count))
        assert await asyncio.to_thread(began.wait, 10)
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
        assert await asyncio.to_thread(ended.wait, 10)
