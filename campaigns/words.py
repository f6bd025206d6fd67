"""How values are shown in complaints: in JSON's words, shortened, and never with a secret in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

MAX_SHOWN = 60

SECRET_KEYS = ("slack", "headers")
"""Keys whose value, and all that is in it, no complaint repeats."""

HIDDEN = "********"
"""What stands for a secret wherever something is shown or kept."""


_IN_A_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]*")


def _printable(text: str) -> str:
    """Escape what a terminal or a log cannot take: control characters, lone surrogates, direction marks."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def without_secrets(text: str) -> str:
    """Return the text without passwords, query strings and webhook paths.

    It errs on the safe side: whatever stands between a colon and an ``@`` counts as a password, and whatever
    looks like a webhook is not repeated at all.
    """
    lower_case = text.lower()
    if ("hook" in lower_case and "/" in text) or "/services/" in lower_case:
        return "(a webhook URL)"
    before, at, host = text.rpartition("@")
    if at and ":" in before:
        text = f"…@{host}"
    address, mark, _ = text.partition("?")
    return f"{address}?…" if mark and "://" in address else text


def hide_login(text: str) -> str:
    """Take user names and passwords out of the URLs in a text."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1", text)


MAX_WHY = 300


def why_failed(error: BaseException) -> str:
    """Return what an error says, as one line without logins, of 300 characters at the most; else what it is called."""
    return hide_login(" ".join(str(error).split())[:MAX_WHY]) or type(error).__name__


def shown(value: Any) -> str:
    """Return the value as one would write it in JSON, on one line; lists and objects only by their size."""
    if isinstance(value, str):
        return _printable(json.dumps(_shortened(without_secrets(value)), ensure_ascii=False))
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float, Decimal)):
        return _shortened(_number(value))
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    return f"a Python {type(value).__name__}"


def _number(value: int | float | Decimal) -> str:
    if isinstance(value, int) and value.bit_length() > 4_000:
        # Python refuses to print integers of more than 4,300 digits.
        return "of more than a thousand digits"
    exact = Decimal(str(value))
    if exact.is_finite() and abs(exact.adjusted()) < MAX_SHOWN:
        return f"{exact:f}"
    return str(value)


def came(value: Any, *, secret: bool = False) -> str:
    """Return the subject of a complaint: ``the number 5 came``, ``a list of 3 came``."""
    if isinstance(value, str):
        return "a string came" if secret else f"the string {shown(value)} came"
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return "a number came" if secret else f"the number {shown(value)} came"
    return f"{shown(value)} came"


def listed(names: Iterable[str]) -> str:
    """Return the names in quotes, as a list in words: ``"a", "b" and "c"``."""
    *others, last = [shown(name) for name in names]
    return f"{', '.join(others)} and {last}" if others else last


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant, if one of them is near enough; case does not count."""
    by_lower_case = {candidate.lower(): candidate for candidate in names}
    matches = get_close_matches(name.lower()[:200], by_lower_case, n=1)
    return by_lower_case[matches[0]] if matches else None


def header_name(name: str) -> str:
    """Return a header's name as far as it can be one: behind a colon, or a space, there may be its value."""
    beginning = _IN_A_NAME.match(name)
    return name if beginning is None or beginning.end() == len(name) else f"{beginning.group()}…"


def tellable(path: Iterable[str | int]) -> Iterator[str | int]:
    """Yield the parts of a path, of what is in headers no more than can be a header's name."""
    in_headers = False
    for part in path:
        yield header_name(part) if in_headers and isinstance(part, str) else part
        in_headers = in_headers or part == "headers"


def json_pointer(path: Iterable[str | int]) -> str:
    """Return the RFC 6901 pointer of a path; characters that cannot be printed are escaped as in JSON."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in tellable(path))
    return _printable("".join(f"/{part}" for part in parts))
