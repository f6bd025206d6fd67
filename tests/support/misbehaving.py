"""Engines that do everything wrong, one by one, and what the step that asks them has to say of it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import anyio
from raw_http import STREAM_HEAD, Connection, Handler, chunk, http, json_answer, saying

TIMEOUT_SECONDS = 6
"""How long a step has."""

_JSON_HEAD = STREAM_HEAD.replace(b"text/event-stream; charset=utf-8", b"application/json")


@dataclass(frozen=True, kw_only=True)
class Misbehaviour:
    """What an engine does wrong.

    Attributes:
        engine: what it does, for people.
        says: what the step's error says; ``{url}`` is the engine.
        tls: whether it speaks TLS, with a certificate that nobody vouches for.
    """

    engine: str
    handler: Handler
    says: str
    tls: bool = False


async def slow_loris(connection: Connection) -> None:
    """Say one byte of the head every half second, for ever."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Filler: " + b"a" * 1_000:
        await connection.say(bytes([byte]))
        await anyio.sleep(0.5)


async def ten_gigabytes(connection: Connection) -> None:
    """Send ten gigabytes of one JSON string."""
    await connection.say(_JSON_HEAD, chunk(b'"'))
    piece = chunk(b"x" * 1_000_000)
    for _ in range(10_000):
        await connection.say(piece)


async def endless_events(connection: Connection) -> None:
    """Send events for ever, and never the last one."""
    await connection.say(STREAM_HEAD)
    piece = chunk(b'data: {"type": "progress", "message": "still at it", "currentStep": 1, "totalSteps": 9}\n\n' * 50)
    while True:
        await connection.say(piece)
        await anyio.sleep(0.01)


async def reset_in_the_stream(connection: Connection) -> None:
    """Cut the connection between two events."""
    await connection.say(STREAM_HEAD, chunk(b'data: {"type": "started"}\n\n'))
    await anyio.sleep(0.2)
    connection.reset()


async def bomb(connection: Connection) -> None:
    """Send ten megabytes that decompress to ten gigabytes."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
    await connection.say(head.encode())
    compressor = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    for _ in range(1_000):
        await connection.say(compressor.compress(b" " * 10_000_000))


ENGINES: Mapping[str, Misbehaviour] = {
    "slow loris": Misbehaviour(
        engine="a byte of the head every half second, for ever",
        handler=slow_loris,
        says=f"no whole answer within {TIMEOUT_SECONDS} seconds",
    ),
    "ten gigabytes": Misbehaviour(
        engine="a body of 10 GB", handler=ten_gigabytes, says="{url} answered with more than 16,777,216 bytes"
    ),
    "endless events": Misbehaviour(
        engine="a stream of events without end",
        handler=endless_events,
        says=f"no whole answer within {TIMEOUT_SECONDS} seconds",
    ),
    "gzip bomb": Misbehaviour(
        engine="10 MB of gzip that are 10 GB", handler=bomb, says="{url} answered with more than 16,777,216 bytes"
    ),
    "redirect": Misbehaviour(
        engine="a redirect to another host",
        handler=saying(http("307 Temporary Redirect", headers=["Location: http://elsewhere.example/api"])),
        says="{url} answered 307 and pointed to http://elsewhere.example/api, which is not followed",
    ),
    "untrusted TLS": Misbehaviour(
        engine="a certificate that nobody vouches for",
        handler=saying(),
        says="no connection to {url}: [SSL: CERTIFICATE_VERIFY_FAILED]",
        tls=True,
    ),
    "no UTF-8": Misbehaviour(
        engine="JSON that is no UTF-8",
        handler=saying(json_answer(b'{"found": "\xff\xfe"}')),
        says="{url} answered 200 with application/json that is no usable JSON: it is no UTF-8 (byte 11)",
    ),
    "deep JSON": Misbehaviour(
        engine="JSON nested 100,000 deep",
        handler=saying(json_answer(b"[" * 100_000 + b"]" * 100_000)),
        says="{url} answered 200 with application/json that is no usable JSON: it is nested deeper than 100 levels",
    ),
    "too short a length": Misbehaviour(
        engine="a Content-Length that is too short",
        handler=saying(http("200 OK", headers=["Content-Type: application/json"], body=b'{"found": 20}', length=6)),
        says="{url} answered 200 with application/json that is no usable JSON",
    ),
    "too long a length": Misbehaviour(
        engine="a Content-Length that is too long",
        handler=saying(http("200 OK", headers=["Content-Type: application/json"], body=b'{"found": 20}', length=999)),
        says="{url} answered 200, and the answer was cut",
    ),
    "reset": Misbehaviour(
        engine="a connection that is reset in the middle of a stream",
        handler=reset_in_the_stream,
        says="{url} answered 200, and the answer was cut",
    ),
    "error in a success": Misbehaviour(
        engine='200 with `"success": false`',
        handler=saying(json_answer(json.dumps({"success": False, "error": "no credit left"}).encode())),
        says="{url} failed: no credit left",
    ),
    "absurd cost": Misbehaviour(
        engine="a cost of 1e308",
        handler=saying(json_answer(b'{"found": 20, "cost": 1e308}')),
        says="the engine reported 1e+308 as cost; a cost is a number of US dollars from 0 to",
    ),
}
