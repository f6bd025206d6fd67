"""The REST API against two thousand made-up requests, by its own OpenAPI document."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from driving import Driver
from processes import run, user_environment
from rest_api import served

pytestmark = pytest.mark.timeout(400)

KEY = "swordfish-fuzz"
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
async def api(driver: Driver, no_worker: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of the API with a key, on a stack whose worker takes up nothing; what the requests leave is deleted."""
    monkeypatch.setenv("CAMPAIGNS_API_KEY", f"fuzz:full:{KEY}")
    async with served(**{"X-API-Key": KEY}) as client:
        yield client
        await client.post("/api/start")
        for one in (await client.get("/api/campaigns")).json()["campaigns"]:
            if one["slug"].startswith("fuzzed-"):
                await client.delete(f"/api/campaigns/{one['id']}")


async def test_nothing_is_answered_that_is_not_documented(api: httpx.AsyncClient, tmp_path: Path) -> None:
    ended = await run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", str(api.base_url.join("/openapi.json"))),
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            # Both, so that neither is made up: whether made-up keys are refused is asked besides.
            *("--header", f"X-API-Key: {KEY}", "--header", f"Authorization: Bearer {KEY}"),
            # The same requests each time.
            *("--seed", "1", "--max-examples", "30", "--phases", "coverage,fuzzing"),
            *("--continue-on-failure", "--no-shrink", "--suppress-health-check", "all"),
            # A machine that does other things as well may take long.
            *("--request-timeout", "60", "--max-response-time", "60"),
        ],
        env=user_environment(
            SCHEMATHESIS_HOOKS="fuzzing_hooks", PYTHONPATH=str(SUPPORT), NO_COLOR="1", DO_NOT_TRACK="1"
        ),
        cwd=tmp_path,
        seconds=350,
    )
    assert ended.code == 0, ended.text
    (generated,) = re.findall(r"(\d+) generated", ended.out)
    assert int(generated) >= 2_000
