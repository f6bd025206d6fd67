"""Telling one version of a campaign, and one request, from another."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from prefect_campaigns.models import Campaign, Step

_DIGITS = 12


def written(campaign: Campaign) -> dict[str, Any]:
    """Return a campaign as its author could have written it: JSON, without what is only a default."""
    return campaign.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def version_of(campaign: Campaign) -> str:
    """Return what names the campaign's content, as twelve hexadecimal digits of its SHA-256.

    Equal campaigns have the same version, on whatever way they came: defaults do not count, nor does whether a number
    was written 5 or 5.0, which databases change.
    """
    return _digest(written(campaign))


def request_of(step: Step) -> str:
    """Return what names the request of a step as it is written, by whatever name and at whatever place."""
    return _digest([step.method, step.endpoint, step.params])


def _digest(value: Any) -> str:
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
