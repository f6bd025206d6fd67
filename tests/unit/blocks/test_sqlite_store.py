"""What only the SQLite store does: its file, its thread, its transactions, and several processes at once."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from store_cases import (
    KEY,
    RUN_1,
    SettableClock,
    make_campaign,
    make_report,
    make_step,
    reserve,
    spend,
    take_lease,
)

from prefect_campaigns.blocks.sqlite import records
from prefect_campaigns.blocks.sqlite.schema import VERSION
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import Lease
from prefect_campaigns.errors import StoreError, StoreUnavailable
from prefect_campaigns.models import Campaign


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "campaigns.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(path, clock=SettableClock()) as store:
        await store.save_campaign(make_campaign())
        yield store
        assert await store.verify_totals(KEY) == []


@pytest.fixture
async def lease(store: SqliteStore) -> Lease:
    return await take_lease(store)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if "campaign-store" in thread.name] == []


def make_file(path: Path, content: bytes = b"", *, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)


def link_to(path: Path, link: Path) -> None:
    link.symlink_to(path)


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def by_hand(path: Path, *statements: str) -> list[sqlite3.Row]:
    """Do to the file what a person with a database tool does."""
    with closing(sqlite3.connect(path)) as db, db:
        return [row for statement in statements for row in db.execute(statement)]


class TestFile:
    async def test_it_and_its_folder_are_made_for_their_owner_only(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b" / "campaigns.db"
        async with SqliteStore(path) as store:
            await store.save_campaign(make_campaign())
            assert modes_in(path.parent) == dict.fromkeys(
                ("campaigns.db", "campaigns.db-wal", "campaigns.db-shm"), 0o600
            )

    async def test_a_mode_that_somebody_gave_it_is_left_alone(self, path: Path) -> None:
        make_file(path, mode=0o660)
        async with SqliteStore(path):
            pass
        assert modes_in(path.parent) == {"campaigns.db": 0o660}

    async def test_what_is_no_database_is_refused_and_left_alone(self, path: Path) -> None:
        make_file(path, b"This is a letter. " * 100)
        with pytest.raises(StoreUnavailable, match=r"campaigns\.db cannot be opened: file is not a database"):
            await SqliteStore(path).__aenter__()
        assert content_of(path) == b"This is a letter. " * 100

    async def test_the_database_of_another_program_is_refused_and_left_alone(self, path: Path) -> None:
        by_hand(path, "CREATE TABLE flow_run (id)")
        before = content_of(path)
        with pytest.raises(StoreUnavailable, match=r"campaigns\.db is a database of some other program"):
            await SqliteStore(path).__aenter__()
        assert content_of(path) == before

    async def test_a_newer_version_is_refused(self, path: Path) -> None:
        async with SqliteStore(path):
            pass
        by_hand(path, f"PRAGMA user_version = {VERSION + 1}")
        with pytest.raises(StoreError, match=f"has version {VERSION + 1}, .* knows versions up to {VERSION}$"):
            await SqliteStore(path).__aenter__()

    async def test_what_a_newer_release_has_only_added_is_no_obstacle(self, path: Path) -> None:
        async with SqliteStore(path) as store:
            await store.save_campaign(make_campaign())
        by_hand(path, "CREATE TABLE later (id)", "INSERT INTO additions VALUES ('9999_later.sql')")
        async with SqliteStore(path) as store:
            assert len(await store.list_campaigns()) == 1
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT count(*) FROM additions WHERE name = '9999_later.sql'").fetchone() == (1,)

    async def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailable, match="cannot be opened: Is a directory"):
            await SqliteStore(tmp_path).__aenter__()

    async def test_a_file_is_no_folder(self, path: Path) -> None:
        make_file(path)
        with pytest.raises(StoreUnavailable, match="cannot be opened: "):
            await SqliteStore(path / "campaigns.db").__aenter__()

    async def test_many_open_a_new_file_at_once(self, path: Path) -> None:
        async def use(number: int) -> None:
            async with SqliteStore(path) as store:
                await store.save_campaign(make_campaign(f"Campaign {number}"))

        await asyncio.gather(*(use(number) for number in range(8)))
        async with SqliteStore(path) as store:
            assert len(await store.list_campaigns()) == 8

    async def test_a_commit_is_on_the_disk_and_rows_hang_together(self, store: SqliteStore, path: Path) -> None:
        def pragma(db: sqlite3.Connection, name: str) -> object:
            return db.execute(f"PRAGMA {name}").fetchone()[0]

        names = ("journal_mode", "synchronous", "foreign_keys", "user_version")
        values = await store._file.read(lambda db: [pragma(db, name) for name in names])
        assert values == ["wal", 2, 1, VERSION]

    def test_its_books_are_named_by_where_the_file_really_is(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(path.parent)
        link_to(path, path.with_name("link.db"))
        names = {SqliteStore(given).books for given in (path, Path("campaigns.db"), Path("link.db"))}
        assert names == {str(path.resolve())}


class TestOpening:
    async def test_it_may_be_opened_again_when_it_was_closed(self, path: Path) -> None:
        store = SqliteStore(path)
        for _ in range(2):
            async with store:
                assert await store.list_campaigns() == []

    async def test_it_is_not_opened_twice_at_once(self, store: SqliteStore) -> None:
        with pytest.raises(StoreError, match="is already open"):
            await store.__aenter__()
        await store.get_campaign(KEY)

    async def test_nothing_works_before_and_after(self, path: Path) -> None:
        store = SqliteStore(path)
        with pytest.raises(StoreError, match="is not open"):
            await store.list_campaigns()
        async with store:
            pass
        await store.__aexit__(None, None, None)
        with pytest.raises(StoreError, match="is not open"):
            await store.list_campaigns()

    @pytest.mark.parametrize("yields", range(4))
    async def test_cancelled_while_opening_it_leaves_nothing_behind(self, path: Path, yields: int) -> None:
        store = SqliteStore(path)
        opening = asyncio.create_task(store.__aenter__())
        for _ in range(yields):
            await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        async with store:
            assert await store.list_campaigns() == []

    async def test_closing_finishes_what_has_begun(self, path: Path) -> None:
        async with SqliteStore(path) as store:
            saves = [asyncio.create_task(store.save_campaign(make_campaign(f"Campaign {n}"))) for n in range(10)]
            await asyncio.sleep(0)
        await asyncio.gather(*saves)

    async def test_cancelled_while_closing_it_still_closes(self, path: Path) -> None:
        store = await SqliteStore(path).__aenter__()
        threads = [thread for thread in threading.enumerate() if "campaign-store" in thread.name]
        closing = asyncio.create_task(store.__aexit__(None, None, None))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        for thread in threads:
            await asyncio.to_thread(thread.join, 10)


class TestWaiting:
    async def test_a_file_that_stays_locked_is_unavailable_and_then_there_again(self, path: Path) -> None:
        async with SqliteStore(path, timeout_seconds=0.2) as store:
            await store.save_campaign(make_campaign())
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                # Reading goes on meanwhile; those that write wait together, not one after the other.
                await store.get_campaign(KEY)
                async with asyncio.timeout(5):
                    answers = await asyncio.gather(
                        *(store.save_campaign(make_campaign(daily=n)) for n in range(30)), return_exceptions=True
                    )
                assert {type(answer) for answer in answers} == {StoreUnavailable}
                assert "did not answer: database is locked" in str(answers[0])
                assert "was busy for 0.2 s" in str(answers[-1])
            await store.save_campaign(make_campaign(daily=1))

    async def test_the_loop_goes_on_while_it_waits(self, path: Path) -> None:
        async with SqliteStore(path) as store:
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                saving = asyncio.create_task(store.save_campaign(make_campaign()))
                for _ in range(1000):
                    await asyncio.sleep(0)
                assert not saving.done()
                other.execute("COMMIT")
            await saving

    async def test_now_is_when_the_lock_was_got(self, path: Path) -> None:
        """Who waited for the lock must not be given a lease that has nearly expired."""
        clock = SettableClock()
        async with SqliteStore(path, clock=clock) as store:
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                asking = asyncio.create_task(take_lease(store, ttl_seconds=60))
                await asyncio.sleep(0)
                clock.advance(seconds=50)
                other.execute("COMMIT")
            assert (await asking).expires_at == clock.now() + timedelta(seconds=60)


class TestCancellation:
    async def test_a_cancelled_write_has_happened_or_has_not(self, store: SqliteStore, lease: Lease) -> None:
        for number in range(150):
            spending = asyncio.create_task(spend(store, lease, "0.01", step=f"step {number}"))
            for _ in range(number % 30):
                await asyncio.sleep(0)
            spending.cancel()
            await asyncio.gather(spending, return_exceptions=True)
            # Nothing is left open: the next one has its turn at once, and the books are whole.
            assert await store.verify_totals(KEY) == []

    async def test_what_waited_for_its_turn_does_not_happen(self, store: SqliteStore, lease: Lease, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            tasks = [asyncio.create_task(reserve(store, lease, attempt=n)) for n in (1, 2, 3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.gather(tasks[1], return_exceptions=True)
            other.execute("COMMIT")
        await asyncio.gather(tasks[0], tasks[2])
        assert [attempt.attempt for attempt in await store.attempts(RUN_1, "find")] == [1, 3]


class TestRows:
    async def test_a_row_holds_what_was_given_and_no_more(self, store: SqliteStore, path: Path) -> None:
        campaign = Campaign.model_validate(
            {"$schema": "x.json", **make_campaign(daily="0.1").model_dump(by_alias=True)}
        )
        await store.save_campaign(campaign)
        assert by_hand(path, "SELECT config FROM campaigns") == [(campaign.model_dump_json(by_alias=True),)]

    async def test_a_campaign_that_was_spoilt_by_hand_is_named(self, store: SqliteStore, path: Path) -> None:
        by_hand(path, "UPDATE campaigns SET config = json_set(config, '$.steps[0].endpoint', 'nowhere')")
        with pytest.raises(StoreError, match=r"row of campaign 'spring-outreach' holds no .*: /steps/0/endpoint: "):
            await store.get_campaign(KEY)

    @pytest.mark.parametrize(
        "spoilt",
        [
            "json_set(config, '$.budget.daily', 'much')",
            "json_set(config, '$.schedule', json('{\"timezone\": \"Mars\"}'))",
        ],
    )
    async def test_a_budget_that_cannot_be_read_lets_nothing_be_spent(
        self, store: SqliteStore, lease: Lease, path: Path, spoilt: str
    ) -> None:
        by_hand(path, f"UPDATE campaigns SET config = {spoilt}")  # noqa: S608
        with pytest.raises(StoreError, match="holds no budget that can be read"):
            await reserve(store, lease)

    async def test_a_hundred_runs_are_read_in_two_queries(self, store: SqliteStore, path: Path) -> None:
        for number in range(100):
            await store.record_skipped_run(make_report(f"run-{number}", steps=(make_step(),)))
        queries: list[str] = []
        with closing(sqlite3.connect(path)) as db:
            db.row_factory = sqlite3.Row
            db.set_trace_callback(queries.append)
            runs = records.list_runs(db, KEY, limit=100)
        assert (len(runs), {len(run.steps) for run in runs}) == (100, {1})
        # SQLite tells of the query inside the first one by itself, as "-- SELECT …".
        assert len([query for query in queries if not query.startswith("--")]) == 2
