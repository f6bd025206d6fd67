"""The funnel: how many leads are left at each stage, from those that were found to those that were written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

_MICRO = Decimal("0.000001")

_MOST = 10**12
"""More than this no engine has found; one that says so is not believed."""

_STAGES = (
    ("found", "prospects_generated"),
    ("verified", "prospects_verified"),
    ("analysed", "leads_analyzed"),
    ("composed", "emails_composed"),
    ("sent", "emails_sent"),
)
"""What each stage is called, and which count of the report it is."""

_GRADES = (("A", "grade_a"), ("B", "grade_b"), ("C", "grade_c"))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a funnel.

    Attributes:
        name: ``found``, ``verified``, ``analysed``, ``composed`` or ``sent``.
        count: how many leads came as far as that.
        share: of those of the first stage, from 0; None where that is nothing. Above 1 where engines count otherwise.
        grades: of the analysed, how many got which grade; empty at all other stages.
    """

    name: str
    count: int
    share: Decimal | None
    grades: Mapping[str, int]

    def describe_grades(self) -> str:
        """Return the grades in words: ``6 A, 10 B, 4 C``; nothing without any."""
        return ", ".join(f"{count:,} {grade}" for grade, count in self.grades.items())


def funnel(counts: Mapping[str, float]) -> Sequence[Stage]:
    """Return the stages that some engine has counted, in their order; none where none has.

    Args:
        counts: by the names of the report, as of a run or as the sum over several.
    """
    known = [(name, _whole(counts[key])) for name, key in _STAGES if key in counts]
    first = known[0][1] if known else 0
    grades = {grade: _whole(counts[key]) for grade, key in _GRADES if key in counts}
    return [
        Stage(
            name=name,
            count=count,
            share=Decimal(count) / first if first else None,
            grades=grades if name == "analysed" else {},
        )
        for name, count in known
    ]


def leads(counts: Mapping[str, float]) -> int | None:
    """Return how many leads were found, each of which is one for ``budget.perLead``; None where none were counted."""
    return _whole(counts["prospects_generated"]) if "prospects_generated" in counts else None


def _whole(count: float) -> int:
    return int(min(count, _MOST))


def cost_per_lead(cost: Decimal, counts: Mapping[str, float]) -> Decimal | None:
    """Return what a lead cost, in US dollars, to the nearest millionth; None where none was found."""
    found = leads(counts)
    return (cost / found).quantize(_MICRO, rounding=ROUND_HALF_UP) if found else None
