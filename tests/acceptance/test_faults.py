"""A short round of faults: fifty runs while workers die, and each promise holds; ``make faults`` has more."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from processes import user_environment

FAULTS = Path(__file__).parents[1] / "faults" / "faults.py"
SCENARIOS, SEED = 50, 1
ROUND_SECONDS = 900.0


@pytest.mark.timeout(ROUND_SECONDS + 60)
async def test_fifty_scenarios_break_no_promise() -> None:
    program = [sys.executable, str(FAULTS), "--count", str(SCENARIOS), "--seed", str(SEED), "--store", "sqlite"]
    support = FAULTS.parents[1] / "support"
    process = await asyncio.create_subprocess_exec(
        *program,
        env={**user_environment(), "PYTHONPATH": str(support)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), ROUND_SECONDS)
    assert process.returncode == 0, said.decode()
