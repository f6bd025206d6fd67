"""What a restart of the Prefect server does to runs that are in progress: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from campaign_files import PROSPECT, campaign
from driving import Driver, until
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from real_stack import SCRUBBED, Stack

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.sqlite import SqliteStore
from prefect_campaigns.deployments.demo.engines import DemoEngines

RUNS = 10


@pytest.fixture
async def own_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    """A stack of this test's own, because its server goes away."""
    stack = Stack(tmp_path)
    with stack.mail:
        await stack.server.start()
        try:
            await asyncio.to_thread(stack.start_worker)
            for name, value in stack.environment.items():
                if name.startswith(SCRUBBED):
                    monkeypatch.setenv(name, value)
            with temporary_settings({PREFECT_API_URL: stack.server.api_url}):
                yield stack
        finally:
            await asyncio.to_thread(stack.stop_worker)
            await stack.server.stop()


@pytest.mark.timeout(400)
async def test_ten_runs_in_progress_all_finish_and_none_twice(own_stack: Stack, engines: DemoEngines) -> None:
    engines.pace = 1.0
    async with get_client() as client, SqliteStore(own_stack.database) as store:
        driver = Driver(client, store, load_settings())
        deployments = await driver.apply(*(campaign(f"Restart {n}", engines.url, only=2) for n in range(RUNS)))
        runs = [await driver.start(deployment) for deployment in deployments]

        async def all_asked() -> bool:
            return len(engines.requests_to(PROSPECT)) == RUNS

        await until(all_asked, "ten runs in progress", seconds=120)
        await own_stack.server.stop()
        await own_stack.server.start()
        ends = [await driver.ended(run.id, seconds=240) for run in runs]
        assert {end.state.name for end in ends} == {"Completed"}
        assert {end.run_count for end in ends} == {1}
        posts = [request.idempotency_key for request in engines.requests if request.method == "POST"]
        assert len(posts) == len(set(posts)) == 2 * RUNS
        records = [await store.get_run(str(run.id)) for run in runs]
        assert {record.status for record in records} == {"completed"}
        assert sum(record.total_cost for record in records) == engines.charged
