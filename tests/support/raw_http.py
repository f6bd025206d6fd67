"""A server that says exactly the bytes it is told to, and notices when its client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio


@dataclass
class Connection:
    """One connection: the request that was read from it, and the way back."""

    head: str
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def target(self) -> str:
        """The path and query that were asked for."""
        return self.head.split(" ", 2)[1]

    async def say(self, *chunks: bytes) -> None:
        """Send the chunks, each on its way before the next."""
        for chunk in chunks:
            self.writer.write(chunk)
            await self.writer.drain()

    async def until_client_leaves(self) -> None:
        """Wait for the client to close its side."""
        await self.reader.read()

    def reset(self) -> None:
        """Cut the connection without another byte."""
        self.writer.transport.abort()


Handler = Callable[[Connection], Awaitable[None]]


@dataclass
class RawServer:
    """What a raw server has seen."""

    url: str = ""
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


def http(status: str, *, headers: Iterable[str] = (), body: bytes = b"", length: int | None = None) -> bytes:
    """Return a whole answer; ``length`` lies about how long its body is."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def json_answer(body: bytes, *, status: str = "200 OK", headers: Iterable[str] = ()) -> bytes:
    """Return a whole answer with JSON."""
    return http(status, headers=["Content-Type: application/json", *headers], body=body)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return the data as one chunk of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def saying(*chunks: bytes) -> Handler:
    """Return a handler that says this and closes."""

    async def handle(connection: Connection) -> None:
        await connection.say(*chunks)

    return handle


@asynccontextmanager
async def raw_server(*handlers: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Serve on loopback; the n-th connection goes to the n-th handler, later ones to the last."""
    seen = RawServer()
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lengths = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length")]
            body = await reader.readexactly(int(lengths[0]) if lengths else 0)
            handler = handlers[min(len(seen.heads), len(handlers) - 1)]
            seen.heads.append(head)
            seen.bodies.append(body)
            await handler(Connection(head=head, body=body, reader=reader, writer=writer))
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(handle(reader, writer))
        tasks.add(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    seen.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield seen
    finally:
        server.close()
        with anyio.CancelScope(shield=True):
            for _ in range(5):
                # A connection that was just accepted takes a few turns of the loop to reach its handler.
                await asyncio.sleep(0)
            # A client that has gone is noticed here, or not at all: five seconds are far more than it takes.
            _, hanging = await asyncio.wait(tasks, timeout=5) if tasks else (set(), set())
            for task in hanging:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert not hanging, "a connection was still open at the end of the test"
