"""Transactions on Prefect's SQLite file wait for their turn to write, and get it in the order in which they asked.

Prefect begins them DEFERRED, reads, and then writes; SQLite refuses the write at once, with "database is locked", when
another transaction has committed since the reading, and no busy timeout helps
(https://www.sqlite.org/isolation.html). With thirty runs at once the API answered every second request to create a
run with 503, and a worker that had six such answers in a row reported its run as crashed. So they begin IMMEDIATE.

SQLite knows no order among those that wait. Each looks again after a while, ten times a second, and whoever looks first
after the one before has ended is next; some wait for many seconds. So they wait in a queue before that, where they hold
none of the fifteen connections that there are. SQLite has the last word all the same: others may have the file open.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

PATIENCE_SECONDS = 5.0
"""How long a turn may be before those that wait for its end leave it to SQLite who is next."""

_is_urgent: ContextVar[bool] = ContextVar("is_urgent", default=False)


class Turns:
    """Who writes, and who comes after that; in whichever threads their event loops are."""

    def __init__(self, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._guard = threading.Lock()
        self._writer: _Asked | None = None
        self._urgent: deque[_Asked] = deque()
        self._usual: deque[_Asked] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(not asked.turn.cancelled() for asked in (*self._urgent, *self._usual))

    @asynccontextmanager
    async def turn(self, *, is_urgent: bool = False) -> AsyncIterator[None]:
        """Wait until all that asked before have had their turns, or have them for too long; the block is the turn.

        Args:
            is_urgent: whether it comes before all that are not.
        """
        asked = _Asked()
        with self._guard:
            (self._urgent if is_urgent else self._usual).append(asked)
            if self._writer is None:
                self._pass_on()
        try:
            await self._wait_for(asked)
            yield
        finally:
            # Whoever gives up waiting may have got it at that very moment.
            asked.turn.cancel()
            self._end(asked)

    async def _wait_for(self, asked: _Asked) -> None:
        if asked.turn.done():
            return
        turn = asyncio.wrap_future(asked.turn)
        while not asked.turn.done():
            # Not the one who writes looks at the clock: its event loop may stand still, or be no more.
            await asyncio.wait([turn], timeout=self._patience_seconds / 5)
            self._end_what_is_too_long()

    def _end(self, asked: _Asked) -> None:
        with self._guard:
            if self._writer is asked:
                self._pass_on()

    def _end_what_is_too_long(self) -> None:
        with self._guard:
            if self._writer is not None and time.monotonic() > self._writer.since + self._patience_seconds:
                self._pass_on()

    def _pass_on(self) -> None:
        self._writer = None
        while self._writer is None and (queue := self._urgent or self._usual):
            asked = queue.popleft()
            if asked.turn.set_running_or_notify_cancel():
                asked.since = time.monotonic()
                self._writer = asked
                asked.turn.set_result(None)


@dataclass(eq=False)
class _Asked:
    """That somebody has asked for a turn, and since when it is theirs, by the monotonic clock."""

    turn: Future[None] = field(default_factory=Future)
    since: float = 0.0


turns = Turns()
"""Those of the file of this process's server."""


@contextmanager
def urgently() -> Iterator[None]:
    """Let the transactions that begin in the block come before all others that wait."""
    token = _is_urgent.set(True)
    try:
        yield
    finally:
        _is_urgent.reset(token)


@contextmanager
def writing_in_turn() -> Iterator[None]:
    """Let every transaction that begins in the block wait for its turn to write, instead of failing when it would."""
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction
    AioSqliteConfiguration.begin_transaction = _begin_in_turn  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        AioSqliteConfiguration.begin_transaction = begin  # type: ignore[method-assign]


@asynccontextmanager
async def _begin_in_turn(
    _: object,
    session: AsyncSession,
    with_for_update: bool = False,  # as all are here
) -> AsyncIterator[AsyncSessionTransaction]:
    from prefect.server.database.configurations import SQLITE_BEGIN_MODE

    async with turns.turn(is_urgent=_is_urgent.get()), session.begin() as transaction:
        token = SQLITE_BEGIN_MODE.set("IMMEDIATE")
        try:
            await session.connection()
        finally:
            # A session that is opened beside this one reads without a transaction: it would wait for this one, which
            # waits for it.
            SQLITE_BEGIN_MODE.reset(token)
        yield transaction
