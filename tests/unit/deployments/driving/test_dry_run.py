"""What a dry run foretells: requests as they would leave, what they would reserve, and where a limit would refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from campaign_files import campaign, campaign_json
from spending import skipped_run, spend

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import Lease, Pause, PausedBy, Stop
from prefect_campaigns.deployments.driving.dry_run import Ahead, look_ahead, look_ahead_json, look_ahead_lines
from prefect_campaigns.deployments.driving.run_changes import RUNS_LOOKED_AT
from prefect_campaigns.deployments.driving.standing import CampaignState, Standing
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus

URL = "http://127.0.0.1:9"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "campaigns.db") as store:
        yield store


async def ahead(
    store: SqliteStore,
    *,
    parameters: dict[str, Any] | None = None,
    standing: Standing = Standing.ACTIVE,
    **options: Any,
) -> Ahead:
    """Look ahead at a run of a campaign; its deployment is not asked for what the parameters say."""
    record = await store.save_campaign(campaign("Ahead", URL, **options))
    written = campaign_json("Ahead", URL, **options)
    state = CampaignState(record=record, standing=standing, pause=record.pause)
    return await look_ahead(None, store, state, {"campaign": written, **(parameters or {})})


async def record_results(store: SqliteStore, *, run_id: str = "run-1", **results: Any) -> None:
    now = datetime.now(UTC)
    lease = await store.acquire_lease(
        "ahead", run_id=run_id, run_name="azure-fox", holder="x", ttl_seconds=60, waiting_since=now
    )
    assert isinstance(lease, Lease)
    steps = tuple(
        StepResult(name=name, engine="x", position=position, status=StepStatus.COMPLETED, result=result)
        for position, (name, result) in enumerate(results.items())
    )
    report = RunReport(
        run_id=run_id,
        run_name="azure-fox",
        campaign_key="ahead",
        campaign_name="Ahead",
        status=RunStatus.RUNNING,
        started_at=now,
        steps=steps,
    )
    await store.start_run(lease, report)
    for step in steps:
        await store.save_step(lease, step)
    await store.release_lease(lease)


async def test_params_show_what_is_known_and_leave_what_is_not(store: SqliteStore) -> None:
    await store.save_campaign(campaign("Ahead", URL))
    await record_results(store, prospecting={"runId": "r-7"})
    seen = await ahead(store, metadata={"project_id": "p1"})
    _, analysis, outreach, _ = seen.steps
    assert seen.source is not None and seen.source.run_name == "azure-fox"
    assert analysis.request.params == {
        "runId": "r-7",
        "prospects": "{{ steps.prospecting.prospects }}",
        "options": {"projectId": "p1"},
    }
    assert analysis.unknown == ["{{ steps.prospecting.prospects }}"]
    assert outreach.unknown == ["{{ steps.analysis.leads }}"]


async def test_runs_that_did_no_step_hide_neither_results_nor_costs(store: SqliteStore) -> None:
    await store.save_campaign(campaign("Ahead", URL))
    await record_results(store, prospecting={"runId": "r-7"})
    await spend(store, "ahead", "0.3", step="analysis")
    for number in range(60):
        await store.record_skipped_run(skipped_run("ahead", number))
    begin = {"from_step": "analysis", "results_of": "run-1"}
    for seen in (await ahead(store), await ahead(store, parameters=begin)):
        assert seen.source is not None and seen.source.run_id == "run-1"
        assert seen.steps[1].request.params["runId"] == "r-7"
        assert seen.steps[1].estimate.amount == Decimal("0.3")


async def test_the_run_that_is_named_is_the_source_however_many_have_done_a_step_since(store: SqliteStore) -> None:
    await store.save_campaign(campaign("Ahead", URL))
    await record_results(store, prospecting={"runId": "r-7"})
    for number in range(RUNS_LOOKED_AT):
        await record_results(store, run_id=f"later-{number}", prospecting={"runId": "r-8"})
    begin = {"from_step": "analysis", "results_of": "run-1"}
    assert (await ahead(store, parameters=begin)).steps[1].request.params["runId"] == "r-7"


async def test_secrets_are_hidden(store: SqliteStore) -> None:
    step = {"headers": {"Authorization": "Bearer {{ secret.crm }}"}, "params": {"token": "{{ secret.crm }}"}}
    seen = (await ahead(store, steps={"prospecting": step}, only=1)).steps[0]
    assert seen.request.headers == {"Authorization": "Bearer ********"} and seen.request.params == {"token": "********"}


async def test_each_step_reserves_what_it_says_or_the_largest_of_its_last_costs(store: SqliteStore) -> None:
    await store.save_campaign(campaign("Ahead", URL))
    for cost in ("0.9", "0.01", "0.02", "0.03", "0.04", "0.05"):
        await spend(store, "ahead", cost, run_name=f"run-{cost}", step="analysis")
    await spend(store, "ahead", "0", step="outreach")
    seen = await ahead(store, steps={"prospecting": {"estimatedCost": "0.5"}})
    assert [one.estimate.amount for one in seen.steps] == [Decimal("0.5"), Decimal("0.05"), 0, None]
    assert seen.steps[1].estimate.basis == "the largest of its last five costs"
    assert seen.total == Decimal("0.55")


async def test_it_says_at_which_step_a_limit_would_refuse_and_what_each_would_leave(store: SqliteStore) -> None:
    costs = {"prospecting": "0.3", "analysis": "0.3", "outreach": "0.6", "sending": "0"}
    steps = {name: {"estimatedCost": cost} for name, cost in costs.items()}
    seen = await ahead(store, steps=steps, budget={"daily": 1, "perRun": 5})
    body = look_ahead_json(seen)
    assert [one["left"] for one in body["steps"]] == [
        {"daily": "0.70", "perRun": "4.70"},
        {"daily": "0.40", "perRun": "4.40"},
        {},
        {},
    ]
    assert [one["refused"] for one in body["steps"]] == [
        None,
        None,
        "budget: daily 1.00 would be passed, spent 0.00, reserved 0.60",
        None,
    ]
    text = "\n".join(line.plain for line in look_ahead_lines(seen))
    assert "here a limit refuses, and the run ends:\n   budget: daily 1.00 would be passed" in text
    assert "  daily: 1.00 left now, 0.40 when it ends\n" in text
    assert max(map(len, text.splitlines())) <= 80, text


async def test_the_limits_are_those_of_the_books_whatever_the_parameters_say(store: SqliteStore) -> None:
    written = campaign_json("Ahead", URL, only=1, budget={"daily": 1000})
    seen = await ahead(store, only=1, budget={"daily": 0}, parameters={"campaign": written})
    why = "budget: daily 0.00 reached, spent 0.00"
    assert seen.obstacles == [f"It would end as BudgetExceeded before its first step: {why}"]


async def test_it_says_that_everything_is_stopped(store: SqliteStore) -> None:
    await store.set_stop(Stop(by="ada@laptop", reason="wrong list", since=datetime(2026, 5, 13, 9, tzinfo=UTC)))
    (obstacle,) = (await ahead(store, only=1)).obstacles
    assert obstacle.startswith("Everything is stopped since 2026-05-13 09:00 UTC, by ada@laptop: wrong list.")


async def test_it_says_that_an_engine_is_left_alone_that_it_would_ask(store: SqliteStore) -> None:
    first, second = (f"{URL}/api/{path}" for path in ("prospect", "analyze"))
    for endpoint in (first, second):
        await store.engine_failed(endpoint, run_id="one", error="no credit", after_runs=1, pause_seconds=900)
    (obstacle,) = (await ahead(store, only=1)).obstacles
    assert obstacle.startswith(f"It would end before its first step: The engine at {first} is left alone until ")


async def test_it_says_that_a_person_has_paused_the_campaign(store: SqliteStore) -> None:
    await store.save_campaign(campaign("Ahead", URL, only=1))
    since = datetime(2026, 5, 13, 9, tzinfo=UTC)
    await store.set_pause("ahead", Pause(by=PausedBy.PERSON, reason="wrong list", since=since), replacing=None)
    seen = await ahead(store, only=1, standing=Standing.PAUSED_BY_PERSON)
    (warning,) = look_ahead_json(seen)["warnings"]
    assert warning.startswith("ahead: a person has paused it; ") and warning.endswith(": wrong list")
    assert f"! {warning}" in [line.plain for line in look_ahead_lines(seen)]
    assert seen.obstacles == [] and not (await ahead(store, only=1)).warnings


async def test_steps_whose_results_are_taken_over_reserve_nothing(store: SqliteStore) -> None:
    await store.save_campaign(campaign("Ahead", URL))
    await record_results(store, prospecting={"runId": "r-7"})
    later = {"from_step": "analysis", "results_of": "run-1"}
    seen = await ahead(store, steps={"prospecting": {"estimatedCost": 9}}, only=2, parameters=later)
    assert [one.taken_over for one in seen.steps] == [True, False]
    assert seen.total == 0 and seen.steps[1].request.params["runId"] == "r-7"
