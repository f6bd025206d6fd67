"""Who writes to Prefect's SQLite file, and who comes after that."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from driving import until
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from prefect_campaigns.deployments.running.write_turns import PATIENCE_SECONDS, Turns, turns, urgently, writing_in_turn


async def test_turns_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    turns, order = Turns(), list[int]()

    async def write(number: int) -> None:
        async with turns.turn():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*map(write, range(20)))
    assert order == list(range(20))


async def test_those_that_are_urgent_come_before_those_that_wait_whichever_thread_they_are_in() -> None:
    turns, order = Turns(), list[str]()

    async def write(name: str, *, is_urgent: bool = False) -> None:
        async with turns.turn(is_urgent=is_urgent):
            order.append(name)

    with start_blocking_portal() as elsewhere:
        async with turns.turn():
            usual = asyncio.create_task(write("usual"))
            await until(partial(_wait, 1, turns), "it waits")
            urgent = []
            for number, name in enumerate(("urgent", "urgent, too"), start=2):
                urgent.append(asyncio.wrap_future(elsewhere.start_task_soon(partial(write, name, is_urgent=True))))
                await until(partial(_wait, number, turns), "it waits, too")
        async with asyncio.timeout(5):
            await asyncio.gather(usual, *urgent)
    assert order == ["urgent", "urgent, too", "usual"]


async def test_a_turn_that_does_not_end_is_passed_over_and_its_end_is_nobody_elses() -> None:
    turns = Turns(patience_seconds=0.05)
    async with AsyncExitStack() as stuck:
        await stuck.enter_async_context(turns.turn())
        async with asyncio.timeout(5), turns.turn():
            last = asyncio.create_task(_take(turns))
            await stuck.aclose()
            await asyncio.sleep(0)
            assert turns.waiting == 1
        async with asyncio.timeout(5):
            await last


async def test_a_turn_of_an_event_loop_that_stands_still_is_passed_over() -> None:
    turns, stands, may_go_on = Turns(patience_seconds=0.05), threading.Event(), threading.Event()

    async def stand_still() -> None:
        async with turns.turn():
            stands.set()
            may_go_on.wait(30)

    with start_blocking_portal() as elsewhere:
        standing = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(stand_still(), elsewhere.call(_running_loop)))
        try:
            await asyncio.to_thread(stands.wait, 30)
            async with asyncio.timeout(20), turns.turn():
                assert not standing.done()
        finally:
            may_go_on.set()
            await standing


async def test_a_turn_is_no_shorter_for_those_that_have_waited_long() -> None:
    turns, writing, most = Turns(patience_seconds=2), 0, 0

    async def write() -> None:
        nonlocal writing, most
        async with turns.turn():
            writing += 1
            most = max(most, writing)
            await asyncio.sleep(0.1)
            writing -= 1

    # All together take longer than one may.
    await asyncio.gather(*(write() for _ in range(30)))
    assert most == 1


async def test_one_that_gives_up_waiting_is_in_nobodys_way() -> None:
    turns = Turns()
    async with turns.turn():
        second, third = (asyncio.create_task(_take(turns)) for _ in range(2))
        await until(partial(_wait, 2, turns), "both wait")
        second.cancel()
        await until(partial(_wait, 1, turns), "one has given up")
    async with asyncio.timeout(1):
        await third


async def _take(turns: Turns) -> None:
    async with turns.turn():
        pass


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


class Books:
    """A SQLite file as Prefect's server opens it."""

    def __init__(self, path: Path, configuration: AioSqliteConfiguration, engine: AsyncEngine) -> None:
        self.path = path
        self._configuration = configuration
        self._engine = engine

    @asynccontextmanager
    async def transaction(self, *, with_for_update: bool = False) -> AsyncIterator[AsyncSession]:
        """A transaction as Prefect begins it."""
        async with (
            await self._configuration.session(self._engine) as session,
            self._configuration.begin_transaction(session, with_for_update=with_for_update),
        ):
            yield session

    async def add(self, number: int, *, with_for_update: bool = False) -> None:
        """Read, and then write."""
        async with self.transaction(with_for_update=with_for_update) as session:
            await session.scalar(text("SELECT count(*) FROM numbers"))
            await session.execute(text("INSERT INTO numbers (number) VALUES (:number)"), {"number": number})

    async def numbers(self) -> list[int]:
        """Return what was written, as it came."""
        async with await self._configuration.session(self._engine) as session:
            return list(await session.scalars(text("SELECT number FROM numbers ORDER BY rowid")))


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    path = tmp_path / "prefect.db"
    configuration = AioSqliteConfiguration(f"sqlite+aiosqlite:///{path}")
    with writing_in_turn():
        engine = await configuration.engine()
        books = Books(path, configuration, engine)
        async with books.transaction() as session:
            await session.execute(text("CREATE TABLE numbers (number INTEGER)"))
        yield books
        await engine.dispose()


async def test_transactions_write_in_the_order_in_which_they_began_and_those_that_are_urgent_first(
    books: Books,
) -> None:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group, books.transaction() as before:
        await before.scalar(text("SELECT count(*) FROM numbers"))
        for number in range(10):
            # Prefect begins some of them otherwise.
            group.create_task(books.add(number, with_for_update=number % 2 == 0))
            await until(partial(_wait, number + 1), "it waits for its turn")
        with urgently():
            group.create_task(books.add(100))
        await until(partial(_wait, 11), "it waits, too")
    assert await books.numbers() == [100, *range(10)]


async def test_nobody_else_begins_to_write_once_one_has_begun(books: Books) -> None:
    with closing(sqlite3.connect(books.path, timeout=0)) as elsewhere:
        async with books.transaction():
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                elsewhere.execute("BEGIN IMMEDIATE")


async def test_whoever_writes_reads_in_another_session_however_many_wait(books: Books) -> None:
    more_than_there_are_connections = 40
    async with asyncio.TaskGroup() as group, asyncio.timeout(20), books.transaction() as writing:
        await writing.execute(text("INSERT INTO numbers (number) VALUES (-1)"))
        for number in range(more_than_there_are_connections):
            group.create_task(books.add(number))
        await until(partial(_wait, more_than_there_are_connections), "all wait for their turn")
        assert await books.numbers() == []
    assert await books.numbers() == [-1, *range(more_than_there_are_connections)]


async def _wait(number: int, turns: Turns = turns) -> bool:
    return turns.waiting == number


async def test_one_that_fails_or_is_cancelled_ends_its_turn_at_once(books: Books) -> None:
    writes = asyncio.Event()

    async def fail() -> None:
        async with books.transaction() as session:
            await session.execute(text("INSERT INTO absent VALUES (1)"))

    async def never_end() -> None:
        async with books.transaction() as session:
            await session.execute(text("INSERT INTO numbers VALUES (1)"))
            writes.set()
            await asyncio.Event().wait()

    with pytest.raises(Exception, match="no such table"):
        await fail()
    cancelled = asyncio.create_task(never_end())
    await writes.wait()
    cancelled.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS / 2):
        await books.add(2)
    assert await books.numbers() == [2]
