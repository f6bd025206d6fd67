"""What is said to an engine and what comes back, as values; and how its words are made fit for people."""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from prefect_campaigns.flows.redaction import hidden
from prefect_campaigns.hosts import AllowedHosts

MAX_MESSAGE_LENGTH = 500
MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_RETRY_AFTER_SECONDS = 3600.0

_MAX_PROGRESS_LENGTH = 200
_WORD_KEYS = ("error", "message", "detail", "msg")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """One request to an engine.

    Attributes:
        params: the JSON body; of a GET, the query string.
        headers: those that the step sets, beside the exchange's own.
        secrets: what is secret in params and headers; nothing that comes back shows it.
        idempotency_key: the same for each repetition of the same work.
        timeout_seconds: how long the whole exchange may take. The caller enforces it; see call_engine.
    """

    method: str
    url: str
    params: dict[str, Any] = field(repr=False)
    idempotency_key: str
    timeout_seconds: float
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class EngineAnswer:
    """A result, and what went wrong without spoiling it."""

    result: Any
    warnings: tuple[str, ...]
    status_code: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the engine says it is; ``fraction`` is from 0 to 1, None where it does not say."""

    message: str
    fraction: float | None


@dataclass(frozen=True, kw_only=True)
class ExchangeLimits:
    """What an exchange may cost this machine, and where it may go.

    Attributes:
        max_answer_bytes: how large an answer may be, decompressed; of a stream how large each of its events.
        allowed_hosts: the hosts that may be asked.
    """

    max_answer_bytes: int = MAX_ANSWER_BYTES
    allowed_hosts: AllowedHosts = field(default_factory=AllowedHosts)


OnProgress = Callable[[Progress], Awaitable[None]]


def reporter(on_progress: OnProgress | None) -> OnProgress:
    """Return a callback that cannot disturb the exchange: progress is for people, the work is paid for.

    The first time that progress cannot be shown is logged, and no other: a stream may have thousands of events.
    """
    broken = False

    async def report(progress: Progress) -> None:
        nonlocal broken
        if on_progress is None:
            return
        try:
            await on_progress(progress)
        except Exception:
            if not broken:
                _logger.warning("progress could not be shown: %s", progress.message, exc_info=True)
            broken = True

    return report


def progress_from(said: Mapping[str, Any], *, fallback: str) -> Progress:
    """Return the progress that an event or a job's status tells."""
    company = said.get("company")
    name = company.get("name") if isinstance(company, Mapping) else company
    texts = (said.get("message"), name, said.get("step"), said.get("status"))
    message = next((text for text in texts if isinstance(text, str) and text.strip()), fallback)
    return Progress(message=one_line(message, limit=_MAX_PROGRESS_LENGTH), fraction=_fraction(said))


def _fraction(said: Mapping[str, Any]) -> float | None:
    done, total = _number(said.get("currentStep")), _number(said.get("totalSteps"))
    if done is not None and total:
        return min(done / total, 1.0)
    progress = _number(said.get("progress"))
    if progress is None:
        return None
    # Engines tell it from 0 to 1 or from 0 to 100.
    return min(progress if progress <= 1 else progress / 100, 1.0)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def one_line(text: str, *, limit: int = MAX_MESSAGE_LENGTH) -> str:
    """Return the text as one line that is safe to log, to show and to mail as a subject.

    Secrets of the exchange that is going on are taken out first. Control and formatting characters (line ends, escapes,
    text direction) become spaces, spaces are joined, and what is too long ends in ``…``.
    """
    text = hidden(text)
    start = text[: limit * 4]
    printable = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in start)
    line = " ".join(printable.split())
    return line if len(line) <= limit and len(start) == len(text) else f"{line[: limit - 1]}…"


def engine_words(said: Any) -> str | None:
    """Return why the engine says it failed, in its own words and in one line; None when it does not say.

    Read are ``error``, ``message``, ``detail`` and ``msg``, as texts, objects that hold one, or lists of either.
    """
    words = _words(said, depth=4)
    return one_line(words) or None if words else None


def _words(said: Any, *, depth: int) -> str | None:
    if isinstance(said, str):
        return said if said.strip() else None
    if not depth:
        return None
    if isinstance(said, list):
        each = [words for words in (_words(item, depth=depth - 1) for item in said[:5]) if words]
        return "; ".join(each) or None
    if isinstance(said, Mapping):
        found = (_words(said.get(key), depth=depth - 1) for key in _WORD_KEYS)
        return next((words for words in found if words), None)
    return None


def show_url(url: httpx.URL | str) -> str:
    """Return a URL without its query and user, where secrets are."""
    try:
        url = httpx.URL(url)
    except httpx.InvalidURL:
        return "the endpoint"
    bare = url.copy_with(query=None, fragment=None, username=None, password=None)
    return one_line(str(bare), limit=200)


def encode_headers(*layers: Mapping[str, str]) -> httpx.Headers:
    """Return headers as bytes in Latin-1, the later layers over the earlier ones; case does not count."""
    headers = httpx.Headers(encoding="iso-8859-1")
    for name, value in ((name, value) for layer in layers for name, value in layer.items()):
        headers[name] = value
    return headers


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Return how many seconds an engine asks to wait: its ``Retry-After``, as seconds or as an HTTP date.

    Garbage is None, a date that has passed is 0, and nothing is longer than an hour.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    try:
        at = parsedate_to_datetime(text)
        # A date without a zone is in UTC, as HTTP dates are.
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
