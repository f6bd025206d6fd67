"""Campaigns for tests: the four steps of the example, against engines on this machine."""

from __future__ import annotations

import copy
from typing import Any

from prefect_campaigns.models import Campaign

PROSPECT, ANALYZE, COMPOSE, SEND = "/api/prospect", "/api/analyze", "/api/compose-batch", "/api/send-batch"

_STEPS: dict[str, dict[str, Any]] = {
    "prospecting": {"engine": "prospecting", "path": PROSPECT, "params": {"count": 5}},
    "analysis": {
        "engine": "analysis",
        "path": ANALYZE,
        "params": {"runId": "{{ steps.prospecting.runId }}", "prospects": "{{ steps.prospecting.prospects }}"},
    },
    "outreach": {"engine": "outreach", "path": COMPOSE, "params": {"leads": "{{ steps.analysis.leads }}"}},
    "sending": {"engine": "sender", "path": SEND, "params": {"batchId": "{{ steps.outreach.batchId }}"}},
}


def campaign_json(
    name: str, url: str, *, steps: dict[str, dict[str, Any]] | None = None, only: int = 4, **fields: Any
) -> dict[str, Any]:
    """Return a campaign file's content.

    Args:
        url: where the engines are.
        steps: what is different, by step name.
        only: how many of the four steps.
        fields: the campaign's other fields.
    """
    written = []
    for step_name, defaults in list(_STEPS.items())[:only]:
        step = {"name": step_name, **copy.deepcopy(defaults), **(steps or {}).get(step_name, {})}
        step.setdefault("endpoint", f"{url}{step.pop('path')}")
        step.pop("path", None)
        written.append(step)
    return {"name": name, "steps": written, **fields}


def campaign(name: str, url: str, **options: Any) -> Campaign:
    """Return such a campaign, loaded."""
    return Campaign.model_validate(campaign_json(name, url, **options))
