"""The store does not answer once: whichever call of a run that is, the run ends as it would have."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from campaign_files import campaign
from driving import Driver
from run_process import RunProcess, StoreAway

from prefect_campaigns.deployments.demo.engines import DemoEngines

NEVER = 10_000
COST = Decimal("0.012")
"""Of five prospects."""

ENDS: dict[str, tuple[dict[str, Any], str, Decimal]] = {
    "completes": ({}, "Completed", COST),
    "fails": ({"steps": {"prospecting": {"endpoint": "{url}/nothing"}}}, "Failed", Decimal(0)),
    "is refused": (
        {
            "schedule": "0 9 1 1 *",
            "budget": {"daily": 0.001},
            "steps": {"prospecting": {"estimatedCost": 0.01}},
        },
        "BudgetExceeded",
        Decimal(0),
    ),
    "asks": ({"steps": {"prospecting": {"approval": {}}}}, "Suspended", Decimal(0)),
}


@pytest.mark.usefixtures("no_worker")
@pytest.mark.parametrize(
    ("what", "is_done"),
    [
        pytest.param("completes", lambda call: False, id="completes"),
        pytest.param("completes", lambda call: True, id="completes, and the store has done it"),
        pytest.param("fails", lambda call: call % 2 == 0, id="fails"),
        pytest.param("is refused", lambda call: False, id="is refused"),
        pytest.param("is refused", lambda call: True, id="is refused, and the store has done it"),
        pytest.param("asks", lambda call: call % 2 == 1, id="asks"),
    ],
)
async def test_whichever_call_of_a_run_is_not_answered_it_ends_as_it_would_have(
    driver: Driver, engines: DemoEngines, runner: RunProcess, what: str, is_done: Callable[[int], bool]
) -> None:
    written, end, cost = ENDS[what]
    options = json.loads(json.dumps(written).replace("{url}", engines.url))
    kind = f"{what} {'done' if is_done(0) else 'undone'}"
    deployment = await driver.deploy(f"Away At No Call {kind}", engines.url, only=1, **options)
    await runner.tell((await driver.start(deployment)).id, store_away=StoreAway(NEVER, is_done=False))
    undisturbed = await runner.hear()
    calls = undisturbed.store_calls
    assert undisturbed.name == end and calls > 10

    deployments = await driver.apply(
        *(campaign(f"Away At {n} {kind}", engines.url, only=1, **options) for n in range(calls))
    )
    at = {(await driver.start(deployment)).id: n for n, deployment in enumerate(deployments)}
    for run_id, call in at.items():
        await runner.tell(run_id, store_away=StoreAway(call, is_done=is_done(call)))
    ends = {}
    for _ in at:
        ended = await runner.hear()
        ends[at[ended.flow_run_id]] = (ended.name, ended.message)
    assert {call: said for call, said in ends.items() if said[0] != end} == {}
    for run_id in at:
        report = await driver.store.get_run(str(run_id))
        assert report is not None
        assert (report.state_name, report.total_cost) == (end, cost)
        pause = (await driver.store.get_campaign(report.campaign_key)).pause
        assert (pause is not None and pause.awaited_run_id is not None) == (what == "is refused")
    assert engines.charged == cost * (1 + calls)
