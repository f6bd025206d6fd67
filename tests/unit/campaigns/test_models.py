"""What a campaign's parts say of themselves."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from prefect_campaigns.loader import validate_object
from prefect_campaigns.models import Campaign, Recipients, Retry, Step


def step(**changes: Any) -> Step:
    """Return a step, changed."""
    return Step.model_validate({"name": "a", "engine": "x", "endpoint": "http://localhost:1/api/x", **changes})


@pytest.mark.parametrize(
    ("retry", "delays"),
    [
        # the reference's own example
        ({"attempts": 3, "delay": 5000, "backoff": "exponential"}, [5, 10, 20]),
        # exponential is the default
        ({"attempts": 3, "delay": 5000}, [5, 10, 20]),
        ({"attempts": 3, "delay": 5000, "backoff": "linear"}, [5, 10, 15]),
        ({"attempts": 3, "delay": 5000, "backoff": "fixed"}, [5, 5, 5]),
        # a ceiling
        ({"attempts": 5, "delay": 5000, "maxDelay": 30_000}, [5, 10, 20, 30, 30]),
        # the ceiling holds from the first delay on
        ({"attempts": 2, "delay": 5000, "maxDelay": 1000}, [1, 1]),
        # fractions of a second
        ({"attempts": 2, "delay": 250}, [0.25, 0.5]),
        # at once
        ({"attempts": 2, "delay": 0}, [0, 0]),
        # the most retries there are stay below an hour each
        ({"attempts": 50, "delay": 1000, "backoff": "exponential"}, [2.0**n for n in range(12)] + [3600.0] * 38),
        # none
        ({"attempts": 0}, []),
        ({}, []),
    ],
)
def test_delays_grow_as_the_backoff_says(retry: dict[str, Any], delays: list[float]) -> None:
    assert Retry.model_validate(retry).delays_seconds() == delays


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"engine": "prospecting"}, 300),
        ({"engine": "outreach"}, 300),
        ({"engine": "analysis"}, 600),
        ({"engine": "sender"}, 600),
        # an engine that nobody has heard of
        ({"engine": "x"}, 300),
        # the outreach engine, sending
        ({"engine": "outreach", "endpoint": "http://h/api/send-batch"}, 600),
        # what the step says
        ({"engine": "analysis", "timeout": 1500}, 1.5),
        ({"engine": "outreach", "endpoint": "http://h/api/send-batch", "timeout": 1500}, 1.5),
    ],
)
def test_a_step_takes_as_long_as_its_engine_needs(changes: dict[str, Any], seconds: float) -> None:
    assert step(**changes).timeout_seconds == seconds


@pytest.mark.parametrize(
    ("changes", "sends"),
    [
        ({"engine": "sender"}, True),
        ({"endpoint": "http://h/api/send-batch"}, True),
        ({"endpoint": "http://h/api/Send"}, True),
        # the host's name says nothing
        ({"endpoint": "http://sender.example.com/api/x"}, False),
        ({"endpoint": "http://h/api/x?then=send"}, False),
        ({"engine": "prospecting"}, False),
        # what the step says
        ({"engine": "sender", "sends": False}, False),
        ({"engine": "prospecting", "sends": True}, True),
    ],
)
def test_a_step_knows_whether_it_sends(changes: dict[str, Any], sends: bool) -> None:
    assert step(**changes).sends_something is sends


def test_a_step_without_retry_is_not_repeated() -> None:
    assert step().retry_policy.delays_seconds() == []


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Weekly Restaurant Outreach", "weekly-restaurant-outreach"),
        ("  Café & Bar: No. 1! ", "cafe-bar-no-1"),
        ("東京", "dong-jing"),
    ],
)
def test_the_key_is_the_slug_of_the_name(name: str, slug: str) -> None:
    campaign = validate_object({"name": name, "steps": [step().model_dump(by_alias=True)]}, source="x")
    assert campaign.slug == slug


@pytest.mark.parametrize(
    ("schedule", "zone"),
    [
        (None, "UTC"),
        ("0 9 * * *", "UTC"),
        ({"cron": "0 9 * * *"}, "UTC"),
        ({"cron": "0 9 * * *", "timezone": "Asia/Kolkata", "enabled": False}, "Asia/Kolkata"),
    ],
)
def test_the_timezone_is_the_schedules_or_utc(schedule: Any, zone: str) -> None:
    campaign = Campaign.model_validate({"name": "A", "schedule": schedule, "steps": [step()]})
    assert campaign.timezone.key == zone


def test_a_campaign_survives_the_way_through_a_flow_runs_parameters() -> None:
    campaign = validate_object(
        {
            "$schema": "./schema.json",
            "name": "A",
            "schedule": "@daily",
            "budget": {"daily": Decimal("0.100001"), "perLead": 0.1},
            "steps": [
                {**step().model_dump(by_alias=True), "retry": {"attempts": 2, "jitter": 0.1}, "params": {"a": 0.1}}
            ],
            "notifications": {"onFailure": {"email": "a@example.com"}},
        },
        source="x",
    )
    again = Campaign.model_validate(campaign.model_dump(mode="json", by_alias=True))
    assert again == campaign.model_copy(update={"json_schema": None})
    assert Campaign.model_validate_json(campaign.model_dump_json(by_alias=True)) == again


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (Recipients, {"slack": "http://hooks.slack.com/services/hunter2"}),
        (Recipients, {"slack": ["https://hooks.slack.com/services/hunter2"]}),
        (Step, {"name": "a", "engine": "x", "endpoint": "http://joe:hunter2@h"}),
    ],
)
def test_what_pydantic_itself_says_repeats_no_secret(model: Any, data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(data)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "cron",
    [
        "0 9 * * MON",
        "0 8 1 * *",
        "0 */6 * * *",
        "30 14 * * 1-5",
        "0 0 29 2 *",  # leap days only
        "0 0 * * 7",  # Sunday by its other number
        "@hourly",
    ],
)
def test_crons_that_prefect_runs_are_taken(cron: str) -> None:
    campaign = Campaign.model_validate({"name": "A", "schedule": cron, "steps": [step()]})
    assert campaign.schedule is not None and campaign.schedule.cron == cron


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "0 9 * *",  # four fields
        "0 0 9 * * *",  # six
        "60 9 * * *",
        "0 9 * * FOO",
        "0 0 31 4 *",  # never
        "R 9 * * *",  # at random
        "H 9 * * *",  # by hash
        "@reboot",
        "0," * 200 + "0 9 * * *",  # endless
    ],
)
def test_crons_that_prefect_does_not_run_are_refused(cron: str) -> None:
    with pytest.raises(ValidationError):
        Campaign.model_validate({"name": "A", "schedule": cron, "steps": [step()]})
