"""The process of the embedded server: ``prefect server start`` with habits of its own, three of which SQLite needs.

Its garbage is collected on a thread of its own. Where Python collects as usual, in whatever thread happens to
allocate, the server stands still for sixty seconds now and then. A statement that failed with "database is locked"
leaves its cursor in a cycle with the exception. Freeing the cursor takes the mutex of its SQLite connection.
Meanwhile another statement on that connection may be waiting for the database's lock, holding the mutex, and whoever
has the lock waits for the event loop, in whose thread the garbage is being collected: nobody moves until SQLite's
busy timeout has passed.

Its transactions write in turn (``write_turns``).

Its events are written in one transaction, and none a second time. Prefect gives most statements a transaction of
their own, which waits for its turn while others write; where one of them fails, those before it stay. A worker that
has lost its connection sends events a second time, too. Of a batch that is all known Prefect inserts a row of nothing,
which SQLite refuses, and after five tries it drops the batch with whatever has come meanwhile: that a mail was sent,
for instance, which is then sent again. They are written in an event loop of their own, and before all else: in that of
the API each of some ten steps waits for all others, and with fifty runs at once they were written twenty seconds late.

It remembers its own application. Prefect asks ``create_app`` for it with whatever an automation does, thrice for a
mail, and that looks it up by all of its settings, which takes a tenth of a second and more, in the event loop.
"""

from __future__ import annotations

import asyncio
import gc
import os
import runpy
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import ASGIApp

from prefect_campaigns.deployments.running.timezones import remember_timezones
from prefect_campaigns.deployments.running.web_pages import PageGate
from prefect_campaigns.deployments.running.webhook_logs import keep_webhooks_out_of_logs
from prefect_campaigns.deployments.running.write_turns import urgently, writing_in_turn

if TYPE_CHECKING:
    from prefect.server.events.schemas.events import ReceivedEvent

COLLECT_SECONDS = 0.1
FULL_SECONDS = 60.0
"""At most how often everything is looked through, which takes some tenths of a second."""


EVENTS_AT_ONCE = 500
"""Of how many events one statement asks whether they are known."""


END_SECONDS = 10.0
"""How long the end of what is being written is waited for."""


@contextmanager
def collecting_aside() -> Iterator[None]:
    """Collect cyclic garbage on a thread of its own while the block runs, about as often as Python would."""
    ended = threading.Event()
    thread = threading.Thread(target=_collect, args=(ended,), name="garbage-collector", daemon=True)
    gc.disable()
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        gc.enable()


def _collect(ended: threading.Event) -> None:
    waited = 0.0
    while not ended.wait(COLLECT_SECONDS):
        waited += COLLECT_SECONDS
        due = [count > threshold for count, threshold in zip(gc.get_count(), gc.get_threshold(), strict=True)]
        if due[2] and waited >= FULL_SECONDS:
            waited = 0.0
            gc.collect(2)
        elif due[1]:
            gc.collect(1)
        elif due[0]:
            gc.collect(0)


@contextmanager
def writing_events_once() -> Iterator[None]:
    """Write the events that come in the block at once or not at all, and none a second time.

    Not where the database is in memory, of which the API's own connection alone knows: there Prefect writes them.
    """
    from prefect.server.database import provide_database_interface
    from prefect.server.events.storage import database

    write: Any = database._write_sqlite_events
    db = provide_database_interface()
    if db.database_config.is_inmemory():
        yield
        return

    async def write_new(events: Sequence[ReceivedEvent]) -> None:
        with urgently():
            async with db.session_context(begin_transaction=True) as session:
                by_id = {event.id: event for event in events}
                for event_id in await _known(session, list(by_id)):
                    del by_id[event_id]
                await write(session, list(by_id.values()))

    with start_blocking_portal() as portal:
        aside = portal.call(_running_loop)
        under_way: set[Future[None]] = set()

        async def write_aside(_: AsyncSession, events: Sequence[ReceivedEvent]) -> None:
            writing = asyncio.run_coroutine_threadsafe(write_new(events), aside)
            under_way.add(writing)
            writing.add_done_callback(under_way.discard)
            # Whoever gives up leaves it to its end: a connection whose statement is cancelled may never be closed, and
            # who writes these events again finds that they are known.
            await asyncio.shield(asyncio.wrap_future(writing))

        database._write_sqlite_events = write_aside
        try:
            yield
        finally:
            database._write_sqlite_events = write
            wait(under_way, timeout=END_SECONDS)


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def _known(session: AsyncSession, event_ids: Sequence[UUID]) -> set[UUID]:
    from prefect.server.database import provide_database_interface

    known: set[UUID] = set()
    kept = provide_database_interface().Event.id
    for start in range(0, len(event_ids), EVENTS_AT_ONCE):
        wanted = select(kept).where(kept.in_(event_ids[start : start + EVENTS_AT_ONCE]))
        known.update(await session.scalars(wanted))
    return known


@contextmanager
def remembering_the_app() -> Iterator[None]:
    """Let the server find its own application at once when it asks for it in the block: its settings do not change."""
    from prefect.server.api import server

    create_app = server.create_app
    own: FastAPI | None = None

    def create_once(*args: Any, **kwargs: Any) -> FastAPI:
        nonlocal own
        if args or kwargs:
            return create_app(*args, **kwargs)
        own = own or create_app()
        return own

    server.create_app = create_once
    try:
        yield
    finally:
        server.create_app = create_app


@contextmanager
def keeping_pages_out() -> Iterator[None]:
    """Let no web page use the server that is made in the block, where it asks nobody for a password.

    Prefect itself lets pages of all origins read and do everything, secrets of blocks included.
    """
    if os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        yield
        return
    from prefect.server.api import server

    known = urlsplit(os.environ.get("PREFECT_UI_URL", "")).hostname
    create_app = server.create_app

    def create_gated(*args: Any, **kwargs: Any) -> ASGIApp:
        app = create_app(*args, **kwargs)
        # The final one is served. The server asks for others to ask itself, by a name that leads nowhere.
        return PageGate(app, known=(known,) if known else ()) if kwargs.get("final") else app

    server.create_app = create_gated  # type: ignore[assignment]
    try:
        yield
    finally:
        server.create_app = create_app


def main() -> None:
    """Be ``prefect server start``, with the options that this process was given."""
    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    remember_timezones()
    keep_webhooks_out_of_logs()
    with writing_in_turn(), writing_events_once(), collecting_aside(), remembering_the_app(), keeping_pages_out():
        runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
