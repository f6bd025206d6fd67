"""What to do about a deployment's schedules: the one that is ours put right, those of others deleted. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule

from prefect_campaigns.blocks.store_types import CampaignRecord
from prefect_campaigns.deployments.applying.differences import ABSENT, FieldChange, in_prefect
from prefect_campaigns.deployments.compile import CompiledCampaign, CompiledSchedule
from prefect_campaigns.forecast import kept_by


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


def is_at(schedule: DeploymentSchedule, cron: str, timezone: str) -> bool:
    """Whether a schedule is that one."""
    at = schedule.schedule
    return isinstance(at, CronSchedule) and at.cron == cron and at.timezone == timezone


def plan_schedule(
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
    crons = [(wanted.cron, wanted.timezone)] if wanted else []
    if applied is not None:
        # An older version gave Prefect what is written.
        crons += [kept_by(applied), (applied.cron, applied.timezone)]
    for cron, timezone in crons:
        for schedule in schedules:
            if is_at(schedule, cron, timezone):
                return schedule
    return schedules[0] if schedules else None


def schedule_changes(
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
            changes.append(in_prefect("schedule", old, new))
    follows_file = plan.wanted is None and applied is not None
    for one in plan.extra:
        if not follows_file:
            changes.append(in_prefect("schedule", _schedule_text(one), ABSENT))
    return changes


def _schedule_text(schedule: DeploymentSchedule) -> str:
    at = schedule.schedule
    if isinstance(at, CronSchedule):
        return _shown(at.cron, at.timezone or "UTC", active=schedule.active)
    return f"{type(at).__name__}{'' if schedule.active else ', switched off'}"


def _shown(cron: str, timezone: str, *, active: bool) -> str:
    return f"{cron} {timezone}{'' if active else ', switched off'}"
