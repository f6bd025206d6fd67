"""The embedded stack: a Prefect server where none is configured, a campaign worker, and a folder of campaigns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path

import anyio
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_HOME
from rich.console import Console

from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.server import (
    DEFAULT_PORT,
    EmbeddedServer,
    configured_api_url,
    connect,
    own_port,
    port_is_free,
    using,
)
from prefect_campaigns.deployments.worker import CampaignWorker
from prefect_campaigns.errors import ServerError, SettingsError
from prefect_campaigns.words import hide_login

FLUSH_SECONDS = 5.0
WATCH_SECONDS = 1.0


def saying_it_starts(console: Console) -> AbstractContextManager[object]:
    """Tell a person at a terminal why nothing happens while the block starts a server."""
    if not console.is_terminal:
        return nullcontext()
    return console.status("Starting a Prefect server (the first time takes half a minute)")


@asynccontextmanager
async def embedded_server(*, port: int | None, home: Path | None = None) -> AsyncIterator[EmbeddedServer | None]:
    """Yield a Prefect server of our own, used by this process; None where the settings name one that answers.

    Where they name one that does not, ours takes its place only if ``port`` asks for it: the other may be restarting.

    Raises:
        ServerError: what the settings name is no Prefect API that answers, or a server of our own does not come up.
        SettingsError: the settings name another server than the one that ``port`` asks for.
    """
    url = configured_api_url()
    if url and port not in (None, own_port(url)):
        raise SettingsError(
            f"PREFECT_API_URL names {hide_login(url)}, and --port {port} asks for another server; unset one of them"
        )
    if url and (port is None or not port_is_free(port)):
        await _must_answer(url)
        yield None
        return
    home = home or PREFECT_HOME.value()
    async with EmbeddedServer(home=home, port=port or DEFAULT_PORT, log=home / "campaigns-server.log") as server:
        with using(server):
            yield server


async def _must_answer(url: str) -> None:
    try:
        async with connect():
            return
    except ServerError as error:
        if (port := own_port(url)) is None:
            raise
        raise ServerError(f"{error} With --port {port} this command starts one there.") from error


@asynccontextmanager
async def running_worker(*, name: str = "campaigns up") -> AsyncIterator[asyncio.Task[None]]:
    """Run a campaign worker while the block runs, and yield its task, which ends only when something is wrong.

    Raises:
        ServerError: the worker ended by itself.
    """
    worker = CampaignWorker(work_pool_name=WORK_POOL, name=name)
    ready = asyncio.Event()
    working = asyncio.create_task(worker.start(printer=lambda *_: ready.set()))
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            _raise_end(working)
        yield working
    finally:
        waiting.cancel()
        working.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)
        with anyio.move_on_after(FLUSH_SECONDS, shield=True):
            # The last words of the worker and its runs, while there is a server to take them. Prefect's thread for
            # events is told to end too, and would warn that it still has some to send.
            logging.getLogger("EventsWorker").setLevel(logging.ERROR)
            await APILogHandler.aflush()


def _raise_end(working: asyncio.Task[None]) -> None:
    error = working.exception()
    raise ServerError(f"the campaign worker ended: {error or 'without a word'}") from error


async def stand(working: asyncio.Task[None], server: EmbeddedServer | None) -> None:
    """Wait until the stack falls.

    Raises:
        ServerError: the worker or the embedded server has ended by itself.
    """
    while not working.done():
        if server is not None and not server.is_running:
            raise ServerError(f"the Prefect server has ended by itself; see {server.log}")
        await asyncio.wait({working}, timeout=WATCH_SECONDS)
    _raise_end(working)
