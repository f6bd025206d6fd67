"""The embedded stack: a Prefect server where none is configured, a campaign worker, and a folder of campaigns."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import anyio
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_HOME, get_current_settings
from rich.console import Console

from prefect_campaigns.blocks.supabase_credentials import is_loopback
from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.running.api_password import file_of, password_for
from prefect_campaigns.deployments.running.interrupts import hurried_by_signals
from prefect_campaigns.deployments.running.server import (
    DEFAULT_PORT,
    LOOPBACK,
    EmbeddedServer,
    configured_api_url,
    connect,
    own_port,
    port_is_free,
    using,
)
from prefect_campaigns.deployments.running.worker import CampaignWorker
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
async def embedded_server(
    *, port: int | None, host: str | None = None, home: Path | None = None
) -> AsyncIterator[EmbeddedServer | None]:
    """Yield a Prefect server of our own, used by this process; None where the settings name one that answers.

    Where they name one that does not, ours takes its place only if ``port`` asks for it: the other may be restarting.

    Args:
        host: where it listens; loopback unless given. Anywhere else its API has a password.

    Raises:
        ServerError: what the settings name is no Prefect API that answers, or a server of our own does not come up.
        SettingsError: the settings name another server than the one that ``port`` or ``host`` asks for.
    """
    url = configured_api_url()
    own = _own_port(url, host) if url else None
    asked = [f"--{name} {value}" for name, value in (("port", port), ("host", host)) if value is not None]
    if url and asked and (own is None or port not in (None, own)):
        raise SettingsError(
            f"PREFECT_API_URL names {hide_login(url)}, and {' '.join(asked)} asks for another server; unset one of them"
        )
    if url and host is None and (port is None or not port_is_free(port)):
        await _must_answer(url)
        yield None
        return
    home, host = home or PREFECT_HOME.value(), host or LOOPBACK
    server = EmbeddedServer(
        home=home,
        port=port or own or DEFAULT_PORT,
        log=home / "campaigns-server.log",
        host=host,
        password=password_for(host, home=home),
        ui_url=_chosen_ui_url(host),
    )
    async with server:
        with using(server):
            yield server


def _own_port(url: str, host: str | None) -> int | None:
    """Return the port at which the URL expects the API of a server that listens at ``host``; None where it does not."""
    parts = urlsplit(url)
    names = {name.lower() for name in (host, socket.gethostname()) if name} if host else set()
    try:
        return own_port(url) or (parts.port or 80 if parts.scheme == "http" and parts.hostname in names else None)
    except ValueError:
        return None


def _chosen_ui_url(host: str) -> str | None:
    """Return what PREFECT_UI_URL says of a server that others may reach: nobody here knows by which name they do."""
    settings = get_current_settings()
    return settings.ui_url if "ui_url" in settings.model_fields_set and not is_loopback(host) else None


def say_who_gets_in(server: EmbeddedServer, *, console: Console) -> None:
    """Say what others need to use a server that they may reach; the password itself only to a person at a terminal."""
    if server.password is None or not server.is_reachable_from_elsewhere:
        return
    file = file_of(server.password, home=server.home)
    where = f"it lies in {file}" if file else "Prefect's settings name it"
    console.print(f"[yellow]![/] Other machines may reach its API, which wants a password: {where}", soft_wrap=True)
    if console.is_terminal:
        console.print("  Another machine, and another terminal of this one, sets:")
        for line in (f"PREFECT_API_URL={server.ui_url}/api", f"PREFECT_API_AUTH_STRING={server.password}"):
            console.print(f"    {line}", soft_wrap=True, markup=False, highlight=False)


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
    with hurried_by_signals(worker.hurry):
        async with _started(worker) as working:
            yield working


@asynccontextmanager
async def _started(worker: CampaignWorker) -> AsyncIterator[asyncio.Task[None]]:
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


async def stand(working: asyncio.Task[None], server: EmbeddedServer | None, serving: asyncio.Task[None]) -> None:
    """Wait until the stack falls.

    Args:
        serving: the REST API.

    Raises:
        ServerError: the worker, the REST API or the embedded server has ended by itself.
    """
    while not working.done() and not serving.done():
        if server is not None and not server.is_running:
            raise ServerError(f"the Prefect server has ended by itself; see {server.log}")
        await asyncio.wait({working, serving}, timeout=WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        await serving
    _raise_end(working)
