"""What a campaign is: the model behind a campaign's JSON.

JSON keys are camelCase and times are milliseconds, as in the files that exist; the Python names carry the unit.
Keys that are not listed here are errors, except in ``params`` and ``metadata``, which are free.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from slugify import slugify

from prefect_campaigns.checks import (
    MAX_HEADERS,
    SLACK_BLOCK_PREFIX,
    check_cron,
    check_email,
    check_endpoint,
    check_header_name,
    check_header_value,
    check_slack,
    check_timezone,
    milliseconds,
    number,
    plain_json,
    share,
    whole_number,
)
from prefect_campaigns.money import Money

__all__ = [
    "DEFAULT_TIMEOUTS_MS",
    "MAX_NAME",
    "MAX_STEPS",
    "SLACK_BLOCK_PREFIX",
    "Approval",
    "Backoff",
    "Budget",
    "Campaign",
    "Notifications",
    "Recipients",
    "Retry",
    "Schedule",
    "Step",
    "slug_of",
]

DEFAULT_TIMEOUTS_MS = {"prospecting": 300_000, "outreach": 300_000, "analysis": 600_000, "sender": 600_000}
"""How long a step may take when it does not say, by engine; any other engine: 300,000 ms."""

ON_TIME = timedelta(minutes=10)
"""How late a run may begin that is not to be caught up: with many due at once the last ones begin some minutes late."""

MAX_NAME = 200
MAX_STEPS = 100


class _Written(BaseModel):
    """A part of what a user writes: camelCase, frozen, and nothing unknown in it."""

    # pydantic would repeat the input in its errors: an endpoint with a password, a Slack webhook URL.
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, hide_input_in_errors=True)


JsonObject = Annotated[dict[str, Any], BeforeValidator(plain_json)]

slug_of = lru_cache(maxsize=4096)(slugify)

EmailAddress = Annotated[str, AfterValidator(check_email), Field(examples=["ops@example.com"])]
Milliseconds = Annotated[int, Field(ge=1, le=7 * 24 * 3_600_000), BeforeValidator(milliseconds)]


Share = Annotated[
    Decimal,
    BeforeValidator(share),
    PlainSerializer(float, return_type=float, when_used="json"),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
]


class Schedule(_Written):
    """When a campaign runs."""

    cron: Annotated[str, AfterValidator(check_cron), Field(examples=["0 9 * * MON"])] = Field(
        description="Five cron fields; names of days and months are fine."
    )
    timezone: Annotated[str, AfterValidator(check_timezone)] = Field(
        default="UTC",
        description="IANA timezone of the cron and of the budget's days, weeks and months.",
        examples=["America/New_York"],
    )
    enabled: StrictBool = Field(default=True, description="false deploys the campaign without running it by itself.")
    overlap: Literal["queue", "skip"] = Field(
        default="queue",
        description="What a run does while another run of the campaign is going: wait for it, or end as Skipped.",
    )
    catch_up: Literal["latest", "none", "all"] = Field(
        default="latest",
        description="What becomes of runs that were missed, because nobody could begin them. latest: the last one runs,"
        " for all of them; none: none that could not begin within ten minutes (or maxLateness); all: each of them, one"
        " after another.",
    )
    max_lateness_ms: Milliseconds | None = Field(
        default=None,
        alias="maxLateness",
        description="Milliseconds after its time until which a run may begin; later it ends as Skipped. Default: no"
        " limit; ten minutes where catchUp is none.",
    )

    @property
    def max_lateness(self) -> timedelta | None:
        """How late a run may begin; None where it may at any time."""
        if self.max_lateness_ms is not None:
            return timedelta(milliseconds=self.max_lateness_ms)
        return ON_TIME if self.catch_up == "none" else None


class Budget(_Written):
    """What a campaign may spend, in US dollars. A limit that is absent is no limit; 0 means nothing."""

    daily: Money | None = Field(default=None, description="From midnight, in the campaign's timezone.")
    weekly: Money | None = Field(default=None, description="From Sunday 00:00, in the campaign's timezone.")
    monthly: Money | None = Field(default=None, description="From the 1st 00:00, in the campaign's timezone.")
    per_run: Money | None = Field(default=None, description="What one run may cost in all, over its retries.")
    per_lead: Money | None = Field(
        default=None, description="A run whose cost per prospect generated passes this stops there."
    )
    alert_at: Annotated[list[Share], Field(max_length=10)] = Field(
        default_factory=lambda: [Decimal("0.8")],
        description="Shares of each limit at which whoever onBudget names is told, once per window. Default: [0.8];"
        " [] tells nobody.",
    )


class Backoff(StrEnum):
    """How the delay grows from retry to retry."""

    FIXED = "fixed"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"


_DELAY_FACTORS: dict[Backoff, Callable[[int], int]] = {
    Backoff.FIXED: lambda retry: 1,
    Backoff.LINEAR: lambda retry: retry,
    Backoff.EXPONENTIAL: lambda retry: 2 ** (retry - 1),
}


class Retry(_Written):
    """How often a step is tried again, and after how long."""

    attempts: Annotated[int, Field(ge=0, le=50), BeforeValidator(whole_number)] = Field(
        default=0, description="How many times a failed request is repeated: 3 means up to four requests."
    )
    delay_ms: Annotated[int, Field(ge=0, le=24 * 3_600_000), BeforeValidator(milliseconds)] = Field(
        default=5_000, alias="delay", description="Milliseconds before the first retry."
    )
    backoff: Backoff = Field(
        default=Backoff.EXPONENTIAL,
        description="fixed: 5, 5, 5 seconds; linear: 5, 10, 15; exponential: 5, 10, 20.",
    )
    max_delay_ms: Annotated[int, Field(ge=0, le=24 * 3_600_000), BeforeValidator(milliseconds)] = Field(
        default=3_600_000, alias="maxDelay", description="Milliseconds that no delay exceeds."
    )
    jitter: Annotated[float, Field(ge=0, le=1), BeforeValidator(number)] = Field(
        default=0.0, description="How far a delay may be stretched at random: 0.1 is up to 10 %."
    )
    ambiguous: StrictBool = Field(
        default=False,
        description="true says that the engine honours Idempotency-Key, so that a step that sends may be repeated"
        " when its answer was lost.",
    )

    def delays_seconds(self) -> list[float]:
        """Return the delay before each retry; ``attempts: 3, delay: 5000, exponential`` is 5, 10, 20 seconds."""
        factor = _DELAY_FACTORS[self.backoff]
        return [min(self.delay_ms * factor(retry), self.max_delay_ms) / 1000 for retry in range(1, self.attempts + 1)]


class Approval(_Written):
    """That a person has to say yes before a step."""

    timeout_ms: Annotated[int, Field(ge=1_000, le=30 * 24 * 3_600_000), BeforeValidator(milliseconds)] = Field(
        default=24 * 3_600_000,
        alias="timeout",
        description="Milliseconds that the run waits for somebody to approve. Default: a day.",
    )
    on_timeout: Literal["abort", "continue"] = Field(
        default="abort",
        description="When nobody has approved in time. abort: the run ends as aborted. continue: the step is done.",
    )

    @property
    def timeout_seconds(self) -> float:
        """How long the run waits."""
        return self.timeout_ms / 1000


class Step(_Written):
    """One request to an engine."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]+$")] = Field(
        description="The step's name, unique in the campaign; its task in Prefect is named so."
    )
    engine: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]+$")] = Field(
        description="Which engine answers: prospecting, analysis, outreach, sender, or any other.",
        examples=["prospecting", "analysis", "outreach", "sender"],
    )
    endpoint: Annotated[str, AfterValidator(check_endpoint)] = Field(
        description="The http or https URL of the request.", examples=["http://localhost:3010/api/prospect"]
    )
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field(
        default="POST", description="The HTTP method of the request."
    )
    params: JsonObject = Field(
        default_factory=dict,
        description="The JSON body (the query string of a GET). A string may refer to an earlier step's result:"
        " {{ steps.prospecting.runId }}.",
    )
    headers: Annotated[
        dict[Annotated[str, AfterValidator(check_header_name)], Annotated[str, AfterValidator(check_header_value)]],
        Field(max_length=MAX_HEADERS),
    ] = Field(
        default_factory=dict,
        description="HTTP headers of the request. {{ secret.NAME }} in a value, or in a string of params, is a Prefect"
        " Secret block, looked up when the request is made. A value that is written here is kept as such a block.",
        examples=[{"Authorization": "Bearer {{ secret.crm-token }}"}],
    )
    approval: Approval | None = Field(
        default=None, description="Before the step the run suspends until somebody approves. Absent: it does not."
    )
    timeout_ms: Milliseconds | None = Field(
        default=None,
        alias="timeout",
        description="Milliseconds for the whole exchange: request, stream, every poll of a job. Default: 300000;"
        " 600000 for the engines analysis and sender.",
    )
    retry: Retry | None = Field(default=None, description="Absent: a failed request is not repeated.")
    on_success: Literal["continue", "abort"] = Field(
        default="continue", description="abort: the run ends successfully after this step."
    )
    on_failure: Literal["abort", "continue", "log"] = Field(
        default="abort",
        description="abort: the run fails. continue: it goes on and ends as Partial. log: it goes on, with a warning.",
    )
    sends: StrictBool | None = Field(
        default=None,
        description="Whether the step sends something that must not be sent twice. Default: true for the engine"
        " sender and for an endpoint with send in its path.",
    )
    estimated_cost: Money | None = Field(
        default=None,
        description="US dollars reserved before the step; default: the largest of its last five costs.",
    )
    cost_path: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="Dotted path of the cost in the engine's result.",
        examples=["usage.totalUsd"],
    )

    @property
    def timeout_seconds(self) -> float:
        """How long the whole exchange may take."""
        timeout_ms = self.timeout_ms or DEFAULT_TIMEOUTS_MS.get(self.engine, 300_000)
        if self.timeout_ms is None and self.engine == "outreach" and self.sends_something:
            timeout_ms = DEFAULT_TIMEOUTS_MS["sender"]
        return timeout_ms / 1000

    @property
    def sends_something(self) -> bool:
        """Whether repeating the step could send the same thing twice."""
        if self.sends is not None:
            return self.sends
        return self.engine == "sender" or "send" in urlsplit(self.endpoint).path.lower()

    @property
    def retry_policy(self) -> Retry:
        """The step's retries; none at all when it does not say."""
        return self.retry or Retry()


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Recipients(_Written):
    """Who is told of one kind of end."""

    email: Annotated[list[EmailAddress], BeforeValidator(_one_or_many, json_schema_input_type=str | list[str])] = Field(
        default_factory=list, description="A mail address, or a list of them."
    )
    slack: Annotated[str, AfterValidator(check_slack)] | None = Field(
        default=None,
        description="A Slack webhook URL (kept as a Prefect block, shown nowhere), or slack-webhook/<block name>.",
    )


class Notifications(_Written):
    """Who is told of what."""

    on_complete: Recipients | None = Field(default=None, description="Completed and Partial runs.")
    on_failure: Recipients | None = Field(default=None, description="Failed, crashed, timed-out and Partial runs.")
    on_budget: Recipients | None = Field(
        default=None, description="Runs that the budget stopped. Default: whom onFailure names."
    )
    on_approval: Recipients | None = Field(
        default=None, description="Runs that wait for an approval. Default: whom onFailure names."
    )


def _schedule_object(value: Any) -> Any:
    return {"cron": value} if isinstance(value, str) else value


class Campaign(_Written):
    """A campaign: when it runs, what it may spend, what it does, and who is told."""

    json_schema: str | None = Field(
        default=None, alias="$schema", exclude=True, description="Where an editor finds this schema."
    )
    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00-\x1f]+$")] = Field(
        description="The campaign's name. Its slug is its key: a campaign with another slug is another campaign.",
        examples=["Weekly Restaurant Outreach"],
    )
    description: Annotated[str, Field(max_length=5_000)] | None = Field(
        default=None, description="What it is for, in the words of whoever wrote it."
    )
    schedule: Annotated[
        Schedule | None, BeforeValidator(_schedule_object, json_schema_input_type=Schedule | str | None)
    ] = Field(default=None, description="When it runs: an object, or just a cron string (in UTC). Absent: by hand.")
    budget: Budget = Field(default_factory=Budget, description="What it may spend. Absent: no limit.")
    steps: Annotated[list[Step], Field(min_length=1, max_length=MAX_STEPS)] = Field(
        description="What it does, in this order."
    )
    notifications: Notifications | None = Field(default=None, description="Who is told.")
    on_crash: Literal["resume", "fail"] = Field(
        default="resume",
        description="When the worker of a run vanishes (killed, machine gone). resume: the run goes on, once, at its"
        " unfinished step, unless that sends. fail: it stays Crashed.",
    )
    metadata: JsonObject = Field(
        default_factory=dict, description="Free; project_id goes to every engine as options.projectId."
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        # Files that exist write null where they mean nothing.
        if isinstance(data, dict):
            return {k: v for k, v in data.items() if not (v is None and k in ("budget", "metadata", "schedule"))}
        return data

    @property
    def slug(self) -> str:
        """The campaign's key: lower case, words joined by hyphens."""
        return slug_of(self.name)

    @property
    def timezone(self) -> ZoneInfo:
        """The timezone of the schedule and of the budget's windows; UTC when the campaign names none."""
        return ZoneInfo(self.schedule.timezone if self.schedule else "UTC")
