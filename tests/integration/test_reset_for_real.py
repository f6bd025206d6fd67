"""The end of a day, waited for: a real worker, a real server, and a timezone in which midnight is seconds away."""

from __future__ import annotations

from typing import Any

from driving import until
from mails import mails_to
from zones import midnight_in

from prefect_campaigns.blocks.store_types import PausedBy


async def test_the_budget_pauses_until_midnight_and_the_midnight_run_happens(driver, engines, in_stack) -> None:
    options = {
        "only": 1,
        "budget": {"daily": 0.012, "alertAt": []},
        "notifications": {"onBudget": {"email": "reset@example.com"}},
    }
    deployment_id = await driver.deploy("Reset For Real", engines.url, **options)
    assert (await driver.run(deployment_id)).state.name == "Completed"
    zone, midnight = midnight_in(25)
    await driver.deploy("Reset For Real", engines.url, schedule={"cron": "0 0 * * *", "timezone": zone}, **options)
    assert (await driver.run(deployment_id)).state.name == "BudgetExceeded"
    pause = (await driver.store.get_campaign("reset-for-real")).pause
    assert (pause.by, pause.until) == (PausedBy.BUDGET, midnight)
    assert (await driver.client.read_deployment(deployment_id)).paused

    async def midnight_run() -> Any:
        runs = await driver.store.list_runs("reset-for-real")
        return next((run for run in runs if run.trigger_type == "scheduled" and run.completed_at), None)

    run = await until(midnight_run, "the run of midnight", seconds=90)
    assert run.state_name == "Completed"
    assert run.started_at >= midnight

    async def resumed() -> bool:
        record = await driver.store.get_campaign("reset-for-real")
        return record.pause is None and not (await driver.client.read_deployment(deployment_id)).paused

    await until(resumed, "the resumption")
    assert len(await mails_to(in_stack, "reset@example.com", 1)) == 1
