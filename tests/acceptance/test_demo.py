"""``campaigns demo``: all of it on this machine alone, and nothing left of it afterwards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from processes import CAMPAIGNS

pytestmark = pytest.mark.timeout(400)


def temporary(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


async def test_the_demo_shows_it_all_and_a_ctrl_c_in_the_middle_ends_it_all(start, tmp_path: Path) -> None:
    # Two at once, which must not get in each other's way.
    demo = start(CAMPAIGNS, "demo", TMPDIR=temporary(tmp_path / "one"))
    interrupted = start(CAMPAIGNS, "demo", "--keep", TMPDIR=temporary(tmp_path / "two"))

    await interrupted.printed("prospecting: running")
    interrupted.signal()
    assert await interrupted.ended(seconds=60) == 130
    assert interrupted.left_behind() == {}
    assert list((tmp_path / "two").iterdir()) == []
    assert "Traceback" not in interrupted.output

    code = await demo.ended(seconds=240)
    assert code == 0, demo.output
    assert demo.left_behind() == {}
    assert list((tmp_path / "one").iterdir()) == []
    assert_it_is_all_there(demo.output)


def assert_it_is_all_there(output: str) -> None:
    good, failing = output.split("A campaign whose engine fails")
    # The report: what each step did and cost.
    for step in ("prospecting", "analysis", "outreach", "sending"):
        assert re.search(rf"^✓  {step} +1 +[\d.]+ s ", good, re.MULTILINE), good
    assert "4 of 4 steps, 20 prospects generated" in good
    # The budget: what is spent, and what is left of it.
    assert re.search(r"^daily +0\.148 +5\.00 +4\.852 *$", good, re.MULTILINE), good
    assert "The engines charged 0.148 USD, and that is what is booked." in good
    # Both mails.
    assert "To: outreach@example.com" in good and "Subject: Completed: Weekly Restaurant Outreach" in good
    assert "To: ops@example.com" in failing and "Subject: Failed: Demo With A Failing Engine" in failing
    # The retries: three requests, and then the failure.
    assert re.search(r"^✗  prospecting +3 ", failing, re.MULTILINE), failing
    assert "The engine was asked three times" in failing
    assert failing.rstrip().endswith("✓ All of it happened.")
    # What Prefect logs is no part of the show, and colours belong to terminals.
    assert " | INFO " not in output and "Traceback" not in output and "\x1b" not in output
