"""Every case that fuzzing has kept holds still: what once broke, and what leads into every corner."""

from __future__ import annotations

from pathlib import Path

import pytest
from targets import TARGETS

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"
CASES = sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_case_that_was_kept_breaks_nothing(case: Path) -> None:
    TARGETS[case.parent.name](case.read_bytes())


def test_there_are_cases_of_every_target() -> None:
    assert {case.parent.name for case in CASES} == set(TARGETS)
