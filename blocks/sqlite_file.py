"""The SQLite file behind a store: one connection, one thread, one transaction at a time."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TypeVar

from prefect_campaigns.clock import Clock
from prefect_campaigns.errors import StoreError, StoreUnavailable

T = TypeVar("T")

APPLICATION_ID = 0x63616D70
"""Marks a file as ours in its header: "camp"."""

MIGRATIONS = ("sqlite_schema.sql",)
"""What brings a file from each version to the next; a file's version is how many of them it has seen."""

# Beyond the wait for SQLite's lock, which is bounded by itself: how long a disk may hang.
_DISK_GRACE_SECONDS = 5.0


class SqliteFile:
    """Runs whole transactions on a thread of its own.

    A transaction is one plain function that runs from BEGIN to COMMIT without coming back to the event loop.
    So a busy loop never sits on the lock that other processes wait for, and a cancelled caller cannot cut a
    transaction in two: a function that has not begun never runs, one that has begun is committed. (Statement
    by statement, as aiosqlite would have it, a transaction like a reservation's took four times as long.)
    """

    def __init__(self, path: Path, *, clock: Clock, timeout_seconds: float) -> None:
        self.path = path
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the file, made with its folder where it does not exist, and bring it to the newest version.

        Raises:
            StoreUnavailable: it cannot be opened, or is no campaign store.
            StoreError: it is open already, or was written by a newer version of this program.
        """
        if self._thread is not None:
            raise StoreError(f"the store {self.path} is already open")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="campaign-store")
        try:
            deadline = time.monotonic() + self._timeout_seconds
            await self._on_thread(lambda: self._connect(deadline))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what has begun, close the file and end the thread; closing twice does nothing."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        closing = thread.submit(self._disconnect)
        # What was submitted is still run: nothing depends on this coroutine being let to its end.
        thread.shutdown(wait=False)
        try:
            await asyncio.wait_for(
                asyncio.shield(asyncio.wrap_future(closing)), self._timeout_seconds + _DISK_GRACE_SECONDS
            )
        except TimeoutError:
            raise StoreUnavailable(f"the store {self.path} did not close in time") from None
        # Nothing is left to do on it but to end.
        thread.shutdown(wait=True)

    async def write(self, work: Callable[[sqlite3.Connection, datetime], T]) -> T:
        """Run ``work(connection, now)`` under the write lock, and commit unless it raises.

        ``now`` is read once the lock is held: whoever waited does not act on an instant gone by.
        """
        deadline = time.monotonic() + self._timeout_seconds
        return await self._on_thread(lambda: self._transaction("IMMEDIATE", work, deadline))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work(connection)`` on one consistent view of the file."""
        deadline = time.monotonic() + self._timeout_seconds
        return await self._on_thread(lambda: self._transaction("DEFERRED", lambda db, _: work(db), deadline))

    async def _on_thread(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            raise StoreError(f"the store {self.path} is not open")
        limit_seconds = self._timeout_seconds + _DISK_GRACE_SECONDS
        try:
            async with asyncio.timeout(limit_seconds):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except TimeoutError:
            raise StoreUnavailable(f"the store {self.path} did not answer within {limit_seconds:g} s") from None

    # Everything below runs on the thread.

    def _transaction(self, kind: str, work: Callable[[sqlite3.Connection, datetime], T], deadline: float) -> T:
        db = self._connection
        if db is None:
            raise StoreError(f"the store {self.path} is not open")
        try:
            self._wait_at_most(db, deadline)
            db.execute(f"BEGIN {kind}")
            try:
                result = work(db, self._clock.now())
                db.execute("COMMIT")
            except BaseException:
                # Some errors make SQLite roll back by itself.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._translated(error, "did not answer") from error
        return result

    def _wait_at_most(self, db: sqlite3.Connection, deadline: float) -> None:
        # Measured from when the caller asked: ten callers in a row must not wait the whole time each.
        left_seconds = deadline - time.monotonic()
        if left_seconds <= 0:
            raise StoreUnavailable(f"the store {self.path} was busy for {self._timeout_seconds:g} s")
        db.execute(f"PRAGMA busy_timeout = {max(1, round(left_seconds * 1000))}")

    def _connect(self, deadline: float) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Made before SQLite sees it, for the books are nobody else's business. Its -wal and -shm files
            # take the mode of this one. A mode that somebody gave an existing file is left alone.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise StoreUnavailable(f"the store {self.path} cannot be opened: {error.strerror}") from error
        try:
            # Transactions are begun by hand: Python's own are deferred and end where it pleases.
            db = self._connection = sqlite3.connect(self.path, isolation_level=None)
            db.row_factory = sqlite3.Row
            self._wait_at_most(db, deadline)
            version = self._version(db)
            self._use_wal(db, deadline)
            # A commit is on the disk when it returns: "sent" must survive a power cut, or mail goes twice.
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error as error:
            raise self._translated(error, "cannot be opened") from error
        if version < len(MIGRATIONS):
            self._transaction("IMMEDIATE", lambda db, _: self._migrate(db), deadline)

    def _version(self, db: sqlite3.Connection) -> int:
        """Return the file's version; 0 is an empty file."""
        # One statement, so that no other process makes the tables between two looks.
        application_id, version, is_empty = db.execute(
            "SELECT application_id, user_version, NOT EXISTS (SELECT 1 FROM sqlite_master)"
            " FROM pragma_application_id, pragma_user_version"
        ).fetchone()
        if application_id != APPLICATION_ID and not is_empty:
            raise StoreUnavailable(f"the store {self.path} is a database of some other program")
        if version > len(MIGRATIONS):
            raise StoreError(
                f"the store {self.path} has version {version}, of a newer prefect-campaigns; this one knows"
                f" versions up to {len(MIGRATIONS)}"
            )
        return int(version)

    def _use_wal(self, db: sqlite3.Connection, deadline: float) -> None:
        # When several processes make the change at once SQLite says "locked" without its usual patience.
        while True:
            try:
                mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise StoreUnavailable(
                f"the store {self.path} needs SQLite's WAL mode, and its file system has only {mode!r}"
            )

    def _migrate(self, db: sqlite3.Connection) -> None:
        # Looked up again under the lock: another process may have done it meanwhile.
        for name in MIGRATIONS[self._version(db) :]:
            script = resources.files("prefect_campaigns.blocks").joinpath(name).read_text("utf-8")
            for statement in _statements(script):
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _disconnect(self) -> None:
        db, self._connection = self._connection, None
        if db is not None:
            db.close()

    def _translated(self, error: sqlite3.Error, failure: str) -> StoreError:
        # The other kinds are about what was written (a constraint, a value), not about the file.
        if type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError):
            return StoreUnavailable(f"the store {self.path} {failure}: {error}")
        return StoreError(f"the store {self.path} refused what it was told: {error}")


def _statements(script: str) -> Iterator[str]:
    """Yield the script's statements; sqlite3's executescript would commit the transaction they are in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
