"""A run that is cut off while the books are away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from campaign_files import campaign

from prefect_campaigns.errors import StoreUnavailable
from prefect_campaigns.flows.control import Leaving, RunControl, controlled_by
from prefect_campaigns.flows.ending import unrecorded
from prefect_campaigns.flows.run import CampaignRun
from prefect_campaigns.results import StepResult, StepStatus

ERROR = StoreUnavailable("the store is away")


def run_at(step: str) -> CampaignRun:
    written = campaign("Spring", "http://127.0.0.1:9")
    steps = [
        StepResult(
            name=one.name,
            engine=one.engine,
            position=position,
            status=StepStatus.RUNNING if one.name == step else StepStatus.PENDING,
        )
        for position, one in enumerate(written.steps)
    ]
    return cast(CampaignRun, SimpleNamespace(campaign=written, steps=steps))


@pytest.mark.parametrize(("step", "may_have_sent"), [("analysis", False), ("sending", True)])
def test_it_says_what_was_under_way_and_whether_mails_may_have_gone_out(step: str, may_have_sent: bool) -> None:
    state: Any = unrecorded(run_at(step), ERROR)
    assert state.is_crashed()
    assert f"the books could not be told: the store is away; Step '{step}' was under way" in state.message
    assert ("mails may have gone out" in state.message) is may_have_sent


def test_it_is_cancelled_where_a_person_wants_it() -> None:
    control = RunControl(Leaving("worker"))
    control.is_unwanted = True
    with controlled_by(control):
        assert unrecorded(run_at("analysis"), ERROR).is_cancelled()
