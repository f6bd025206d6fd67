"""What a worker logs that was started as an operator starts it."""

from __future__ import annotations

from driving import Driver
from real_stack import Stack

from prefect_campaigns.deployments.demo.engines import PROSPECT, DemoEngines
from prefect_campaigns.deployments.running.logs import ALL, ERRORS


async def test_campaign_run_and_step_stand_on_each_line_about_one(
    driver: Driver, engines: DemoEngines, in_stack: Stack
) -> None:
    engines.fail_next(PROSPECT, status=404, error="no such place")
    run = await driver.run(await driver.deploy("Logged By A Worker", engines.url))
    about_run = f"[campaign logged-by-a-worker, run {run.name}"
    lines = [line for line in _lines(in_stack, ALL) if f"run {run.name}" in line]
    begun = next(line for line in lines if "Beginning flow run" in line)
    assert f" info  {about_run}] " in begun
    (failed,) = (line for line in lines if "Task run failed with exception" in line)
    assert f" error {about_run}, step prospecting] " in failed and "answered 404: no such place" in failed
    assert failed in _lines(in_stack, ERRORS) and begun not in _lines(in_stack, ERRORS)
    # What the run looked at besides its steps is about the run.
    assert any(f"{about_run}] Finished in state Completed()" in line for line in lines)


def _lines(stack: Stack, name: str) -> list[str]:
    return (stack.home / "logs" / name).read_text().splitlines()
