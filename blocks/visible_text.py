"""Text from outside, made fit to be shown: nothing in it acts, hides or turns what stands beside it."""

from __future__ import annotations

import re

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")
LONE_SURROGATES = re.compile(r"[\ud800-\udfff]")
# They make text read in another order than it is written in; right-to-left scripts need none of them.
_BIDI_OVERRIDES = re.compile(r"[\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Return the text with a space for each control character, and without what turns its direction."""
    text = _BIDI_OVERRIDES.sub("", CONTROLS.sub(" ", text))
    return LONE_SURROGATES.sub("\ufffd", text)


def one_line(text: str, limit: int) -> str:
    """Return the text as one line without control characters, at most ``limit`` characters long."""
    # Cut before anything is replaced: what came may be megabytes.
    line = " ".join(visible(text[: limit * 10]).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
