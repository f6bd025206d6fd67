"""Writing one campaign as its plan says: the store's row first, then the deployment, in one request each.

Where Prefect does not do it, the row is put back, so that the campaign is as it was; where whoever applies is killed in
between, a run goes by the row alone (``flows.versions``), and the next plan shows what is left.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound, PrefectException

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, Pause, PausedBy
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.applying.due_runs import between_runs, make_again
from prefect_campaigns.deployments.applying.plan import CampaignPlan, Change
from prefect_campaigns.deployments.applying.schedules import SchedulePlan
from prefect_campaigns.deployments.compile import CompiledCampaign, CompiledSchedule, deployment_parameter_schema
from prefect_campaigns.deployments.driving.strays import is_held_by_stop
from prefect_campaigns.errors import EverythingStopped
from prefect_campaigns.flows.paused_deployment import describe, described
from prefect_campaigns.flows.pausing import (
    await_no_run,
    find_out_who_paused,
    pause_by_stop,
    pause_in_force,
    show_pause,
    stop_pause,
)
from prefect_campaigns.flows.resuming import Outcome, resume_after_budget, resume_after_stop
from prefect_campaigns.flows.shielding import to_its_end

PUT_BACK_SECONDS = 15.0
"""How long putting a row back may take."""

STOP_IS_OVER = "an emergency stop that has ended; `campaigns start --all` resumes what it has left paused"
"""Why a campaign is paused that an ended stop has left so, before the books knew it."""


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


class CampaignWriter:
    """Writes campaigns, each by its plan."""

    def __init__(self, client: PrefectClient, store: CampaignStore, *, flow_id: UUID | None) -> None:
        """Take what all of them share.

        Args:
            flow_id: the campaign flow's; None where no deployment has to be created.
        """
        self._client = client
        self._store = store
        self._flow_id = flow_id

    async def write(self, plan: CampaignPlan) -> Applied:
        """Make one campaign so.

        Raises:
            StoreError: the store did not do it.
            PrefectException, httpx.HTTPError: Prefect did not; the store's row is as it was.
        """
        if plan.deployment is None:
            deployment_id = await self._create(plan)
        else:
            deployment_id = plan.deployment.id
            if plan.change is not Change.UNCHANGED:
                await self._change(plan, plan.deployment)
        resumed = await self._look_at_pause(plan) if plan.needs_a_look else None
        return Applied(
            compiled=plan.compiled,
            change=plan.change,
            deployment_id=deployment_id,
            switched_off=plan.switched_off,
            is_new_to_books=plan.row is None,
            pause=await self._pause_now(plan, deployment_id),
            resumed=resumed,
        )

    async def _create(self, plan: CampaignPlan) -> UUID:
        assert self._flow_id is not None  # noqa: S101 - whoever plans to create has it
        compiled = plan.compiled
        # The row comes first: a run that fires at once finds what it may spend.
        row = await self._store.save_campaign(compiled.campaign, origin=plan.origin)
        # A row may be paused before there is a deployment: on a new Prefect server, from an older orchestrator, or by a
        # person since the plan.
        pause = row.pause
        if pause is None and plan.row is None:
            pause = await self._pause_by_stop(compiled.slug)
        try:
            deployment_id = await self._client.create_deployment(
                flow_id=self._flow_id,
                name=compiled.slug,
                description=described(compiled.description, pause),
                paused=pause is not None,
                entrypoint=compiled.entrypoint,
                work_pool_name=compiled.work_pool,
                parameters=compiled.parameters,
                parameter_openapi_schema=deployment_parameter_schema(),
                enforce_parameter_schema=True,
                tags=list(compiled.tags),
                schedules=_new_schedules(compiled.schedule),
            )
        except (httpx.HTTPError, PrefectException):
            if await self._is_surely_missing(compiled):
                await self._put_back(plan)
            raise
        row = await self._save_applied(plan, deployment_id)
        await self._keep_up(row, deployment_id, shown=pause)
        await self._heed_stop(row)
        return deployment_id

    async def _keep_up(self, row: CampaignRecord, deployment_id: UUID, *, shown: Pause | None) -> None:
        """Show what has become of the pause while there was no deployment that could be paused, or resumed."""
        if row.pause == shown:
            return
        if row.pause is not None:
            await show_pause(self._client, self._store, row, row.pause)
        else:
            await describe(self._client, await self._client.read_deployment(deployment_id), None, paused=False)

    async def _is_surely_missing(self, compiled: CompiledCampaign) -> bool:
        """Whether the server says that it has no such deployment; without its row one that it has could not be seen."""
        try:
            await self._client.read_deployment_by_name(compiled.full_name)
        except ObjectNotFound:
            return True
        except (httpx.HTTPError, PrefectException):
            return False
        return False

    async def _pause_by_stop(self, key: str) -> Pause | None:
        """Pause a new campaign in the books if everything is stopped by now."""
        if (stop := await self._store.read_stop()) is None:
            return None
        pause = stop_pause(stop, since=current_clock().now())
        await self._store.set_pause(key, pause, replacing=None)
        return pause

    async def _take_in(self, deployment: DeploymentResponse) -> None:
        """Pause a stray's new row by the stop, if it stands, or has paused the stray; a person's pause stays theirs.

        Prefect's side comes when the rest of it is written: what cannot be is left a stray as it was.
        """
        present = await self._client.read_deployment(deployment.id)
        is_held = is_held_by_stop(self._store, present)
        if present.paused and not is_held:
            return
        if await self._pause_by_stop(present.name) is None and is_held:
            # Its end could not resume the stray, and is made up for as soon as everything is written.
            pause = Pause(by=PausedBy.STOP, reason=STOP_IS_OVER, since=current_clock().now())
            await self._store.set_pause(present.name, pause, replacing=None)

    async def _heed_stop(self, row: CampaignRecord) -> None:
        """Pause in Prefect, too, what a stop has met half written, and resume it where the stop has ended meanwhile.

        A stop that comes later finds row and deployment, and so does the end of one.
        """
        stop = await self._store.read_stop()
        if stop is None and row.pause is None:
            return
        if stop is not None:
            await pause_by_stop(self._client, self._store, row, stop, now=current_clock().now())
        with suppress(EverythingStopped):
            await resume_after_stop(self._client, self._store, row.key, now=current_clock().now())

    async def _change(self, plan: CampaignPlan, deployment: DeploymentResponse) -> None:
        compiled, row = plan.compiled, plan.row
        # Before anything is changed, which deletes scheduled runs, as a person does who pauses it.
        pause = await find_out_who_paused(self._client, self._store, row) if row and deployment.paused else None
        if plan.row_differs:
            await self._store.save_campaign(compiled.campaign, origin=plan.origin)
        try:
            if row is None:
                await self._take_in(deployment)
            if plan.update or plan.schedule:
                if pause:
                    await await_no_run(self._store, compiled.slug, pause)
                await self._write_deployment(plan, deployment)
        except (httpx.HTTPError, PrefectException):
            await self._put_back(plan)
            raise
        applied = await self._save_applied(plan, deployment.id)
        if row is None:
            await self._heed_stop(applied)

    async def _write_deployment(self, plan: CampaignPlan, deployment: DeploymentResponse) -> None:
        """Change the deployment at a moment at which no run is about to be due, and lose none."""
        clock, schedule = current_clock(), plan.compiled.schedule
        if deployment.paused:
            await self._update(plan, deployment)
            return
        is_scheduled = any(one.active for one in deployment.schedules or ())
        noted = await between_runs(self._client, deployment.id, clock=clock) if is_scheduled else []
        await self._update(plan, deployment)
        present = await self._client.read_deployment(deployment.id)
        if present.paused:
            # Somebody has paused it meanwhile, and what is scheduled now would run all the same.
            row = await self._store.get_campaign(plan.compiled.slug)
            if row.pause is not None:
                await show_pause(self._client, self._store, row, row.pause)
            return
        is_scheduled = schedule is not None and schedule.active and not plan.switched_off
        await make_again(self._client, deployment.id, noted, now=clock.now(), is_scheduled=is_scheduled)

    async def _update(self, plan: CampaignPlan, deployment: DeploymentResponse) -> None:
        """Write all that is different, in one request where Prefect allows it."""
        body, extra = dict(plan.update), plan.schedule.extra if plan.schedule else ()
        if plan.schedule is not None and not plan.schedule.kept_is_right:
            slugs = [one.slug for one in deployment.schedules or ()]
            # Schedules that all have slugs are changed one by one; others are replaced as a whole.
            has_slugs = bool(slugs) and all(slugs)
            body["schedules"] = _schedule_updates(plan.schedule, has_slugs=has_slugs)
            extra = extra if has_slugs else ()
        if body:
            # Not by the client's own model, which would empty what it is not told of.
            answer = await self._client.request(
                "PATCH", "/deployments/{id}", path_params={"id": deployment.id}, json=body
            )
            answer.raise_for_status()
        for schedule in extra:
            await self._client.delete_deployment_schedule(deployment.id, schedule.id)

    async def _save_applied(self, plan: CampaignPlan, deployment_id: UUID) -> CampaignRecord:
        """Write down what the server has now; last, as a schedule that is off counts as switched off by a person."""
        schedule = plan.compiled.schedule
        return await self._store.save_campaign(
            plan.compiled.campaign,
            deployment_id=deployment_id,
            applied_schedule_active=schedule is not None and schedule.active,
            origin=plan.origin,
        )

    async def _put_back(self, plan: CampaignPlan) -> None:
        """Let the store's row be as it was, whatever else happens."""

        async def put_back() -> None:
            if plan.row is None:
                await self._store.delete_campaign(plan.compiled.slug)
            else:
                await self._store.save_campaign(plan.row.campaign, origin=plan.row.origin)

        if plan.row_differs or plan.deployment is None:
            await to_its_end(put_back(), seconds=PUT_BACK_SECONDS)

    async def _look_at_pause(self, plan: CampaignPlan) -> str | None:
        """Resume what the budget has paused, if its limits allow it by now; return that it did, in words."""
        row: CampaignRecord | None = plan.row
        assert row is not None  # noqa: S101 - it needs a look because of its row
        key = plan.compiled.slug
        present = await self._store.get_campaign(key)
        was_paused = plan.deployment is None or plan.deployment.paused
        # What a person has resumed in Prefect is looked at below, and not paused again for that it was changed.
        if present.pause is not None and plan.change is not Change.UNCHANGED and was_paused:
            await show_pause(self._client, self._store, present, present.pause)
        resumption = await resume_after_budget(
            self._client,
            self._store,
            key,
            now=current_clock().now(),
            is_worth_a_try=row.campaign.steps != plan.compiled.campaign.steps,
        )
        return resumption.message if resumption.outcome is Outcome.RESUMED else None

    async def _pause_now(self, plan: CampaignPlan, deployment_id: UUID) -> Pause | None:
        deployment, row = plan.deployment, plan.row
        if deployment is not None and not deployment.paused and row is not None and row.pause is None:
            return None
        record = await self._store.get_campaign(plan.compiled.slug)
        if record.pause is None and not (deployment and deployment.paused):
            return None
        return pause_in_force(record, await self._client.read_deployment(deployment_id))


def _new_schedules(schedule: CompiledSchedule | None) -> list[DeploymentScheduleCreate]:
    if schedule is None:
        return []
    cron = CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    return [DeploymentScheduleCreate(schedule=cron, active=schedule.active)]


def _schedule_updates(plan: SchedulePlan, *, has_slugs: bool) -> list[dict[str, Any]]:
    if plan.wanted is None:
        return []
    update: dict[str, Any] = {
        "schedule": {"cron": plan.wanted.cron, "timezone": plan.wanted.timezone},
        "active": plan.active,
    }
    if has_slugs:
        update["slug"] = plan.kept.slug if plan.kept is not None else "campaign"
    return [update]
