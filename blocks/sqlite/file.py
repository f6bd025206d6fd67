"""The SQLite file behind a store: one connection, one thread, one transaction at a time."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from prefect_campaigns.blocks.sqlite.clock_steps import follow
from prefect_campaigns.blocks.sqlite.schema import missing, upgrade
from prefect_campaigns.clock import Clock
from prefect_campaigns.errors import StoreError, StoreUnavailable

T = TypeVar("T")

# Beyond the wait for SQLite's lock, which is bounded by itself: how long a disk may hang.
_DISK_GRACE_SECONDS = 5.0

# For what goes through the whole ledger: a million lines are added up in two seconds and upgraded in twenty.
_LONG_SECONDS = 300.0


def connect_existing(path: Path, *, writable: bool) -> sqlite3.Connection:
    """Return a connection to a file that must be there already."""
    # Transactions are begun by hand: Python's own are deferred and end where it pleases.
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'rw' if writable else 'ro'}", uri=True, isolation_level=None
    )
    db.row_factory = sqlite3.Row
    return db


def make_private_file(path: Path) -> None:
    """Make an empty file, with its folder, that only its owner can read; leave one that is there as it is.

    SQLite gives its -wal and -shm files the same mode. A file that exists is never opened but by SQLite: closing it
    would drop every lock that this process holds on it (so POSIX has it), those of its open stores among them, and
    another process that thinks itself alone would take the write-ahead log away from under them.

    Raises:
        OSError: it cannot be made.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        os.link(draft, path)
    except FileExistsError:
        # Another process was first.
        return
    finally:
        draft.unlink()


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
            lacks_something = await self._on_thread(lambda: self._connect(deadline))
            if lacks_something:
                # Who finds another process upgrading the file waits for it, and then finds nothing left to do.
                deadline = time.monotonic() + _LONG_SECONDS
                await self._on_thread(
                    lambda: self._transaction("IMMEDIATE", lambda db, now: upgrade(db, self.path, now), deadline),
                    limit_seconds=_LONG_SECONDS,
                )
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

        ``now`` is read once the lock is held: whoever waited does not act on an instant gone by. If the clock has been
        set since the last write, what expires soon has moved with it.
        """

        def follow_and_work(db: sqlite3.Connection, now: datetime) -> T:
            follow(db, self._clock)
            return work(db, now)

        deadline = time.monotonic() + self._timeout_seconds
        return await self._on_thread(lambda: self._transaction("IMMEDIATE", follow_and_work, deadline))

    async def empty_log(self) -> bool:
        """Carry what was written over to the file itself, and empty the log beside it; return whether that was so.

        Otherwise somebody reads or writes at this moment.
        """

        def empty() -> bool:
            if self._connection is None:
                raise StoreError(f"the store {self.path} is not open")
            is_busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not is_busy

        return await self._on_thread(empty)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work(connection)`` on one consistent view of the file."""
        deadline = time.monotonic() + self._timeout_seconds
        return await self._on_thread(lambda: self._transaction("DEFERRED", lambda db, _: work(db), deadline))

    async def read_aside(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work(connection)``, which takes long, on one consistent view of the file.

        It has a connection and a thread of its own, so that nothing else waits for it, and is broken off when the
        caller is cancelled.

        Raises:
            StoreUnavailable: the file cannot be read, or not within five minutes.
        """
        if self._thread is None:
            raise StoreError(f"the store {self.path} is not open")
        is_cancelled = threading.Event()
        try:
            async with asyncio.timeout(_LONG_SECONDS + _DISK_GRACE_SECONDS):
                return await asyncio.to_thread(self._read_aside, work, is_cancelled)
        except TimeoutError:
            raise StoreUnavailable(f"the store {self.path} was not read within {_LONG_SECONDS:g} s") from None
        finally:
            is_cancelled.set()

    def _read_aside(self, work: Callable[[sqlite3.Connection], T], is_cancelled: threading.Event) -> T:
        deadline = time.monotonic() + _LONG_SECONDS
        try:
            with closing(connect_existing(self.path, writable=False)) as db:
                self._wait_at_most(db, time.monotonic() + self._timeout_seconds)
                db.set_progress_handler(lambda: is_cancelled.is_set() or time.monotonic() > deadline, 10_000)
                db.execute("BEGIN")
                return work(db)
        except sqlite3.Error as error:
            raise self._translated(error, "did not answer") from error

    async def _on_thread(self, work: Callable[[], T], *, limit_seconds: float | None = None) -> T:
        if self._thread is None:
            raise StoreError(f"the store {self.path} is not open")
        limit_seconds = (limit_seconds or self._timeout_seconds) + _DISK_GRACE_SECONDS
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

    def _connect(self, deadline: float) -> bool:
        """Open the file and return whether it has to be upgraded."""
        try:
            make_private_file(self.path)
        except OSError as error:
            raise StoreUnavailable(f"the store {self.path} cannot be opened: {error.strerror}") from error
        try:
            db = self._connection = connect_existing(self.path, writable=True)
            self._wait_at_most(db, deadline)
            lacks_something = bool(missing(db, self.path))
            self._use_wal(db, deadline)
            # A commit is on the disk when it returns: "sent" must survive a power cut, or mail goes twice.
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            # What is removed is overwritten: it may have to be gone, and not merely unlisted.
            db.execute("PRAGMA secure_delete = ON")
        except sqlite3.Error as error:
            raise self._translated(error, "cannot be opened") from error
        return lacks_something

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

    def _disconnect(self) -> None:
        db, self._connection = self._connection, None
        if db is not None:
            db.close()

    def _translated(self, error: sqlite3.Error, failure: str) -> StoreError:
        # The other kinds are about what was written (a constraint, a value), not about the file.
        if type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError):
            return StoreUnavailable(f"the store {self.path} {failure}: {error}")
        return StoreError(f"the store {self.path} refused what it was told: {error}")
