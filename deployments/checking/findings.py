"""What a check of one part found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How a part is."""

    WELL = "well"
    DOUBTFUL = "doubtful"
    BROKEN = "broken"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found.

    Attributes:
        found: one line.
        remedy: what to do about it; None where nothing needs to be done.
    """

    part: str
    health: Health
    found: str
    remedy: str | None = None


def well(part: str, found: str) -> Finding:
    return Finding(part=part, health=Health.WELL, found=found)


def doubtful(part: str, found: str, remedy: str) -> Finding:
    return Finding(part=part, health=Health.DOUBTFUL, found=found, remedy=remedy)


def broken(part: str, found: object, remedy: str | None = None) -> Finding:
    return Finding(part=part, health=Health.BROKEN, found=str(found), remedy=remedy)
