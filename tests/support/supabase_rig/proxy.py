"""A network on loopback that a test can disturb."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

from supabase_rig.loop_thread import LoopThread

HOST = "127.0.0.1"
CHUNK_BYTES = 65536
HELD_SECONDS = 30


class _Mode(Enum):
    PASS = "everything passes"
    REFUSE = "nobody listens"
    STALL = "requests are taken, and go nowhere"
    MUTE = "requests arrive, answers do not come back"
    CUT = "requests arrive, the connection ends within the answer"
    DELAY = "answers come late"


@dataclass(frozen=True, kw_only=True)
class _State:
    mode: _Mode
    after_bytes: int = 0
    seconds: float = 0.0
    once: bool = False


PASS = _State(mode=_Mode.PASS)


class Proxy:
    """Passes the connections of one port on to another, or does not.

    The methods that change it return when it is changed, and may be called from synchronous and asynchronous tests.
    What is held back then never arrives: its connection is cut.
    """

    def __init__(self, loop: LoopThread, target_port: int) -> None:
        self._loop = loop
        self._target_port = target_port
        # Bound and never listening: keeps the port ours while nobody listens on it.
        self._reserved = _bound(0)
        self._port: int = self._reserved.getsockname()[1]
        self._state = PASS
        self._listening: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._held: set[asyncio.Future[None]] = set()
        self._holding = asyncio.Condition()

    @property
    def url(self) -> str:
        """Where the API seems to be."""
        return f"http://{HOST}:{self._port}"

    def pass_on(self) -> None:
        """Let everything pass, as at the beginning."""
        self._change(PASS)

    def refuse(self) -> None:
        """Cut all connections and refuse new ones."""
        self._change(_State(mode=_Mode.REFUSE))

    def stall(self) -> None:
        """Accept connections, and requests on them, and say nothing. The server hears nothing of them."""
        self._change(_State(mode=_Mode.STALL))

    def mute(self) -> None:
        """Pass requests on and hold the answers back."""
        self._change(_State(mode=_Mode.MUTE))

    def cut(self, *, after_bytes: int = 20, once: bool = False) -> None:
        """Pass requests on and end the connection within the answer; with ``once``, this happens to one request."""
        self._change(_State(mode=_Mode.CUT, after_bytes=after_bytes, once=once))

    def delay(self, seconds: float) -> None:
        """Begin each answer that much later."""
        self._change(_State(mode=_Mode.DELAY, seconds=seconds))

    async def until_held(self, count: int = 1) -> None:
        """Wait until so many requests or answers are held back.

        Raises:
            TimeoutError: they are not within half a minute.
        """
        await asyncio.wrap_future(self._loop.submit(self._until_held(count)))

    def __enter__(self) -> Self:
        self._change(PASS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.refuse()
        self._reserved.close()

    def _change(self, state: _State) -> None:
        self._loop.run(self._become(state))

    async def _become(self, state: _State) -> None:
        self._state = state
        for held in self._held:
            held.set_result(None)
        if state.mode is not _Mode.REFUSE:
            if self._listening is None:
                self._listening = await asyncio.start_server(self._serve, sock=_bound(self._port))
            return
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        for _ in range(5):
            # A connection that was just accepted takes a few turns of the loop to reach its handler.
            await asyncio.sleep(0)
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _until_held(self, count: int) -> None:
        async with asyncio.timeout(HELD_SECONDS), self._holding:
            await self._holding.wait_for(lambda: len(self._held) >= count)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        try:
            await self._pass_between(from_client, to_client)
        except (OSError, asyncio.CancelledError):
            to_client.transport.abort()
        finally:
            to_client.close()
            self._connections.discard(connection)

    async def _pass_between(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(HOST, self._target_port)
        asked = asyncio.Event()
        ways = [
            asyncio.ensure_future(self._pass_requests(from_client, to_server, asked)),
            asyncio.ensure_future(self._pass_answers(from_server, to_client, asked)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First of all: whoever refuses from now on may cancel the waiting for the ways to end.
            to_server.close()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass_requests(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, asked: asyncio.Event
    ) -> None:
        while data := await client.read(CHUNK_BYTES):
            if self._state.mode is _Mode.STALL:
                return await self._hold()
            asked.set()
            server.write(data)
            await server.drain()

    async def _pass_answers(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter, asked: asyncio.Event
    ) -> None:
        while data := await server.read(CHUNK_BYTES):
            state = self._state
            if asked.is_set() and state.mode is _Mode.MUTE:
                return await self._hold()
            if asked.is_set() and state.mode is _Mode.CUT:
                if state.once:
                    self._state = PASS
                client.write(data[: state.after_bytes])
                return await client.drain()
            if asked.is_set() and state.mode is _Mode.DELAY:
                await asyncio.sleep(state.seconds)
            asked.clear()
            client.write(data)
            await client.drain()

    async def _hold(self) -> None:
        """Wait until the next change; what came is lost then, and the connection with it."""
        lost = asyncio.get_running_loop().create_future()
        self._held.add(lost)
        try:
            async with self._holding:
                self._holding.notify_all()
            await lost
        finally:
            self._held.discard(lost)


def _bound(port: int) -> socket.socket:
    """Return a socket that shares its port with others of this process."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((HOST, port))
    bound.setblocking(False)
    return bound
