"""What the REST API's answers say, and how they are written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from campaign_files import campaign

from prefect_campaigns.blocks.store_types import CampaignFigures, CampaignRecord, Pause, PausedBy
from prefect_campaigns.deployments.api import views
from prefect_campaigns.deployments.api.answers import to_json
from prefect_campaigns.deployments.driving.standing import CampaignState, Standing
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("0.024", b"0.024"),
        ("0.000001", b"0.000001"),
        ("5", b"5.00"),
        ("0E-6", b"0.00"),
        # More digits than a float has.
        ("12345678901.123457", b"12345678901.123457"),
    ],
)
def test_an_amount_is_a_json_number_with_all_its_digits(amount: str, written: bytes) -> None:
    assert to_json({"cost": Decimal(amount)}) == b'{"cost": ' + written + b"}"


def test_what_an_engine_answered_is_json_whatever_it_was() -> None:
    odd: dict[str, Any] = {
        "nan": float("nan"),
        "in": [float("inf"), {"deep": -float("inf")}],
        "half": "\ud800",
        "name": "São Paulo",
        "at": NOW,
        "id": UUID(int=0),
    }
    written = to_json(odd)
    assert json.loads(written) == {
        **odd,
        "nan": None,
        "in": [None, {"deep": None}],
        "at": "2026-03-02T12:00:00+00:00",
        "id": "00000000-0000-0000-0000-000000000000",
    }
    assert "São Paulo".encode() in written


def state_of(standing: Standing, pause: Pause | None = None, **fields: Any) -> CampaignState:
    record = CampaignRecord(
        id=uuid4(),
        key="some",
        campaign=campaign("Some", NOWHERE, **fields),
        deployment_id=uuid4(),
        applied_schedule_active=True,
        pause=pause,
        created_at=NOW,
        updated_at=NOW,
    )
    return CampaignState(record=record, standing=standing, pause=pause)


MONDAYS = {"cron": "0 9 * * MON", "timezone": "America/New_York"}


@pytest.mark.parametrize(
    ("standing", "status", "has_next_run"),
    [
        (Standing.ACTIVE, "active", True),
        (Standing.NOT_ENABLED, "active", False),
        (Standing.PAUSED, "paused", False),
        (Standing.PAUSED_BY_PERSON, "paused", False),
        (Standing.STOPPED, "paused", False),
        (Standing.NOT_DEPLOYED, "error", False),
    ],
)
def test_every_standing_has_a_word(standing: Standing, status: str, has_next_run: bool) -> None:
    row = views.row(state_of(standing, schedule=MONDAYS), None, now=NOW)
    assert (row.status, row.schedule, row.total_runs, row.total_cost) == (status, "0 9 * * MON", 0, Decimal(0))
    assert row.next_run == (datetime(2026, 3, 2, 14, 0, tzinfo=UTC) if has_next_run else None)


def test_every_standing_there_is_has_one() -> None:
    assert set(views.STATUSES) == set(Standing)


def test_a_row_has_the_keys_that_callers_read() -> None:
    figures = CampaignFigures(runs=3, cost=Decimal("0.024"), last_run_at=NOW)
    row = views.row(state_of(Standing.ACTIVE, metadata={"project_id": "p1"}), figures, now=NOW)
    written = json.loads(to_json(row.model_dump(by_alias=True)))
    keys = [
        "id",
        "name",
        "description",
        "schedule",
        "status",
        "lastRun",
        "nextRun",
        "totalRuns",
        "totalCost",
        "createdAt",
    ]
    assert set(keys) <= set(written)
    assert (written["totalCost"], written["totalRuns"], written["lastRun"]) == (0.024, 3, "2026-03-02T12:00:00+00:00")
    assert (written["schedule"], written["nextRun"], written["project_id"]) == (None, None, "p1")


def test_whom_the_stop_or_the_budget_has_paused_no_person_has() -> None:
    def paused(by: PausedBy) -> Pause:
        return Pause(by=by, reason="why", since=NOW)

    assert views.is_paused_by_person(state_of(Standing.PAUSED_BY_PERSON, paused(PausedBy.PERSON)))
    # Somebody has switched its schedule off.
    assert views.is_paused_by_person(state_of(Standing.PAUSED_BY_PERSON))
    assert not views.is_paused_by_person(state_of(Standing.STOPPED, paused(PausedBy.STOP)))
    assert not views.is_paused_by_person(state_of(Standing.PAUSED, paused(PausedBy.BUDGET)))
    assert not views.is_paused_by_person(state_of(Standing.ACTIVE))


def step(name: str, position: int, **fields: Any) -> StepResult:
    return StepResult(name=name, engine=name, position=position, **fields)


def test_a_run_says_what_each_step_came_to() -> None:
    report = RunReport(
        run_id="r1",
        run_name="brave-otter",
        campaign_key="some",
        campaign_name="Some",
        status=RunStatus.PARTIAL,
        trigger_type="scheduled",
        started_at=NOW,
        total_cost=Decimal("0.012001"),
        steps=(
            step("prospecting", 0, status=StepStatus.COMPLETED, counts={"prospects_generated": 5}, result={"found": 5}),
            step("analysis", 1, status=StepStatus.FAILED, error="out of order"),
            step("outreach", 2, status=StepStatus.SKIPPED, counts={"avg_quality": 7.5}),
        ),
    )
    written = json.loads(to_json(views.run_row(report).model_dump(by_alias=True)))
    expected = {
        "id": "r1",
        "status": "partial",
        "triggerType": "scheduled",
        "stepsCompleted": 1,
        "stepsFailed": 1,
        "totalCost": 0.012001,
        "completedAt": None,
        "errors": [{"step": "analysis", "error": "out of order"}],
        "results": {"prospecting": {"found": 5}},
        "prospects_generated": 5,
        "leads_analyzed": 0,
        "emails_sent": 0,
        "avg_quality": 7.5,
    }
    assert {key: written[key] for key in expected} == expected


def test_a_run_that_was_ended_from_outside_says_why() -> None:
    report = RunReport(
        run_id="r1",
        run_name="brave-otter",
        campaign_key="some",
        campaign_name="Some",
        status=RunStatus.ABORTED,
        message="budget: daily 5.00 reached",
        started_at=NOW,
    )
    (error,) = views.run_row(report).errors
    assert (error.step, error.error) == (None, "budget: daily 5.00 reached")


def test_what_changed_is_told_field_by_field() -> None:
    before = campaign("Some", NOWHERE, budget={"daily": 5}, description="old")
    after = campaign("Some", NOWHERE, budget={"daily": 4, "weekly": 20})
    told = {one.pointer: (one.before, one.after) for one in views.changes(before, after)}
    assert told == {
        "/budget/daily": (Decimal(5), Decimal(4)),
        "/budget/weekly": (None, Decimal(20)),
        "/description": ("old", None),
    }


def test_amounts_that_the_command_line_writes_as_text_are_numbers_here() -> None:
    view = {"limits": [{"name": "daily", "limit": "5.00", "left": None}], "reached": [{"limit": "daily", "run": 3}]}
    assert views.with_amounts(view) == {
        "limits": [{"name": "daily", "limit": Decimal(5), "left": None}],
        "reached": [{"limit": "daily", "run": 3}],
    }
