"""Versions: equal for what is equal, on whatever way it came."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from prefect_campaigns.models import Campaign
from prefect_campaigns.versions import request_of, version_of

WRITTEN: dict[str, Any] = {
    "name": "Spring Outreach",
    "schedule": "0 9 * * MON",
    "budget": {"daily": 5.00, "weekly": 20},
    "steps": [{"name": "find", "engine": "prospecting", "endpoint": "http://localhost/api", "params": {"count": 20}}],
}


def campaign(**changes: Any) -> Campaign:
    return Campaign.model_validate({**copy.deepcopy(WRITTEN), **changes})


@pytest.mark.parametrize(
    "dumped",
    [
        # a flow run's parameter
        lambda one: one.model_dump(mode="json", by_alias=True, exclude_unset=True),
        # a row of the store
        lambda one: one.model_dump(mode="json", by_alias=True),
        # a database that writes each number in its own way
        lambda one: json.loads(json.dumps(one.model_dump(mode="json", by_alias=True)).replace(": 20", ": 20.0")),
        # a file that spells out what it could leave out
        lambda _: {**WRITTEN, "schedule": {"cron": "0 9 * * MON", "timezone": "UTC", "enabled": True}, "metadata": {}},
        # money as a string, with other zeros
        lambda _: {**WRITTEN, "budget": {"daily": "5.000", "weekly": "20.0"}},
    ],
)
def test_a_campaign_keeps_its_version_on_whatever_way_it_comes(dumped: Any) -> None:
    assert version_of(Campaign.model_validate(dumped(campaign()))) == version_of(campaign())


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": {"daily": 5.01, "weekly": 20}},
        {"budget": {"daily": 5}},
        {"schedule": "1 9 * * MON"},
        {"description": "x"},
        {"steps": [{**WRITTEN["steps"][0], "params": {"count": 21}}]},
        {"steps": [{**WRITTEN["steps"][0], "params": {"count": "20"}}]},
        {"notifications": {"onFailure": {"email": "ops@example.com"}}},
    ],
)
def test_every_change_is_another_version(changes: dict[str, Any]) -> None:
    assert version_of(campaign(**changes)) != version_of(campaign())


def test_a_request_is_known_by_another_name_too_and_not_once_it_is_written_otherwise() -> None:
    (step,) = campaign().steps
    for same in ({"name": "renamed"}, {"timeout_ms": 1}, {"sends": True}):
        assert request_of(step.model_copy(update=same)) == request_of(step)
    for other in ({"params": {"count": 21}}, {"endpoint": "http://localhost:1/other"}, {"method": "PUT"}):
        assert request_of(step.model_copy(update=other)) != request_of(step)
