"""What the answers say, made of what the store and the Prefect server know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from prefect_campaigns.blocks.store_types import AuditEntry, CampaignFigures, CampaignRecord, Pause
from prefect_campaigns.deployments.api.answers import (
    AuditRow,
    CampaignBrief,
    CampaignDetail,
    CampaignRow,
    CampaignStatus,
    Count,
    DryRun,
    FieldChange,
    PauseAnswer,
    RunError,
    RunRow,
    StepAheadAnswer,
    StepRow,
)
from prefect_campaigns.deployments.applying.differences import ABSENT, Side, differences
from prefect_campaigns.deployments.driving.dry_run import Ahead
from prefect_campaigns.deployments.driving.standing import CampaignState, Standing
from prefect_campaigns.forecast import fire_times
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, RunStatus

STATUSES: Mapping[Standing, CampaignStatus] = {
    Standing.ACTIVE: "active",
    # It can be run, only not by its schedule.
    Standing.NOT_ENABLED: "active",
    Standing.PAUSED: "paused",
    Standing.PAUSED_BY_PERSON: "paused",
    Standing.STOPPED: "paused",
    Standing.NOT_DEPLOYED: "error",
}
"""The word of the API for how a campaign stands."""

NO_FIGURES = CampaignFigures(runs=0, cost=Decimal(0), last_run_at=None)

_COUNTS = ("prospects_generated", "leads_analyzed", "emails_sent")
"""What every run says a number of; 0 where no engine has counted any."""

_MONEY_KEYS = frozenset(
    {"limit", "spent", "reserved", "left", "perRun", "perLead", "amount", "lowest", "highest", "booked"}
)


def status_of(state: CampaignState) -> CampaignStatus:
    """Return the API's word for how a campaign stands."""
    return STATUSES[state.standing]


def next_run(state: CampaignState, *, now: datetime) -> datetime | None:
    """Return when a campaign runs next by itself; None when it does not."""
    schedule = state.record.campaign.schedule
    if schedule is None or state.standing is not Standing.ACTIVE:
        return None
    return next(fire_times(schedule, after=now))


def is_paused_by_person(state: CampaignState) -> bool:
    """Whether a person has paused the campaign, or switched its schedule off in Prefect."""
    return state.standing is Standing.PAUSED_BY_PERSON


def brief(state: CampaignState, *, now: datetime) -> CampaignBrief:
    """Return a campaign as creating it answers."""
    return CampaignBrief(**_brief_fields(state, now))


def row(state: CampaignState, figures: CampaignFigures | None, *, now: datetime) -> CampaignRow:
    """Return a campaign as lists have it."""
    return CampaignRow(**_row_fields(state, figures, now))


def detail(state: CampaignState, figures: CampaignFigures | None, *, now: datetime) -> CampaignDetail:
    """Return a campaign with all that it does."""
    config = config_of(state.record.campaign)
    return CampaignDetail(**_row_fields(state, figures, now), config=config)


def config_of(campaign: Campaign) -> dict[str, Any]:
    """Return a campaign's JSON, amounts as numbers, without what it does not say."""
    return campaign.model_dump(by_alias=True, exclude_none=True)


def _brief_fields(state: CampaignState, now: datetime) -> dict[str, Any]:
    record, campaign = state.record, state.record.campaign
    return {
        "id": record.id,
        "slug": record.key,
        "name": campaign.name,
        "status": status_of(state),
        "schedule": campaign.schedule.cron if campaign.schedule else None,
        "timezone": str(campaign.timezone),
        "next_run": next_run(state, now=now),
        "pause": _pause(state.pause),
        "deployment_id": record.deployment_id,
    }


def _row_fields(state: CampaignState, figures: CampaignFigures | None, now: datetime) -> dict[str, Any]:
    record, known = state.record, figures or NO_FIGURES
    return {
        **_brief_fields(state, now),
        "description": record.campaign.description,
        "last_run": known.last_run_at,
        "total_runs": known.runs,
        "total_cost": known.cost,
        "project_id": project_of(record),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def project_of(record: CampaignRecord) -> Any:
    """Return the project that a campaign says it belongs to."""
    return record.campaign.metadata.get("project_id")


def _pause(pause: Pause | None) -> PauseAnswer | None:
    if pause is None:
        return None
    return PauseAnswer(by=pause.by, reason=pause.reason, since=pause.since, until=pause.until)


def changes(before: Campaign, after: Campaign) -> list[FieldChange]:
    """Return what is different between two states of a campaign, field by field."""
    return [
        FieldChange(
            pointer=one.field,
            before=None if one.old is ABSENT else one.old,
            after=None if one.new is ABSENT else one.new,
        )
        for one in differences(Side.FILE, config_of(before), config_of(after))
    ]


def run_row(report: RunReport) -> RunRow:
    """Return a run that the store knows."""
    counts = dict.fromkeys(_COUNTS, 0) | {name: _whole(count) for name, count in report.counts.items()}
    errors = [RunError(step=step.name, error=step.error) for step in report.steps if step.error]
    if not errors and report.status in (RunStatus.FAILED, RunStatus.ABORTED) and report.message:
        errors = [RunError(step=None, error=report.message)]
    return RunRow(
        id=report.run_id,
        name=report.run_name,
        started_at=report.started_at,
        completed_at=report.completed_at,
        status=report.status.value,
        state=report.state_name,
        message=report.message,
        steps_completed=report.steps_completed,
        steps_failed=report.steps_failed,
        total_cost=report.total_cost,
        trigger_type="scheduled" if report.trigger_type == "scheduled" else "manual",
        errors=errors,
        results={step.name: step.result for step in report.steps if step.result is not None},
        steps=[
            StepRow(
                name=step.name,
                engine=step.engine,
                status=step.status,
                attempts=step.attempts,
                cost=step.cost,
                duration_seconds=step.duration_seconds,
                error=step.error,
                warnings=list(step.warnings),
            )
            for step in report.steps
        ],
        **counts,
    )


def _whole(count: float) -> Count:
    return int(count) if count.is_integer() else count


async def awaited_runs(client: PrefectClient, record: CampaignRecord, *, now: datetime) -> list[FlowRun]:
    """Return the runs that are due and that have not ended, newest first; the store knows those that have begun."""
    if record.deployment_id is None:
        return []
    return await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[record.deployment_id]),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=now),
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
            ),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
    )


def awaited_row(flow_run: FlowRun, *, now: datetime) -> RunRow:
    """Return a run that has been asked for and that the store knows nothing of yet."""
    return RunRow(
        id=str(flow_run.id),
        name=flow_run.name,
        started_at=flow_run.start_time or flow_run.expected_start_time or flow_run.created or now,
        completed_at=None,
        status="running",
        state=flow_run.state_name,
        message=flow_run.state.message if flow_run.state else None,
        steps_completed=0,
        steps_failed=0,
        total_cost=Decimal(0),
        trigger_type="scheduled" if flow_run.auto_scheduled else "manual",
        errors=[],
        results={},
        steps=[],
        **dict.fromkeys(_COUNTS, 0),
    )


def dry_run(ahead: Ahead, record: CampaignRecord, *, obstacles: Sequence[str]) -> DryRun:
    """Return what a run would do."""
    return DryRun(
        message="Dry run: nothing is started, no engine is called",
        campaign_id=record.id,
        campaign=record.key,
        results_of=ahead.source.run_id if ahead.source else None,
        obstacles=list(obstacles),
        warnings=list(ahead.warnings),
        reserved=ahead.total,
        steps=[
            StepAheadAnswer(
                name=one.step.name,
                engine=one.step.engine,
                method=one.step.method,
                url=one.step.endpoint,
                headers=dict(one.request.headers),
                params=one.request.params,
                unknown=list(one.unknown),
                taken_over=one.taken_over,
                approval=one.step.approval is not None,
                estimate=one.estimate.amount,
                estimate_from=one.estimate.basis,
                refused=one.refused,
                left={limit.name: limit.left or Decimal(0) for limit in one.limits},
            )
            for one in ahead.steps
        ],
    )


def audit_row(entry: AuditEntry) -> AuditRow:
    """Return what somebody did."""
    return AuditRow(
        at=entry.at,
        actor=entry.actor,
        action=entry.action,
        campaign=entry.campaign_key,
        detail=dict(entry.detail),
    )


def with_amounts(view: Any) -> Any:
    """Return the JSON of a campaign's money with its amounts as numbers, which the command line writes as text."""
    if isinstance(view, dict):
        return {key: _amount(key, item) for key, item in view.items()}
    return [with_amounts(item) for item in view] if isinstance(view, Sequence) and not isinstance(view, str) else view


def _amount(key: str, item: Any) -> Any:
    if isinstance(item, str) and key in _MONEY_KEYS:
        try:
            return Decimal(item)
        except ArithmeticError:
            # `reached` says which limit by its name.
            return item
    return with_amounts(item)
