"""What a campaign is compiled into."""

from __future__ import annotations

import json
from typing import Any

import pytest
from campaign_files import campaign
from prefect.blocks.notifications import SlackWebhook
from prefect.utilities.importtools import import_object
from pydantic import ValidationError

from prefect_campaigns.deployments.compile import (
    CompiledSchedule,
    MailRecipient,
    NotificationKind,
    SlackChannel,
    compile_campaign,
    deployment_parameter_schema,
)
from prefect_campaigns.deployments.secrets_in_files import SecretKind
from prefect_campaigns.flows.campaign import run_campaign
from prefect_campaigns.models import Campaign

URL = "http://127.0.0.1:9"
WEBHOOK = "https://hooks.slack.com/services/T000/B000/verysecret"


def kinds_told(compiled_campaign: Campaign, recipient: Any) -> set[str]:
    compiled = compile_campaign(compiled_campaign)
    return {str(one.kind) for one in compiled.automations if one.recipient == recipient}


def test_the_same_campaign_compiles_to_the_same() -> None:
    one = campaign("Same", URL, notifications={"onFailure": {"email": ["b@example.com", "a@example.com"]}})
    assert compile_campaign(one) == compile_campaign(one)


def test_the_deployment_is_named_by_the_slug_and_runs_the_flow_by_its_dotted_entrypoint() -> None:
    compiled = compile_campaign(campaign("Wöchentliche Läden #1", URL))
    assert compiled.full_name == "campaign/wochentliche-laden-1"
    assert import_object(compiled.entrypoint) is run_campaign
    assert ":" not in compiled.entrypoint, "Prefect takes the colon form for a file"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (None, None),
        # A bare cron string is in UTC.
        ("0 9 * * MON", CompiledSchedule(cron="0 9 * * MON", timezone="UTC", active=True)),
        (
            {"cron": "0 9 * * 1", "timezone": "Europe/Berlin", "enabled": False},
            CompiledSchedule(cron="0 9 * * 1", timezone="Europe/Berlin", active=False),
        ),
        # Every hour that passes, and not every hour that local clocks show.
        (
            {"cron": "0 * * * *", "timezone": "Europe/Berlin"},
            CompiledSchedule(cron="0 * * * *", timezone="UTC", active=True),
        ),
    ],
)
def test_the_schedule_carries_its_timezone_and_whether_it_is_on(written: Any, expected: Any) -> None:
    assert compile_campaign(campaign("Timed", URL, schedule=written)).schedule == expected


def test_the_parameter_is_the_campaign_as_it_was_written() -> None:
    compiled = compile_campaign(campaign("Written", URL, budget={"daily": 5}, metadata={"owner": "x"}))
    parameter = compiled.parameters["campaign"]
    assert parameter["budget"] == {"daily": "5.00"}
    assert parameter["metadata"] == {"owner": "x"}
    assert "schedule" not in parameter
    assert Campaign.model_validate(parameter) == compiled.campaign


@pytest.mark.parametrize(
    ("notifications", "address", "kinds"),
    [
        ({"onFailure": {"email": "a@example.com"}}, "a@example.com", {"failure", "partial", "budget", "alert"}),
        ({"onComplete": {"email": "a@example.com"}}, "a@example.com", {"complete", "partial"}),
        # Told of both, and of a partial run once.
        (
            {"onComplete": {"email": "a@example.com"}, "onFailure": {"email": "a@example.com"}},
            "a@example.com",
            {"complete", "failure", "partial", "budget", "alert"},
        ),
        # Whoever is named for the budget replaces those of the failures.
        (
            {"onFailure": {"email": "a@example.com"}, "onBudget": {"email": "money@example.com"}},
            "a@example.com",
            {"failure", "partial"},
        ),
        (
            {"onFailure": {"email": ["a@example.com", "b@example.com"]}},
            "b@example.com",
            {"failure", "partial", "budget", "alert"},
        ),
        (None, "a@example.com", set()),
    ],
)
def test_who_is_told_of_what(notifications: Any, address: str, kinds: set[str]) -> None:
    assert kinds_told(campaign("Told", URL, notifications=notifications), MailRecipient(address)) == kinds


def test_without_shares_of_limits_nobody_is_alerted() -> None:
    told = {"onFailure": {"email": "a@example.com"}}
    quiet = campaign("Quiet", URL, notifications=told, budget={"alertAt": []})
    assert "alert" not in kinds_told(quiet, MailRecipient("a@example.com"))


def test_every_automation_has_its_tag_on_the_deployment() -> None:
    compiled = compile_campaign(campaign("Tagged", URL, notifications={"onFailure": {"email": "a@example.com"}}))
    assert set(compiled.tags) == {
        "campaign",
        "on-failure:a@example.com",
        "on-partial:a@example.com",
        "on-budget:a@example.com",
        "on-alert:a@example.com",
    }
    assert NotificationKind.FAILURE.state_names == ("Failed", "Crashed", "TimedOut", "EngineDown")


def test_a_slack_webhook_is_in_nothing_that_is_shown() -> None:
    compiled = compile_campaign(campaign("Slack", URL, notifications={"onFailure": {"slack": WEBHOOK}}))
    (secret,) = compiled.secrets
    assert (secret.kind, secret.value) == (SecretKind.SLACK, WEBHOOK)
    assert "verysecret" not in repr(compiled) + str(compiled.parameters) + compiled.campaign.model_dump_json()
    assert compiled.campaign.notifications.on_failure.slack == f"slack-webhook/{secret.block_name}"
    assert kinds_told(compiled.campaign, SlackChannel(secret.block_name)) == {"failure", "partial", "budget", "alert"}


@pytest.mark.parametrize(
    ("url", "can_be_used"),
    [
        (WEBHOOK, True),
        (f"{WEBHOOK}/", True),
        (WEBHOOK.replace("slack.com", "slack-gov.com"), True),
        ("https://chat.example.com/hooks/hunter2", False),  # another product's
        ("https://hooks.slack.com.example.com/services/T000/B000/hunter2", False),
        ("https://hooks.slack.com/services/T000/hunter2", False),  # a part is missing
        ("https://hooks.slack.com/services/T000/B000/hunter-2", False),
    ],
)
def test_the_slack_webhooks_that_a_campaign_may_have_are_those_that_prefects_block_sends_to(
    url: str, can_be_used: bool
) -> None:
    told = {"onFailure": {"slack": url}}
    if can_be_used:
        campaign("Slack", URL, notifications=told)
    else:
        with pytest.raises(ValidationError, match="a webhook URL that Slack has made") as refused:
            campaign("Slack", URL, notifications=told)
        assert "hunter2" not in str(refused.value)
    assert len(SlackWebhook(url=url)._apprise_client) == can_be_used


def test_a_slack_block_that_exists_is_named_as_it_is() -> None:
    compiled = compile_campaign(campaign("Slack", URL, notifications={"onFailure": {"slack": "slack-webhook/ours"}}))
    assert compiled.secrets == ()
    assert {one.recipient for one in compiled.automations} == {SlackChannel("ours")}


def test_the_parameter_schema_says_what_a_campaign_has_to_have_and_no_more() -> None:
    schema = deployment_parameter_schema()
    assert schema["required"] == ["campaign"]
    assert schema["properties"]["campaign"]["required"] == ["name", "steps"]
    # What a server checks, and sends, a thousand times.
    assert "definitions" not in schema and len(json.dumps(schema)) < 2000
