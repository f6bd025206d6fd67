"""Runs that are asked for over the REST API: as they are, other than usual, only foretold, and approved."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from driving import Driver
from real_stack import Stack
from rest_api import NOWHERE, create, served

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.deployments.demo.engines import COMPOSE, PROSPECT, SEND, DemoEngines


@pytest.fixture
async def api(in_stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of the REST API of the stack, open on loopback."""
    async with served() as client:
        yield client


async def run_it(api: httpx.AsyncClient, slug: str, driver: Driver, **body: Any) -> dict[str, Any]:
    """Start a campaign with a body, wait for the end of its run, and return what was answered."""
    answer = await api.post(f"/api/campaigns/{slug}/run", json=body)
    assert answer.status_code == 200, answer.text
    started: dict[str, Any] = answer.json()
    await driver.in_state(started["runId"], "Completed")
    return started


async def test_what_callers_of_the_orchestrator_before_send_starts_the_campaign_as_it_is(
    api: httpx.AsyncClient, driver: Driver, no_worker: None
) -> None:
    await create(api, "Asked As Before")
    path = "/api/campaigns/asked-as-before/run"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for options in ({}, {"json": {}}, {"content": b""}, {"content": b"{}"}, {"content": b"", "headers": form}):
        started = await api.post(path, **options)
        assert (started.status_code, started.json()["message"]) == (200, "Campaign started"), options
        flow_run = await driver.client.read_flow_run(started.json()["runId"])
        assert set(flow_run.parameters) == {"campaign", "version"}
    await api.delete("/api/campaigns/asked-as-before")


async def test_a_body_says_what_one_run_does_differently_and_never_sends_twice_unasked(
    api: httpx.AsyncClient, driver: Driver, engines: DemoEngines, store: SqliteStore
) -> None:
    await create(api, "Asked Otherwise", engines.url)
    first = await run_it(api, "asked-otherwise", driver, params={"steps.prospecting.count": 3})
    assert [one.params["count"] for one in engines.requests_to(PROSPECT)] == [3]
    assert first["resultsOf"] is None

    refused = await api.post("/api/campaigns/asked-otherwise/run", json={"fromStep": "outreach"})
    assert refused.status_code == 409
    assert 'step "sending" has sent in run ' in refused.json()["error"]
    assert refused.json()["error"].endswith("add sendAgain")

    again = await run_it(api, "asked-otherwise", driver, fromStep="outreach", sendAgain=True)
    assert again["resultsOf"] == first["runId"]
    counts = [len(engines.requests_to(path)) for path in (PROSPECT, COMPOSE, SEND)]
    assert counts == [1, 2, 2]
    done = [one.detail for one in await store.list_audit(campaign_key="asked-otherwise")]
    assert done[0]["from_step"] == "outreach" and done[1]["changed"] is True
    await api.delete("/api/campaigns/asked-otherwise")


async def test_a_dry_run_says_what_would_be_done_and_what_would_keep_it_and_starts_nothing(
    api: httpx.AsyncClient, driver: Driver, engines: DemoEngines
) -> None:
    steps = {"prospecting": {"estimatedCost": 0.012, "params": {"limit": "7", "count": 5}}}
    made = await create(api, "Asked Dryly", engines.url, only=1, steps=steps, budget={"daily": 5})
    await api.put("/api/campaigns/asked-dryly/pause", json={"reason": "wrong list"})
    body = {"dryRun": True, "params": {"steps.prospecting.count": 9}}
    answer = await api.post("/api/campaigns/asked-dryly/run", json=body)
    assert answer.status_code == 200, answer.text
    ahead = answer.json()
    (obstacle,) = ahead["obstacles"]
    assert obstacle.startswith("asked-dryly is not started. Paused by a person ") and "wrong list" in obstacle
    assert (ahead["campaignId"], ahead["reserved"], "runId" in ahead) == (made["id"], 0.012, False)
    assert isinstance(ahead["warnings"], list)
    (step,) = ahead["steps"]
    assert step["params"] == {"limit": "7", "count": 9}, "as it would be sent"
    assert (step["estimate"], step["left"]) == (0.012, {"daily": 4.988})

    await api.put("/api/campaigns/asked-dryly/resume")
    await api.post("/api/stop", json={"reason": "all wrong"})
    try:
        (obstacle,) = (await api.post("/api/campaigns/asked-dryly/run", json=body)).json()["obstacles"]
        assert "all wrong" in obstacle
    finally:
        await api.post("/api/start")
    assert (await api.post("/api/campaigns/asked-dryly/run", json=body)).json()["obstacles"] == []
    assert (await api.get("/api/campaigns/asked-dryly/runs")).json()["runs"] == []
    assert engines.requests == []
    await api.delete("/api/campaigns/asked-dryly")


# A body, and what is said of it.
REFUSED = [
    ({"param": {"steps.prospecting.count": 5}}, "/param"),
    ({"params": {"steps.prospecting.count": 5}, "limit": 3}, "/limit"),
    ({"params": ["steps.prospecting.count=5"]}, "/params"),
    ({"dryRun": "yes"}, "/dryRun"),
    ({"params": {"steps.prospecting.cuont": 5}}, 'params steps.prospecting.cuont: the params of step "prospecting"'),
    ({"params": {"budget.daily": 500}}, 'allowed is "steps.NAME.KEY": VALUE'),
    ({"params": {"steps.prospecting.count": "\ud800"}}, "params: /steps/0/params/count"),
    ({"fromStep": "sendign"}, 'fromStep: no step is named "sendign"; did you mean "sending"?'),
    ({"sendAgain": True}, "sendAgain belongs to fromStep"),
]


async def test_a_body_that_would_be_misunderstood_starts_nothing(api: httpx.AsyncClient, no_worker: None) -> None:
    await create(api, "Asked Wrongly", NOWHERE)
    path = "/api/campaigns/asked-wrongly/run"
    for body, said in REFUSED:
        answer = await api.post(path, content=json.dumps(body))
        assert (answer.status_code, said in answer.json()["error"]) == (400, True), answer.text
    for text in (b"count=5", b"null", b"[]", b'{"params": {"steps.prospecting.count": NaN}}'):
        assert (await api.post(path, content=text)).status_code == 400, text
    assert (await api.get("/api/campaigns/asked-wrongly/runs")).json()["runs"] == []
    await api.delete("/api/campaigns/asked-wrongly")


async def test_whoever_approves_a_step_hears_that_a_person_has_paused_the_campaign(
    api: httpx.AsyncClient, driver: Driver, engines: DemoEngines
) -> None:
    steps = {"prospecting": {"approval": {"timeout": 3_600_000}}}
    await create(api, "Asked To Approve", engines.url, only=1, steps=steps)
    for pauses in (True, False):
        run_id = (await api.post("/api/campaigns/asked-to-approve/run")).json()["runId"]
        await driver.in_state(run_id, "Suspended")
        if pauses:
            await api.put("/api/campaigns/asked-to-approve/pause", json={"reason": "wrong list"})
        approved = (await api.post(f"/api/runs/{run_id}/approve")).raise_for_status().json()
        assert len(approved["warnings"]) == pauses
        if pauses:
            (warning,) = approved["warnings"]
            assert warning.startswith("asked-to-approve: this run goes on all the same. Paused by a person since ")
            assert warning.endswith(": wrong list")
        await driver.ended(run_id)
        await api.put("/api/campaigns/asked-to-approve/resume")
    await api.delete("/api/campaigns/asked-to-approve")
