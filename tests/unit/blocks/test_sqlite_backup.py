"""Backing a SQLite store up while runs write, and putting a backup back in its place."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from store_cases import (
    KEY,
    NOON,
    RUN_1,
    SettableClock,
    assert_books_are_whole,
    make_campaign,
    make_report,
    reserve,
    spend,
    take_lease,
    today,
)

from prefect_campaigns.blocks.sqlite import backup as backups
from prefect_campaigns.blocks.sqlite.backup import Figures, Restored, backup, figures_of, restore
from prefect_campaigns.blocks.sqlite.schema import APPLICATION_ID, MIGRATIONS
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import ApprovalState, AuditAction, AuditEntry, Stop
from prefect_campaigns.errors import LeaseLost, StoreError, StoreUnavailable

ONE_SPENT = Figures(campaigns=1, runs=1, ledger_lines=2, spent=Decimal(1), newest_line_at=NOON)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def path(tmp_path: Path, clock: SettableClock) -> Path:
    """A store whose campaign has spent 1.00 in a run that has ended."""
    path = tmp_path / "campaigns.db"
    async with SqliteStore(path, clock=clock) as store:
        await store.save_campaign(make_campaign())
        lease = await take_lease(store)
        await store.start_run(lease, make_report())
        await spend(store, lease, "1")
        await store.release_lease(lease)
    return path


@pytest.fixture
async def target(path: Path, tmp_path: Path) -> Path:
    """A backup of it."""
    target = tmp_path / "backups" / "monday.db"
    target.parent.mkdir()
    await backup(path, target)
    return target


async def spend_more(path: Path, clock: SettableClock, amount: str) -> None:
    async with SqliteStore(path, clock=clock) as store:
        lease = await take_lease(store, "run-2")
        await spend(store, lease, amount)
        await store.release_lease(lease)


async def spent_today(path: Path, clock: SettableClock) -> str:
    async with SqliteStore(path, clock=clock) as store:
        await assert_books_are_whole(store)
        return (await today(store))[0]


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def identity_of(path: Path) -> tuple[int, int]:
    return path.stat().st_dev, path.stat().st_ino


_SPENDER = """
import asyncio, pathlib, sys
from store_cases import SettableClock, spend, take_lease, today
from prefect_campaigns.blocks.sqlite.store import SqliteStore

async def main():
    async with SqliteStore(pathlib.Path(sys.argv[1]), clock=SettableClock()) as store:
        for line in sys.stdin:
            if float(line):
                lease = await take_lease(store, f"run that spends {line.strip()}")
                await spend(store, lease, line.strip())
                await store.release_lease(lease)
            print((await today(store))[0], flush=True)

asyncio.run(main())
"""
"""A process that spends what it is told to, a line an amount, and says what was spent today."""


def by_hand(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)


class TestBackup:
    async def test_it_is_one_whole_store_for_its_owner_only(
        self, path: Path, target: Path, clock: SettableClock
    ) -> None:
        assert modes_in(target.parent) == {"monday.db": 0o600}
        assert await figures_of(target) == await figures_of(path) == ONE_SPENT
        assert modes_in(target.parent) == {"monday.db": 0o600}
        assert await spent_today(target, clock) == "1.000000"

    async def test_it_leaves_nothing_behind_beside_the_store(self, path: Path, target: Path) -> None:
        assert modes_in(path.parent).keys() == {"campaigns.db", "backups"}

    async def test_it_says_what_it_holds(self, tmp_path: Path) -> None:
        async with SqliteStore(tmp_path / "new.db"):
            pass
        assert await backup(tmp_path / "new.db", tmp_path / "copy.db") == Figures(
            campaigns=0, runs=0, ledger_lines=0, spent=Decimal(0), newest_line_at=None
        )

    async def test_it_is_consistent_while_runs_write(self, path: Path, tmp_path: Path) -> None:
        async with SqliteStore(path, clock=SettableClock()) as store:
            lease = await take_lease(store, "run-2")
            spending = [asyncio.create_task(spend(store, lease, "0.1", step=f"step {n}")) for n in range(100)]
            copies = []
            while not all(task.done() for task in spending):
                copies.append(tmp_path / f"copy {len(copies)}.db")
                await backup(path, copies[-1])
            await asyncio.gather(*spending)
        assert len({(await figures_of(copy)).ledger_lines for copy in copies}) > 1
        for copy in copies:
            async with SqliteStore(copy, clock=SettableClock()) as store:
                await assert_books_are_whole(store)

    async def test_what_exists_is_left_as_it_is(self, path: Path, target: Path, clock: SettableClock) -> None:
        await spend_more(path, clock, "2")
        with pytest.raises(StoreError, match=r"monday\.db exists already; name another file"):
            await backup(path, target)
        assert await figures_of(target) == ONE_SPENT
        assert modes_in(target.parent) == {"monday.db": 0o600}

    @pytest.mark.parametrize("missing", ["nothing.db", "no folder/nothing.db"])
    async def test_what_is_not_there_is_not_made(self, tmp_path: Path, missing: str) -> None:
        with pytest.raises(StoreError, match=r"there is no campaign store at .*nothing\.db"):
            await backup(tmp_path / missing, tmp_path / "copy.db")
        assert modes_in(tmp_path) == {}

    async def test_a_folder_that_is_not_there_is_named(self, path: Path, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"copy\.db cannot be written: No such file or directory"):
            await backup(path, tmp_path / "nowhere" / "copy.db")

    async def test_a_folder_is_no_target(self, path: Path, target: Path) -> None:
        with pytest.raises(StoreError, match="backups exists already"):
            await backup(path, target.parent)
        assert modes_in(path.parent).keys() == {"campaigns.db", "backups"}

    async def test_the_loop_goes_on_meanwhile(self, path: Path, tmp_path: Path) -> None:
        copying = asyncio.create_task(backup(path, tmp_path / "copy.db"))
        turns = 0
        while not copying.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 10


class TestRestore:
    async def test_the_store_holds_what_the_backup_held_and_what_it_held_is_kept(
        self, path: Path, target: Path, clock: SettableClock
    ) -> None:
        clock.advance(minutes=5)
        await spend_more(path, clock, "2")
        restored = await restore(path, target, clock=clock)
        kept = path.with_name("campaigns.db.2026-05-13T12-05-00.000000Z")
        present = Figures(campaigns=1, runs=1, ledger_lines=4, spent=Decimal(3), newest_line_at=clock.now())
        assert restored == Restored(source=ONE_SPENT, present=present, kept=kept)
        assert await figures_of(path) == ONE_SPENT
        assert await figures_of(kept) == present
        assert modes_in(path.parent) == {"campaigns.db": 0o600, kept.name: 0o600, "backups": 0o755}
        assert await spent_today(path, clock) == "1.000000"
        # What was kept is a backup like any other.
        clock.advance(minutes=1)
        assert (await restore(path, kept, clock=clock)).source == present
        assert await spent_today(path, clock) == "3.000000"

    async def test_the_stop_approvals_and_who_did_what_are_put_back_too(
        self, path: Path, tmp_path: Path, clock: SettableClock
    ) -> None:
        async with SqliteStore(path, clock=clock) as store:
            await store.set_stop(Stop(by="ada", reason="the list is wrong", since=clock.now()))
            lease = await take_lease(store)
            await store.ask_approval(lease, step="send", timeout_seconds=60)
            await store.release_lease(lease)
            done = AuditEntry(at=clock.now(), actor="ada", action=AuditAction.ALL_STOPPED)
            await store.record_audit(done)
            before = await store.read_stop(), await store.list_approvals(), await store.list_audit()
            await backup(path, tmp_path / "stopped.db")
            await store.set_stop(None)
            await store.decide_approval(RUN_1, "send", ApprovalState.APPROVED, by="ada")
            await store.record_audit(done)
        await restore(path, tmp_path / "stopped.db", clock=clock)
        async with SqliteStore(path, clock=clock) as store:
            assert (await store.read_stop(), await store.list_approvals(), await store.list_audit()) == before
            await store.record_audit(done)

    async def test_the_backup_is_only_read(self, path: Path, target: Path, clock: SettableClock) -> None:
        before = content_of(target)
        set_mode(target, 0o400)
        set_mode(target.parent, 0o500)
        try:
            await restore(path, target, clock=clock)
        finally:
            set_mode(target.parent, 0o700)
        assert content_of(target) == before
        assert modes_in(target.parent) == {"monday.db": 0o400}

    async def test_those_who_have_it_open_go_on_with_the_new_content(
        self, path: Path, target: Path, clock: SettableClock
    ) -> None:
        async with SqliteStore(path, clock=clock) as one, SqliteStore(path, clock=clock) as two:
            before = await take_lease(one, "run-2")
            await spend(one, before, "2")
            await one.release_lease(before)
            assert await today(two) == ("3.000000", "0.000000")
            await restore(path, target, clock=clock)
            assert await today(one) == await today(two) == ("1.000000", "0.000000")
            assert await two.attempts(before.run_id, "find") == []
            with pytest.raises(LeaseLost):
                await reserve(one, before)
            lease = await take_lease(two, "run-2")
            await spend(two, lease, "0.5")
            assert await today(one) == ("1.500000", "0.000000")
            await assert_books_are_whole(one)

    async def test_another_process_that_has_it_open_goes_on_with_the_new_content_in_the_same_file(
        self, path: Path, target: Path, clock: SettableClock
    ) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _SPENDER, str(path)),
            cwd=Path(__file__).parent,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )

        async def after_spending(amount: str) -> str:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(f"{amount}\n".encode())
            return (await process.stdout.readline()).decode().strip()

        async with asyncio.timeout(60):
            assert await after_spending("2") == "3.000000"
            file = identity_of(path)
            await restore(path, target, clock=clock)
            assert identity_of(path) == file, "or the other would go on writing to a file without a name"
            assert await after_spending("0") == "1.000000"
            assert await after_spending("0.5") == "1.500000"
            await process.communicate(b"")
        assert process.returncode == 0
        assert await spent_today(path, clock) == "1.500000"

    async def test_it_is_refused_while_an_apply_goes_on(self, path: Path, target: Path, clock: SettableClock) -> None:
        async with SqliteStore(path, clock=clock) as store:
            await store.acquire_lease(
                "@apply",
                run_id="apply-1",
                run_name="apply",
                holder="apply-1",
                ttl_seconds=60,
                waiting_since=clock.now(),
            )
            with pytest.raises(StoreError, match=r"^another apply goes on .*nothing was changed"):
                await restore(path, target, clock=clock)

    async def test_where_no_store_is_one_is_made(self, target: Path, tmp_path: Path, clock: SettableClock) -> None:
        path = tmp_path / "new" / "folder" / "campaigns.db"
        assert await restore(path, target, clock=clock) == Restored(source=ONE_SPENT, present=None, kept=None)
        assert modes_in(path.parent) == {"campaigns.db": 0o600}
        assert await spent_today(path, clock) == "1.000000"

    async def test_a_backup_of_an_older_version_is_upgraded_on_its_way(
        self, path: Path, tmp_path: Path, clock: SettableClock
    ) -> None:
        source = tmp_path / "old.db"
        script = (Path(backups.__file__).parent / "migrations" / MIGRATIONS[0]).read_text()
        by_hand(source, f"{script}; PRAGMA user_version = 1; PRAGMA application_id = {APPLICATION_ID}")
        before = content_of(source)
        async with SqliteStore(path, clock=clock) as store:
            assert (await restore(path, source, clock=clock)).source.campaigns == 0
            # By then it is of the newest version, or this would not be known to it.
            assert (await store.account_status()).account
        assert content_of(source) == before

    async def test_it_is_refused_while_a_run_goes_on(self, path: Path, target: Path, clock: SettableClock) -> None:
        async with SqliteStore(path, clock=clock) as store:
            lease = await take_lease(store, "run-2", ttl_seconds=60)
            clock.advance(seconds=59.9)
            with pytest.raises(StoreError, match=r"name of run-2 of campaign spring-outreach goes on .*nothing was"):
                await restore(path, target, clock=clock)
            await spend(store, lease, "2")
            assert modes_in(path.parent).keys() == {"campaigns.db", "campaigns.db-wal", "campaigns.db-shm", "backups"}
            clock.advance(seconds=0.1)
            assert (await restore(path, target, clock=clock)).present
            assert await today(store) == ("1.000000", "0.000000")

    async def test_nobody_writes_between_what_is_kept_and_what_takes_its_place(
        self, path: Path, target: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refused = []
        real = backups.refuse_while_a_run_goes_on

        def look(db: sqlite3.Connection, now: datetime) -> None:
            with closing(sqlite3.connect(path, timeout=0)) as other:
                try:
                    other.execute("DELETE FROM campaigns")
                except sqlite3.OperationalError as error:
                    refused.append(str(error))
            real(db, now)

        monkeypatch.setattr(backups, "refuse_while_a_run_goes_on", look)
        await restore(path, target, clock=clock)
        assert refused == ["database is locked"]

    async def test_a_store_that_stays_busy_is_left_alone(
        self, path: Path, target: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backups, "_PATIENCE_SECONDS", 0.2)
        await spend_more(path, clock, "2")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match=r"the store was busy for 0\.2 s; nothing was restored"):
                await restore(path, target, clock=clock)
            other.execute("ROLLBACK")
        assert await spent_today(path, clock) == "3.000000"

    async def test_a_kill_half_way_leaves_the_old_content_or_the_new(
        self, path: Path, target: Path, clock: SettableClock
    ) -> None:
        by_hand(target, "CREATE TABLE ballast (x); INSERT INTO ballast VALUES (zeroblob(40000000))")
        await spend_more(path, clock, "2")
        deed = "import asyncio, pathlib, sys; from prefect_campaigns.blocks.sqlite.backup import restore;"
        deed += "asyncio.run(restore(*map(pathlib.Path, sys.argv[1:])))"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", deed, str(path), str(target))
        async with asyncio.timeout(60):
            while size_of(path.with_name("campaigns.db-wal")) < 1_000_000 and process.returncode is None:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            if process.returncode is None:
                process.kill()
            assert await process.wait() in (-signal.SIGKILL, 0)
        assert await spent_today(path, clock) in ("1.000000", "3.000000")


class TestWhatIsNotRestored:
    """Each is refused, and the store is what it was."""

    @pytest.fixture(autouse=True)
    async def the_store_is_as_before(self, path: Path, clock: SettableClock) -> AsyncIterator[None]:
        yield
        assert await spent_today(path, clock) == "1.000000"
        assert [name for name in modes_in(path.parent) if "2026" in name or "part" in name] == []

    async def test_what_is_not_there(self, path: Path, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"there is no campaign store at .*nowhere\.db"):
            await restore(path, tmp_path / "nowhere.db")

    async def test_an_empty_file(self, path: Path, tmp_path: Path) -> None:
        write(tmp_path / "empty.db", b"")
        with pytest.raises(StoreError, match=r"there is no campaign store at .*empty\.db: the file is empty"):
            await restore(path, tmp_path / "empty.db")

    async def test_a_letter(self, path: Path, tmp_path: Path) -> None:
        write(tmp_path / "letter.db", b"This is a letter. " * 100)
        with pytest.raises(StoreError, match=r"letter\.db cannot be read: file is not a database"):
            await restore(path, tmp_path / "letter.db")

    async def test_the_database_of_another_program(self, path: Path, tmp_path: Path) -> None:
        by_hand(tmp_path / "prefect.db", "CREATE TABLE flow_run (id)")
        with pytest.raises(StoreError, match=r"prefect\.db is a database of some other program"):
            await restore(path, tmp_path / "prefect.db")

    async def test_a_newer_version(self, path: Path, target: Path) -> None:
        by_hand(target, "PRAGMA user_version = 99")
        with pytest.raises(StoreError, match=r"monday\.db has version 99, of a newer prefect-campaigns"):
            await restore(path, target)

    async def test_a_damaged_backup(self, path: Path, target: Path) -> None:
        content = bytearray(content_of(target))
        # The ledger's root page, but not its first bytes, without which SQLite would not even look at it.
        with closing(sqlite3.connect(target)) as db:
            (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ledger_of_run'").fetchone()
        content[page * 4096 - 40 : page * 4096] = b"\xff" * 40
        write(target, bytes(content))
        with pytest.raises(StoreError, match=r"monday\.db is damaged, and nothing was restored: "):
            await restore(path, target)

    async def test_half_a_backup(self, path: Path, target: Path) -> None:
        write(target, content_of(target)[: 4096 * 5])
        with pytest.raises(StoreError, match=r"monday\.db (is damaged|cannot be)"):
            await restore(path, target)

    async def test_the_store_itself(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "link.db").symlink_to(path)
        for source in (path, tmp_path / "link.db"):
            with pytest.raises(StoreError, match="is the store itself; name a backup of it"):
                await restore(path, source)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"This is a letter. " * 100, "cannot be replaced .*move it away and restore again.*: file is not a database"),
        (None, "is a database of some other program"),
    ],
)
async def test_what_is_no_store_is_not_replaced(
    target: Path, tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    other = tmp_path / "other.db"
    by_hand(other, "CREATE TABLE flow_run (id)") if content is None else write(other, content)
    before = content_of(other)
    with pytest.raises(StoreError, match=complaint):
        await restore(other, target)
    assert content_of(other) == before


async def test_figures_are_of_one_instant(path: Path, clock: SettableClock) -> None:
    async with SqliteStore(path, clock=clock) as store:
        lease = await take_lease(store, "run-2")
        clock.advance(hours=1)
        await reserve(store, lease, "9")
        assert await figures_of(path) == replace(ONE_SPENT, ledger_lines=3, newest_line_at=clock.now())
        assert await store.run_cost(RUN_1) == 1
        assert (await store.get_campaign(KEY)).key == KEY
