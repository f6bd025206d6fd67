"""What an apply would do: the difference between campaigns and what the Prefect server and the store have of them.

Nothing here changes anything. ``compare`` is pure: what is there comes as values, and goes out as a Plan that can be
printed, counted, and given to ``apply``, which does what it says and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prefect.client.schemas.responses import DeploymentResponse

from prefect_campaigns.blocks.store_types import CampaignRecord, Pause, PausedBy
from prefect_campaigns.deployments.applying.differences import ABSENT, FieldChange, Side, differences, in_prefect
from prefect_campaigns.deployments.applying.notifiers import TellingChange
from prefect_campaigns.deployments.applying.observed import Observed
from prefect_campaigns.deployments.applying.schedules import SchedulePlan, plan_schedule, schedule_changes
from prefect_campaigns.deployments.compile import (
    UPKEEP_DEPLOYMENTS,
    CompiledCampaign,
    deployment_parameter_schema,
)
from prefect_campaigns.flows.paused_deployment import described
from prefect_campaigns.flows.pausing import pause_in_force
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
        pause: why it is paused; None where it is not.
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
    pause: Pause | None = None
    switched_off: bool = False
    row_differs: bool = True
    note: str | None = None

    @property
    def needs_a_look(self) -> bool:
        """Whether its pause has to be looked at: one of the budget ends when limits are raised."""
        return self.row is not None and self.row.pause is not None and self.row.pause.by is PausedBy.BUDGET


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
            pause=row.pause if row else None,
            note=None if row is None else "the store knows it, and the Prefect server has no deployment of it",
        )
    pause = pauses.get(compiled.slug, row.pause if row and deployment.paused else None)
    of_file = tuple(_file_changes(row, compiled.campaign))
    of_books = tuple(_book_changes(row, deployment, compiled, origin))
    update = _update(compiled, deployment, pause)
    schedule, switched_off = plan_schedule(compiled.schedule, deployment, row)
    told = {(change.field, repr(change.old), repr(change.new)) for change in of_file}
    of_prefect = (*_prefect_changes(update, compiled, deployment, row), *schedule_changes(schedule, row, compiled))
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
        # A pause in the books of what a person has resumed in Prefect is over.
        pause=pause or (pause_in_force(row, deployment) if row else None),
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
        **dict.fromkeys(_NEVER_SET),
    }
    present = _present(deployment)
    return {field: value for field, value in wanted.items() if value != present[field]}


_NEVER_SET = ("path", "concurrency_limit", "global_concurrency_limit_id", "concurrency_options")
"""What no campaign's deployment has. Prefect's limit of runs at once ends healthy runs when its server starts again, or
new ones unheard, and a campaign has one run at a time without it. Left out are work queue, job variables and pull
steps, which whoever runs the workers may choose."""


def _present(deployment: DeploymentResponse) -> dict[str, Any]:
    """Return what the deployment has, by the names that an update gives it."""
    limit, options = deployment.global_concurrency_limit, deployment.concurrency_options
    # Its own goes with it; one that it shares with others is only let go.
    is_own = limit is not None and limit.name == f"deployment:{deployment.id}"
    return {
        "description": deployment.description,
        "entrypoint": deployment.entrypoint,
        "work_pool_name": deployment.work_pool_name,
        "parameters": deployment.parameters,
        "parameter_openapi_schema": deployment.parameter_openapi_schema,
        "enforce_parameter_schema": deployment.enforce_parameter_schema,
        "tags": sorted(deployment.tags),
        "path": deployment.path,
        "concurrency_limit": limit.limit if limit and is_own else None,
        "global_concurrency_limit_id": str(limit.id) if limit and not is_own else None,
        "concurrency_options": options.model_dump(mode="json", exclude_none=True) if options else None,
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
    present = _present(deployment)
    for field, new in update.items():
        old = present[field]
        if field == "parameters":
            changes += _parameter_changes(old, new, applied)
        elif field == "parameter_openapi_schema":
            changes.append(in_prefect(field, "another", _OF_OURS))
        elif not (from_file and field in ("description", "tags")):
            changes.append(in_prefect(field, old, new))
    return changes


def _parameter_changes(old: Mapping[str, Any], new: Mapping[str, Any], applied: Mapping[str, Any]) -> list[FieldChange]:
    """Return what a person has changed in the parameters; nothing where only the last apply's file stands there."""
    try:
        there = written(Campaign.model_validate(old.get("campaign")))
    except ValueError:
        return [in_prefect("parameters", "no campaign", "the campaign")]
    if there == applied:
        # The file's own changes, or the version that an older apply did not write.
        others = differences(Side.PREFECT, {**old, "campaign": None}, {**new, "campaign": None}, ("parameters",))
        return (
            [one for one in others if one.field != "/parameters/version"] if there != _campaign(new) else list(others)
        )
    return list(differences(Side.PREFECT, there, _campaign(new)))


def _campaign(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return written(Campaign.model_validate(parameters["campaign"]))


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
