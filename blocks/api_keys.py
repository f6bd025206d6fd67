"""The keys of the REST API, as ``CAMPAIGNS_API_KEY`` names them. Nothing here keeps a key, only its digest."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

DEFAULT_NAME = "default"

KEY_CHARACTERS, KEY_DIFFERENT = 20, 8
"""A key that is shorter, or made of fewer different characters, is one that people choose and others guess."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ALLOWED = "allowed is KEY, or NAME:read:KEY and NAME:full:KEY, several of them with commas between"


class Access(StrEnum):
    """What a key opens."""

    READ = "read"
    FULL = "full"


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """Somebody who may use the REST API.

    Attributes:
        name: what the audit calls whoever used the key.
        digest: the SHA-256 of the key.
        is_guessable: whether it is short, or made of few different characters, as those that people choose.
    """

    name: str
    access: Access
    digest: bytes = field(repr=False)
    is_guessable: bool = False


def parse_api_keys(text: str) -> Sequence[ApiKey]:
    """Return the keys that a setting names: one key, or ``NAME:read:KEY`` and ``NAME:full:KEY`` with commas between.

    Raises:
        ValueError: it cannot be understood; no key is in the message.
    """
    keys = [_parse_one(entry.strip(), place) for place, entry in enumerate(text.split(","), start=1)]
    for place, key in enumerate(keys, start=1):
        for earlier, other in enumerate(keys[: place - 1], start=1):
            same = "name" if key.name == other.name else "key" if key.digest == other.digest else None
            if same:
                raise ValueError(f"its entry {place} has the {same} of entry {earlier}; {_ALLOWED}")
    return keys


def _parse_one(entry: str, place: int) -> ApiKey:
    name, access, key = DEFAULT_NAME, Access.FULL.value, entry
    if ":" in entry:
        name, _, rest = entry.partition(":")
        access, colon, key = rest.partition(":")
        # What stands in the wrong place may be a key: nothing of the entry is shown.
        if not colon or not _NAME.fullmatch(name):
            raise ValueError(f"its entry {place} is not understood; {_ALLOWED}")
        if access not in (*Access,):
            raise ValueError(f"its entry {place} is for something else than read or full; {_ALLOWED}")
    if not key:
        raise ValueError(f"its entry {place} has no key; {_ALLOWED}")
    if not re.fullmatch(r"[!-~]+", key):
        raise ValueError(f"the key of its entry {place} has a space or a character that no header carries; {_ALLOWED}")
    is_guessable = len(key) < KEY_CHARACTERS or len(set(key)) < KEY_DIFFERENT
    return ApiKey(name=name, access=Access(access), digest=_digest(key.encode()), is_guessable=is_guessable)


def find_key(keys: Iterable[ApiKey], presented: bytes) -> ApiKey | None:
    """Return the key that was presented; None when it is none of them. Takes as long whichever it is."""
    digest, found = _digest(presented), None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
