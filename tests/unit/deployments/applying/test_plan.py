"""What a plan says, by what is there: no server, no store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from campaign_files import campaign, campaign_json
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse, GlobalConcurrencyLimitResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from prefect_campaigns.blocks.store_types import CampaignRecord, Pause, PausedBy
from prefect_campaigns.deployments.applying.differences import ABSENT, FieldChange, Side, differences
from prefect_campaigns.deployments.applying.observed import Observed
from prefect_campaigns.deployments.applying.plan import (
    API_ORIGIN,
    CampaignPlan,
    Change,
    Plan,
    compare,
    orphans,
    renamed,
)
from prefect_campaigns.deployments.cli.plan_view import plan_lines
from prefect_campaigns.deployments.compile import compile_campaign, deployment_parameter_schema
from prefect_campaigns.models import Campaign

URL, FOLDER = "http://127.0.0.1:9", "/srv/my-campaigns"
NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)
DAILY = {"cron": "0 9 * * *", "timezone": "America/New_York"}
ONE = campaign("One", URL, schedule=DAILY, budget={"daily": 5})


def cron(text: str, timezone: str = "America/New_York", *, active: bool = True) -> DeploymentSchedule:
    return DeploymentSchedule(id=uuid4(), schedule=CronSchedule(cron=text, timezone=timezone), active=active)


def deployed(of: Campaign, *schedules: DeploymentSchedule, **changed: Any) -> DeploymentResponse:
    """A deployment as an apply of the campaign leaves it, save for what is changed."""
    compiled = compile_campaign(of)
    fields = {
        "id": uuid4(),
        "flow_id": uuid4(),
        "name": compiled.slug,
        "description": compiled.description,
        "entrypoint": compiled.entrypoint,
        "work_pool_name": compiled.work_pool,
        "parameters": compiled.parameters,
        "parameter_openapi_schema": deployment_parameter_schema(),
        "enforce_parameter_schema": True,
        "tags": list(compiled.tags),
        "paused": False,
        "schedules": list(schedules or (cron(DAILY["cron"]),)),
    }
    return DeploymentResponse.model_validate({**fields, **changed})


def row(of: Campaign, deployment: DeploymentResponse | None, **changed: Any) -> CampaignRecord:
    fields: dict[str, Any] = {
        "id": uuid4(),
        "key": of.slug,
        "campaign": compile_campaign(of).campaign,
        "deployment_id": deployment.id if deployment else None,
        "applied_schedule_active": True,
        "pause": None,
        "created_at": NOW,
        "updated_at": NOW,
        "origin": FOLDER,
    }
    return CampaignRecord(**{**fields, **changed})


def plan_of(wanted: Campaign, there: DeploymentResponse | None, record: CampaignRecord | None) -> CampaignPlan:
    observed = Observed(
        pool_type="campaign",
        upkeep={},
        deployments={there.name: there} if there else {},
        rows={record.key: record} if record else {},
    )
    (plan,) = compare([compile_campaign(wanted)], observed, origins={wanted.slug: FOLDER})
    return plan


def fields(plan: CampaignPlan) -> list[tuple[str, str, Any, Any]]:
    return [(one.side.value, one.field, one.old, one.new) for one in plan.fields]


def test_what_nobody_knows_is_created() -> None:
    plan = plan_of(ONE, None, None)
    assert (plan.change, plan.fields, plan.note) == (Change.CREATED, (), None)


def test_what_is_as_it_should_be_is_unchanged() -> None:
    there = deployed(ONE)
    plan = plan_of(ONE, there, row(ONE, there))
    assert (plan.change, plan.fields, plan.update, plan.schedule) == (Change.UNCHANGED, (), {}, None)


def test_a_deployment_that_somebody_deleted_is_created_again_and_says_so() -> None:
    plan = plan_of(ONE, None, row(ONE, deployed(ONE)))
    assert plan.change is Change.CREATED and "no deployment" in (plan.note or "")


def test_a_change_of_the_file_is_told_field_by_field_and_once() -> None:
    there = deployed(ONE)
    changed = campaign_json(
        "One",
        URL,
        schedule={**DAILY, "cron": "0 10 * * *"},
        budget={"daily": 6, "weekly": 20},
        description="New words",
        steps={"prospecting": {"params": {"count": 7}}},
        notifications={"onFailure": {"email": "ops@example.com"}},
    )
    plan = plan_of(Campaign.model_validate(changed), there, row(ONE, there))
    assert plan.change is Change.CHANGED
    assert fields(plan) == [
        ("file", "/description", ABSENT, "New words"),
        ("file", "/schedule/cron", "0 9 * * *", "0 10 * * *"),
        ("file", "/budget/daily", "5.00", "6.00"),
        ("file", "/budget/weekly", ABSENT, "20.00"),
        ("file", "/steps/0/params/count", 5, 7),
        ("file", "/notifications", ABSENT, {"onFailure": {"email": ["ops@example.com"]}}),
    ]
    assert plan.schedule is not None and not plan.schedule.kept_is_right


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"tags": ["other"]}, ("tags", ["other"], ["campaign"])),
        ({"description": "Mine"}, ("description", "Mine", "One")),
        ({"work_pool_name": "elsewhere"}, ("workPool", "elsewhere", "campaigns")),
        ({"entrypoint": "x.py:y"}, ("entrypoint", "x.py:y", compile_campaign(ONE).entrypoint)),
        ({"enforce_parameter_schema": False}, ("enforceParameterSchema", False, True)),
        # parameters that are no campaign at all
        ({"parameters": {"campaign": {"name": "x"}}}, ("parameters", "no campaign", "the campaign")),
        ({"parameters": {}}, ("parameters", "no campaign", "the campaign")),
    ],
)
def test_what_somebody_changed_in_prefect_is_told_and_put_right(changed: dict[str, Any], expected: Any) -> None:
    there = deployed(ONE, **changed)
    plan = plan_of(ONE, there, row(ONE, there))
    assert plan.change is Change.CHANGED
    assert fields(plan) == [("prefect", *expected)]
    assert list(plan.update) == list(changed)


def test_parameters_that_somebody_edited_are_told_by_their_place_in_the_campaign() -> None:
    parameters = compile_campaign(campaign("One", URL, schedule=DAILY, budget={"daily": 50})).parameters
    there = deployed(ONE, parameters={**compile_campaign(ONE).parameters, "campaign": parameters["campaign"]})
    assert fields(plan_of(ONE, there, row(ONE, there))) == [("prefect", "/budget/daily", "50.00", "5.00")]


def test_a_parameter_that_somebody_added_is_told() -> None:
    there = deployed(ONE, parameters={**compile_campaign(ONE).parameters, "from_step": "sending"})
    assert fields(plan_of(ONE, there, row(ONE, there))) == [("prefect", "/parameters/from_step", "sending", ABSENT)]


def test_a_cron_of_every_hour_that_an_older_version_gave_prefect_is_ours_and_is_put_right() -> None:
    hourly = campaign("One", URL, schedule={"cron": "0 * * * *", "timezone": "America/New_York"})
    theirs, ours = cron("0 5 * * *"), cron("0 * * * *")
    there = deployed(hourly, theirs, ours)
    plan = plan_of(hourly, there, row(hourly, there))
    assert plan.schedule is not None
    assert (plan.schedule.kept, plan.schedule.extra) == (there.schedules[1], (there.schedules[0],))
    assert fields(plan)[0] == ("prefect", "schedule", "0 * * * * America/New_York", "0 * * * * UTC")


@pytest.mark.parametrize(
    ("schedules", "expected"),
    [
        # another cron in the place of ours
        ([cron("0 5 * * *")], [("0 5 * * * America/New_York", "0 9 * * * America/New_York")]),
        # one beside ours
        ([cron("0 9 * * *"), cron("30 4 * * *", "UTC")], [("30 4 * * * UTC", ABSENT)]),
        # ours is gone, another is there
        (
            [DeploymentSchedule(id=uuid4(), schedule=IntervalSchedule(interval=3600), active=True)],
            [("IntervalSchedule", "0 9 * * * America/New_York")],
        ),
    ],
)
def test_a_schedule_that_somebody_changed_is_told(schedules: list[DeploymentSchedule], expected: Any) -> None:
    there = deployed(ONE, *schedules)
    plan = plan_of(ONE, there, row(ONE, there))
    assert [(one.old, one.new) for one in plan.fields] == expected
    assert {one.side for one in plan.fields} == {Side.PREFECT}


def test_a_schedule_that_somebody_deleted_is_made_again() -> None:
    there = deployed(ONE, schedules=[])
    plan = plan_of(ONE, there, row(ONE, there))
    assert fields(plan) == [("prefect", "schedule", ABSENT, "0 9 * * * America/New_York")]


def test_a_schedule_that_a_person_switched_off_stays_off_and_is_no_change() -> None:
    there = deployed(ONE, cron("0 9 * * *", active=False))
    plan = plan_of(ONE, there, row(ONE, there))
    assert (plan.change, plan.switched_off) == (Change.UNCHANGED, True)


def test_a_schedule_that_the_file_takes_away_is_told_by_the_file() -> None:
    there, wanted = deployed(ONE), campaign("One", URL, budget={"daily": 5})
    plan = plan_of(wanted, there, row(ONE, there))
    assert [(one.side, one.field) for one in plan.fields] == [
        (Side.FILE, "/schedule"),
        (Side.BOOKS, "scheduleApplied"),
    ]
    assert plan.schedule is not None and plan.schedule.extra == tuple(there.schedules or ())


def test_what_a_person_paused_is_no_change() -> None:
    there = deployed(ONE, paused=True)
    assert plan_of(ONE, there, row(ONE, there)).change is Change.UNCHANGED


def test_what_the_budget_paused_keeps_the_words_that_say_so() -> None:
    pause = Pause(by=PausedBy.BUDGET, reason="budget: daily 5.00 reached, spent 5.02", since=NOW)
    words = "**Paused.** budget: daily 5.00 reached, spent 5.02. Since 2026-05-13 12:00 UTC.\n\nOne"
    there = deployed(ONE, paused=True, description=words)
    plan = plan_of(ONE, there, row(ONE, there, pause=pause))
    assert plan.change is Change.UNCHANGED and plan.needs_a_look


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        # books that came later, or other books
        ({"deployment_id": None}, "deploymentId"),
        ({"deployment_id": uuid4()}, "deploymentId"),
        # an apply that broke off between the deployment and the row
        ({"applied_schedule_active": None}, "scheduleApplied"),
        # a row from before origins were kept, and a folder that was moved
        ({"origin": None}, "origin"),
        ({"origin": "/somewhere/else"}, "origin"),
    ],
)
def test_what_the_row_lacks_is_told_and_written(changed: dict[str, Any], field: str) -> None:
    there = deployed(ONE)
    plan = plan_of(ONE, there, row(ONE, there, **changed))
    assert (plan.change, plan.row_differs, plan.update) == (Change.CHANGED, True, {})
    assert [(one.side, one.field) for one in plan.fields] == [(Side.BOOKS, field)]


def test_what_the_rest_api_made_stays_its_own() -> None:
    there = deployed(ONE)
    plan = plan_of(ONE, there, row(ONE, there, origin=API_ORIGIN))
    assert (plan.origin, plan.change) == (API_ORIGIN, Change.UNCHANGED)


def test_half_an_apply_is_told_as_what_is_left_of_it() -> None:
    new = campaign("One", URL, schedule=DAILY, budget={"daily": 6})
    # The row was written, the deployment was not.
    there = deployed(ONE)
    assert fields(plan_of(new, there, row(new, there))) == [("prefect", "/budget/daily", "5.00", "6.00")]
    # The deployment was written, and the row put back.
    there = deployed(new)
    plan = plan_of(new, there, row(ONE, there))
    assert (fields(plan), plan.update) == ([("file", "/budget/daily", "5.00", "6.00")], {})


def test_only_campaigns_of_the_folder_without_a_file_are_orphans() -> None:
    two, three = campaign("Two", URL, only=1), campaign("Three", URL)
    observed = Observed(
        pool_type=None,
        upkeep={},
        deployments={},
        rows={
            "one": row(ONE, None),
            "two": row(two, None),
            "posted": row(campaign("Posted", URL), None, origin=API_ORIGIN),
            "elsewhere": row(campaign("Elsewhere", URL), None, origin="/srv/others"),
            "old": row(campaign("Old", URL), None, origin=None),
        },
    )
    gone = orphans(observed, folders=[FOLDER], keys={"one"})
    assert [one.key for one in gone] == ["two"]
    assert renamed(compile_campaign(campaign("Second", URL, only=1)), gone) is gone[0]
    assert renamed(compile_campaign(three), gone) is None


def test_a_changed_name_is_noticed_though_its_secrets_are_named_after_it() -> None:
    steps = {"prospecting": {"headers": {"Authorization": "Bearer sk-1234567890"}}}
    before, after = (campaign(name, URL, only=1, steps=steps) for name in ("Before", "After"))
    gone = (row(before, None),)
    assert renamed(compile_campaign(after), gone) is gone[0]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, [("/a/b/1", 2, 3)]),
        ([1], [1, 2], [("/1", ABSENT, 2)]),
        ([1, 2], [1], [("/1", 2, ABSENT)]),
        ({"a/b": 1}, {}, [("/a~1b", 1, ABSENT)]),
        # Python takes true for 1.
        ({"a": 1}, {"a": True}, [("/a", 1, True)]),
        ({"a": []}, {"a": {}}, [("/a", [], {})]),
    ],
)
def test_differences_are_told_by_their_pointer(old: Any, new: Any, expected: Any) -> None:
    found: list[FieldChange] = list(differences(Side.FILE, old, new))
    assert [(one.field, one.old, one.new) for one in found] == expected


@pytest.mark.parametrize(
    ("is_paused", "pause", "said"),
    [
        (True, PausedBy.BUDGET, "paused by the budget, and stays so: because"),
        (True, PausedBy.PERSON, "paused by a person, and stays so: because"),
        (True, PausedBy.STOP, "paused by the emergency stop, and stays so: because"),
        # paused in Prefect alone
        (True, None, "paused by a person, and stays so: paused in Prefect"),
        # resumed in Prefect since
        (False, PausedBy.PERSON, None),
    ],
)
def test_by_whom_a_campaign_is_paused_is_said(is_paused: bool, pause: PausedBy | None, said: str | None) -> None:
    there = deployed(ONE, paused=is_paused)
    known = Pause(by=pause, reason="because", since=NOW) if pause else None
    plan = plan_of(ONE, there, row(ONE, there, pause=known))
    lines = [line.plain.strip() for line in plan_lines(Plan(campaigns=(plan,)), {}, now=NOW)]
    assert [line for line in lines if line.startswith("paused")] == ([said] if said else [])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"path": "/srv/marketing"}, ("prefect", "path", "/srv/marketing", ABSENT)),
        (
            {"concurrency_options": {"collision_strategy": "CANCEL_NEW"}},
            ("prefect", "concurrencyOptions", {"collision_strategy": "CANCEL_NEW"}, ABSENT),
        ),
    ],
)
def test_what_no_deployment_of_ours_has_is_taken_out(changed: dict[str, Any], expected: Any) -> None:
    there = deployed(ONE, **changed)
    plan = plan_of(ONE, there, row(ONE, there))
    assert (fields(plan), plan.update) == ([expected], dict.fromkeys(changed))


def test_a_concurrency_limit_is_taken_out_and_one_that_others_may_go_by_is_let_go() -> None:
    there = deployed(ONE)
    for name, field, shown in (
        (f"deployment:{there.id}", "concurrency_limit", "concurrencyLimit"),
        ("of-others", "global_concurrency_limit_id", "globalConcurrencyLimit"),
    ):
        limit = GlobalConcurrencyLimitResponse(id=uuid4(), active=True, name=name, limit=2, active_slots=0)
        limited = there.model_copy(update={"global_concurrency_limit": limit})
        plan = plan_of(ONE, limited, row(ONE, there))
        assert plan.update == {field: None}
        assert [one.field for one in plan.fields] == [shown]


@pytest.mark.parametrize(
    ("field", "value"),
    [("work_queue_name", "urgent"), ("job_variables", {"env": {"REGION": "eu"}}), ("pull_steps", [{"step": {}}])],
)
def test_what_the_operator_may_choose_is_no_difference(field: str, value: Any) -> None:
    there = deployed(ONE, **{field: value})
    assert plan_of(ONE, there, row(ONE, there)).change is Change.UNCHANGED
