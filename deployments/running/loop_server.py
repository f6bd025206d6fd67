"""An HTTP server that lives in somebody else's event loop: it leaves signals alone and stops when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator

import uvicorn

_TICK_SECONDS = 1.0


def send_at_once(listener: socket.socket) -> None:
    """Let connections send an answer's body without waiting until its head is acknowledged: a twenty-fifth of a second.

    asyncio does that for sockets of its own making only; accepted ones inherit it.
    """
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class LoopServer(uvicorn.Server):
    """Serves until it is stopped; then it waits for the requests that are going, as long as its config says."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def main_loop(self) -> None:
        while not self._stopping.is_set():
            # A multiple of ten makes the tick refresh the Date header.
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _TICK_SECONDS)

    def stop(self) -> None:
        """Take no more requests, and end."""
        self.should_exit = True
        self._stopping.set()
