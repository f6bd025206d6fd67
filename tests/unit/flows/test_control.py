"""The hand that a worker has in a run."""

from __future__ import annotations

import asyncio

import pytest

from prefect_campaigns.flows.control import Leaving, RunControl, controlled_by, current_control
from prefect_campaigns.flows.leaving import is_asked, is_over


@pytest.fixture
def control() -> RunControl:
    return RunControl(Leaving("worker"))


class Flow:
    """A flow that says what becomes of it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def run(self) -> str:
        self.said.append("began")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.said.append("cancelled")
            await asyncio.sleep(0)
            self.said.append("cleaned up")
            return "ended by itself"
        return "slept"


async def test_a_flow_that_is_cancelled_cleans_up_and_says_how_it_ended(control: RunControl) -> None:
    flow = Flow()
    conducting = asyncio.ensure_future(control.conduct(flow.run()))
    await asyncio.sleep(0.01)
    assert not control.has_ended
    control.cancel()
    control.cancel()
    assert await conducting == "ended by itself"
    assert flow.said == ["began", "cancelled", "cleaned up"], "a second cancellation cuts off nothing"
    assert control.has_ended


async def test_one_that_was_cancelled_before_it_began_begins_and_is_cancelled_then(control: RunControl) -> None:
    flow = Flow()
    control.cancel()
    assert await control.conduct(flow.run()) == "ended by itself"
    assert flow.said == ["began", "cancelled", "cleaned up"]


async def test_what_cancels_the_engine_cancels_the_flow(control: RunControl) -> None:
    flow = Flow()
    engine = asyncio.ensure_future(control.conduct(flow.run()))
    await asyncio.sleep(0.01)
    engine.cancel()
    assert await engine == "ended by itself"


def test_a_run_knows_of_the_leaving_of_its_own_worker_only(control: RunControl) -> None:
    assert (current_control(), is_asked(), is_over()) == (None, False, False)
    with controlled_by(control):
        assert not is_asked()
        control.leaving.is_asked = True
        assert (is_asked(), is_over()) == (True, False)
        control.leaving.is_over = True
        assert is_over()
    assert not is_asked()
