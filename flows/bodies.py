"""Reading what an engine sends: not more than fits, and nothing that cannot be stored and sent on."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, cast

import httpx

from prefect_campaigns.errors import EngineAnswerInvalid, EngineAnswerLost
from prefect_campaigns.flows.messages import one_line

PIECE_BYTES = 64 * 1024
"""How much is decompressed at a time: a thousandth of the bytes, or less, may have come over the network."""

MAX_JSON_DEPTH = 100
"""How deep a result may be nested: serializers on its way to the store give up at about 250."""

# Halves of surrogate pairs cannot be encoded, and PostgreSQL stores no NUL: such text would fail far from here.
_SUSPICIOUS_ESCAPE = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_UNSTORABLE = re.compile(r"[\ud800-\udfff\x00]")


@contextmanager
def reading(response: httpx.Response, where: str) -> Iterator[None]:
    """Turn what goes wrong while a successful answer is read into errors of ours.

    Raises:
        EngineAnswerLost: the answer was cut.
        EngineAnswerInvalid: it does not decompress.
    """
    try:
        yield
    except httpx.DecodingError as error:
        raise EngineAnswerInvalid(
            one_line(f"{where} answered with what does not decompress: {error}"), status_code=response.status_code
        ) from error
    except httpx.HTTPError as error:
        raise EngineAnswerLost(
            one_line(
                f"{where} answered {response.status_code}, and the answer was cut: {str(error) or type(error).__name__}"
            ),
            status_code=response.status_code,
        ) from error


def chunks_of(response: httpx.Response) -> aclosing[AsyncGenerator[bytes]]:
    """Return the decompressed chunks of an answer, to be iterated in a block that ends their iteration with it.

    We ask for no compression. What comes compressed all the same is decompressed a piece at a time: httpx would do it
    with all that has come at once, which an engine can make into as much memory as it likes.
    """
    return aclosing(_chunks(response))


async def _chunks(response: httpx.Response) -> AsyncGenerator[bytes]:
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    async with aclosing(cast(AsyncGenerator[bytes], response.aiter_raw())) as raw:
        if encoding in ("", "identity"):
            async for chunk in raw:
                yield chunk
            return
        decompress = _Decompressor(encoding)
        async for chunk in raw:
            for piece in decompress.feed(chunk):
                yield piece
        decompress.end()


class _Decompressor:
    """Decompresses piece by piece.

    Raises:
        httpx.DecodingError: what came does not decompress, or nobody here can.
    """

    def __init__(self, encoding: str) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise httpx.DecodingError(f"it is encoded as {encoding!r}, and gzip and deflate are understood")
        # With a header of either kind; some write deflate without any.
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._may_be_bare = encoding == "deflate"

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            if self._inflate.eof:
                # Several may follow one another (RFC 1952, section 2.2).
                self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
            try:
                piece = self._inflate.decompress(chunk, PIECE_BYTES)
            except zlib.error as error:
                if not self._may_be_bare:
                    raise httpx.DecodingError(str(error)) from error
                self._inflate, piece = zlib.decompressobj(-zlib.MAX_WBITS), b""
            else:
                chunk = self._inflate.unused_data or self._inflate.unconsumed_tail
            self._may_be_bare = False
            yield piece

    def end(self) -> None:
        if not self._inflate.eof:
            raise httpx.DecodingError("it ends too early")


async def read_body(response: httpx.Response, where: str, *, max_bytes: int) -> bytes:
    """Return the body of a successful answer, decompressed.

    Raises:
        EngineAnswerLost: it was cut.
        EngineAnswerInvalid: it is larger than ``max_bytes``, or does not decompress.
    """
    body = bytearray()
    with reading(response, where):
        async with chunks_of(response) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > max_bytes:
                    raise EngineAnswerInvalid(
                        f"{where} answered with more than {max_bytes:,} bytes", status_code=response.status_code
                    )
    return bytes(body)


def parse_json(text: bytes | str) -> Any:
    """Return the JSON value, such that it can always be written as JSON again.

    Numbers become ints and floats: a float gives back the fifteen digits that a cost may have. The NaN and Infinity
    that some engines write, and numbers too large for a float, become their own text, so that a cost of NaN is seen
    for what it is. Characters that no database keeps become U+FFFD.

    Raises:
        ValueError: it is no JSON in UTF-8, or nested deeper than MAX_JSON_DEPTH; says which, without the text.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        value = json.loads(text, parse_constant=str, parse_float=_parse_float)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg}, line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_JSON_DEPTH} levels") from None
    _check_depth(value)
    return _storable(value) if _SUSPICIOUS_ESCAPE.search(text) or "\x00" in text else value


def _parse_float(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_JSON_DEPTH + 1):
        level = [item for item in level if isinstance(item, (dict, list))]
        if not level:
            return
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    raise ValueError(f"it is nested deeper than {MAX_JSON_DEPTH} levels")


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value
