"""Server-sent events: bytes in, events out, however the network cuts them.

A decoder of our own, because those at hand lose things that engines send: httpx-sse drops the first event behind a
byte order mark, decodes by the charset of the header where the standard says UTF-8, holds an event that ends in a
lone carriage return back until more comes, and keeps a line that never ends in memory without limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class SseEvent:
    """One event: its ``data`` lines joined by line feeds, and its ``event`` field (empty without one)."""

    data: str
    event: str = ""


class SseEventTooLarge(ValueError):
    """An event is larger than the decoder keeps."""


class SseDecoder:
    """Decodes a stream piece by piece, as the WHATWG HTML standard says (section 9.2.6).

    Line ends are ``\\r\\n``, ``\\n`` and ``\\r`` and are looked for in the bytes, where no character of UTF-8 can hold
    them; so a character cut by a chunk is whole again before it is decoded, and U+2028 ends nothing. An event
    without data is none.

    Args:
        max_event_bytes: how large an event, or a line of any kind, may get.
    """

    def __init__(self, *, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._event = b""
        self._first_line = True
        self._after_carriage_return = False

    def feed(self, chunk: bytes) -> Iterator[SseEvent]:
        """Yield the events that the chunk completes.

        Raises:
            SseEventTooLarge: more than ``max_event_bytes`` without an end.
        """
        if not chunk:
            return
        if self._after_carriage_return:
            # The line already ended with its carriage return; the line feed of the pair comes late.
            chunk = chunk.removeprefix(b"\n")
        self._after_carriage_return = chunk.endswith(b"\r")
        *ended, rest = _LINE_END.split(chunk)
        for piece in ended:
            event = self._end_line(piece)
            if event is not None:
                yield event
        self._extend_line(rest)

    def end(self) -> SseEvent | None:
        """Return the event that the stream ended in without the blank line behind it.

        The standard drops it, since it may be cut. JSON tells by itself whether it is whole, and an engine that
        forgets the last line end has done its work all the same.
        """
        return self._end_line(b"") or self._dispatch()

    def _extend_line(self, piece: bytes) -> None:
        self._line += piece
        if len(self._line) + self._data_bytes > self._max_event_bytes:
            raise SseEventTooLarge(f"an event of more than {self._max_event_bytes:,} bytes")

    def _end_line(self, piece: bytes) -> SseEvent | None:
        self._extend_line(piece)
        line = bytes(self._line)
        self._line.clear()
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
        elif name == b"event":
            self._event = value
        # A comment begins with a colon, so its name is empty; id and retry are for clients that reconnect.
        return None

    def _dispatch(self) -> SseEvent | None:
        data, event, has_data = b"\n".join(self._data), self._event, bool(self._data)
        self._data, self._data_bytes, self._event = [], 0, b""
        if not has_data:
            return None
        return SseEvent(data=data.decode(errors="replace"), event=event.decode(errors="replace"))
