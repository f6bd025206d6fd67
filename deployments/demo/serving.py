"""Serving an ASGI application on this machine, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from prefect_campaigns.deployments.running.loop_server import LoopServer, send_at_once

DROP_CONNECTION = "prefect_campaigns.drop_connection"
"""The ASGI extension under which an application finds a function that cuts its client's connection."""

_SHUTDOWN_SECONDS = 5


class _DroppingProtocol(H11Protocol):
    """HTTP/1.1 that lets the application cut the connection, which ASGI itself has no word for."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        application = self.app

        async def with_extension(scope: Scope, receive: Receive, send: Send) -> None:
            extensions = {**scope.get("extensions", {}), DROP_CONNECTION: self.transport.abort}
            await application({**scope, "extensions": extensions}, receive, send)

        self.app = with_extension


class _CuttingServer(LoopServer):
    """A server that waits for nobody when it stops."""

    def stop(self) -> None:
        """Cut what is still open and end."""
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        super().stop()


@asynccontextmanager
async def serve(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve the application in the running loop and yield its URL, such as ``http://127.0.0.1:40123``.

    Args:
        port: 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    listener = socket.create_server((host, port), reuse_port=False)
    send_at_once(listener)
    config = uvicorn.Config(
        app,
        http=_DroppingProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    server = _CuttingServer(config)
    # The socket listens already, so that no request can come too early.
    serving = asyncio.create_task(server.serve(sockets=[listener]), name=f"serve {host}:{listener.getsockname()[1]}")
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.stop()
        with anyio.CancelScope(shield=True):
            await serving
        listener.close()
