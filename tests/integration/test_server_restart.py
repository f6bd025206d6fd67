"""What a restart of the Prefect server does to runs that are in progress: nothing."""

from __future__ import annotations

import pytest
from campaign_files import PROSPECT, campaign
from driving import until

RUNS = 10


@pytest.mark.timeout(400)
async def test_ten_runs_in_progress_all_finish_and_none_twice(driver, engines, in_stack) -> None:
    engines.pace = 1.0
    deployments = await driver.apply(*(campaign(f"Restart {n}", engines.url, only=2) for n in range(RUNS)))
    runs = [await driver.start(deployment) for deployment in deployments]

    async def all_asked() -> bool:
        return len(engines.requests_to(PROSPECT)) == RUNS

    await until(all_asked, "ten runs in progress", seconds=120)
    await in_stack.server.stop()
    await in_stack.server.start()
    ends = await driver.all_ended([run.id for run in runs], seconds=240)
    assert {end.state.name for end in ends} == {"Completed"}
    assert {end.run_count for end in ends} == {1}
    posts = [request.idempotency_key for request in engines.requests if request.method == "POST"]
    assert len(posts) == len(set(posts)) == 2 * RUNS
    records = [await driver.store.get_run(str(run.id)) for run in runs]
    assert {record.status for record in records} == {"completed"}
    assert sum(record.total_cost for record in records) == engines.charged
