"""Taking secrets out of what comes back: an engine may repeat what it was sent, in any way in which text is written.

A secret is searched for as it is, as JSON, URLs and HTML write it, and in base64, also where that begins before it. Of
``Bearer <token>``, ``name=value; …`` and the base64 of ``user:password`` the parts are searched for as well.
"""

from __future__ import annotations

import base64
import binascii
import html.entities
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from prefect_campaigns.checks import MIN_SECRET
from prefect_campaigns.errors import EngineError
from prefect_campaigns.words import HIDDEN

MIN_PART = 8
"""Parts of secrets, their base64, and numbers are searched for from this many characters on: shorter ones occur in
what engines answer by chance, and a result that is changed by chance is a wrong mail."""

_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9-]{1,20}\s+(?P<rest>\S+)\s*")
_PAIR = re.compile(r"\s*[^\s=;,{}]+=\"?(?P<value>[^\s;,\"]+)\"?\s*")
_SHORT_ESCAPES = '"\b\f\n\r\t'
_ESCAPES = ("\\", "%", "&", "+")
"""What every way to escape text begins with; a text without any is searched much faster."""

_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore.socks")


class Redactor:
    """Replaces secrets by ``********``; without any it changes nothing.

    Its repr shows no secret.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        parts = {part for secret in secrets for part in (secret, *_parts(secret)) if len(part) >= MIN_SECRET}
        forms = {form for part in parts for form in _forms(part) if len(form) >= MIN_SECRET}
        # The longest first: a shorter one within it would leave the rest of it.
        self._forms = sorted(forms, key=lambda form: (-len(form), form))
        escaped = [pattern for part in sorted(parts, key=len, reverse=True) if (pattern := _escaped(part))]
        self._escaped = re.compile("|".join(escaped), re.IGNORECASE) if escaped else None
        self._numbers = {part for part in parts if len(part) >= MIN_PART and part.isdigit()}

    def __bool__(self) -> bool:
        return bool(self._forms)

    def text(self, text: str) -> str:
        """Return the text without secrets."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        if self._escaped is not None and any(mark in text for mark in _ESCAPES):
            text = self._escaped.sub(HIDDEN, text)
        return text

    def value(self, value: Any) -> Any:
        """Return JSON without secrets, in keys and values."""
        if not self._forms:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and str(value) in self._numbers:
            return HIDDEN
        return value

    def clean(self, error: BaseException) -> None:
        """Take secrets out of an exception and of all that its traceback shows: what it came from is logged with it."""
        if not self._forms:
            return
        for one in _chain(error):
            one.args = tuple(self.value(arg) for arg in one.args)
            if hasattr(one, "__notes__"):
                one.__notes__ = [self.text(note) for note in one.__notes__]
            if isinstance(one, EngineError):
                one.payload = self.value(one.payload)
        if self.finds("".join(traceback.format_exception(error))):
            # Some exceptions make their text of something else than their arguments.
            error.__cause__ = error.__context__ = None

    def finds(self, text: str) -> bool:
        """Whether there is a secret in the text."""
        return self.text(text) != text


def _parts(secret: str) -> Iterator[str]:
    """Yield what is secret within a secret, if it has a form that is known."""
    scheme = _SCHEME.fullmatch(secret)
    token = scheme["rest"] if scheme else secret
    found = [token] if scheme else []
    pairs = [_PAIR.fullmatch(pair) for pair in re.split("[;,]", secret)]
    found += [pair["value"] for pair in pairs if pair] if all(pairs) else []
    if login := _decoded_login(token):
        found += [login, login.partition(":")[2]]
    yield from (part for part in found if len(part) >= MIN_PART)


def _decoded_login(text: str) -> str | None:
    """Return the ``user:password`` of HTTP's basic authentication."""
    try:
        decoded = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return decoded if ":" in decoded and decoded.isprintable() else None


def _forms(secret: str) -> Iterator[str]:
    """Yield the texts that a secret is found by: itself, and its base64."""
    yield secret
    for encoding in ("utf-8", "latin-1"):
        try:
            raw = secret.encode(encoding)
        except UnicodeEncodeError:
            continue
        yield from _base64(raw)


def _escaped(secret: str) -> str | None:
    """Return a pattern of what a secret becomes in JSON, URLs and HTML; None if it stays as it is in all of them."""
    if re.fullmatch(r"[A-Za-z0-9._~-]*", secret):
        return None
    runs = re.findall(r"\\+|[^\\]", secret)
    return "".join(_backslashes(len(run)) if run[0] == "\\" else _character(run) for run in runs)


def _backslashes(count: int) -> str:
    # As one, so that a text of many backslashes cannot be matched in too many ways.
    return rf"(?:\\{{{count},{8 * count}}}|(?:%5c|&#0*92;|&#x0*5c;|&bsol;|\\{{1,8}}u005c){{{count}}})"


@lru_cache(maxsize=1024)
def _character(char: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9]", char):
        return char
    ways = [re.escape(char)]
    units = char.encode("utf-16-be", "surrogatepass").hex()
    # More than one backslash: JSON may hold JSON.
    ways.append("".join(rf"\\{{1,8}}u{units[at : at + 4]}" for at in range(0, len(units), 4)))
    ways.append(rf"\\{{1,8}}{re.escape(json.dumps(char)[2] if char in _SHORT_ESCAPES else char)}")
    for encoding in ("utf-8", "latin-1"):
        with suppress(UnicodeEncodeError):
            ways.append("".join(f"%{byte:02x}" for byte in char.encode(encoding)))
    ways += [r"\+"] if char == " " else []
    ways += [rf"&#0*{ord(char)};", f"&#x0*{ord(char):x};"]
    ways += [rf"&{name.rstrip(';')};" for name, meant in html.entities.html5.items() if meant == char]
    return f"(?:{'|'.join(dict.fromkeys(ways))})"


def _base64(secret: bytes) -> Iterator[str]:
    whole = base64.b64encode(secret).decode()
    found = [text for text in (whole, whole.rstrip("=")) if len(text) >= MIN_PART]
    for before in range(3):
        # Of the characters that it makes, those that depend on nothing else than it.
        start, end = -(-before * 8 // 6), (before + len(secret)) * 8 // 6
        if end - start >= MIN_PART:
            found.append(base64.b64encode(bytes(before) + secret).decode()[start:end])
    for text in found:
        yield text
        yield text.translate(str.maketrans("+/", "-_"))


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception and all that its traceback may show with it."""
    found: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or any(one is other for other in found):
            continue
        found.append(one)
        todo += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]
    return found


def _as_it_is(text: str) -> str:
    return text


_hide: ContextVar[Callable[[str], str]] = ContextVar("prefect_campaigns_hide", default=_as_it_is)


def hidden(text: str) -> str:
    """Return the text without the secrets of the exchange that is going on."""
    return _hide.get()(text)


@contextmanager
def hiding(redactor: Redactor) -> Iterator[None]:
    """Hide secrets from whatever is said within the block, by us and by the HTTP client.

    What is said is made one line and cut to its length in many places; a secret that is cut in two would be found by
    nobody afterwards.
    """
    for name in _LOGGERS:
        # Adding a filter again does nothing.
        logging.getLogger(name).addFilter(_hide_in_record)
    token = _hide.set(redactor.text if redactor else _as_it_is)
    try:
        yield
    finally:
        _hide.reset(token)


def _hide_in_record(record: logging.LogRecord) -> bool:
    """Let a record of the HTTP client say no secret: it shows the query of a GET, and headers that came back."""
    if _hide.get() is not _as_it_is:
        record.msg, record.args = hidden(record.getMessage()), ()
    return True
