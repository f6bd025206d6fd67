"""What schemathesis is told beside the document: names and addresses that keep a fuzzed API from going astray.

Requests stay as they were made up, save those that would do something. A campaign gets one of a few names, engines
where nothing listens, and one recipient: a thousand deployments would take an hour, and an engine that somebody made up
may be somebody's. Of the requests that stop everything a few do: each pauses all campaigns that there are, other tests'
too, and resumes them, a second or more for a hundred; and what makes one differ from the next, its reason, is a text.
Those that are refused cost nothing, and are made as they are.
"""

from __future__ import annotations

import copy
import itertools
import zlib
from typing import Any

import httpx
import schemathesis
from pydantic import ValidationError
from schemathesis import GenerationMode

from prefect_campaigns.deployments.api.bodies import StopBody
from prefect_campaigns.models import Campaign

CAMPAIGNS = 3
NOWHERE = "http://127.0.0.1:9/"
RECIPIENT = "fuzzed@example.com"
STOP, STOPS = "/api/stop", 5
CHANGES = 25
"""How many campaigns are really changed: each takes as long as twenty requests that only look."""

_run_ids: list[str] = []
_stops, _changes = itertools.count(), itertools.count()


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Let what would be done be done to few campaigns, and half of the made-up ids mean something that may be there."""
    seed = zlib.crc32(repr((case.path_parameters, case.body)).encode("utf-8", "replace"))
    name = f"Fuzzed {seed % CAMPAIGNS}"
    if case.path == STOP and _would_stop(case) and next(_stops) >= STOPS:
        case.body = "too often"
    elif "/campaigns/{id}" in case.path and seed % 2:
        case.path_parameters["id"] = name.lower().replace(" ", "-")
    elif case.path.startswith("/api/runs/") and seed % 2 and _run_ids:
        case.path_parameters["id"] = _run_ids[-1 - seed % min(len(_run_ids), 3)]
    if isinstance(case.body, dict) and "steps" in case.body:
        case.body = _harmless(case, name)


def _would_stop(case: schemathesis.Case) -> bool:
    """Whether the API takes the body of a stop; an empty one says nothing, and stops."""
    if case.method != "POST":
        return False
    try:
        StopBody.model_validate(case.body if isinstance(case.body, dict | list | str | int | float) else {})
    except (ValidationError, RecursionError):
        return False
    return True


def _harmless(case: schemathesis.Case, name: str) -> Any:
    """Return the case's campaign so that it can be applied; as it is where that is impossible, or not its point."""
    changed = copy.deepcopy(case.body)
    if not _is_usable(changed) and (case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE):
        return case.body
    told = changed.get("notifications") or {}
    changed |= {"name": name, "notifications": {kind: {"email": RECIPIENT} for kind in told if told[kind]}}
    for step in changed["steps"]:
        step["endpoint"] = NOWHERE
    if not _is_usable(changed):
        # What the document cannot say: that a cron has no 25th hour, nor a timezone a name of its own.
        changed.pop("schedule", None)
    if not _is_usable(changed) or (case.method == "PUT" and next(_changes) >= CHANGES):
        return case.body
    return changed


def _is_usable(body: dict[str, Any]) -> bool:
    try:
        Campaign.model_validate(body)
    except (ValidationError, RecursionError):
        return False
    return True


@schemathesis.hook
def after_call(context: schemathesis.HookContext, case: schemathesis.Case, response: schemathesis.Response) -> None:
    """Remember the runs that were started, and end what was stopped."""
    if response.status_code != httpx.codes.OK:
        return
    # A dry run starts none.
    if case.path.endswith("/run") and (run_id := response.json().get("runId")):
        _run_ids.append(run_id)
    if case.path == STOP:
        # While it stands nothing else is tried in earnest.
        headers = {"X-API-Key": response.request.headers["X-API-Key"]}
        httpx.post(response.request.url.replace(STOP, "/api/start"), headers=headers, timeout=60).raise_for_status()
