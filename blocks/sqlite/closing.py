"""Closing the books in a SQLite file, because another store goes on with them.

They are held in one transaction from the first look to the closing: nobody writes to them meanwhile, and whoever breaks
off leaves them as they were.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

from prefect_campaigns.blocks.sqlite import records
from prefect_campaigns.blocks.sqlite.backup import (
    Figures,
    figures_in,
    opened,
    refuse_while_a_run_goes_on,
    translated,
)
from prefect_campaigns.blocks.sqlite.bookings import sweep
from prefect_campaigns.blocks.sqlite.file import connect_existing
from prefect_campaigns.blocks.sqlite.schema import migrate, missing, version_of
from prefect_campaigns.blocks.values import instant, instant_text
from prefect_campaigns.clock import Clock, SystemClock
from prefect_campaigns.errors import StoreError, StoreUnavailable
from prefect_campaigns.results import RunReport

T = TypeVar("T")

ROWS = 10_000
"""How many rows are read at once."""

RUNS = 500
"""How many runs are read at once; each has steps, and these what engines said."""

_PATIENCE_SECONDS = 10.0
_CLOSES_SINCE_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Successor:
    """Where closed books went on.

    Attributes:
        id: names this carrying over, in the other store as well.
        books: the other store, for people.
    """

    id: UUID
    books: str
    at: datetime


async def successor_of(path: Path) -> Successor | None:
    """Return where the books in a file went on; None when they are not closed.

    Raises:
        StoreError: it is no campaign store, or cannot be read.
    """
    return await asyncio.to_thread(lambda: _look(path)[1])


@dataclass(frozen=True, kw_only=True)
class LeftBehind:
    """What would be lost if other books took the place of those in a file.

    Attributes:
        successor: where they were to go on, if they are closed: whether they have arrived there, that store knows.
    """

    figures: Figures
    successor: Successor | None


async def left_behind(path: Path) -> LeftBehind | None:
    """Return what would be lost if other books took the place of those in a file; None when that is nothing.

    Nothing is in a file that does not exist (and is not made), or holds neither campaigns nor spending.

    Raises:
        StoreError: it is no campaign store, or cannot be read.
    """

    def look() -> LeftBehind | None:
        if not path.exists() or path.stat().st_size == 0:
            return None
        figures, successor = _look(path)
        return LeftBehind(figures=figures, successor=successor) if figures.campaigns or figures.ledger_lines else None

    return await asyncio.to_thread(look)


def _look(path: Path) -> tuple[Figures, Successor | None]:
    # As figures_of does, a connection that may write, which clears the log away.
    with opened(path, writable=True) as db:
        return figures_in(db), _successor_in(db, path)


def _successor_in(db: sqlite3.Connection, path: Path) -> Successor | None:
    if version_of(db, path) < _CLOSES_SINCE_VERSION:
        return None
    row = db.execute("SELECT * FROM successor").fetchone()
    return None if row is None else Successor(id=UUID(row["id"]), books=row["books"], at=instant(row["at"]))


class HeldBooks:
    """The books in a file while they are carried over; entering the context waits for them and holds them.

    Leaving it without ``close_for`` undoes all that was done: what expired, an upgrade of the file.

    Attributes:
        figures: what they hold.
        successor: where they go on, if they are closed.
    """

    figures: Figures
    successor: Successor | None

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self.path = path
        self._clock = clock or SystemClock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="held-books")
        self._connection: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        """Hold the books, expired reservations seen to.

        Raises:
            StoreError: there is no campaign store, a run is going on, or a request may still be answered.
            StoreUnavailable: the file was busy for ten seconds.
        """
        try:
            await self._on_thread(self._hold)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was submitted is still run: nothing depends on this coroutine being let to its end.
        letting_go = self._thread.submit(self._let_go)
        self._thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(letting_go))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work(connection)``."""
        return await self._on_thread(lambda: self._translating(work, "read"))

    def reservations(self) -> AsyncIterator[list[sqlite3.Row]]:
        """Yield all reservations, oldest first."""
        return self._rows("SELECT * FROM reservations ORDER BY id")

    def ledger(self) -> AsyncIterator[list[sqlite3.Row]]:
        """Yield all lines of the ledger, oldest first."""
        return self._rows("SELECT * FROM ledger ORDER BY id")

    def alerts(self) -> AsyncIterator[list[sqlite3.Row]]:
        """Yield all alerts."""
        return self._rows("SELECT * FROM alerts")

    def approvals(self) -> AsyncIterator[list[sqlite3.Row]]:
        """Yield all approvals, oldest first."""
        return self._rows("SELECT * FROM approvals ORDER BY id")

    def audit(self) -> AsyncIterator[list[sqlite3.Row]]:
        """Yield all lines of the audit, oldest first."""
        return self._rows("SELECT * FROM audit ORDER BY id")

    def mails(self) -> AsyncIterator[list[sqlite3.Row]]:
        """Yield all mails that are owed, or were."""
        return self._rows("SELECT * FROM mails ORDER BY owed_since, event_id, recipient")

    async def runs(self) -> AsyncIterator[list[RunReport]]:
        """Yield all runs with their steps, oldest first."""
        last = 0
        while True:
            reports, last = await self.read(partial(records.runs_after, rowid=last, limit=RUNS))
            if not reports:
                return
            yield reports

    async def close_for(self, books: str, *, id: UUID) -> None:
        """Close the books: they go on in another store."""
        at = self._clock.now()

        def close(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO successor (one, id, books, at) VALUES (1, ?, ?, ?)",
                (str(id), books, instant_text(at)),
            )
            db.execute("COMMIT")

        await self._on_thread(lambda: self._translating(close, "closed"))
        self.successor = Successor(id=id, books=books, at=at)

    async def _rows(self, query: str) -> AsyncIterator[list[sqlite3.Row]]:
        cursor = await self.read(lambda db: db.execute(query))
        while rows := await self.read(lambda _: cursor.fetchmany(ROWS)):
            yield rows

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # Everything below runs on the thread.

    def _translating(self, work: Callable[[sqlite3.Connection], T], deed: str) -> T:
        if self._connection is None:
            raise StoreError(f"{self.path} is not held")
        with translated(self.path, deed):
            return work(self._connection)

    def _hold(self) -> None:
        if not self.path.is_file():
            raise StoreError(f"there is no campaign store at {self.path}")
        with translated(self.path, "read"):
            db = self._connection = connect_existing(self.path, writable=True)
            if version_of(db, self.path) == 0:
                raise StoreError(f"there is no campaign store at {self.path}: the file is empty")
            # Closed is closed, after a power cut, too: the other store has committed by then.
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA busy_timeout = {_PATIENCE_SECONDS * 1000:.0f}")
            try:
                db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                raise StoreUnavailable(f"the store {self.path} was busy for {_PATIENCE_SECONDS:g} s") from error
            if missing(db, self.path):
                migrate(db, self.path)
            self.successor = _successor_in(db, self.path)
            if self.successor is None:
                now = self._clock.now()
                sweep(db, now)
                refuse_while_a_run_goes_on(db, now)
                _refuse_while_an_answer_may_come(db)
            self.figures = figures_in(db)

    def _let_go(self) -> None:
        # Closing rolls back what was not committed.
        db, self._connection = self._connection, None
        if db is not None:
            db.close()


def _refuse_while_an_answer_may_come(db: sqlite3.Connection) -> None:
    row = db.execute(
        "SELECT reservations.*, coalesce(run_name, run_id) AS run FROM reservations LEFT JOIN runs USING (run_id)"
        " WHERE state IN ('held', 'sent') ORDER BY expires_at DESC LIMIT 1"
    ).fetchone()
    if row is not None:
        raise StoreError(
            f"a request of run {row['run']} of campaign {row['campaign_key']} may still be answered (until"
            f" {row['expires_at']}), and nothing was changed; wait until then, and try again"
        )
