"""The three campaigns that come with the package."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from prefect_campaigns.loader import load, load_many
from prefect_campaigns.models import Campaign
from prefect_campaigns.references import references_in, render

FOLDER = Path(__file__).parents[3] / "campaigns"

# What the engines answer, as far as the examples use it.
ANSWERS = {
    "prospecting": {"runId": "r-1", "found": 20, "prospects": [{"company": "A", "email": "a@example.com"}]},
    "analysis": {"runId": "r-1", "analyzed": 20, "gradeA": 5, "leads": [{"company": "A", "grade": "A"}]},
    "outreach": {"batchId": "b-1", "composed": 20, "ready": 18},
    "sending": {"sent": 18, "failed": 0, "queued": 0},
}


@pytest.fixture(scope="module")
def weekly() -> Campaign:
    """Return the campaign that the README begins with."""
    return load(FOLDER / "weekly-restaurant.json")


def test_the_folder_is_three_campaigns() -> None:
    assert [(each.path.name, each.campaign.slug) for each in load_many([FOLDER])] == [
        ("monthly-retail.json", "monthly-retail-outreach"),
        ("test-campaign.json", "test-campaign"),
        ("weekly-restaurant.json", "weekly-restaurant-outreach"),
    ]


def test_the_weekly_campaign_is_the_references(weekly: Campaign) -> None:
    assert weekly.schedule is not None
    assert (weekly.schedule.cron, weekly.schedule.timezone) == ("0 9 * * MON", "America/New_York")
    assert (weekly.budget.daily, weekly.budget.weekly, weekly.budget.monthly) == (5, 20, 80)
    assert [(step.name, step.engine, step.endpoint) for step in weekly.steps] == [
        ("prospecting", "prospecting", "http://localhost:3010/api/prospect"),
        ("analysis", "analysis", "http://localhost:3000/api/analyze"),
        ("outreach", "outreach", "http://localhost:3001/api/compose-batch"),
        ("sending", "sender", "http://localhost:3001/api/send-batch"),
    ]
    assert weekly.steps[0].retry_policy.delays_seconds() == [5, 10, 20]
    assert [step.sends_something for step in weekly.steps] == [False, False, False, True]


@pytest.mark.parametrize("name", ["weekly-restaurant.json", "monthly-retail.json", "test-campaign.json"])
def test_every_step_finds_what_it_refers_to(name: str) -> None:
    for step in load(FOLDER / name).steps:
        assert "{{" not in str(render(step.params, ANSWERS))


def test_results_are_passed_on_whole(weekly: Campaign) -> None:
    analysis, outreach, sending = (render(step.params, ANSWERS) for step in weekly.steps[1:])
    assert analysis["prospects"] == ANSWERS["prospecting"]["prospects"]
    assert outreach["leads"] == ANSWERS["analysis"]["leads"]
    assert outreach["subjectNote"] == "5 of 20 leads are grade A"
    assert sending["batchId"] == "b-1"


def test_every_sending_step_goes_by_the_batch_that_was_composed() -> None:
    for name in ("weekly-restaurant.json", "monthly-retail.json"):
        (reference,) = references_in(load(FOLDER / name).steps[-1].params)
        assert (reference.step, reference.path) == ("outreach", ("batchId",))


def test_the_test_campaign_runs_by_hand_and_for_cents() -> None:
    campaign = load(FOLDER / "test-campaign.json")
    assert campaign.schedule is None
    assert campaign.budget.daily == Decimal("0.5")


def test_nobody_real_is_written_to() -> None:
    for each in load_many([FOLDER]):
        told = each.campaign.notifications
        assert told is not None
        for recipients in (told.on_complete, told.on_failure, told.on_budget):
            assert all(address.endswith("@example.com") for address in (recipients.email if recipients else []))
