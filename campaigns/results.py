"""What a run did: per step, and as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from prefect_campaigns.money import Money, format_money


class StepStatus(StrEnum):
    """Where a step of a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


class RunStatus(StrEnum):
    """Where a run stands, in the words of the REST API."""

    RUNNING = "running"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    ABORTED = "aborted"


def describe_counts(counts: Mapping[str, float]) -> list[str]:
    """Return counts in words, leaving out what is nothing: ``["20 prospects generated", "6 grade A"]``."""
    return [f"{count:g} {_COUNT_WORDS.get(name, name.replace('_', ' '))}" for name, count in counts.items() if count]


_COUNT_WORDS = {"grade_a": "grade A", "grade_b": "grade B", "grade_c": "grade C", "avg_quality": "average quality"}


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StepResult(_Value):
    """What one step of one run did.

    Attributes:
        attempts: how many requests were made, over retries and resumed runs.
        started_at: when the execution of the run began it that did it last.
        duration_seconds: from there to its end, waits between its own retries included.
        cost: US dollars booked for the step so far; None when the engine reported none.
        counts: what the engine counted, by the names of the report (``prospects_generated``).
        result: what the engine answered.
        warnings: what went wrong without failing the step.
        error: why it failed, in one line.
        taken_from: the run whose result it is, of a step that a run which began later has taken over.
        sent_as: what a step that sends was to send (``request_of``), whatever it was called; None where none was begun.
        is_unrecorded: whether Prefect has begun it although the books know nothing of it: they are older, as books are
            that were put back from a backup. It may have sent.
    """

    name: str
    engine: str
    position: int = Field(ge=0)
    status: StepStatus
    attempts: int = Field(default=0, ge=0)
    started_at: AwareDatetime | None = None
    completed_at: AwareDatetime | None = None
    cost: Money | None = None
    counts: dict[str, float] = Field(default_factory=dict)
    result: Any = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    taken_from: str | None = None
    sent_as: str | None = None
    is_unrecorded: bool = False

    @property
    def duration_seconds(self) -> float | None:
        """How long the step took; None while it has not ended."""
        if self.started_at is None or self.completed_at is None:
            return None
        # Somebody may have set the clock back in between.
        return max((self.completed_at - self.started_at).total_seconds(), 0.0)


def step_detail(step: StepResult) -> dict[str, Any]:
    """Return what stores keep of a step as JSON, since they look for none of it."""
    detail = {"counts": step.counts, "result": step.result, "warnings": step.warnings, "error": step.error}
    rare = {"taken_from": step.taken_from, "sent_as": step.sent_as, "is_unrecorded": step.is_unrecorded or None}
    return detail | {name: value for name, value in rare.items() if value is not None}


class RunReport(_Value):
    """A whole run, as it stands.

    Attributes:
        run_id: the Prefect flow run's id.
        state_name: the name of the Prefect state the run ended in (``Completed``, ``Partial``, ``BudgetExceeded`` …).
        message: the summary that people read.
        trigger_type: ``scheduled`` or ``manual``.
    """

    run_id: str
    run_name: str
    campaign_key: str
    campaign_name: str
    status: RunStatus
    state_name: str | None = None
    message: str | None = None
    trigger_type: str = "manual"
    started_at: AwareDatetime
    completed_at: AwareDatetime | None = None
    total_cost: Money = Decimal(0)
    steps: tuple[StepResult, ...] = ()

    @property
    def counts(self) -> dict[str, float]:
        """The counts of all steps; where two steps count the same thing, their sum (of an average, the last)."""
        totals: dict[str, float] = {}
        for step in self.steps:
            for name, count in step.counts.items():
                totals[name] = count if name.startswith("avg_") else totals.get(name, 0) + count
        return totals

    @property
    def steps_completed(self) -> int:
        """How many steps ended well."""
        return sum(step.status is StepStatus.COMPLETED for step in self.steps)

    @property
    def steps_failed(self) -> int:
        """How many steps failed."""
        return sum(step.status is StepStatus.FAILED for step in self.steps)

    def summary(self) -> str:
        """Return the run in one line: ``3 of 4 steps, 20 prospects generated, cost 0.124 USD``."""
        parts = [f"{self.steps_completed} of {len(self.steps)} steps"]
        parts += describe_counts(self.counts)
        parts.append(f"cost {format_money(self.total_cost)} USD")
        return ", ".join(parts)
