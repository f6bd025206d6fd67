"""JSON text that is no JSON, mended: what people write instead, told and put right token by token.

Comments, trailing and missing commas, single quotes, bare words, NaN, raw control characters, brackets that are
not closed: each is noted with its place, and the text goes on as if it had been right, so that a campaign's other
faults can be told in the same go.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from dataclasses import dataclass
from decimal import Decimal

from prefect_campaigns.words import shown

MAX_DEPTH = 100
"""Lists and objects may be nested this deep. What is deeper breaks JSON writers further down the road."""

MAX_SLIPS = 1_000
"""Slips after which a text is not looked at any further."""

_CLOSER = {"{": "}", "[": "]"}
_OPENER = {"}": "{", "]": "["}
_CALLED = {"{": "object", "[": "list"}

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<url>[A-Za-z][\w+.-]*://[^\s,\]}"']*)
  | (?P<comment>//[^\n]*|\#[^\n]*|/\*.*?(?:\*/|\Z))
  | (?P<string>"(?:[^"\\\n]|\\[^\n])*"?)
  | (?P<quoted>'(?:[^'\\\n]|\\[^\n])*'?|`[^`\n]*`?
      |[\u201c\u201d][^\u201c\u201d\n]*[\u201c\u201d]?|[\u2018\u2019][^\u2018\u2019\n]*[\u2018\u2019]?)
  | (?P<mark>[{}\[\]:,;=])
  | (?P<word>[^\s{}\[\]:,;="'`\u2018-\u201d\#/]+)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_RIGHT_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_IN_STRING = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|(?P<control>[\x00-\x1f])|(?P<escape>\\.)', re.DOTALL)
_CONSTANTS = {
    "true": "true",
    "false": "false",
    "null": "null",
    "none": "null",
    "nil": "null",
    "undefined": "null",
}
_NO_NUMBERS = ("nan", "inf", "infinity")
_CURLY = "\u201c\u201d"
_CURLY_SINGLE = "\u2018\u2019"
_CLOSING_QUOTES = {"'": "'", "`": "`"} | dict.fromkeys(_CURLY, _CURLY) | dict.fromkeys(_CURLY_SINGLE, _CURLY_SINGLE)


@dataclass(frozen=True, kw_only=True)
class Mend:
    """One thing that was put right; offsets are in characters, of the text and of the mended text."""

    offset: int
    mended_offset: int
    message: str


class Mended:
    """A text, and what it would be if it were JSON.

    Attributes:
        slips: what was put right, in the order of the text.
        doubtful: offsets of values for which something else was put; what the model says of them means nothing.
        gave_up: whether the rest of the text was not looked at, because nothing sure could be said of it.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.slips: list[Mend] = []
        self.doubtful: set[int] = set()
        self.gave_up = False
        self._out: list[str] = []
        self._length = 0
        # Where each piece begins, in the mended text and in the text.
        self._mended_starts: list[int] = []
        self._starts: list[int] = []
        self._open: list[tuple[str, int]] = []
        self._before = ""
        self._comma: tuple[int, int] | None = None
        self._key = ""
        # How many brackets are open within a step's headers; 0 outside of them.
        self._headers_depth = 0
        self._mend()

    def __str__(self) -> str:
        """Return the text as JSON."""
        return "".join(self._out)

    def original(self, offset: int) -> int:
        """Return the offset in the text of an offset in the mended text."""
        piece = bisect_right(self._mended_starts, offset) - 1
        if piece < 0:
            return 0
        # A piece that was mended may be longer than what it stands for; its end is the next piece's beginning.
        following = self._starts[piece + 1] if piece + 1 < len(self._starts) else len(self.text)
        return min(self._starts[piece] + offset - self._mended_starts[piece], following)

    def _shown(self, word: str) -> str:
        """Show what came, unless it may be part of a header's value, which is a secret."""
        is_behind_key = self._before in ("key", ":") and self._key == "headers"
        return '"…"' if self._headers_depth or is_behind_key else shown(word)

    def _slip(self, offset: int, message: str) -> None:
        self.slips.append(Mend(offset=offset, mended_offset=self._length, message=message))
        self.gave_up = self.gave_up or len(self.slips) >= MAX_SLIPS

    def _write(self, piece: str, at: int) -> None:
        self._out.append(piece)
        self._mended_starts.append(self._length)
        self._starts.append(at)
        self._length += len(piece)

    def _mend(self) -> None:
        position = 0
        while position < len(self.text) and not self.gave_up:
            token = _TOKEN.match(self.text, position)
            assert token is not None and token.lastgroup is not None  # noqa: S101  # "other" takes anything
            position = token.end()
            kind, piece, at = token.lastgroup, token.group(), token.start()
            if kind == "space":
                self._write(piece, at)
            elif kind == "comment":
                self._slip(at, "a comment came; JSON has none")
                self._write(" ", at)
            elif kind == "mark":
                self._mark(piece, at)
            elif kind == "other":
                self._other(piece, at)
            else:
                position = self._leaf(kind, piece, at)
        if self._open and not self.gave_up:
            self._close_all()

    def _other(self, piece: str, at: int) -> None:
        if piece.isspace() or piece in "\ufeff\u200b":
            self._slip(at, f"the character U+{ord(piece):04X} came; between values JSON takes spaces and line breaks")
            self._write(" ", at)
            return
        self._slip(at, f"{self._shown(piece)} came; a value or one of {{ }} [ ] : , is expected here")
        self.gave_up = True

    def _mark(self, mark: str, at: int) -> None:
        if mark in ";=":
            meant = {";": ",", "=": ":"}[mark]
            self._slip(at, f"{shown(mark)} came; {shown(meant)} is meant")
            mark = meant
        if mark in "{[":
            self._separate(at)
            self._write(mark, at)
            self._open.append((mark, at))
            if not self._headers_depth and self._before == ":" and self._key == "headers":
                self._headers_depth = len(self._open)
            self._before = mark
            if len(self._open) > MAX_DEPTH:
                self._slip(
                    at,
                    f"more than {MAX_DEPTH} lists and objects within each other came; {MAX_DEPTH} are allowed",
                )
                self.gave_up = True
        elif mark in "}]":
            self._close(mark, at)
        elif mark == "," and self._before in ("{", "[", ","):
            self._slip(at, "a comma came; a value is expected here")
        else:
            if mark == ",":
                self._complete(at)
                self._comma = (at, len(self._out))
            self._write(mark, at)
            self._before = mark

    def _close(self, mark: str, at: int) -> None:
        if self._before == "," and self._comma:
            comma_at, piece = self._comma
            self._out[piece] = " "
            self._slip(comma_at, f"a trailing comma came; none is allowed before {mark}")
        self._complete(at)
        opener = _OPENER[mark]
        if all(mark_open != opener for mark_open, _ in self._open):
            self._slip(at, f"{mark} came, and nothing is open that it could close")
            self.gave_up = True
            return
        while self._open[-1][0] != opener:
            unclosed, unclosed_at = self._open.pop()
            self._slip(
                at,
                f"{mark} came; first the {_CALLED[unclosed]} that begins at {self._place(unclosed_at)}"
                f" is closed, with {_CLOSER[unclosed]}",
            )
            self._write(_CLOSER[unclosed], at)
        self._open.pop()
        if len(self._open) < self._headers_depth:
            self._headers_depth = 0
        self._write(mark, at)
        self._before = "value"

    def _close_all(self) -> None:
        end = len(self.text)
        if self._before == "," and self._comma:
            self._out[self._comma[1]] = " "
        self._complete(end, told=True)
        places = [f"the {_CALLED[mark]} that begins at {self._place(at)}" for mark, at in reversed(self._open)]
        others = f" and {len(places) - 1} around it" if len(places) > 1 else ""
        verb = "are" if others else "is"
        self._slip(end, f"the text ends, and {places[0]}{others} {verb} not closed")
        self._write("".join(_CLOSER[mark] for mark, _ in reversed(self._open)), end)

    def _place(self, offset: int) -> str:
        line, column = place(self.text, offset)
        return f"line {line}, column {column}"

    def _complete(self, at: int, *, told: bool = False) -> None:
        """Put in the value that is missing behind a key."""
        if self._before not in ("key", ":"):
            return
        colon = ":" if self._before == "key" else ""
        if not told:
            self._slip(at, f"{'a colon and a value are' if colon else 'a value is'} missing here, after the key")
        self._write(colon, at)
        self._write("null", at)
        self.doubtful.add(at)

    def _separate(self, at: int) -> None:
        """Put in the comma or colon that is missing before a value."""
        if not self._open or self._before not in ("key", "value"):
            return
        if self._before == "key":
            self._slip(at, "a colon is missing between the key and its value")
            self._write(":", at)
            self._before = ":"
        else:
            what = "key" if self._open[-1][0] == "{" else "value"
            self._slip(at, f"a comma is missing before this {what}")
            self._write(",", at)
            self._before = ","

    def _leaf(self, kind: str, piece: str, at: int) -> int:
        """Write a string, number or word, or a key; return where the text goes on."""
        self._separate(at)
        is_key = bool(self._open) and self._open[-1][0] == "{" and self._before in ("{", ",")
        if kind == "string":
            piece, written = self._string(piece, at)
        elif kind == "quoted":
            piece, written = self._quoted(piece, at)
        else:
            written = self._word(piece, at, is_key=is_key)
        self._write(written, at)
        if is_key and not self._headers_depth:
            self._key = written[1:-1]
        self._before = "key" if is_key else "value"
        return at + len(piece)

    def _unterminated(self, piece: str, at: int) -> str:
        # What closes the line probably stood behind the closing quote.
        kept = piece[0] + piece[1:].rstrip(" \t\r,]}")
        self._slip(at, f"a string begins here that is not closed on its line with {piece[0]}")
        self.doubtful.add(at)
        following = _TOKEN.match(self.text, at + len(piece))
        while following and following.lastgroup == "space":
            following = _TOKEN.match(self.text, following.end())
        if kept == piece and following and following.group() not in ("}", "]"):
            self.gave_up = True
        return kept

    def _string(self, piece: str, at: int) -> tuple[str, str]:
        if _RIGHT_STRING.fullmatch(piece):
            return piece, piece
        if len(piece) == 1 or not self._closed(piece, '"'):
            piece = self._unterminated(piece, at)
            return piece, self._right_string(piece + '"', at)
        return piece, self._right_string(piece, at)

    @staticmethod
    def _closed(piece: str, quotes: str) -> bool:
        if piece[-1] not in quotes:
            return False
        body = piece[1:-1]
        return (len(body) - len(body.rstrip("\\"))) % 2 == 0

    def _right_string(self, piece: str, at: int) -> str:
        """Return a closed string with its raw control characters and unknown escapes put right."""

        def right(match: re.Match[str]) -> str:
            if self.gave_up:
                return ""
            offset = at + 1 + match.start()
            if match["control"]:
                written = json.dumps(match["control"])[1:-1]
                self._slip(offset, f"a raw control character came; in a string it is written {written}")
                return written
            if match["escape"]:
                self._slip(
                    offset,
                    f"a backslash before {self._shown(match['escape'][1:])} came; a backslash itself is written \\\\,"
                    " and JSON's escapes are \\\" \\/ \\b \\f \\n \\r \\t and \\u with four hex digits",
                )
                return "\\\\" + json.dumps(match["escape"][1:])[1:-1]
            return match.group()

        return '"' + _IN_STRING.sub(right, piece[1:-1]) + '"'

    def _quoted(self, piece: str, at: int) -> tuple[str, str]:
        quote = piece[0]
        called = "single quotes" if quote == "'" else f"the quotation mark {quote}"
        self._slip(at, f'{called} came; strings and keys are written in double quotes, "…"')
        if len(piece) == 1 or not self._closed(piece, _CLOSING_QUOTES[quote]):
            piece = self._unterminated(piece, at)
            inner = piece[1:]
        else:
            inner = piece[1:-1]
        inner = re.sub(r"\\'|\\.|\"", lambda m: {"\\'": "'", '"': '\\"'}.get(m.group(), m.group()), inner)
        return piece, self._right_string(f'"{inner}"', at)

    def _word(self, word: str, at: int, *, is_key: bool) -> str:
        """Return what JSON writes for a number, constant or bare word."""
        if is_key:
            self._slip(at, f"the key {self._shown(word)} came without quotes; keys are written in double quotes")
            return json.dumps(word)
        if word in ("true", "false", "null"):
            return word
        if _NUMBER.fullmatch(word):
            return self._number(word, at)
        constant = _CONSTANTS.get(word.lower())
        if constant:
            self._slip(at, f"{self._bare(word)} came; JSON writes {constant}")
            return constant
        if word.lstrip("+-").lower() in _NO_NUMBERS:
            self._slip(at, f"{self._bare(word)} came; a number in JSON is finite")
            self.doubtful.add(at)
            return "null"
        if word[0] in "+-.0123456789":
            self._slip(at, f"{self._bare(word)} came; a number in JSON looks like 5, -1, 0.024 or 1e3")
            self.doubtful.add(at)
            return "0"
        self._slip(at, f"{self._bare(word)} came without quotes; strings are written in double quotes")
        return json.dumps(word)

    def _number(self, number: str, at: int) -> str:
        try:
            finite = math.isfinite(float(number)) and Decimal(number).is_finite()
        except ArithmeticError:
            finite = False
        if not finite:
            self._slip(at, f"the number {self._bare(number)} came; it is beyond what JSON readers can hold")
            self.doubtful.add(at)
            return "0"
        return number

    def _bare(self, word: str) -> str:
        return self._shown(word)[1:-1]


def place(text: str, offset: int) -> tuple[int, int]:
    """Return line and column of an offset, both counted from 1, the column in characters."""
    line_start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - line_start + 1
