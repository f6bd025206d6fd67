"""The JSON Schema that editors use: current, and never at odds with the loader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from prefect_campaigns.errors import InvalidCampaign
from prefect_campaigns.loader import load, validate_object
from prefect_campaigns.schema import campaign_schema, schema_text

FOLDER = Path(__file__).parents[3] / "campaigns"
EXAMPLES = ("weekly-restaurant.json", "monthly-retail.json", "test-campaign.json")
VALIDATOR = Draft202012Validator(campaign_schema())
STEP = {"name": "a", "engine": "x", "endpoint": "http://localhost:1/x"}


def campaign(**changes: Any) -> dict[str, Any]:
    """Return the smallest campaign, changed."""
    return {"name": "A", "steps": [STEP], **changes}


def test_the_schema_in_the_folder_is_current() -> None:
    assert (FOLDER / "schema.json").read_text() == schema_text(), (
        "run: python -m prefect_campaigns.schema > campaigns/schema.json"
    )


def test_the_module_prints_the_schema() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "prefect_campaigns.schema"], capture_output=True, check=True, timeout=60
    )
    assert printed.stdout.decode() == schema_text()


def test_the_schema_is_one_and_can_lie_anywhere() -> None:
    Draft202012Validator.check_schema(campaign_schema())
    assert campaign_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "$id" not in campaign_schema()


def test_every_key_is_described_and_no_default_is_null() -> None:
    schema = campaign_schema()
    for part in (schema, *schema["$defs"].values()):
        for key, about in part.get("properties", {}).items():
            assert about.get("description"), key
            assert about.get("default", "") is not None, key
            assert "title" not in about, key


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_right_for_both(name: str) -> None:
    load(FOLDER / name)
    VALIDATOR.validate(json.loads((FOLDER / name).read_text()))


@pytest.mark.parametrize(
    "data",
    [
        campaign(),
        campaign(**{"$schema": "./schema.json"}),
        campaign(schedule="0 9 * * MON"),  # a bare schedule
        campaign(schedule="@daily"),
        campaign(schedule=None, budget=None, metadata=None, notifications=None, description=None),
        campaign(schedule={"cron": "*/5 0-3 1,2 JAN *", "timezone": "UTC", "enabled": False, "overlap": "skip"}),
        campaign(budget={"daily": 0, "weekly": 0.000001, "monthly": "12.50", "perLead": None}),
        campaign(notifications={"onFailure": {"email": "a@example.com", "slack": None}}),
        campaign(notifications={"onBudget": {"email": ["a@example.com"], "slack": "slack-webhook/ours"}}),
        campaign(notifications={"onFailure": {"slack": "https://hooks.slack.com/services/T0/B0/x"}}),
        campaign(notifications={"onFailure": {"slack": "https://hooks.slack-gov.com/services/T0/B0/x"}}),
        campaign(metadata={"tags": ["a"], "anything": {"at": "all"}}),
        campaign(steps=[{**STEP, "method": "GET", "timeout": 1, "sends": True, "costPath": "a.b", "retry": None}]),
        campaign(steps=[{**STEP, "retry": {"attempts": 3, "delay": 0, "jitter": 0.5, "backoff": "linear"}}]),
        campaign(steps=[{**STEP, "endpoint": "https://user.example.com/a?b=c#d"}]),
    ],
)
def test_what_the_loader_takes_the_schema_takes(data: dict[str, Any]) -> None:
    validate_object(data, source="x")
    VALIDATOR.validate(data)


@pytest.mark.parametrize(
    "data",
    [
        [],  # no object
        {"steps": [STEP]},  # no name
        {"name": "A"},  # no steps
        campaign(steps=[]),  # no step
        campaign(name=""),  # an empty name
        campaign(name="a\nb"),  # a line break
        campaign(bugdet={}),  # a typo
        campaign(schedule=5),
        campaign(schedule="every day"),
        campaign(schedule={}),  # no cron
        campaign(schedule={"cron": "0 9 * *"}),  # four fields
        campaign(schedule={"cron": "0 9 * * *", "enabled": "yes"}),
        campaign(schedule={"cron": "0 9 * * *", "overlap": "kill"}),
        campaign(budget={"daily": -1}),
        campaign(budget={"daily": "lots"}),
        campaign(budget={"yearly": 1}),
        campaign(metadata=[]),
        campaign(notifications={"onFailure": {"email": 5}}),
        campaign(notifications={"onFailure": {"slack": "http://insecure.example.com"}}),
        campaign(notifications={"onFailure": {"slack": "https://chat.example.com/services/T0/B0/x"}}),
        campaign(notifications={"on_failure": {}}),
        campaign(steps=[{"name": "a", "engine": "x"}]),  # no endpoint
        campaign(steps=[{**STEP, "endpoint": "ftp://x"}]),
        campaign(steps=[{**STEP, "endpoint": "http://user:password@x"}]),
        campaign(steps=[{**STEP, "method": "get"}]),
        campaign(steps=[{**STEP, "timeout": 0}]),
        campaign(steps=[{**STEP, "timeout": "5"}]),
        campaign(steps=[{**STEP, "retry": {"attempts": 51}}]),
        campaign(steps=[{**STEP, "retry": {"attempts": True}}]),
        campaign(steps=[{**STEP, "retry": {"attempts": 0.5}}]),
        campaign(steps=[{**STEP, "retry": {"jitter": 2}}]),
        campaign(steps=[{**STEP, "retry": {"backoff": "expo"}}]),
        campaign(steps=[{**STEP, "onFailure": "stop"}]),
        campaign(steps=[{**STEP, "onSuccess": "log"}]),
        campaign(steps=[{**STEP, "params": []}]),
        campaign(steps=[STEP] * 101),
    ],
)
def test_what_a_schema_can_tell_it_tells_as_the_loader_does(data: Any) -> None:
    assert not VALIDATOR.is_valid(data)
    with pytest.raises(InvalidCampaign):
        validate_object(data, source="x")
