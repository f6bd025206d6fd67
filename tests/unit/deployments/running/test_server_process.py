"""What the embedded server's process does otherwise than Prefect's."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi import FastAPI
from prefect.server.api import server
from prefect.server.api.clients import OrchestrationClient
from prefect.server.database import provide_database_interface
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import temporary_database_config
from prefect.server.events.clients import PrefectServerEventsAPIClient
from prefect.server.events.schemas.events import ReceivedEvent, Resource
from prefect.server.events.storage import database
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from prefect_campaigns.deployments.running import server_process
from prefect_campaigns.deployments.running.server_process import (
    collecting_aside,
    remembering_the_app,
    writing_events_once,
)
from prefect_campaigns.deployments.running.write_turns import turns, writing_in_turn


class Cycle:
    def __init__(self, freed_in: list[str]) -> None:
        self._itself = self
        self._freed_in = freed_in

    def __del__(self) -> None:
        self._freed_in.append(threading.current_thread().name)


def test_garbage_is_freed_while_others_work_and_never_in_their_threads() -> None:
    freed_in: list[str] = []
    with collecting_aside():
        deadline = time.monotonic() + 10
        while not freed_in and time.monotonic() < deadline:
            for _ in range(1000):
                Cycle(freed_in)
        assert set(freed_in) == {"garbage-collector"}
    assert gc.isenabled()


@pytest.mark.parametrize(
    "client", [pytest.param(OrchestrationClient, id="runs"), pytest.param(PrefectServerEventsAPIClient, id="events")]
)
def test_the_server_looks_its_own_application_up_once(
    client: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, bool]] = []
    made = FastAPI()

    def create_app(**wanted: bool) -> FastAPI:
        asked.append(wanted)
        return made

    monkeypatch.setattr(server, "create_app", create_app)
    with remembering_the_app():
        # First the one that is served; then automations make a client for whatever they do.
        assert server.create_app(final=True) is made
        for _ in range(3):
            client()
    assert asked == [{"final": True}, {}]
    assert server.create_app is create_app


async def test_events_are_written_once_and_in_an_event_loop_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    written: list[int] = []
    urgent: list[bool] = []
    write = database._write_sqlite_events
    turn = turns.turn

    async def seen_writing(session: AsyncSession, events: list[ReceivedEvent]) -> None:
        loops.append(asyncio.get_running_loop())
        written.append(len(events))
        await write(session, events)

    def seen_asking(*, is_urgent: bool) -> AbstractAsyncContextManager[None]:
        urgent.append(is_urgent)
        return turn(is_urgent=is_urgent)

    monkeypatch.setattr(database, "_write_sqlite_events", seen_writing)
    monkeypatch.setattr(turns, "turn", seen_asking)
    # So that one batch is asked for in several statements.
    monkeypatch.setattr(server_process, "EVENTS_AT_ONCE", 2)
    with temporary_database_config(AioSqliteConfiguration(f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}")):
        db = provide_database_interface()
        async with (await db.engine()).begin() as connection:
            await connection.run_sync(
                db.Base.metadata.create_all, tables=[db.Event.__table__, db.EventResource.__table__]
            )
        first, second, third = (_event() for _ in range(3))
        with writing_in_turn(), writing_events_once():
            for events in ([first, second], [second, third], [third, second, first]):
                async with db.session_context() as session:
                    await database.write_events(session, events)
        async with db.session_context() as session:
            assert set(await session.scalars(select(db.Event.id))) == {first.id, second.id, third.id}
    assert database._write_sqlite_events is seen_writing
    assert written == [2, 1, 0]
    assert urgent == [True, True, True]
    assert asyncio.get_running_loop() not in loops
    assert len(set(map(id, loops))) == 1


async def test_a_batch_of_events_that_its_writer_gives_up_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_go_on, written = threading.Event(), threading.Event(), list[int]()

    async def write_slowly(_: AsyncSession, events: list[ReceivedEvent]) -> None:
        begun.set()
        await asyncio.to_thread(may_go_on.wait, 30)
        written.append(len(events))

    monkeypatch.setattr(database, "_write_sqlite_events", write_slowly)
    with temporary_database_config(AioSqliteConfiguration(f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}")):
        await _make_tables()
        with writing_events_once():
            db = provide_database_interface()
            async with db.session_context() as session:
                writing = asyncio.create_task(database.write_events(session, [_event()]))
                await asyncio.to_thread(begun.wait, 30)
                writing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await writing
            assert written == []
            threading.Timer(0.3, may_go_on.set).start()
        assert written == [1]


def test_in_a_database_in_memory_prefect_writes_the_events() -> None:
    write = database._write_sqlite_events
    with (
        temporary_database_config(AioSqliteConfiguration("sqlite+aiosqlite:///:memory:")),
        writing_events_once(),
    ):
        assert database._write_sqlite_events is write


async def _make_tables() -> None:
    db = provide_database_interface()
    async with (await db.engine()).begin() as connection:
        tables = [db.Event.__table__, db.EventResource.__table__]
        await connection.run_sync(db.Base.metadata.create_all, tables=tables)


def _event() -> ReceivedEvent:
    return ReceivedEvent(
        id=uuid4(),
        occurred=datetime.now(UTC),
        event="mail.sent",
        resource=Resource({"prefect.resource.id": "mail.1"}),
    )
