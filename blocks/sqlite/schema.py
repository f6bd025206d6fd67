"""What marks a SQLite file as a campaign store, and what brings it from version to version."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from prefect_campaigns.errors import StoreError, StoreUnavailable

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
    "0009_clock.sql",
)
"""What brings a file from each version to the next; a file's version is how many of them it has seen."""


def version_of(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of the file, which messages call by its path; 0 is an empty file.

    Raises:
        StoreUnavailable: it is no campaign store.
        StoreError: a newer version of this program has written it.
    """
    # One statement, so that no other process makes the tables between two looks.
    application_id, version, is_empty = db.execute(
        "SELECT application_id, user_version, NOT EXISTS (SELECT 1 FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if application_id != APPLICATION_ID and not is_empty:
        raise StoreUnavailable(f"the store {path} is a database of some other program")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"the store {path} has version {version}, of a newer prefect-campaigns; this one knows"
            f" versions up to {len(MIGRATIONS)}"
        )
    return int(version)


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring the file to the newest version, inside a transaction that its caller began.

    Raises:
        StoreError, StoreUnavailable: as ``version_of``.
    """
    for name in MIGRATIONS[version_of(db, path) :]:
        script = resources.files("prefect_campaigns.blocks.sqlite").joinpath("migrations", name).read_text("utf-8")
        for statement in _statements(script):
            db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _statements(script: str) -> Iterator[str]:
    """Yield the script's statements; sqlite3's executescript would commit the transaction they are in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
