"""Which hosts steps may ask: a list of patterns, as an operator writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

_PATTERN = re.compile(r"(?P<host>(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class AllowedHosts:
    """The hosts that may be asked; any may where none is listed.

    A pattern is a host (``api.example.com``, any port), a host and a port (``localhost:3010``), or all hosts of a
    domain (``*.example.com``, which is not ``example.com`` itself).
    """

    patterns: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the hosts of a list with commas between.

        Raises:
            ValueError: one of them is no host; says what is allowed.
        """
        patterns = [pattern.strip().lower() for pattern in text.split(",")]
        if not all(map(_PATTERN.fullmatch, patterns)):
            raise ValueError(
                "allowed are hosts such as api.example.com, localhost:3010 or *.example.com, with commas between"
            )
        return cls(tuple(dict.fromkeys(patterns)))

    def allow(self, url: str) -> bool:
        """Whether a URL may be asked."""
        return not self.patterns or self.list(url)

    def list(self, url: str) -> bool:
        """Whether a URL's host is one of those listed."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
        except ValueError:
            return False
        return host is not None and any(_matches(pattern, host, port) for pattern in self.patterns)

    def __str__(self) -> str:
        return ",".join(self.patterns)


def _matches(pattern: str, host: str, port: int | None) -> bool:
    found = _PATTERN.fullmatch(pattern)
    if found is None or (found["port"] and int(found["port"]) != port):
        return False
    wanted = found["host"].strip("[]")
    return host.endswith(wanted[1:]) if wanted.startswith("*.") else host == wanted
