"""What the REST API answers: the keys of each answer, and how they are written as JSON.

Amounts are US dollars and JSON numbers with every digit that the books have; instants are ISO 8601 in UTC.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from starlette.responses import Response

from prefect_campaigns.money import format_money

Amount = Annotated[Decimal, WithJsonSchema({"type": "number", "examples": [0.024]})]
"""US dollars as a JSON number."""

Count = int | float
"""What an engine has counted; an average may be no whole number."""

CampaignStatus = Literal["active", "paused", "completed", "error"]
RunWord = Literal["running", "completed", "partial", "failed", "aborted"]


class _Answer(BaseModel):
    """A part of an answer: camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Ok(_Answer):
    """What every answer begins with that says that something went well."""

    success: Literal[True] = True


class ComplaintAnswer(_Answer):
    """One thing that is wrong with a body."""

    pointer: str = Field(description="RFC 6901 JSON pointer to what is wrong; empty for the whole body.")
    message: str
    line: int | None = None
    column: int | None = None


class ErrorAnswer(_Answer):
    """What went wrong, in words."""

    success: Literal[False] = False
    error: str
    complaints: list[ComplaintAnswer] | None = Field(
        default=None, description="All that is wrong with a body, one by one; only where a body is wrong."
    )


class PauseAnswer(_Answer):
    """Why a campaign is paused."""

    by: str = Field(description="person, budget or stop.")
    reason: str
    since: AwareDatetime
    until: AwareDatetime | None = Field(description="When it resumes by itself; null where it does not.")


class CampaignBrief(_Answer):
    """A campaign, as creating it answers."""

    id: UUID
    slug: str = Field(description="The key that the command line and Prefect know it by; serves as id, too.")
    name: str
    status: CampaignStatus = Field(
        description="active: it runs by itself where it has a schedule that is enabled, and when it is told to. paused:"
        " by a person, its budget or the emergency stop. error: Prefect has no deployment of it. completed is a word"
        " of older orchestrators: a campaign can always run again."
    )
    schedule: str | None = Field(description="Its cron; null where it runs by hand.")
    timezone: str
    next_run: AwareDatetime | None = Field(description="When it runs next by itself; null where it does not.")
    pause: PauseAnswer | None
    deployment_id: UUID | None


class CampaignRow(CampaignBrief):
    """A campaign, as lists have it."""

    description: str | None
    last_run: AwareDatetime | None
    total_runs: int
    total_cost: Amount
    project_id: Any = Field(alias="project_id", description="Its metadata's project_id.")
    created_at: AwareDatetime
    updated_at: AwareDatetime


class CampaignDetail(CampaignRow):
    """A campaign, with all that it does."""

    config: dict[str, Any] = Field(description="The campaign's JSON, with nothing secret in it.")


class FieldChange(_Answer):
    """One field that is other than before."""

    pointer: str
    before: Any = Field(description="null where it was not there.")
    after: Any = Field(description="null where it is not there any more.")


class CampaignCreated(Ok):
    """The campaign is on the Prefect server and in the books."""

    campaign: CampaignBrief
    notes: list[str]


class CampaignChanged(Ok):
    """The campaign is as the body says."""

    campaign: CampaignBrief
    changed: bool = Field(description="Whether anything had to be written.")
    changes: list[FieldChange]
    notes: list[str]


class CampaignList(Ok):
    """Campaigns, by name."""

    count: int
    campaigns: list[CampaignRow]


class CampaignAnswer(Ok):
    """One campaign."""

    campaign: CampaignDetail


class StatusAnswer(Ok):
    """How the campaign stands now."""

    status: CampaignStatus
    message: str


class Message(Ok):
    """What was done."""

    message: str


class RunStarted(Message):
    """A run has been asked for; a worker takes it up."""

    campaign_id: UUID
    run_id: UUID
    note: str | None = Field(default=None, description="What will likely become of it, where it is worth a word.")
    results_of: str | None = Field(
        default=None,
        description="The id of the run whose results it takes over; null where it begins at its first step.",
    )


class StepAheadAnswer(_Answer):
    """A step as a run would do it."""

    name: str
    engine: str
    method: str
    url: str
    headers: dict[str, str]
    params: dict[str, Any] = Field(description="With what is known of earlier results, and nothing secret.")
    unknown: list[str] = Field(description="The references that nothing is known of before it runs.")
    taken_over: bool = Field(description="Whether it is not done again, and its result is taken over.")
    approval: bool = Field(description="Whether the run waits before it until somebody approves.")
    estimate: Amount | None = Field(description="What it would reserve; null where nobody knows.")
    estimate_from: str
    refused: str | None = Field(description="Why a limit would refuse it; null where none would.")
    left: dict[str, Amount] = Field(description="What each limit would have left after it.")


class DryRun(Message):
    """What a run would do; nothing is started."""

    campaign_id: UUID
    campaign: str = Field(description="The campaign's slug.")
    results_of: str | None = Field(description="The id of the run whose results the references show.")
    obstacles: list[str] = Field(description="What would keep it from beginning; empty where nothing would.")
    warnings: list[str] = Field(description="What is to be known besides.")
    reserved: Amount = Field(description="What its steps would reserve in all, as far as that is known.")
    steps: list[StepAheadAnswer]


class RunMessage(Message):
    """What was done to a run."""

    run_id: UUID
    warnings: list[str] = Field(
        default_factory=list, description="What is to be known besides, such as that a person has paused the campaign."
    )


class RunError(_Answer):
    """What went wrong in a run."""

    step: str | None = Field(description="null where it was no step.")
    error: str


class StepRow(_Answer):
    """A step of a run."""

    name: str
    engine: str
    status: str
    attempts: int
    cost: Amount | None = Field(description="null where the engine has reported none.")
    duration_seconds: float | None
    error: str | None
    warnings: list[str]


class RunRow(_Answer):
    """A run of a campaign."""

    model_config = ConfigDict(extra="allow")

    id: str
    name: str
    started_at: AwareDatetime
    completed_at: AwareDatetime | None
    status: RunWord = Field(
        description="partial: some step failed and the campaign went on. aborted: its budget, or somebody, ended it."
    )
    state: str | None = Field(description="The name of its state in Prefect.")
    message: str | None
    steps_completed: int
    steps_failed: int
    total_cost: Amount
    trigger_type: Literal["scheduled", "manual"]
    errors: list[RunError]
    results: dict[str, Any] = Field(description="What the engine answered, by the step's name.")
    steps: list[StepRow]
    prospects_generated: Count = Field(alias="prospects_generated")
    leads_analyzed: Count = Field(alias="leads_analyzed")
    emails_sent: Count = Field(alias="emails_sent")


class RunList(Ok):
    """Runs, newest first."""

    count: int
    runs: list[RunRow]


class Budget(Ok):
    """What a campaign has spent, and may yet."""

    budget: dict[str, Any]


class AuditRow(_Answer):
    """Who did what, and when."""

    at: AwareDatetime
    actor: str
    action: str
    campaign: str | None = Field(description="The campaign's slug; null where it is about all.")
    detail: dict[str, Any]


class AuditList(Ok):
    """What was done, newest first."""

    count: int
    entries: list[AuditRow]


class Stats(_Answer):
    """All campaigns in figures."""

    total_campaigns: int
    active_campaigns: int
    paused_campaigns: int
    scheduled_campaigns: int = Field(description="How many will run by themselves.")
    total_runs: int
    total_cost: Amount


class StopAnswer(_Answer):
    """The emergency stop that stands."""

    by: str
    reason: str
    since: AwareDatetime


class Stopped(Message):
    """Everything is stopped."""

    stop: StopAnswer
    paused: list[str] = Field(description="The slugs of the campaigns that the stop holds paused.")
    strays: list[str] = Field(description="Deployments that it holds paused, too, and that the books do not know.")
    cancelled: list[UUID] = Field(description="The ids of the runs that were cancelled.")
    still_going: list[UUID] = Field(description="The ids of the runs that go on to their end.")
    problems: list[str] = Field(description="What could not be done; saying it again tries these again.")


class Started(Message):
    """Everything goes on."""

    resumed: list[str] = Field(description="The slugs of the campaigns that go on.")
    strays: list[str] = Field(description="Deployments that go on, too, and that the books do not know.")
    paused: list[str] = Field(description="The slugs of those that stay paused, by a person or their budgets.")
    problems: list[str] = Field(description="What could not be done; saying it again tries these again.")


class StatsAnswer(Ok):
    """All campaigns in figures."""

    stats: Stats


class Health(_Answer):
    """Whether everything that the API needs is there."""

    success: bool
    status: Literal["healthy", "degraded"]
    service: Literal["pipeline-orchestrator"] = "pipeline-orchestrator"
    version: str
    active_campaigns: int | None = Field(description="null where it is not known.")
    scheduled_runs: int | None = Field(description="How many runs Prefect has scheduled; null where it is not known.")
    uptime: float = Field(description="Seconds since the API started.")
    error: str | None = Field(default=None, description="What is down, in words.")
    down: list[Literal["prefect", "store"]] = Field(default_factory=list)


def answer(content: BaseModel, status_code: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer as a response."""
    exclude = {"complaints"} if isinstance(content, ErrorAnswer) and content.complaints is None else None
    body = to_json(content.model_dump(by_alias=True, exclude=exclude))
    return Response(body, status_code, headers=headers, media_type="application/json")


def to_json(data: Any) -> bytes:
    """Return data as JSON, amounts as numbers with all their digits, and what is no number as null."""
    mark = secrets.token_hex(16)

    def other(value: object) -> str:
        if isinstance(value, Decimal):
            return f"{mark}{format_money(value)}"
        return value.isoformat() if isinstance(value, datetime) else str(value)

    try:
        text = json.dumps(data, default=other, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(data), default=other, ensure_ascii=False, allow_nan=False)
    # The JSON module knows no number but a float, which has not digits enough for every amount.
    text = re.sub(rf'"{mark}([-0-9.]+)"', r"\1", text)
    # Half a surrogate pair, which an engine may have answered, becomes its own escape.
    return text.encode("utf-8", "backslashreplace")


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(item) for key, item in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(item) for item in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
