"""An engine that answers at once, and remembers when it was asked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict

ANSWER = b'{"cost":0.001}'


class StubEngine:
    """Answers ``POST /{campaign}/{step}`` from a thread of its own; between hold and release it keeps all waiting.

    Times are those of ``time.monotonic``, which all processes of the machine share.

    Attributes:
        arrivals: when each campaign has asked.
        asked: when each step has been asked for, by ``campaign/step``.
        given_up: when whoever waited has gone away, in order.
        open: how many requests wait for their answer.
    """

    def __init__(self) -> None:
        self.arrivals: dict[str, list[float]] = defaultdict(list)
        self.asked: dict[str, list[float]] = defaultdict(list)
        self.given_up: list[float] = []
        self.open = 0
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
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

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
                path, now = request_line.split()[1].strip("/"), time.monotonic()
                self.arrivals[path.partition("/")[0]].append(now)
                self.asked[path].append(now)
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                await reader.readexactly(int(headers.get("content-length", 0)))
                self.open += 1
                try:
                    if not await self._may_answer(reader):
                        self.given_up.append(time.monotonic())
                        return
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

    async def _may_answer(self, reader: asyncio.StreamReader) -> bool:
        """Wait until answers are given; return whether the other side is still there."""
        if self._released.is_set():
            return True
        waits = [asyncio.ensure_future(one) for one in (self._released.wait(), reader.read(1))]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
        return waits[0].done()
