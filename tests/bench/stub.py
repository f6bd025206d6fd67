"""An engine that answers at once, and remembers when it was asked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict

ANSWER = b'{"cost":0.001}'


class StubEngine:
    """Answers ``POST /{run}/{step}`` from a thread of its own; while ``held`` it keeps everybody waiting.

    Times are those of ``time.monotonic``, which all processes of the machine share.
    """

    def __init__(self) -> None:
        self.arrivals: dict[str, list[float]] = defaultdict(list)
        self.open = 0
        """How many requests wait for their answer."""
        self._loop = asyncio.new_event_loop()
        self._released = asyncio.Event()
        self._released.set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="stub-engine", daemon=True)

    def __enter__(self) -> StubEngine:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = starting.result(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def hold(self) -> None:
        """Answer nobody from now on."""
        self._loop.call_soon_threadsafe(self._released.clear)

    def release(self) -> None:
        """Answer everybody who waits, and at once again."""
        self._loop.call_soon_threadsafe(self._released.set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                request_line, *lines = head.decode("latin-1").split("\r\n")
                self.arrivals[request_line.split()[1].strip("/").rpartition("/")[0]].append(time.monotonic())
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                await reader.readexactly(int(headers.get("content-length", 0)))
                self.open += 1
                try:
                    await self._released.wait()
                finally:
                    self.open -= 1
                closes = headers.get("connection", "").lower() == "close"
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    + f"Connection: {'close' if closes else 'keep-alive'}\r\n".encode()
                    + f"Content-Length: {len(ANSWER)}\r\n\r\n".encode()
                    + ANSWER
                )
                await writer.drain()
                if closes:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
