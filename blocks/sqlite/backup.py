"""Copies of a campaign store's file: one set aside while runs write, and one put back in its place.

The work is done in a thread. One that has begun goes on to its end when the caller is cancelled.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

from prefect_campaigns.blocks.sqlite.file import connect_existing, make_private_file
from prefect_campaigns.blocks.sqlite.schema import migrate, version_of
from prefect_campaigns.blocks.values import instant_text, optional_instant
from prefect_campaigns.clock import Clock, SystemClock
from prefect_campaigns.errors import StoreError, StoreUnavailable
from prefect_campaigns.money import from_micros

_PATIENCE_SECONDS = 10.0
"""How long restoring waits for its turn to write."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a store holds, for a person who chooses between two.

    Attributes:
        spent: US dollars, of all campaigns, ever.
        newest_line_at: when the ledger was last written to; None when it never was.
    """

    campaigns: int
    runs: int
    ledger_lines: int
    spent: Decimal
    newest_line_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a restore has replaced by what.

    Attributes:
        present: what the store held until now; None when there was none.
        kept: the backup of it, beside the store; None when there was none.
    """

    source: Figures
    present: Figures | None
    kept: Path | None


async def figures_of(path: Path) -> Figures:
    """Return what a store or a backup of one holds.

    Raises:
        StoreError: it is no campaign store, or cannot be read.
    """
    return await asyncio.to_thread(_figures_of, path)


async def backup(path: Path, target: Path) -> Figures:
    """Copy the store at ``path``, as it is at one instant, into one file that only its owner can read.

    Runs go on writing meanwhile. Whatever happens, ``target`` is a whole backup or is not there.

    Returns:
        What the backup holds.

    Raises:
        StoreError: there is no campaign store at ``path``, or ``target`` cannot be written, or exists.
    """
    return await asyncio.to_thread(_backup, path, target)


async def restore(path: Path, source: Path, *, clock: Clock | None = None) -> Restored:
    """Put the content of a backup in the place of what the store at ``path`` holds, which is kept in a file beside it.

    It is one transaction: a crash leaves the old content or the new. Processes that have the store open go on with
    the new content. A backup of an older version is upgraded on its way; the backup itself is only read.

    Raises:
        StoreError: ``source`` is no whole campaign store or of a newer version, or a run is going on, or a file cannot
            be read or written. Nothing has been changed.
        StoreUnavailable: the store was busy for ten seconds.
    """
    return await asyncio.to_thread(_restore, path, source, clock or SystemClock())


# Everything below runs in a thread.


def _figures_of(path: Path) -> Figures:
    # A connection that may write clears the log away when it is the last one to close.
    with opened(path, writable=True) as db:
        return figures_in(db)


def _backup(path: Path, target: Path) -> Figures:
    with opened(path, writable=True) as db:
        _copy_to_file(db, target)
    return _figures_of(target)


def _restore(path: Path, source: Path, clock: Clock) -> Restored:
    if path.exists() and source.exists() and path.samefile(source):
        raise StoreError(f"{source} is the store itself; name a backup of it")
    with translated(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
    prepared = _part_of(path)
    try:
        with opened(source, writable=False) as db:
            _copy_to_file(db, prepared)
        figures = _check_and_upgrade(prepared, source)
        with opened(prepared, writable=False) as db:
            present, kept = _replace(path, db, clock)
    finally:
        prepared.unlink(missing_ok=True)
    return Restored(source=figures, present=present, kept=kept)


def _check_and_upgrade(prepared: Path, source: Path) -> Figures:
    """Bring the copy of a backup to the newest version, once it is known to be whole; return what it holds."""
    with translated(source, "used"), closing(connect_existing(prepared, writable=True)) as db:
        (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise StoreError(f"{source} is damaged, and nothing was restored: {' '.join(verdict.split())}")
        db.execute("BEGIN IMMEDIATE")
        migrate(db, source)
        db.execute("COMMIT")
        return figures_in(db)


def _replace(path: Path, source: sqlite3.Connection, clock: Clock) -> tuple[Figures | None, Path | None]:
    """Write the source over the store in one transaction; return what was there, and where it is kept."""
    with translated(path, "replaced (if it is damaged, move it away and restore again)"):
        make_private_file(path)
        with (
            closing(connect_existing(path, writable=True)) as live,
            closing(connect_existing(path, writable=False)) as view,
        ):
            is_new = version_of(live, path) == 0
            # Those who have it open read on beside a writer in this mode only.
            live.execute("PRAGMA journal_mode = WAL")
            if is_new:
                _write_over(live, source, lambda: None)
                return None, None
            kept: tuple[Figures, Path] | None = None

            def keep() -> None:
                nonlocal kept
                now = clock.now()
                refuse_while_a_run_goes_on(view, now)
                copy = path.with_name(f"{path.name}.{now:%Y-%m-%dT%H-%M-%S.%fZ}")
                _copy_to_file(view, copy)
                kept = figures_in(view), copy

            _write_over(live, source, keep)
            return kept or (None, None)


def _write_over(live: sqlite3.Connection, source: sqlite3.Connection, once_locked: Callable[[], None]) -> None:
    """Copy all pages into the live file, calling ``once_locked`` when nobody else can write to it any more.

    If that raises, nothing has been written.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    is_locked = False

    def after_page(status: int, remaining: int, total: int) -> None:
        nonlocal is_locked
        if is_locked:
            return
        # The first page that could be written holds the lock on the whole file until the last one is committed.
        if status == sqlite3.SQLITE_OK:
            is_locked = True
            once_locked()
        elif time.monotonic() > deadline:
            raise StoreUnavailable(f"the store was busy for {_PATIENCE_SECONDS:g} s; nothing was restored")

    live.execute("PRAGMA busy_timeout = 100")
    source.backup(live, pages=1, progress=after_page, sleep=0.05)


def refuse_while_a_run_goes_on(db: sqlite3.Connection, now: datetime) -> None:
    """Raise StoreError if a run holds a lease that has not run out."""
    lease = db.execute(
        "SELECT * FROM leases WHERE holder IS NOT NULL AND expires_at > ? ORDER BY expires_at DESC LIMIT 1",
        (instant_text(now),),
    ).fetchone()
    if lease is not None:
        key, name = lease["campaign_key"], lease["run_name"]
        # An apply or a delete has a lease too, of a key that no campaign can have.
        who = f"another {name}" if key.startswith("@") else f"run {name} of campaign {key}"
        raise StoreError(
            f"{who} goes on (its lease runs until"
            f" {lease['expires_at']}), and nothing was changed; wait for its end or cancel it, and try again"
        )


def _copy_to_file(db: sqlite3.Connection, target: Path) -> None:
    """Write all that ``db`` sees into a file of its own, in one step."""
    if target.exists():
        raise StoreError(f"{target} exists already; name another file")
    part = _part_of(target)
    with translated(target, "written"):
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with closing(sqlite3.connect(part, isolation_level=None)) as copy:
                # In one go, which is one consistent view.
                db.backup(copy)
                # Without a log beside it, the file is all there is to carry about.
                copy.execute("PRAGMA journal_mode = DELETE")
            # Takes the name, unless somebody took it meanwhile.
            os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex}.part")


@contextmanager
def opened(path: Path, *, writable: bool) -> Iterator[sqlite3.Connection]:
    """Open a campaign store of any version up to ours."""
    if not path.is_file():
        raise StoreError(f"there is no campaign store at {path}")
    with translated(path, "read"), closing(connect_existing(path, writable=writable)) as db:
        if version_of(db, path) == 0:
            raise StoreError(f"there is no campaign store at {path}: the file is empty")
        yield db


@contextmanager
def translated(path: Path, deed: str) -> Iterator[None]:
    """Say of SQLite's and the disk's errors what could not be done with which file."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be {deed}: {error}") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be {deed}: {error.strerror}") from error


def figures_in(db: sqlite3.Connection) -> Figures:
    """Count what a store holds."""
    # One statement, so that runs that go on do not come between two counts.
    campaigns, runs, lines, spent, newest = db.execute(
        "SELECT (SELECT count(*) FROM campaigns), (SELECT count(*) FROM runs), count(*), coalesce(sum(spent), 0),"
        " max(at) FROM ledger"
    ).fetchone()
    return Figures(
        campaigns=campaigns,
        runs=runs,
        ledger_lines=lines,
        spent=from_micros(spent),
        newest_line_at=optional_instant(newest),
    )
