"""What marks a SQLite file as a campaign store, and what brings it from version to version.

Processes of an older release may have the file open, or open it again, when a newer one upgrades it. They go on as long
as what is new only adds to the file: so what only adds does not change the file's version, which they look at.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime
from importlib import resources
from pathlib import Path

from prefect_campaigns.blocks.values import instant_text
from prefect_campaigns.errors import OlderWorkers, StoreError, StoreUnavailable

APPLICATION_ID = 0x63616D70
"""Marks a file as ours in its header: "camp"."""

MIGRATIONS = (
    "0001_books.sql",
    "0002_account.sql",
    "0003_successor.sql",
    "0004_drive.sql",
    "0005_running.sql",
    "0006_workers.sql",
    "0007_mails.sql",
    "0008_engines.sql",
    "0009_additions.sql",
    "0010_clock.sql",
    "0011_personal_data.sql",
)
"""What an empty file sees to be of this release, in this order."""

ONLY_ADD = frozenset(
    {
        "0006_workers.sql",
        "0007_mails.sql",
        "0008_engines.sql",
        "0009_additions.sql",
        "0010_clock.sql",
        "0011_personal_data.sql",
    }
)
"""Those that only add tables, columns and indexes, of which an older release need not know. A file lists which it has
seen."""

_CHANGES = tuple(name for name in MIGRATIONS if name not in ONLY_ADD)

VERSION = len(_CHANGES)
"""The version of a file of this release: how many of the others it has seen. Older releases refuse a newer version."""

_ONCE_COUNTED = range(6, 9)
"""The versions of files by which 0006 to 0008 were counted, before there was a list."""


def version_of(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of the file, which messages call by its path; 0 is an empty file.

    Raises:
        StoreUnavailable: it is no campaign store.
        StoreError: a newer version of this program has written it, and it is not for this one any more.
    """
    return _seen(db, path)[0]


def missing(db: sqlite3.Connection, path: Path) -> list[str]:
    """Return the migrations that the file has not seen, in their order.

    Raises:
        StoreError, StoreUnavailable: as ``version_of``.
    """
    version, additions = _seen(db, path)
    seen = {*_CHANGES[:version], *additions}
    return [name for name in MIGRATIONS if name not in seen]


def _seen(db: sqlite3.Connection, path: Path) -> tuple[int, set[str]]:
    """Return the file's version, and what only adds of what it has seen."""
    # One statement, so that no other process makes the tables between two looks.
    application_id, version, is_empty, has_list = db.execute(
        "SELECT application_id, user_version, NOT EXISTS (SELECT 1 FROM sqlite_master),"
        " EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'additions')"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if application_id != APPLICATION_ID and not is_empty:
        raise StoreUnavailable(f"the store {path} is a database of some other program")
    if version in _ONCE_COUNTED and not has_list:
        return _ONCE_COUNTED.start - 1, set(MIGRATIONS[_ONCE_COUNTED.start - 1 : version])
    if version > VERSION:
        raise StoreError(
            f"the store {path} has version {version}, of a newer prefect-campaigns; this one knows"
            f" versions up to {VERSION}"
        )
    return int(version), {row[0] for row in db.execute("SELECT name FROM additions")} if has_list else set()


def upgrade(db: sqlite3.Connection, path: Path, now: datetime) -> None:
    """Bring a file that is in use to this release's version, inside a transaction that its caller began.

    Raises:
        OlderWorkers: workers that live could not go on with it.
        StoreError, StoreUnavailable: as ``version_of``.
    """
    has_workers = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'workers'").fetchone()
    if has_workers and not ONLY_ADD.issuperset(missing(db, path)):
        live = db.execute(
            "SELECT name FROM workers WHERE expires_at > ? ORDER BY name", (instant_text(now),)
        ).fetchall()
        if live:
            raise OlderWorkers(f"the store {path}", [row[0] for row in live])
    migrate(db, path)


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring the file to this release's version, inside a transaction that its caller began.

    Raises:
        StoreError, StoreUnavailable: as ``version_of``.
    """
    for name in missing(db, path):
        script = resources.files("prefect_campaigns.blocks.sqlite").joinpath("migrations", name).read_text("utf-8")
        for statement in _statements(script):
            db.execute(statement)
    db.executemany("INSERT OR IGNORE INTO additions (name) VALUES (?)", [(name,) for name in sorted(ONLY_ADD)])
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")


def _statements(script: str) -> Iterator[str]:
    """Yield the script's statements; sqlite3's executescript would commit the transaction they are in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
