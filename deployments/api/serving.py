"""Listening for the REST API, in an event loop that others share."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import uvicorn

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.deployments.api.app import create_app
from prefect_campaigns.deployments.api.auth import Policy, url_of
from prefect_campaigns.deployments.running.loop_server import LoopServer, send_at_once
from prefect_campaigns.errors import ServerError

SHUTDOWN_SECONDS = 5
"""How long requests that are going may take when the API ends."""


class Listener:
    """A port that is ours, and who may use what will be served there."""

    def __init__(self, settings: Settings, *, host: str | None = None, port: int | None = None) -> None:
        """Take the port; whoever connects waits until the API is served.

        Args:
            host, port: other ones than the settings say.

        Raises:
            SettingsError: it would listen off this machine, and there are no keys.
            ServerError: the port cannot be had.
        """
        self.settings = settings
        self.host, self.port = host or settings.campaigns_api_host, port or settings.port
        self.policy = Policy.of(settings, host=self.host)
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            self.socket = socket.create_server((self.host, self.port), family=family)
            send_at_once(self.socket)
        except OSError as error:
            raise ServerError(self._trouble(error)) from None

    def _trouble(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return (
                f"port {self.port} is taken, and the REST API wants it; choose another with --port (of campaigns up,"
                " --api-port) or PORT"
            )
        return f"the REST API cannot listen on {self.host} port {self.port}: {error.strerror or error}"

    @property
    def url(self) -> str:
        """Where it listens."""
        return url_of(self.host, self.port)

    def close(self) -> None:
        """Give the port back."""
        self.socket.close()


async def serve(listener: Listener) -> None:
    """Serve the API until this is cancelled; then requests that are going get a few seconds to end.

    Raises:
        ServerError: it ended by itself.
    """
    config = uvicorn.Config(
        create_app(listener.settings, listener.policy),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = LoopServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener.socket]), name=f"serve {listener.url}")
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.stop()
        with anyio.CancelScope(shield=True):
            await asyncio.wait({serving}, timeout=2 * SHUTDOWN_SECONDS)
        raise
    finally:
        listener.close()
    raise ServerError("the REST API has ended by itself; its log says why")


@asynccontextmanager
async def running_api(listener: Listener) -> AsyncIterator[asyncio.Task[None]]:
    """Serve the API while the block runs, and yield its task, which ends only when something is wrong."""
    serving = asyncio.create_task(serve(listener))
    try:
        yield serving
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
