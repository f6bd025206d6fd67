"""A seed plays the same scenarios again, on whichever machine and in however large a round."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scenarios import Scenario, killing, timeline

TESTS = Path(__file__).parents[2]
PROGRAM = """
from scenarios import Scenario, killing, timeline
print([Scenario.of(7, number) for number in range(50)])
print(timeline(7, workers=2, has_proxy=True), timeline(7, workers=2, has_proxy=False), killing(7, 25, workers=2))
"""


def played(hash_seed: int) -> str:
    """Return what a process of its own draws from a seed; Python orders sets otherwise in each."""
    paths = os.pathsep.join(str(TESTS / folder) for folder in ("support", "faults"))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_a_seed_comes_to_the_same_scenarios_in_each_process() -> None:
    assert played(1) == played(2)


def test_another_seed_comes_to_others() -> None:
    assert [Scenario.of(7, number) for number in range(50)] != [Scenario.of(8, number) for number in range(50)]
    assert timeline(7, workers=2, has_proxy=True) != timeline(8, workers=2, has_proxy=True)
    assert killing(7, 25, workers=2) != killing(8, 25, workers=2)
