"""Make campaigns so on a Prefect server and in the store, any number of times: plan, then do what the plan says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AuditAction
from prefect_campaigns.deployments.applying.alone import alone
from prefect_campaigns.deployments.applying.campaign_changes import Applied, CampaignWriter
from prefect_campaigns.deployments.applying.notifiers import Notifiers, TellingChange
from prefect_campaigns.deployments.applying.observed import observe
from prefect_campaigns.deployments.applying.plan import API_ORIGIN, CampaignPlan, Change, Plan
from prefect_campaigns.deployments.applying.planning import make_plan, tags_in_use
from prefect_campaigns.deployments.applying.removal import delete_while_alone, take_back_deletions
from prefect_campaigns.deployments.applying.saved_secrets import remove_unused_secrets, save_secret
from prefect_campaigns.deployments.compile import (
    UPKEEP_DEPLOYMENTS,
    WORK_POOL,
    WORK_POOL_TYPE,
    UpkeepDeployment,
    compile_campaign,
    compile_operators,
)
from prefect_campaigns.deployments.driving.audit import Deed, local_actor, record_all
from prefect_campaigns.deployments.running.server import connect
from prefect_campaigns.deployments.running.worker import CampaignWorker
from prefect_campaigns.errors import AlreadyThere, ApplyIncomplete, CampaignsError, StoreError
from prefect_campaigns.flows.campaign import FLOW_NAME
from prefect_campaigns.models import Campaign
from prefect_campaigns.words import why_failed

__all__ = ["API_ORIGIN", "Applied", "ApplyResult", "Change", "apply"]

AT_ONCE = 8
"""How many campaigns are written at the same time."""

CLIENT_MAX_RETRIES = 2
"""How often a request that finds no server is repeated, after 2 and 4 seconds: a person waits for an apply."""

Progress = Callable[[int, int], None]
"""Is told how many campaigns are done, and of how many."""


@dataclass(frozen=True, kw_only=True)
class ApplyResult:
    """What apply did.

    Attributes:
        campaigns: those that were asked for, in their order.
        deleted: the keys of the campaigns whose files were gone.
        telling: what became of mail server, blocks and automations.
        notes: what the user should know besides, one sentence each.
    """

    campaigns: tuple[Applied, ...]
    deleted: tuple[str, ...] = ()
    telling: tuple[TellingChange, ...] = ()
    notes: tuple[str, ...]


async def apply(
    campaigns: Sequence[Campaign],
    *,
    store: CampaignStore,
    settings: Settings,
    actor: str | None = None,
    origin: str | None = None,
    origins: Mapping[str, str] | None = None,
    prune: Sequence[str] = (),
    must_be_new: bool = False,
    progress: Progress = lambda done, total: None,
) -> ApplyResult:
    """Make the campaigns so: rows in the store, blocks, automations, deployments.

    What a person paused stays paused. What the budget paused does too, while a limit holds; what a deletion paused that
    broke off does not. Where nothing is different
    nothing is written.

    Args:
        actor: whom the audit names; by default whoever sits at this machine.
        origin: where all of them come from: API_ORIGIN, or a folder, with its machine.
        origins: where each of them comes from, by key.
        prune: folders whose campaigns are deleted when their file is gone.
        must_be_new: whether to change nothing that is there already.

    Raises:
        AlreadyThere: one of those that must be new is there.
        ApplyIncomplete: some of several campaigns were not written; each is as it was or as it should be.
        ServerError: Prefect's API is not there, or did not do what was asked.
        StoreError: the store is not there, or did not do what was asked.
    """
    compiled = [compile_campaign(campaign) for campaign in campaigns]
    where = dict(origins or {}) | ({one.slug: origin for one in compiled} if origin else {})
    actor = actor or local_actor()
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: CLIENT_MAX_RETRIES}):
        async with connect() as client:
            plan = await make_plan(client, store, settings, compiled, origins=where, prune=prune)
            if plan.has_changes or any(one.needs_a_look for one in plan.campaigns):
                async with alone(store, doing="apply"):
                    # Again: what another apply has done meanwhile is done.
                    plan = await make_plan(client, store, settings, compiled, origins=where, prune=prune)
                    _refuse_what_is_there(plan, must_be_new=must_be_new)
                    applied = await _Apply(client, store, settings, actor, progress).do(plan)
                    for deletion in plan.deletions:
                        await delete_while_alone(client, store, deletion.row, actor=actor)
            else:
                _refuse_what_is_there(plan, must_be_new=must_be_new)
                applied = await _Apply(client, store, settings, actor, progress).nothing(plan)
            applied = await take_back_deletions(client, store, applied)
    return ApplyResult(campaigns=tuple(applied), deleted=tuple(one.row.key for one in plan.deletions), notes=plan.notes)


def _refuse_what_is_there(plan: Plan, *, must_be_new: bool) -> None:
    there = [one.compiled.slug for one in plan.campaigns if one.row is not None or one.deployment is not None]
    if must_be_new and there:
        raise AlreadyThere(f"there already: {', '.join(there)}")


@dataclass
class _Apply:
    """One apply: what all its campaigns share, and how far it is."""

    client: PrefectClient
    store: CampaignStore
    settings: Settings
    actor: str
    progress: Progress
    done: dict[str, Applied] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)

    async def nothing(self, plan: Plan) -> list[Applied]:
        """Say how campaigns are that need nothing."""
        writer = CampaignWriter(self.client, self.store, flow_id=None)
        return [await writer.write(one) for one in plan.campaigns]

    async def do(self, plan: Plan) -> list[Applied]:
        """Do what the plan says: what campaigns share first, then each campaign, then what nobody needs any more."""
        await self._ensure_upkeep(plan)
        notifiers = Notifiers(self.client, self.settings)
        if plan.telling:
            await notifiers.look()
            await notifiers.ensure(compile_operators(self.settings.operators))
            for one in plan.campaigns:
                for secret in one.compiled.secrets:
                    await save_secret(secret)
                await notifiers.ensure(one.compiled.automations)
        await self._write_all(plan.campaigns)
        if plan.telling or plan.deletions:
            observed = await observe(self.client, self.store)
            await notifiers.look()
            await notifiers.remove_unused(tags_in_use(observed, [one.compiled for one in plan.campaigns], set()))
            await remove_unused_secrets(self.client)
        return [self.done[one.compiled.slug] for one in plan.campaigns]

    async def _ensure_upkeep(self, plan: Plan) -> None:
        if not plan.upkeep:
            return
        await _ensure_work_pool(self.client)
        for wanted in UPKEEP_DEPLOYMENTS:
            await _ensure_deployment(self.client, wanted)

    async def _write_all(self, plans: Sequence[CampaignPlan]) -> None:
        """Write the campaigns, several at a time; when one finds server or store gone, no other is begun.

        Raises:
            ApplyIncomplete: some of several were not written.
            CampaignsError, PrefectException, httpx.HTTPError: the only one was not.
        """
        creates = any(one.deployment is None for one in plans)
        flow_id = await self.client.create_flow_from_name(FLOW_NAME) if creates else None
        writer = CampaignWriter(self.client, self.store, flow_id=flow_id)
        queue = iter(plans)
        try:
            await asyncio.gather(*(self._work_off(queue, writer, len(plans)) for _ in range(min(AT_ONCE, len(plans)))))
        finally:
            await self._record(plans)
        if not self.failed:
            return
        if len(plans) == 1:
            raise next(iter(self.failed.values()))
        keys = [one.compiled.slug for one in plans]
        raise ApplyIncomplete(
            done=[key for key in keys if key in self.done],
            failed={key: why_failed(self.failed[key]) for key in keys if key in self.failed},
            untouched=[key for key in keys if key not in self.done and key not in self.failed],
        )

    async def _work_off(self, queue: Iterator[CampaignPlan], writer: CampaignWriter, total: int) -> None:
        for plan in queue:
            if self.failed:
                return
            key = plan.compiled.slug
            try:
                self.done[key] = await writer.write(plan)
            except (httpx.HTTPError, PrefectException, CampaignsError) as error:
                self.failed[key] = error
                return
            self.progress(len(self.done), total)

    async def _record(self, plans: Sequence[CampaignPlan]) -> None:
        """Write down what was done to which campaign, also where the rest of it failed."""
        deeds = [_deed(one) for one in plans if one.compiled.slug in self.done and one.change is not Change.UNCHANGED]
        if not deeds:
            return
        try:
            await record_all(self.client, self.store, actor=self.actor, deeds=deeds)
        except StoreError:
            # What has failed before is what people have to hear.
            if not self.failed:
                raise


_ACTIONS = {Change.CREATED: AuditAction.CAMPAIGN_CREATED, Change.CHANGED: AuditAction.CAMPAIGN_CHANGED}
MAX_FIELDS = 50
"""How many changed fields the audit keeps of one change."""


def _deed(plan: CampaignPlan) -> Deed:
    fields = [f"{change.side}: {change.field}" for change in plan.fields[:MAX_FIELDS]]
    detail = {"version": plan.compiled.parameters["version"], "origin": plan.origin, "fields": fields}
    return Deed(action=_ACTIONS[plan.change], campaign_key=plan.compiled.slug, detail=detail)


async def _ensure_work_pool(client: PrefectClient) -> None:
    """Make our work pool where it is missing.

    One of another type is left alone: any worker can run campaigns, and a pool's type cannot be changed.
    """
    pool = WorkPoolCreate(
        name=WORK_POOL,
        type=WORK_POOL_TYPE,
        description="Runs campaigns, many at a time, in the event loop of a campaign worker.",
        base_job_template=CampaignWorker.get_default_base_job_template(),
    )
    with suppress(ObjectAlreadyExists):
        await client.create_work_pool(pool)


async def _ensure_deployment(client: PrefectClient, wanted: UpkeepDeployment) -> None:
    """Make a deployment of ours that is no campaign."""
    flow_name, _, name = wanted.full_name.partition("/")
    try:
        existing = await client.read_deployment_by_name(wanted.full_name)
    except ObjectNotFound:
        flow_id = await client.create_flow_from_name(flow_name)
        await client.create_deployment(flow_id=flow_id, name=name, **wanted.wanted)
        return
    if any(getattr(existing, field) != value for field, value in wanted.wanted.items()):
        await client.update_deployment(existing.id, DeploymentUpdate(**wanted.wanted))
