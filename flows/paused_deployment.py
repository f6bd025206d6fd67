"""Prefect's side of a pause: the deployment is paused and says why, and what ends the pause is scheduled."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from prefect_campaigns.blocks.store_types import CampaignRecord, Pause
from prefect_campaigns.errors import ServerError
from prefect_campaigns.forecast import kept_by

CAMPAIGN_FLOW_NAME = "campaign"

OUR_TAG = "prefect-campaigns"
"""The tag that marks an automation or a deployment as made by this package for itself."""

RESUME_FLOW_NAME = "resume-campaign"
RESUME_DEPLOYMENT = f"{RESUME_FLOW_NAME}/campaigns"
"""The deployment whose runs resume campaigns; ``campaigns apply`` makes it."""

RESUME_ENTRYPOINT = "prefect_campaigns.flows.resume.resume_campaign"

_MARK = re.compile(r"\A\*\*Paused\.\*\* .*?(\n\n|\Z)", re.DOTALL)


def described(description: str | None, pause: Pause | None) -> str:
    """Return a deployment's description with its pause at the head, in place of any that stands there."""
    plain = _MARK.sub("", description or "")
    if pause is None:
        return plain
    return f"**Paused.** {pause.reason}. Since {pause.since:%Y-%m-%d %H:%M} UTC{until_text(pause.until)}.\n\n{plain}"


def said_of_pause(description: str | None) -> str:
    """Return what a deployment's description says of its pause; nothing where it says nothing."""
    found = _MARK.match(description or "")
    return found[0] if found else ""


async def read_deployment(client: PrefectClient, record: CampaignRecord) -> DeploymentResponse | None:
    """Return the campaign's deployment; None where it has none, or none any more.

    Where the row does not know which it is, as after an apply that was killed, the one of its name is meant: it runs.
    """
    if record.deployment_id is not None:
        with suppress(ObjectNotFound):
            return await client.read_deployment(record.deployment_id)
    with suppress(ObjectNotFound):
        return await client.read_deployment_by_name(f"{CAMPAIGN_FLOW_NAME}/{record.key}")
    return None


async def describe(
    client: PrefectClient, deployment: DeploymentResponse, pause: Pause | None, *, paused: bool | None = None
) -> None:
    """Write the pause into the deployment's description, or take it out; and pause or resume it in the same act."""
    changes: dict[str, object] = {"description": described(deployment.description, pause)}
    if paused is not None:
        changes["paused"] = paused
    # Whatever an update does not name is emptied where its schema has a default.
    await client.update_deployment(deployment.id, DeploymentUpdate.model_validate({"tags": deployment.tags, **changes}))


async def switch_on(client: PrefectClient, record: CampaignRecord, deployment: DeploymentResponse) -> bool:
    """Switch the schedule of a campaign on again that a person has switched off in Prefect; return whether one had."""
    schedule = record.campaign.schedule
    if schedule is None or not schedule.enabled or any(one.active for one in deployment.schedules or ()):
        return False
    # An older version gave Prefect what is written.
    ours = kept_by(schedule), (schedule.cron, schedule.timezone)
    for one in deployment.schedules or ():
        at = one.schedule
        if isinstance(at, CronSchedule) and (at.cron, at.timezone) in ours:
            await client.update_deployment_schedule(deployment.id, one.id, active=True)
            return True
    return False


async def schedule_resumption(client: PrefectClient, key: str, at: datetime) -> None:
    """Make a run that resumes the campaign at an instant; one for each instant, however often this is asked for.

    Raises:
        ServerError: the deployment of such runs is not there.
    """
    try:
        deployment = await client.read_deployment_by_name(RESUME_DEPLOYMENT)
    except ObjectNotFound:
        raise ServerError(f"there is no deployment {RESUME_DEPLOYMENT}; `campaigns apply` makes it") from None
    await client.create_flow_run_from_deployment(
        deployment.id,
        name=f"resume-{key}",
        parameters={"campaign": key},
        state=Scheduled(scheduled_time=at),
        idempotency_key=f"resume {key} {at.isoformat()}",
    )


async def run_exists(client: PrefectClient, flow_run_id: UUID) -> bool:
    """Whether nobody has deleted a flow run."""
    try:
        await client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return False
    return True


async def due_resumptions(client: PrefectClient, now: datetime, *, begun_within: timedelta) -> set[str]:
    """Return the keys of the campaigns whose resumption is due by now and waits for a worker.

    Also one that a worker took up (Pending) within ``begun_within``; a worker that dies there leaves it so for ever.
    """
    runs = await client.read_flow_runs(
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[RESUME_DEPLOYMENT.partition("/")[2]])),
        flow_filter=FlowFilter(name=FlowFilterName(any_=[RESUME_FLOW_NAME])),
        flow_run_filter=FlowRunFilter(
            expected_start_time=FlowRunFilterExpectedStartTime(before_=now),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING])),
        ),
    )
    return {
        str(run.parameters.get("campaign"))
        for run in runs
        if run.state is not None and (run.state.is_scheduled() or now - run.state.timestamp < begun_within)
    }


async def schedule_own_run(client: PrefectClient, deployment_id: UUID, since: datetime) -> UUID | None:
    """Make the campaign's first run that its schedule wants at or after an instant; None where it wants none.

    It is the run that Prefect's scheduler would make, by Prefect's own means: made twice, it is made once.
    """
    await client.request(
        "POST",
        "/deployments/{id}/schedule",
        path_params={"id": deployment_id},
        json={"start_time": since.isoformat(), "min_time": 0, "min_runs": 1, "max_runs": 1},
    )
    runs = await client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
        flow_run_filter=FlowRunFilter(
            expected_start_time=FlowRunFilterExpectedStartTime(after_=since),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=10,
    )
    return next((run.id for run in runs if run.auto_scheduled), None)


def until_text(instant: datetime | None) -> str:
    """Return `` until …`` for people; nothing for None."""
    return f" until {instant:%Y-%m-%d %H:%M} UTC" if instant else ""
