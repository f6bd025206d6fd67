"""Reading what an engine sends: not more than fits, and nothing that cannot be stored and sent on."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, cast

import httpx

from prefect_campaigns.errors import EngineAnswerInvalid, EngineAnswerLost
from prefect_campaigns.flows.messages import one_line

MAX_BODY_BYTES = 64 * 1024 * 1024
"""How much of an answer, decompressed, is read; also how large one event of a stream may be."""

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
    """Return the decompressed chunks of an answer, to be iterated in a block that ends their iteration with it."""
    return aclosing(cast(AsyncGenerator[bytes], response.aiter_bytes()))


async def read_body(response: httpx.Response, where: str) -> bytes:
    """Return the body of a successful answer.

    Raises:
        EngineAnswerLost: it was cut.
        EngineAnswerInvalid: it is larger than MAX_BODY_BYTES, or does not decompress.
    """
    body = bytearray()
    with reading(response, where):
        async with chunks_of(response) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise EngineAnswerInvalid(
                        f"{where} answered with more than {MAX_BODY_BYTES:,} bytes", status_code=response.status_code
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
