"""Which timezones there are is asked once, in whichever order things are imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

PREFECT = "from prefect.types._datetime import get_timezones"
ASK = """
assert get_timezones() == get_timezones()
import zoneinfo
assert zoneinfo.available_timezones.cache_info().misses == 1
"""

TIMEZONES = "from prefect_campaigns.deployments.running.timezones import remember_timezones\nremember_timezones()"
SERVER = """
import runpy
runpy.run_module = lambda *_, **__: None
from prefect_campaigns.deployments.running import server_process
server_process.main()
"""
WORKER = """
import asyncio
from contextlib import ExitStack
from types import SimpleNamespace
from prefect_campaigns.deployments.running import worker

class Enough(Exception):
    pass

def load_settings():
    raise Enough

worker.load_settings = load_settings
try:
    asyncio.run(worker.CampaignWorker.setup(SimpleNamespace(_logs=ExitStack())))
except Enough:
    pass
"""
AGAIN = f"{TIMEZONES}\nremember_timezones()"


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param([PREFECT, TIMEZONES], id="Prefect comes first"),
        pytest.param([TIMEZONES, PREFECT], id="Prefect comes later"),
        pytest.param([SERVER, PREFECT], id="in the embedded server"),
        pytest.param([WORKER, PREFECT], id="in a worker"),
        pytest.param([PREFECT, AGAIN], id="told twice"),
    ],
)
def test_which_timezones_there_are_is_asked_once(statements: list[str]) -> None:
    program = "\n".join([*statements, ASK])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
