"""The request of a step, made of the campaign, the step, what earlier steps answered, and secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect_campaigns.checks import header_value_problem
from prefect_campaigns.errors import MissingReference, MissingSecret
from prefect_campaigns.flows.messages import EngineRequest
from prefect_campaigns.models import Campaign, Step
from prefect_campaigns.references import SecretReference, check_header_references, preview, render, secrets_in
from prefect_campaigns.words import shown


@dataclass(frozen=True, kw_only=True)
class ShownRequest:
    """A request as it would be made, with nothing secret in it.

    Attributes:
        headers: those that the step sets; each secret is ``********``.
        params: the JSON body, or the query of a GET. A reference to a result that nobody knows yet is left as it is
            written.
    """

    method: str
    url: str
    headers: dict[str, str]
    params: dict[str, Any]
    timeout_seconds: float


def show_request(campaign: Campaign, step: Step, *, results: Mapping[str, Any]) -> ShownRequest:
    """Return a step's request for people to look at; no secret is looked up.

    Args:
        results: what is known of earlier steps' results, by the step's name; may be empty.

    Raises:
        MissingReference: something in double braces is no reference, which the loader would have refused.
    """
    return ShownRequest(
        method=step.method,
        url=step.endpoint,
        headers=preview(step.headers, {}),
        params=_with_project(campaign, preview(step.params, results)),
        timeout_seconds=step.timeout_seconds,
    )


def secrets_of(step: Step) -> tuple[SecretReference, ...]:
    """Return the secrets that a step's request takes, each once."""
    references = (*secrets_in(step.headers), *secrets_in(step.params))
    return tuple({reference.name: reference for reference in references}.values())


def make_request(
    campaign: Campaign,
    step: Step,
    *,
    results: Mapping[str, Any],
    secrets: Mapping[str, str],
    idempotency_key: str,
) -> EngineRequest:
    """Return a step's request.

    Args:
        results: what earlier steps answered, by the step's name.
        secrets: what ``secrets_of`` names, by name.

    Raises:
        MissingReference: a reference finds nothing.
        MissingSecret: with its secret a header is none that HTTP can carry.
    """
    return EngineRequest(
        method=step.method,
        url=step.endpoint,
        params=_with_project(campaign, render(step.params, results, secrets)),
        headers=_headers(step, secrets),
        secrets=tuple(secrets.values()),
        idempotency_key=idempotency_key,
        timeout_seconds=step.timeout_seconds,
    )


def _headers(step: Step, secrets: Mapping[str, str]) -> dict[str, str]:
    # Validation refuses these; a run whose parameters were edited by hand comes by here.
    for path, message in check_header_references(step.headers):
        raise MissingReference(f"header {shown(path[-1])}: {message}")
    headers: dict[str, str] = render(step.headers, {}, secrets)
    for name, value in headers.items():
        if problem := header_value_problem(value):
            used = ", ".join(reference.text for reference in secrets_in(step.headers[name])) or "its value"
            raise MissingSecret(f"header {shown(name)} cannot be sent with what {used} holds: {problem}")
    return headers


def _with_project(campaign: Campaign, params: dict[str, Any]) -> dict[str, Any]:
    project_id = campaign.metadata.get("project_id")
    options = params.get("options", {})
    if project_id is None or not isinstance(options, dict):
        return params
    return {**params, "options": {"projectId": project_id, **options}}
