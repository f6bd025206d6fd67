"""``campaigns demo``: all of it on this machine alone, and nothing left of it afterwards."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from driving import until
from processes import CAMPAIGNS, LongRunning

pytestmark = pytest.mark.timeout(400)


def temporary(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


async def test_the_demo_shows_it_all_ends_and_leaves_nothing(start, tmp_path: Path) -> None:
    # Two at once, which must not get in each other's way.
    demo = start(CAMPAIGNS, "demo", TMPDIR=temporary(tmp_path / "one"))
    kept = start(CAMPAIGNS, "demo", "--keep", TMPDIR=temporary(tmp_path / "two"))

    assert await demo.ended(seconds=240) == 0, demo.output
    assert_it_is_all_there(demo.output)
    assert demo.left_behind() == {}
    assert list((tmp_path / "one").iterdir()) == []

    await kept.printed("  export PREFECT_API_URL=")
    await until_a_run_is_in_its_middle(kept)
    kept.signal()
    assert await kept.ended(seconds=60) == 130
    assert kept.left_behind() == {}
    assert list((tmp_path / "two").iterdir()) == []
    assert "Traceback" not in kept.output


async def until_a_run_is_in_its_middle(kept: LongRunning) -> None:
    """Do what the demo says one can do in another terminal: everything goes on running."""
    exports = dict(re.findall(r"^  export (\w+)=(.+)$", kept.output, re.MULTILINE))
    async with httpx.AsyncClient(base_url=exports["PREFECT_API_URL"], timeout=30) as api:
        deployment = (await api.get("/deployments/name/campaign/test-campaign")).json()
        flow_run = (await api.post(f"/deployments/{deployment['id']}/create_flow_run", json={})).json()

        async def running() -> bool:
            return bool((await api.get(f"/flow_runs/{flow_run['id']}")).json()["state"]["type"] == "RUNNING")

        await until(running, "a run that runs", seconds=90)


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
    assert failing.endswith("✓ All of it happened.\n")
    # What Prefect logs is no part of the show, and colours belong to terminals.
    assert " | INFO " not in output and "Traceback" not in output and "\x1b" not in output
