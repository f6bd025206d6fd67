"""What an apply would do: the difference between campaigns and what the Prefect server and the store have of them.

Nothing here changes anything. ``compare`` is pure: what is there comes as values, and goes out as a Plan that can be
printed, counted, and given to ``apply``, which does what it says and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule

from prefect_campaigns.blocks.store_types import CampaignRecord, Pause, PausedBy
from prefect_campaigns.deployments.applying.differences import ABSENT, FieldChange, Side, differences
from prefect_campaigns.deployments.applying.notifiers import TellingChange
from prefect_campaigns.deployments.applying.observed import Observed
from prefect_campaigns.deployments.compile import (
    UPKEEP_DEPLOYMENTS,
    CompiledCampaign,
    CompiledSchedule,
    deployment_parameter_schema,
)
from prefect_campaigns.flows.paused_deployment import described
from prefect_campaigns.models import Campaign
from prefect_campaigns.versions import written

API_ORIGIN = "api"
"""Where a campaign came from that was posted to the REST API; any other origin is a folder of some machine."""


class Change(StrEnum):
    """What becomes of a campaign."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


@dataclass(frozen=True, kw_only=True)
class CampaignPlan:
    """What an apply would do to one campaign.

    Attributes:
        row, deployment: what there is of it now; None where there is nothing.
        origin: where the store is to say that it came from.
        fields: what is different; none for a campaign that is unchanged, and for one that is new.
        update: what the deployment's update has to say, by field; schedules aside.
        schedule: what to do about its schedule; None where it is right.
        switched_off: whether a person has switched its schedule off, which it stays.
        row_differs: whether the store's row has to be written.
        note: what a person should know of it besides.
    """

    compiled: CompiledCampaign
    change: Change
    row: CampaignRecord | None
    deployment: DeploymentResponse | None
    origin: str | None
    fields: tuple[FieldChange, ...] = ()
    update: Mapping[str, Any]
    schedule: SchedulePlan | None = None
    switched_off: bool = False
    row_differs: bool = True
    note: str | None = None

    @property
    def needs_a_look(self) -> bool:
        """Whether its pause has to be looked at: one of the budget ends when limits are raised."""
        return self.row is not None and self.row.pause is not None and self.row.pause.by is PausedBy.BUDGET


@dataclass(frozen=True, kw_only=True)
class SchedulePlan:
    """What to do about a deployment's schedules.

    Attributes:
        kept: the one that is ours; None where it is missing.
        wanted: what it should be; None where the campaign has none.
        active: whether it is to be active.
        extra: those that are to be deleted.
        kept_is_right: whether the one that is ours needs no change.
    """

    kept: DeploymentSchedule | None
    wanted: CompiledSchedule | None
    active: bool
    extra: tuple[DeploymentSchedule, ...]
    kept_is_right: bool


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """A campaign whose file is gone, and that a plan with ``--prune`` deletes."""

    row: CampaignRecord


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an apply would do.

    Attributes:
        campaigns: one for each campaign, in their order.
        deletions: campaigns of these folders without a file.
        upkeep: what else the server needs that every campaign shares: a work pool, deployments; in words.
        telling: what becomes of mail server, blocks and automations.
        notes: what people should know besides, one sentence each.
    """

    campaigns: tuple[CampaignPlan, ...]
    deletions: tuple[Deletion, ...] = ()
    upkeep: tuple[str, ...] = ()
    telling: tuple[TellingChange, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_changes(self) -> bool:
        """Whether an apply would write anything."""
        changed = any(one.change is not Change.UNCHANGED for one in self.campaigns)
        return changed or bool(self.deletions or self.upkeep or self.telling)


def compare(
    compiled: Sequence[CompiledCampaign],
    observed: Observed,
    *,
    origins: Mapping[str, str],
    pauses: Mapping[str, Pause | None] | None = None,
) -> tuple[CampaignPlan, ...]:
    """Return what would become of each campaign.

    Args:
        origins: where campaigns come from, by key: the folders of their files, or API_ORIGIN.
        pauses: who paused those that are paused, by key, where that is not what the store's row says.
    """
    known = pauses or {}
    return tuple(
        _compare_one(
            one,
            observed.rows.get(one.slug),
            observed.deployments.get(one.slug),
            origin=origins.get(one.slug),
            pauses=known,
        )
        for one in compiled
    )


def _compare_one(
    compiled: CompiledCampaign,
    row: CampaignRecord | None,
    deployment: DeploymentResponse | None,
    *,
    origin: str | None,
    pauses: Mapping[str, Pause | None],
) -> CampaignPlan:
    origin = _origin(row, origin)
    if deployment is None:
        return CampaignPlan(
            compiled=compiled,
            change=Change.CREATED,
            row=row,
            deployment=None,
            origin=origin,
            update={},
            note=None if row is None else "the store knows it, and the Prefect server has no deployment of it",
        )
    pause = pauses.get(compiled.slug, row.pause if row and deployment.paused else None)
    of_file = tuple(_file_changes(row, compiled.campaign))
    of_books = tuple(_book_changes(row, deployment, compiled, origin))
    update = _update(compiled, deployment, pause)
    schedule, switched_off = _schedule_plan(compiled.schedule, deployment, row)
    told = {(change.field, repr(change.old), repr(change.new)) for change in of_file}
    of_prefect = (*_prefect_changes(update, compiled, deployment, row), *_schedule_changes(schedule, row, compiled))
    # What follows from the file's own changes is told once.
    of_prefect = tuple(one for one in of_prefect if (one.field, repr(one.old), repr(one.new)) not in told)
    fields = (*of_file, *of_prefect, *of_books)
    is_same = not (fields or update or schedule)
    return CampaignPlan(
        compiled=compiled,
        change=Change.UNCHANGED if is_same else Change.CHANGED,
        row=row,
        deployment=deployment,
        origin=origin,
        fields=fields,
        update=update,
        schedule=schedule,
        switched_off=switched_off,
        row_differs=bool(of_file or of_books),
    )


def _origin(row: CampaignRecord | None, origin: str | None) -> str | None:
    """Return where a campaign comes from: what the REST API made stays its own; a folder may follow another."""
    if row is None or row.origin is None:
        return origin
    if row.origin == API_ORIGIN or origin in (None, API_ORIGIN):
        return row.origin
    return origin


def _file_changes(row: CampaignRecord | None, campaign: Campaign) -> list[FieldChange]:
    if row is None:
        return []
    return list(differences(Side.FILE, written(row.campaign), written(campaign)))


def _book_changes(
    row: CampaignRecord | None, deployment: DeploymentResponse, compiled: CompiledCampaign, origin: str | None
) -> list[FieldChange]:
    """Return what the store's row lacks, beside the campaign itself."""
    if row is None:
        return [FieldChange(side=Side.BOOKS, field="campaign", old=ABSENT, new=compiled.slug)]
    wanted = {
        "deploymentId": (_text(row.deployment_id), str(deployment.id)),
        "origin": (row.origin, origin),
        "scheduleApplied": (row.applied_schedule_active, compiled.schedule is not None and compiled.schedule.active),
    }
    return [
        FieldChange(side=Side.BOOKS, field=field, old=ABSENT if old is None else old, new=new)
        for field, (old, new) in wanted.items()
        if old != new
    ]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _update(compiled: CompiledCampaign, deployment: DeploymentResponse, pause: Pause | None) -> dict[str, Any]:
    """Return what the deployment's update has to say; nothing about its schedules or whether it is paused."""
    wanted: dict[str, Any] = {
        "description": described(compiled.description, pause),
        "entrypoint": compiled.entrypoint,
        "work_pool_name": compiled.work_pool,
        "parameters": compiled.parameters,
        "parameter_openapi_schema": deployment_parameter_schema(),
        "enforce_parameter_schema": True,
        "tags": sorted(compiled.tags),
    }
    current = {field: sorted(deployment.tags) if field == "tags" else getattr(deployment, field) for field in wanted}
    return {field: value for field, value in wanted.items() if value != current[field]}


_NAMES = {
    "work_pool_name": "workPool",
    "parameter_openapi_schema": "parameterSchema",
    "enforce_parameter_schema": "enforceParameterSchema",
}
_OF_OURS = "of this version of prefect-campaigns"


def _prefect_changes(
    update: Mapping[str, Any], compiled: CompiledCampaign, deployment: DeploymentResponse, row: CampaignRecord | None
) -> list[FieldChange]:
    """Return what the server has otherwise than the last apply left it."""
    # What follows from the file's own changes is not told twice.
    applied = written(row.campaign) if row else {}
    from_file = row is not None and applied != written(compiled.campaign)
    changes: list[FieldChange] = []
    for field, new in update.items():
        old: Any = sorted(deployment.tags) if field == "tags" else getattr(deployment, field)
        if field == "parameters":
            changes += _parameter_changes(old, new, applied)
        elif field == "parameter_openapi_schema":
            changes.append(_change(field, "another", _OF_OURS))
        elif not (from_file and field in ("description", "tags")):
            changes.append(_change(field, old, new))
    return changes


def _change(field: str, old: Any, new: Any) -> FieldChange:
    return FieldChange(side=Side.PREFECT, field=_NAMES.get(field, field), old=ABSENT if old is None else old, new=new)


def _parameter_changes(old: Mapping[str, Any], new: Mapping[str, Any], applied: Mapping[str, Any]) -> list[FieldChange]:
    """Return what a person has changed in the parameters; nothing where only the last apply's file stands there."""
    try:
        there = written(Campaign.model_validate(old.get("campaign")))
    except ValueError:
        return [_change("parameters", "no campaign", "the campaign")]
    if there == applied:
        # The file's own changes, or the version that an older apply did not write.
        others = differences(Side.PREFECT, {**old, "campaign": None}, {**new, "campaign": None}, ("parameters",))
        return (
            [one for one in others if one.field != "/parameters/version"] if there != _campaign(new) else list(others)
        )
    return list(differences(Side.PREFECT, there, _campaign(new)))


def _campaign(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return written(Campaign.model_validate(parameters["campaign"]))


def is_at(schedule: DeploymentSchedule, cron: str, timezone: str) -> bool:
    """Whether a schedule is that one."""
    at = schedule.schedule
    return isinstance(at, CronSchedule) and at.cron == cron and at.timezone == timezone


def _schedule_plan(
    wanted: CompiledSchedule | None, deployment: DeploymentResponse, row: CampaignRecord | None
) -> tuple[SchedulePlan | None, bool]:
    """Return what to do about the schedules, and whether a person has switched ours off.

    A schedule that is off although our last apply switched it on was switched off by a person, and stays off.
    """
    schedules: list[DeploymentSchedule] = deployment.schedules or []
    kept = _ours(schedules, wanted, row) if wanted else None
    extra = tuple(one for one in schedules if one is not kept)
    # A person may have switched ours off and added one of their own: then it stays off too.
    is_off = (
        bool(schedules)
        and not all(one.active for one in schedules)
        and (row is None or row.applied_schedule_active is not False)
    )
    active = wanted is not None and wanted.active and not is_off
    is_right = kept is not None and wanted is not None and kept.active == active
    is_right = is_right and is_at(kept, wanted.cron, wanted.timezone) if kept and wanted else False
    switched_off = wanted is not None and wanted.active and not active
    if not extra and (is_right or wanted is None):
        return None, switched_off
    return SchedulePlan(kept=kept, wanted=wanted, active=active, extra=extra, kept_is_right=is_right), switched_off


def _ours(
    schedules: Sequence[DeploymentSchedule], wanted: CompiledSchedule | None, row: CampaignRecord | None
) -> DeploymentSchedule | None:
    """Return the schedule that we made: the one that is as the file says, or as it said at the last apply."""
    applied = row.campaign.schedule if row else None
    for at in (wanted, applied):
        for schedule in schedules:
            if at is not None and is_at(schedule, at.cron, at.timezone):
                return schedule
    return schedules[0] if schedules else None


def _schedule_changes(
    plan: SchedulePlan | None, row: CampaignRecord | None, compiled: CompiledCampaign
) -> list[FieldChange]:
    if plan is None:
        return []
    applied = row.campaign.schedule if row else None
    new = "none" if plan.wanted is None else _shown(plan.wanted.cron, plan.wanted.timezone, active=plan.active)
    changes = []
    if plan.wanted is not None and not plan.kept_is_right:
        old = ABSENT if plan.kept is None else _schedule_text(plan.kept)
        follows_file = row is not None and applied != compiled.campaign.schedule
        if not follows_file:
            changes.append(_change("schedule", old, new))
    follows_file = plan.wanted is None and applied is not None
    for one in plan.extra:
        if not follows_file:
            changes.append(_change("schedule", _schedule_text(one), ABSENT))
    return changes


def _schedule_text(schedule: DeploymentSchedule) -> str:
    at = schedule.schedule
    if isinstance(at, CronSchedule):
        return _shown(at.cron, at.timezone or "UTC", active=schedule.active)
    return f"{type(at).__name__}{'' if schedule.active else ', switched off'}"


def _shown(cron: str, timezone: str, *, active: bool) -> str:
    return f"{cron} {timezone}{'' if active else ', switched off'}"


def upkeep_changes(observed: Observed) -> tuple[str, ...]:
    """Return in words what the server lacks that all campaigns share."""
    changes = [] if observed.pool_type is not None else ["the work pool is created"]
    for wanted in UPKEEP_DEPLOYMENTS:
        existing = observed.upkeep.get(wanted.full_name)
        if existing is None:
            changes.append(f"deployment {wanted.full_name} is created")
        elif any(getattr(existing, field) != value for field, value in wanted.wanted.items()):
            changes.append(f"deployment {wanted.full_name} is put right")
    return tuple(changes)


def orphans(observed: Observed, *, folders: Sequence[str], keys: set[str]) -> tuple[CampaignRecord, ...]:
    """Return the campaigns that came from these folders and have no file there any more."""
    return tuple(row for key, row in observed.rows.items() if row.origin in folders and key not in keys)


def renamed(created: CompiledCampaign, gone: Sequence[CampaignRecord]) -> CampaignRecord | None:
    """Return the campaign that a new one probably was until its name was changed: its file is gone."""
    steps = _without_header_values(created.campaign)
    return next((row for row in gone if _without_header_values(row.campaign) == steps), None)


def _without_header_values(campaign: Campaign) -> list[Any]:
    """Return the steps without what their headers hold: a reference to a block is named after its campaign."""
    return [step.model_copy(update={"headers": dict.fromkeys(step.headers, "")}) for step in campaign.steps]
