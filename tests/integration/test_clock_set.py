"""Somebody sets the machine's clock an hour forward or back while a run goes on, on real Prefect with a real worker."""

from __future__ import annotations

from datetime import timedelta

import pytest
from campaign_files import campaign
from clocks import SteppedClock
from driving import Driver, until
from prefect.states import Pending
from real_stack import Stack
from run_process import RunProcess
from stub_engine import StubEngine

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.deployments.running.zombies import SOON_SECONDS


@pytest.mark.parametrize("hours", [1, -1], ids=["forward", "back"])
async def test_a_run_that_goes_on_is_let_go_on_and_the_next_one_waits_for_it(
    hours: int, driver: Driver, runner: RunProcess, in_stack: Stack, request: pytest.FixtureRequest
) -> None:
    set_by, key = timedelta(hours=hours), f"clock-set-{request.node.callspec.id}"
    with StubEngine() as engine:
        asked = engine.asked[f"{key}/find"]
        steps = {"prospecting": {"endpoint": f"{engine.url}/{key}/find"}}
        (deployment,) = await driver.apply(campaign(key, engine.url, only=1, steps=steps))
        engine.hold()
        # The worker has this one; what it has written down is by the clock as it was.
        going = await driver.start(deployment)

        async def is_going() -> bool:
            return len(asked) == 1

        await until(is_going, "the engine is asked")
        # This one no worker takes up.
        following = await driver.client.create_flow_run_from_deployment(deployment, state=Pending())
        await runner.tell(following.id, set_by=set_by)
        waiting = await driver.in_state(following.id, "Waiting")
        assert waiting.state is not None and going.name in (waiting.state.message or "")
        async with SqliteStore(in_stack.database, clock=SteppedClock(set_by)) as store:
            unattended = await store.unattended_runs(within_seconds=SOON_SECONDS)
        assert str(going.id) not in {one.run_id for one in unattended}
        assert len(asked) == 1

        engine.release()
        first = await driver.ended(going.id)
        assert first.state is not None and first.state.name == "Completed"
        assert (await runner.hear()).name == "Completed"
        assert len(asked) == 2
    assert await driver.store.verify_totals(None) == []
