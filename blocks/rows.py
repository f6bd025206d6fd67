"""What the rows of a store say, where all stores name their columns alike.

Instants are text as ``values`` writes it; JSON is text, too. How an amount is written each store knows itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from pydantic import ValidationError

from prefect_campaigns.blocks.store_types import (
    ApprovalRecord,
    ApprovalState,
    AttemptState,
    AuditAction,
    AuditEntry,
    CampaignFigures,
    CampaignRecord,
    EngineTrouble,
    MailRecord,
    MailState,
    Pause,
    PausedBy,
    Reservation,
    RunBrief,
    Stop,
    UnattendedRun,
    WorkerRecord,
)
from prefect_campaigns.blocks.values import instant, json_value, optional_instant
from prefect_campaigns.errors import StoreError
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, RunStatus, StepResult


class Row(Protocol):
    """What is found by the names of columns."""

    def __getitem__(self, name: str, /) -> Any: ...


ReadAmount = Callable[[Any], Decimal]
"""Makes US dollars of what a store keeps for them."""


def campaign_record(row: Row, *, pause: Pause | None) -> CampaignRecord:
    """Return a campaign's row, its campaign validated again: people and older versions write rows, too.

    Raises:
        StoreError: its campaign cannot be used.
    """
    try:
        campaign = Campaign.model_validate_json(row["config"])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "/".join(map(str, first["loc"]))
        raise StoreError(
            f"the row of campaign {row['key']!r} holds no campaign that can be used: /{place}: {first['msg']}"
        ) from None
    is_active = row["applied_schedule_active"]
    return CampaignRecord(
        id=UUID(row["id"]),
        key=row["key"],
        campaign=campaign,
        deployment_id=_optional_id(row["deployment_id"]),
        applied_schedule_active=None if is_active is None else bool(is_active),
        pause=pause,
        created_at=instant(row["created_at"]),
        updated_at=instant(row["updated_at"]),
        origin=row["origin"],
    )


def pause(row: Row) -> Pause:
    """Return why a campaign is paused."""
    return Pause(
        by=PausedBy(row["by"]),
        reason=row["reason"],
        since=instant(row["since"]),
        until=optional_instant(row["until"]),
        awaited_run_id=_optional_id(row["awaited_run_id"]),
    )


def figures(row: Row, read_amount: ReadAmount) -> CampaignFigures:
    """Return what a campaign's runs come to."""
    return CampaignFigures(
        runs=row["runs"], cost=read_amount(row["cost"]), last_run_at=optional_instant(row["last_run_at"])
    )


def brief(row: Row, read_amount: ReadAmount) -> RunBrief:
    """Return a run as one among many."""
    return RunBrief(
        run_id=row["run_id"],
        run_name=row["run_name"],
        status=run_status(row["status"]),
        state_name=row["state_name"],
        started_at=instant(row["started_at"]),
        completed_at=optional_instant(row["completed_at"]),
        total_cost=read_amount(row["total_cost"]),
    )


def stop(row: Row | None) -> Stop | None:
    """Return the emergency stop."""
    return None if row is None else Stop(by=row["by"], reason=row["reason"], since=instant(row["since"]))


def approval(row: Row) -> ApprovalRecord:
    """Return an approval."""
    return ApprovalRecord(
        campaign_key=row["campaign_key"],
        run_id=row["run_id"],
        step=row["step"],
        state=ApprovalState(row["state"]),
        asked_at=instant(row["asked_at"]),
        expires_at=instant(row["expires_at"]),
        decided_at=optional_instant(row["decided_at"]),
        decided_by=row["decided_by"],
    )


def worker(row: Row) -> WorkerRecord:
    """Return a worker's process."""
    return WorkerRecord(
        id=UUID(row["id"]),
        name=row["name"],
        pool=row["pool"],
        expires_at=instant(row["expires_at"]),
        has_expired=bool(row["has_expired"]),
    )


def engine_trouble(row: Row) -> EngineTrouble:
    """Return by which engine runs fail."""
    return EngineTrouble(
        endpoint=row["endpoint"],
        runs=row["runs"],
        since=instant(row["since"]),
        left_alone_since=optional_instant(row["left_alone_since"]),
        left_alone_until=optional_instant(row["left_alone_until"]),
        error=row["error"],
    )


def mail(row: Row) -> MailRecord:
    """Return a mail that is owed, or was."""
    return MailRecord(
        event_id=UUID(row["event_id"]),
        recipient=row["recipient"],
        campaign_key=row["campaign_key"],
        run_id=row["run_id"],
        subject=row["subject"],
        state=MailState(row["state"]),
        attempts=row["attempts"],
        owed_since=instant(row["owed_since"]),
        next_try_at=optional_instant(row["next_try_at"]),
        sent_at=optional_instant(row["sent_at"]),
        error=row["error"],
    )


def unattended(row: Row) -> UnattendedRun:
    """Return a run that perhaps nobody executes."""
    return UnattendedRun(
        run_id=row["run_id"],
        campaign_key=row["campaign_key"],
        lease_expires_at=optional_instant(row["lease_expires_at"]),
        has_expired=bool(row["has_expired"]),
    )


def audit_entry(row: Row) -> AuditEntry:
    """Return a line of the audit.

    Raises:
        StoreError: this version knows no such action.
    """
    return AuditEntry(
        at=instant(row["at"]),
        actor=row["actor"],
        action=_audit_action(row["action"]),
        campaign_key=row["campaign_key"],
        detail=json_value(row["detail"]),
    )


def _audit_action(text: str) -> AuditAction:
    try:
        return AuditAction(text)
    except ValueError:
        raise StoreError(
            f"the audit has the action {text!r}, which this version of prefect-campaigns does not know; it knows"
            f" {', '.join(AuditAction)}"
        ) from None


def reservation(row: Row, read_amount: ReadAmount) -> Reservation:
    """Return the money of a request."""
    return Reservation(
        campaign_key=row["campaign_key"],
        run_id=row["run_id"],
        step=row["step"],
        attempt=row["attempt"],
        state=AttemptState(row["state"]),
        estimate=read_amount(row["estimate"]),
        booked=_optional_amount(row["booked"], read_amount),
        reserved_at=instant(row["reserved_at"]),
        expires_at=instant(row["expires_at"]),
    )


def report(row: Row, read_amount: ReadAmount, *, steps: Iterable[Row]) -> RunReport:
    """Return a run with its steps."""
    return RunReport(
        run_id=row["run_id"],
        run_name=row["run_name"],
        campaign_key=row["campaign_key"],
        campaign_name=row["campaign_name"],
        status=run_status(row["status"]),
        state_name=row["state_name"],
        message=row["message"],
        trigger_type=row["trigger_type"],
        started_at=instant(row["started_at"]),
        completed_at=optional_instant(row["completed_at"]),
        total_cost=read_amount(row["total_cost"]),
        steps=tuple(_step(step, read_amount) for step in steps),
    )


def outline(row: Row, read_amount: ReadAmount, *, steps: Iterable[Row]) -> RunReport:
    """Return a run with its steps, without what engines answered."""
    run = report(row, read_amount, steps=steps)
    return run.model_copy(update={"steps": tuple(step.model_copy(update={"result": None}) for step in run.steps)})


def run_status(text: str) -> RunStatus:
    """Return the status that a row has."""
    # A table from before this package may have had no check on it.
    return RunStatus(text) if text in RunStatus.__members__.values() else RunStatus.ABORTED


def _step(row: Row, read_amount: ReadAmount) -> StepResult:
    return StepResult(
        name=row["name"],
        engine=row["engine"],
        position=row["position"],
        status=row["status"],
        attempts=row["attempts"],
        started_at=optional_instant(row["started_at"]),
        completed_at=optional_instant(row["completed_at"]),
        cost=_optional_amount(row["cost"], read_amount),
        **json_value(row["detail"]),
    )


def _optional_id(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)


def _optional_amount(value: Any, read_amount: ReadAmount) -> Decimal | None:
    return None if value is None else read_amount(value)
