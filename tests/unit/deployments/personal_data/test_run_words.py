"""What is left of what a run says."""

from __future__ import annotations

from decimal import Decimal

from prefect_campaigns.blocks.store_personal_data import RunWords
from prefect_campaigns.blocks.values import json_text, json_value
from prefect_campaigns.deployments.personal_data.run_words import REMOVED, cleared, without
from prefect_campaigns.personal_data import ERASED, Address
from prefect_campaigns.results import StepResult, StepStatus, step_detail

BOB = Address("bob@example.com")
STEP = StepResult(
    name="mail",
    engine="sender",
    position=0,
    status=StepStatus.FAILED,
    counts={"emails_sent": 2.0},
    result={"sent": [{"to": "bob@example.com", "name": "Bob"}, {"to": "al@example.com"}], "cost": Decimal("0.10")},
    warnings=("bob@example.com bounced", "slow"),
    error="bob@example.com",
    sent_as="0a",
    is_unrecorded=True,
)
SAID = RunWords(run_id="a", message="mail: bob@example.com", steps={"mail": json_text(step_detail(STEP))})
SILENT = RunWords(
    run_id="a", message=None, steps={"mail": json_text(step_detail(STEP.model_copy(update={"error": None})))}
)


def step_of(words: RunWords) -> StepResult:
    return STEP.model_copy(update=json_value(words.steps["mail"]))


def test_nothing_is_left_of_what_engines_said_but_the_counts() -> None:
    left = cleared(SAID)
    assert left.message == REMOVED
    assert step_of(left) == STEP.model_copy(update={"result": None, "warnings": [], "error": REMOVED})
    assert cleared(left) == left


def test_what_was_not_said_is_not_removed() -> None:
    left = cleared(SILENT)
    assert left.message is None
    assert step_of(left).error is None


def test_a_person_goes_and_what_is_ours_stays() -> None:
    left = without(SAID, BOB)
    assert left.message == ERASED
    changes = {
        "result": {"sent": [{"to": "al@example.com"}], "cost": Decimal("0.10")},
        "warnings": ["slow"],
        "error": ERASED,
    }
    assert step_of(left) == STEP.model_copy(update=changes)
    assert without(left, BOB) == left


def test_who_is_not_mentioned_changes_nothing() -> None:
    assert without(SAID, Address("eve@example.com")) == SAID


def test_a_run_from_before_says_it_in_two_texts() -> None:
    found = {"status": "completed", "cost": 0.1, "counts": {"n": 1}, "to": ["bob@example.com"]}
    earlier = {"results": json_text({"find": found, "odd": "see bob@example.com"}), "errors": '["x"]'}
    before = RunWords(run_id="a", message=None, steps={}, earlier=earlier)
    counted = {"find": {"status": "completed", "cost": 0.1, "counts": {"n": 1}}}
    assert cleared(before).earlier == {"results": json_text(counted), "errors": "[]"}
    left = {"find": {**found, "to": []}, "odd": ERASED}
    assert without(before, BOB).earlier == {"results": json_text(left), "errors": '["x"]'}
