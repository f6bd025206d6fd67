"""Make campaigns so on a Prefect server and in the store, any number of times."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

import anyio
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.logging import get_logger
from prefect.utilities.callables import parameter_schema

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, Lease, Pause, PausedBy
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.compile import (
    WORK_POOL,
    WORK_POOL_TYPE,
    CompiledCampaign,
    CompiledSchedule,
    compile_campaign,
    deployment_parameter_schema,
)
from prefect_campaigns.deployments.lookup import read_deployments
from prefect_campaigns.deployments.notifiers import OUR_TAG, Notifiers
from prefect_campaigns.deployments.saved_secrets import save_secret
from prefect_campaigns.deployments.server import connect
from prefect_campaigns.deployments.worker import CampaignWorker
from prefect_campaigns.errors import ServerError, UnknownCampaign
from prefect_campaigns.flows.campaign import FLOW_NAME
from prefect_campaigns.flows.lease import LEASE_SECONDS, keeping
from prefect_campaigns.flows.paused_deployment import RESUME_DEPLOYMENT, RESUME_ENTRYPOINT, described
from prefect_campaigns.flows.pausing import await_no_run, find_out_who_paused, pause_in_force, show_pause
from prefect_campaigns.flows.resume import resume_campaign
from prefect_campaigns.flows.resuming import Outcome, resume_after_budget
from prefect_campaigns.models import Campaign

ALONE_SECONDS = 120.0
"""How long an apply waits for another one; one that died is in the way for a minute."""

_NO_MAIL = "No mail will be sent: set SMTP_HOST (and SMTP_USER, SMTP_PASS) in .env, and apply again."
_OTHER_POOL = (
    f"Work pool {WORK_POOL} is of type {{}}, so that every run is slow to start. For a campaign worker: end its worker,"
    f" prefect work-pool delete {WORK_POOL}, apply again, prefect worker start --pool {WORK_POOL}."
)

_OTHER_BOOKS = (
    "The books at {} did not know {}, which the Prefect server did: what was spent before counts there no more. If it"
    " stands in other books, carry them over (campaigns db import), or correct SUPABASE_URL or CAMPAIGNS_DATABASE."
)

_logger = get_logger("campaigns.apply")


class Change(StrEnum):
    """What apply did to a campaign."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, kw_only=True)
class Applied:
    """A campaign as it now is on the server.

    Attributes:
        switched_off: whether a person has switched its schedule off.
        pause: why it is paused; None when it is not.
        resumed: that the budget's pause is over now, in words; None when it is not, or never was.
        is_new_to_books: whether the books had nothing of it.
    """

    compiled: CompiledCampaign
    change: Change
    deployment_id: UUID
    switched_off: bool
    pause: Pause | None
    resumed: str | None
    is_new_to_books: bool


@dataclass(frozen=True, kw_only=True)
class ApplyResult:
    """What apply did.

    Attributes:
        notes: what the user should know besides, one sentence each.
    """

    campaigns: tuple[Applied, ...]
    notes: tuple[str, ...]


async def apply(campaigns: Sequence[Campaign], *, store: CampaignStore, settings: Settings) -> ApplyResult:
    """Make the campaigns so: rows in the store, blocks, automations, deployments.

    What a person paused stays paused. What the budget paused does too, while a limit holds. An unchanged campaign's
    deployment is not written.

    Raises:
        ServerError: Prefect's API is not there, or did not do what was asked.
        StoreUnavailable: the store is not there.
    """
    compiled = [compile_campaign(campaign) for campaign in campaigns]
    async with connect() as client, _alone(store):
        pool_type = await _ensure_work_pool(client)
        notifiers = Notifiers(client, settings)
        await notifiers.look()
        for campaign in compiled:
            for secret in campaign.secrets:
                await save_secret(secret)
            await notifiers.ensure(campaign.automations)
        await _ensure_resume_deployment(client)
        flow_id = await client.create_flow_from_name(FLOW_NAME)
        existing = {deployment.name: deployment for deployment in await read_deployments(client)}
        flow_parameters = deployment_parameter_schema()
        applied = [
            await _apply_one(
                client,
                store,
                campaign,
                flow_id,
                existing.get(campaign.slug),
                flow_parameters=flow_parameters,
            )
            for campaign in compiled
        ]
        in_use = {tag for deployment in await read_deployments(client) for tag in deployment.tags}
        await notifiers.remove_unused(in_use)
    notes = [_NO_MAIL] if notifiers.leaves_unmailed else []
    if pool_type != WORK_POOL_TYPE:
        notes.append(_OTHER_POOL.format(pool_type))
    if unknown := [one.compiled.slug for one in applied if one.is_new_to_books and one.change is not Change.CREATED]:
        notes.append(_OTHER_BOOKS.format(store.books, ", ".join(unknown)))
    return ApplyResult(campaigns=tuple(applied), notes=tuple(notes))


@asynccontextmanager
async def _alone(store: CampaignStore) -> AsyncIterator[None]:
    """Let one apply at a time do its work: two at once would both create the same automation, and mail twice."""
    key, began, clock = "@apply", anyio.current_time(), current_clock()
    run_id, since = f"apply-{uuid4().hex}", clock.now()
    while anyio.current_time() - began < ALONE_SECONDS:
        lease = await store.acquire_lease(
            key, run_id=run_id, run_name="apply", holder=run_id, ttl_seconds=LEASE_SECONDS, waiting_since=since
        )
        if isinstance(lease, Lease):
            async with keeping(store, lease, logger=_logger):
                yield
            return
        await anyio.sleep(0.5)
    raise ServerError(f"another apply has been going on for {ALONE_SECONDS:g} seconds; try again when it has ended")


async def _ensure_work_pool(client: PrefectClient) -> str:
    """Return the type of our work pool, made where it is missing.

    One of another type is left alone: any worker can run campaigns, and a pool's type cannot be changed.
    """
    try:
        return (await client.read_work_pool(WORK_POOL)).type
    except ObjectNotFound:
        pool = WorkPoolCreate(
            name=WORK_POOL,
            type=WORK_POOL_TYPE,
            description="Runs campaigns, many at a time, in the event loop of a campaign worker.",
            base_job_template=CampaignWorker.get_default_base_job_template(),
        )
    try:
        return (await client.create_work_pool(pool)).type
    except ObjectAlreadyExists:
        # A worker that started at the same moment was first.
        return (await client.read_work_pool(WORK_POOL)).type


async def _ensure_resume_deployment(client: PrefectClient) -> None:
    """Make the deployment whose runs resume what the budget paused."""
    wanted: dict[str, Any] = {
        "description": "Resumes campaigns when the budget that stopped them starts anew. Kept by `campaigns apply`.",
        "entrypoint": RESUME_ENTRYPOINT,
        "work_pool_name": WORK_POOL,
        "tags": [OUR_TAG],
        "parameter_openapi_schema": parameter_schema(resume_campaign).model_dump(exclude_unset=True, mode="json"),
    }
    try:
        existing = await client.read_deployment_by_name(RESUME_DEPLOYMENT)
    except ObjectNotFound:
        flow_name, _, name = RESUME_DEPLOYMENT.partition("/")
        await client.create_deployment(flow_id=await client.create_flow_from_name(flow_name), name=name, **wanted)
        return
    if any(getattr(existing, field) != value for field, value in wanted.items()):
        await client.update_deployment(existing.id, DeploymentUpdate(**wanted))


async def _apply_one(
    client: PrefectClient,
    store: CampaignStore,
    compiled: CompiledCampaign,
    flow_id: UUID,
    existing: DeploymentResponse | None,
    *,
    flow_parameters: dict[str, Any],
) -> Applied:
    row = await _row(store, compiled)
    pause: Pause | None = None
    if existing is None:
        # The row comes first: a run that fires at once finds what it may spend.
        await store.save_campaign(compiled.campaign)
        # A row may be paused before there is a deployment: on a new Prefect server, or from an older orchestrator.
        pause = row.pause if row else None
        deployment_id = await _create(client, compiled, flow_id, flow_parameters, pause)
        change, switched_off = Change.CREATED, False
    else:
        deployment_id = existing.id
        # Before anything is changed, which deletes scheduled runs, as a person does who pauses it.
        pause = await find_out_who_paused(client, store, row) if row and existing.paused else None
        row_changed = row is None or row.campaign != compiled.campaign or row.deployment_id != existing.id
        if row_changed:
            await store.save_campaign(compiled.campaign)
        if pause:
            pause = await await_no_run(store, compiled.slug, pause)
        changed = await _mend_deployment(client, compiled, existing, flow_parameters, pause)
        schedule_changed, active = await _mend_schedule(client, compiled.schedule, existing, row)
        switched_off = compiled.schedule is not None and compiled.schedule.active and not active
        change = Change.CHANGED if row_changed or changed or schedule_changed else Change.UNCHANGED
    if change is not Change.UNCHANGED:
        await store.save_campaign(
            compiled.campaign,
            deployment_id=deployment_id,
            applied_schedule_active=compiled.schedule is not None and compiled.schedule.active,
        )
    resumption = None
    if row and row.pause and row.pause.by is PausedBy.BUDGET:
        if pause:
            await show_pause(client, store, await store.get_campaign(compiled.slug), pause)
        resumption = await resume_after_budget(
            client,
            store,
            compiled.slug,
            now=current_clock().now(),
            is_worth_a_try=row.campaign.steps != compiled.campaign.steps,
        )
    deployment = await client.read_deployment(deployment_id) if row and row.pause else existing
    return Applied(
        compiled=compiled,
        change=change,
        deployment_id=deployment_id,
        switched_off=switched_off,
        is_new_to_books=row is None,
        pause=pause_in_force(await store.get_campaign(compiled.slug), deployment) if deployment else None,
        resumed=resumption.message if resumption and resumption.outcome is Outcome.RESUMED else None,
    )


async def _row(store: CampaignStore, compiled: CompiledCampaign) -> CampaignRecord | None:
    try:
        return await store.get_campaign(compiled.slug)
    except UnknownCampaign:
        return None


async def _create(
    client: PrefectClient,
    compiled: CompiledCampaign,
    flow_id: UUID,
    flow_parameters: dict[str, Any],
    pause: Pause | None,
) -> UUID:
    schedule = compiled.schedule
    return await client.create_deployment(
        flow_id=flow_id,
        name=compiled.slug,
        description=described(compiled.description, pause),
        paused=pause is not None,
        entrypoint=compiled.entrypoint,
        work_pool_name=compiled.work_pool,
        parameters=compiled.parameters,
        parameter_openapi_schema=flow_parameters,
        enforce_parameter_schema=True,
        tags=list(compiled.tags),
        schedules=[DeploymentScheduleCreate(schedule=_cron(schedule), active=schedule.active)] if schedule else [],
    )


def _cron(schedule: CompiledSchedule) -> CronSchedule:
    return CronSchedule(cron=schedule.cron, timezone=schedule.timezone)


async def _mend_deployment(
    client: PrefectClient,
    compiled: CompiledCampaign,
    existing: DeploymentResponse,
    flow_parameters: dict[str, Any],
    pause: Pause | None,
) -> bool:
    """Write what differs, and nothing else: apply neither pauses nor resumes."""
    wanted: dict[str, Any] = {
        "description": described(compiled.description, pause),
        "entrypoint": compiled.entrypoint,
        "work_pool_name": compiled.work_pool,
        "parameters": compiled.parameters,
        "parameter_openapi_schema": flow_parameters,
        "enforce_parameter_schema": True,
        "tags": sorted(compiled.tags),
    }
    current = {field: sorted(existing.tags) if field == "tags" else getattr(existing, field) for field in wanted}
    different = {field: value for field, value in wanted.items() if value != current[field]}
    if not different:
        return False
    # The update's schema fills tags and the like with empty defaults unless they are set.
    await client.update_deployment(existing.id, DeploymentUpdate(**{"tags": wanted["tags"], **different}))
    return True


async def _mend_schedule(
    client: PrefectClient,
    wanted: CompiledSchedule | None,
    existing: DeploymentResponse,
    row: CampaignRecord | None,
) -> tuple[bool, bool]:
    """Make the schedule right; return whether anything was written and whether it is active now.

    A schedule that is off although our last apply switched it on was switched off by a person, and stays off.
    """
    schedules: list[DeploymentSchedule] = existing.schedules or []
    current = _ours(schedules, wanted, row)
    for extra in schedules:
        if wanted is None or extra is not current:
            await client.delete_deployment_schedule(existing.id, extra.id)
    if wanted is None:
        return bool(schedules), False
    if current is None:
        await client.create_deployment_schedules(
            existing.id, [DeploymentScheduleCreate(schedule=_cron(wanted), active=wanted.active)]
        )
        return True, wanted.active
    # A person may have switched ours off and added one of their own: then it stays off too.
    switched_off_by_person = not all(one.active for one in schedules) and (
        row is None or row.applied_schedule_active is not False
    )
    active = wanted.active and not switched_off_by_person
    is_right = _is_at(current, wanted.cron, wanted.timezone)
    if not is_right or current.active != active:
        await client.update_deployment_schedule(
            existing.id, current.id, active=active, schedule=None if is_right else _cron(wanted)
        )
        return True, active
    return len(schedules) > 1, active


def _is_at(schedule: DeploymentSchedule, cron: str, timezone: str) -> bool:
    at = schedule.schedule
    return isinstance(at, CronSchedule) and at.cron == cron and at.timezone == timezone


def _ours(
    schedules: Sequence[DeploymentSchedule], wanted: CompiledSchedule | None, row: CampaignRecord | None
) -> DeploymentSchedule | None:
    """Return the schedule that we made: the one that is as the file says, or as it said at the last apply."""
    applied = row.campaign.schedule if row else None
    for at in (wanted, applied):
        for schedule in schedules:
            if at is not None and _is_at(schedule, at.cron, at.timezone):
                return schedule
    return schedules[0] if schedules else None
