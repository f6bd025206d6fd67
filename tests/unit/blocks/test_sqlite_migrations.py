"""A SQLite store that an older version has written, and what is left of it: everything."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib import resources
from pathlib import Path
from uuid import UUID

import pytest
from store_cases import KEY, RUN_1, SettableClock, account_books, assert_books_are_whole, make_campaign, send, today

from prefect_campaigns.blocks.sqlite.schema import APPLICATION_ID, MIGRATIONS, ONLY_ADD, VERSION, missing
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import (
    ApprovalState,
    AttemptState,
    AuditAction,
    AuditEntry,
    Lease,
    Pause,
    PausedBy,
    Stop,
)
from prefect_campaigns.budget import AccountBudget, Period, window_key
from prefect_campaigns.errors import OlderWorkers, StoreError

TODAY = date(2026, 5, 13)
DAYS = 140
"""As many as it takes to see a year begin within a week."""

LEASED = "2026-05-13T12:01:00.000000+00:00"
TABLES = ("campaigns", "leases", "lease_queue", "reservations", "ledger", "totals", "runs", "run_steps")

# State, estimate, booked; then the ledger lines it had by then: kind, spent, reserved.
REQUESTS: list[tuple[str, int, int | None, list[tuple[str, int, int]]]] = [
    ("held", 11, None, [("reserve", 0, 11)]),
    ("sent", 20, None, [("reserve", 0, 20)]),
    ("settled", 40, 45, [("reserve", 0, 40), ("settle", 45, -40)]),
    ("released", 80, None, [("reserve", 0, 80), ("release", 0, -80)]),
    ("unconfirmed", 160, 160, [("reserve", 0, 160), ("unconfirmed", 160, -160)]),
    ("corrected", 320, 7, [("reserve", 0, 320), ("unconfirmed", 320, -320), ("correct", -313, 0)]),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of version 1 with a row of every kind, and spending on many days."""
    path = tmp_path / "campaigns.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(
            resources.files("prefect_campaigns.blocks.sqlite").joinpath(f"migrations/{MIGRATIONS[0]}").read_text()
        )
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
        for name in ("Spring Outreach", "Another"):
            campaign = make_campaign(name, daily=5)
            db.execute(
                "INSERT INTO campaigns VALUES (?, ?, ?, ?, NULL, 1, ?, ?)",
                (campaign.slug, f"{len(name):032}", name, campaign.model_dump_json(by_alias=True), LEASED, LEASED),
            )
        db.execute("INSERT INTO leases VALUES (?, 7, ?, 'blue fox', 'a worker', ?)", (KEY, RUN_1, LEASED))
        db.execute("INSERT INTO lease_queue VALUES (?, 'waiting', 'red fox', ?, ?)", (KEY, LEASED, LEASED))
        db.execute(
            "INSERT INTO runs VALUES (?, 'blue fox', ?, 'Spring', 'running', NULL, NULL, 'manual', ?, NULL)",
            (RUN_1, KEY, LEASED),
        )
        detail = '{"counts": {}, "result": null, "warnings": [], "error": null}'
        db.execute(
            "INSERT INTO run_steps VALUES (?, 'find', 0, 'prospecting', 'running', 1, NULL, NULL, NULL, ?)",
            (RUN_1, detail),
        )
        for number in range(DAYS):
            for key in (KEY, "another"):
                spend_in_version_1(db, key, TODAY - timedelta(days=number), number)
    return path


def spend_in_version_1(db: sqlite3.Connection, key: str, day: date, number: int) -> None:
    windows = [window_key(period, day) for period in Period]
    run = RUN_1 if key == KEY else "another run"
    for window in windows:
        db.execute("INSERT OR IGNORE INTO totals VALUES (?, ?, 0, 0)", (key, window))
    for step, (state, estimate, booked, lines) in enumerate(REQUESTS):
        what = (f"{key} {number}", step + 1)
        db.execute(
            "INSERT INTO reservations (campaign_key, run_id, step, attempt, state, estimate, booked, daily_window,"
            " weekly_window, monthly_window, reserved_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (key, run, *what, state, estimate, booked, *windows, LEASED, "2027-01-01T00:00:00.000000+00:00"),
        )
        for kind, spent, reserved in lines:
            db.execute(
                "INSERT INTO ledger (at, campaign_key, run_id, step, attempt, kind, spent, reserved, daily_window,"
                " weekly_window, monthly_window) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (LEASED, key, run, *what, kind, spent, reserved, *windows),
            )
            for window in windows:
                db.execute(
                    "UPDATE totals SET spent = spent + ?, reserved = reserved + ? WHERE campaign_key = ?"
                    " AND window_key = ?",
                    (spent, reserved, key, window),
                )


def content(path: Path) -> dict[str, list[dict[str, object]]]:
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        return {table: [dict(row) for row in db.execute(f"SELECT * FROM {table}")] for table in TABLES}  # noqa: S608


@pytest.fixture
def store(path: Path) -> SqliteStore:
    return SqliteStore(path, clock=SettableClock())


def rows_without_new(
    before: dict[str, list[dict[str, object]]], after: dict[str, list[dict[str, object]]]
) -> Iterator[tuple[str, list[dict[str, object]]]]:
    """Yield what is there now, in the columns and of the owners that there were before."""
    for table, rows in after.items():
        old_columns = before[table][0].keys()
        kept = [row for row in rows if row.get("campaign_key") != "@account"]
        yield table, [{column: row[column] for column in old_columns} for row in kept]


async def test_nothing_of_it_is_lost(store: SqliteStore, path: Path) -> None:
    before = content(path)
    async with store:
        pass
    assert dict(rows_without_new(before, content(path))) == before


async def test_its_lines_are_of_the_campaigns_own_day_for_the_account_and_add_up(store: SqliteStore) -> None:
    async with store:
        await assert_books_are_whole(store)
        query = "SELECT DISTINCT daily_window, account_day FROM ledger"
        found = await store._file.read(lambda db: db.execute(query).fetchall())
        days = [TODAY - timedelta(days=ago) for ago in range(DAYS)]
        assert {tuple(row) for row in found} == {(f"daily:{day}", f"{day}") for day in days}
        # Of both campaigns: 45 + 160 + 7 millionths spent, 11 + 20 reserved.
        assert (await account_books(store))["daily"] == (Decimal("0.000424"), Decimal("0.000062"))


async def test_no_limits_pauses_alerts_or_corrections_by_a_person_are_made_up(store: SqliteStore, path: Path) -> None:
    async with store:
        assert await store.account_budget() == AccountBudget()
        assert [record.pause for record in await store.list_campaigns()] == [None, None]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute('SELECT DISTINCT "by", note FROM ledger').fetchall() == [(None, None)]
        assert db.execute("SELECT * FROM alerts").fetchall() == []


def running_lease() -> Lease:
    return Lease(
        campaign_key=KEY,
        run_id=RUN_1,
        run_name="blue fox",
        holder="a worker",
        fence=7,
        expires_at=SettableClock().now(),
    )


async def test_its_run_goes_on(store: SqliteStore) -> None:
    lease = running_lease()
    async with store:
        (sent,) = [a for a in await store.attempts(RUN_1, f"{KEY} 0") if a.state is AttemptState.SENT]
        await store.settle(lease, sent, Decimal("0.1"))
        (unconfirmed, *_) = await store.unconfirmed(KEY)
        await store.settle(lease, unconfirmed, Decimal("0.2"))
        await store.settle(lease, await send(store, lease, "0.3"), Decimal("0.3"))
        assert await today(store) == ("0.600052", "0.000011")
        await assert_books_are_whole(store)


async def test_its_ledger_stays_append_only_and_goes_on_where_it_was(store: SqliteStore, path: Path) -> None:
    last = max(int(str(line["id"])) for line in content(path)["ledger"])
    async with store:
        (unconfirmed, *_) = await store.unconfirmed(KEY)
        await store.settle_late(unconfirmed, Decimal(1))
    assert content(path)["ledger"][-1]["id"] == last + 1
    with closing(sqlite3.connect(path)) as db:
        for deed in ("UPDATE ledger SET spent = 0", "DELETE FROM ledger", "REPLACE INTO ledger SELECT * FROM ledger"):
            with pytest.raises(sqlite3.IntegrityError, match="the ledger is append-only"):
                db.execute(deed)


async def test_many_that_open_it_at_once_upgrade_it_once(path: Path) -> None:
    async def use() -> Decimal:
        async with SqliteStore(path, clock=SettableClock()) as store:
            return (await account_books(store))["daily"][0]

    assert set(await asyncio.gather(*(use() for _ in range(6)))) == {Decimal("0.000424")}


async def test_an_upgrade_that_cannot_be_done_changes_nothing(store: SqliteStore, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE reservations SET daily_window = 'daily:yesterday' WHERE id = 100")
    before = content(path)
    with pytest.raises(StoreError, match="refused what it was told: CHECK constraint failed: account_day"):
        await store.__aenter__()
    assert content(path) == before
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)


async def test_a_process_of_the_older_version_can_book_nothing_any_more(store: SqliteStore, path: Path) -> None:
    """It has the file open since before the upgrade, and knows nothing of the account."""
    with closing(sqlite3.connect(path)) as older:
        assert older.execute("SELECT count(*) FROM ledger").fetchone()
        async with store:
            with pytest.raises(sqlite3.IntegrityError, match=r"NOT NULL constraint failed: reservations\.account_day"):
                spend_in_version_1(older, KEY, TODAY, 1000)
            older.rollback()


PAUSED = Pause(
    by=PausedBy.BUDGET,
    reason="budget: daily 5.00 reached, spent 5.03",
    since=datetime(2026, 5, 13, 9, tzinfo=UTC),
    until=datetime(2026, 5, 14, tzinfo=UTC),
    awaited_run_id=UUID(int=7),
)
SUCCESSOR = ("00000000-0000-0000-0000-000000000001", "the other books", LEASED)


def at(path: Path, names: Sequence[str], *, version: int) -> Path:
    """Bring a file of version 1 to another one."""
    with closing(sqlite3.connect(path)) as db, db:
        for name in names:
            folder = resources.files("prefect_campaigns.blocks.sqlite")
            db.executescript(folder.joinpath(f"migrations/{name}").read_text())
        db.execute(f"PRAGMA user_version = {version}")
    return path


class TestVersion3:
    """The first one whose campaigns were paused, and whose books were closed."""

    @pytest.fixture
    def older(self, path: Path) -> Path:
        at(path, MIGRATIONS[1:3], version=3)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(
                "UPDATE campaigns SET paused_by = ?, pause_reason = ?, paused_since = ?, paused_until = ?,"
                " awaited_run_id = ?, deployment_id = ? WHERE key = ?",
                (
                    *(PAUSED.by, PAUSED.reason, "2026-05-13T09:00:00.000000+00:00"),
                    *("2026-05-14T00:00:00.000000+00:00", str(PAUSED.awaited_run_id), str(UUID(int=8)), KEY),
                ),
            )
        return path

    async def test_nothing_of_it_is_lost(self, older: Path) -> None:
        before = content(older)
        async with SqliteStore(older, clock=SettableClock()) as store:
            records = {record.key: record for record in await store.list_campaigns()}
            assert await store.read_stop() is None
            assert list(await store.list_audit()) == list(await store.list_approvals()) == []
        assert {
            table: [{column: row[column] for column in before[table][0]} for row in rows]
            for table, rows in content(older).items()
        } == before
        assert [(records[key].pause, records[key].origin) for key in (KEY, "another")] == [(PAUSED, None), (None, None)]
        assert (records[KEY].id.int, records[KEY].deployment_id) == (int("15", 16), UUID(int=8))

    async def test_its_campaigns_may_be_paused_by_the_stop_from_now_on(self, older: Path) -> None:
        stopped = Pause(by=PausedBy.STOP, reason="stopped by ada", since=PAUSED.since)
        async with SqliteStore(older, clock=SettableClock()) as store:
            assert await store.set_pause("another", stopped, replacing=None)
            with pytest.raises(StoreError, match="CHECK constraint failed: paused_by"):
                await store._file.write(lambda db, _: db.execute("UPDATE campaigns SET paused_by = 'nobody'"))

    async def test_books_that_were_closed_are_upgraded_and_stay_closed(self, older: Path) -> None:
        with closing(sqlite3.connect(older)) as db, db:
            db.execute("INSERT INTO successor VALUES (1, ?, ?, ?)", SUCCESSOR)
        closed = "these books are closed: they were carried over to another store"
        async with SqliteStore(older, clock=SettableClock()) as store:
            assert (await store.get_campaign(KEY)).pause == PAUSED
            for refused in (
                store.save_campaign(make_campaign("Third")),
                store.save_campaign(make_campaign()),
                store.delete_campaign(KEY),
                store.set_pause(KEY, None, replacing=PAUSED),
                store.set_stop(Stop(by="ada", reason="", since=PAUSED.since)),
                store.ask_approval(running_lease(), step="send", timeout_seconds=60),
                store.record_audit(AuditEntry(at=PAUSED.since, actor="ada", action=AuditAction.ALL_STOPPED)),
            ):
                with pytest.raises(StoreError, match=closed):
                    await refused
        assert [row["key"] for row in content(older)["campaigns"]] == [KEY, "another"]

    async def test_books_that_are_closed_now_end_no_stop_and_decide_no_approval(self, older: Path) -> None:
        async with SqliteStore(older, clock=SettableClock()) as store:
            await store.set_stop(Stop(by="ada", reason="", since=PAUSED.since))
            asked = await store.ask_approval(running_lease(), step="send", timeout_seconds=60)
            await store._file.write(lambda db, _: db.execute("INSERT INTO successor VALUES (1, ?, ?, ?)", SUCCESSOR))
            for refused in (
                store.set_stop(None),
                store.decide_approval(RUN_1, "send", ApprovalState.APPROVED, by="ada"),
            ):
                with pytest.raises(StoreError, match="these books are closed"):
                    await refused
            assert await store.read_stop() is not None
            assert list(await store.list_approvals()) == [asked]


def shape(path: Path) -> dict[tuple[str, str], object]:
    """Return all columns of the file's tables, and what its indexes and triggers were made by."""
    with closing(sqlite3.connect(path)) as db:
        columns = db.execute(
            'SELECT t.name, c.name, c.type, c."notnull", c.dflt_value, c.pk'
            " FROM sqlite_master AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table'"
        )
        others = db.execute("SELECT type, name, sql FROM sqlite_master WHERE type <> 'table' AND sql IS NOT NULL")
        return {(row[0], row[1]): row[2:] for rows in (columns, others) for row in rows}


class TestVersion5:
    """The one of 0.1.0, whose processes may have the file open, or open it again, when it is upgraded."""

    @pytest.fixture
    def older(self, path: Path) -> Path:
        return at(path, MIGRATIONS[1:5], version=5)

    async def test_for_its_processes_nothing_changes(self, older: Path) -> None:
        before = shape(older)
        async with SqliteStore(older, clock=SettableClock()) as store:
            await store.list_workers()
        after = shape(older)
        assert before.items() <= after.items()
        # A column of theirs that is new may be left out, as they do.
        tables = {table for table, _ in before} - {"index", "trigger"}
        added = [after[table, column] for table, column in after.keys() - before.keys() if table in tables]
        assert set(added) <= {("TEXT", 0, None, 0)}
        with closing(sqlite3.connect(older)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (5,)

    async def test_what_it_was_upgraded_with_it_has_once(self, older: Path) -> None:
        for _ in range(2):
            async with SqliteStore(older, clock=SettableClock()):
                pass
        with closing(sqlite3.connect(older)) as db:
            assert missing(db, older) == []
            assert [name for (name,) in db.execute("SELECT name FROM additions ORDER BY name")] == sorted(ONLY_ADD)

    async def test_what_its_workers_could_not_live_with_waits_until_they_have_ended(self, older: Path) -> None:
        clock = SettableClock()
        async with SqliteStore(older, clock=clock) as store:
            await store.keep_worker(UUID(int=1), name="of yesterday", pool="campaigns", ttl_seconds=60)
        with closing(sqlite3.connect(older)) as db, db:
            db.execute("DROP INDEX running_runs")
            db.execute("PRAGMA user_version = 4")
        before = content(older)
        with pytest.raises(OlderWorkers, match=r"changed, while workers .*: of yesterday\. Stop them"):
            await SqliteStore(older, clock=clock).__aenter__()
        assert content(older) == before
        clock.advance(seconds=60)
        async with SqliteStore(older, clock=clock) as store:
            assert dict(await store.running_runs()) != {}

    @pytest.mark.parametrize("version", [6, 7, 8])
    async def test_a_file_that_counted_what_only_adds_goes_on(self, path: Path, version: int) -> None:
        at(path, MIGRATIONS[1:version], version=version)
        async with SqliteStore(path, clock=SettableClock()) as store:
            assert list(await store.list_workers()) == []
            assert list(await store.engine_troubles()) == []
        with closing(sqlite3.connect(path)) as db:
            assert (db.execute("PRAGMA user_version").fetchone(), missing(db, path)) == ((VERSION,), [])


async def test_the_audit_is_append_only(store: SqliteStore, path: Path) -> None:
    async with store:
        await store.record_audit(AuditEntry(at=PAUSED.since, actor="ada", action=AuditAction.ALL_STOPPED))
    with closing(sqlite3.connect(path)) as db:
        for deed in ("UPDATE audit SET actor = 'bob'", "DELETE FROM audit", "REPLACE INTO audit SELECT * FROM audit"):
            with pytest.raises(sqlite3.IntegrityError, match="the audit is append-only"):
                db.execute(deed)


async def test_a_line_of_an_action_that_only_a_newer_version_knows_is_named(store: SqliteStore) -> None:
    async with store:
        insert = "INSERT INTO audit (at, actor, action, detail) VALUES (?, 'ada', 'moon.landed', '{}')"
        await store._file.write(lambda db, _: db.execute(insert, (LEASED,)))
        with pytest.raises(StoreError, match=r"has the action 'moon\.landed', .* it knows campaign\.created, "):
            await store.list_audit()
