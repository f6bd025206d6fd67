"""Runs that were missed: their time came while nobody could begin them, and now several may be due at once.

Prefect makes the next few runs of a schedule ahead. After an outage those are all due, and what fell due later was
never made. What becomes of them the campaign says (``catchUp``): by default the last one that was due runs, for all of
them, so that a server that comes back never spends a day's money at once.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from itertools import islice, takewhile
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.flows import leaving
from prefect_campaigns.flows.paused_deployment import schedule_own_run
from prefect_campaigns.flows.resuming import MOMENT
from prefect_campaigns.flows.run import trigger_type
from prefect_campaigns.forecast import begins_at, due_times
from prefect_campaigns.models import Campaign, Schedule

SURELY_LAST = timedelta(seconds=55)
"""How late a run may be and be the last one that is due: no cron wants two in a minute."""

LOOKED_AHEAD = 10_000
"""How many runs that were missed are counted at the most: those of a week, of a campaign that runs every minute."""

_A_MOMENT = timedelta(milliseconds=1)


async def why_missed(store: CampaignStore, key: str, flow_run: FlowRun, *, now: datetime) -> str | None:
    """Say why a scheduled run does not begin any more; None where it does.

    Of a campaign that wants all runs that were missed, the next one after this is made where Prefect has not made it.
    A run that has begun before, or that somebody asked for, begins however late it is.

    Raises:
        UnknownCampaign: the store has no such campaign.
        StoreUnavailable: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    due = flow_run.expected_start_time
    if due is None or now - due <= SURELY_LAST or flow_run.deployment_id is None:
        return None
    if trigger_type(flow_run) != "scheduled" or await store.get_run(str(flow_run.id)) is not None:
        return None
    schedule = (await store.get_campaign(key)).campaign.schedule
    if schedule is None:
        return None
    since = f"it was due at {due:%Y-%m-%d %H:%M} UTC"
    if schedule.catch_up != "none" and (last := await _ensure_due(flow_run.deployment_id, schedule, due, now)):
        return f"{since}, and the run that was due at {last:%Y-%m-%d %H:%M} UTC stands for all that were missed"
    late = now - begins_at(schedule, due)
    if schedule.max_lateness is not None and late > schedule.max_lateness:
        return f"{since}, {_in_words(late)} ago, and may begin no later than {_in_words(schedule.max_lateness)} after"
    return None


async def wait_for_its_day(campaign: Campaign, flow_run: FlowRun, *, now: datetime) -> None:
    """Hand a scheduled run back until its day begins: of a midnight that clocks skip Prefect makes it due before.

    Raises:
        Pause: it is handed back.
        asyncio.CancelledError: somebody wants it cancelled.
        httpx.HTTPError, PrefectException: Prefect does not answer.
    """
    due, schedule = flow_run.expected_start_time, campaign.schedule
    if due is None or schedule is None or trigger_type(flow_run) != "scheduled":
        return
    begins = begins_at(schedule, due)
    if begins > due and begins - now > MOMENT:
        why = f"It begins with its day, at {begins:%H:%M} UTC: clocks go forward at midnight"
        await leaving.hand_back(flow_run.id, until=begins, why=why)


async def _ensure_due(deployment_id: UUID, schedule: Schedule, due: datetime, now: datetime) -> datetime | None:
    """Make the run that comes after this one, if it is due by now; return when the one was due that stands for this.

    That is the last one; None where this is it, or where all of them run.
    """
    later = takewhile(lambda at: at <= now, islice(due_times(schedule, after=due), LOOKED_AHEAD))
    wanted = next(later, None) if schedule.catch_up == "all" else next(iter(deque(later, maxlen=1)), None)
    if wanted is None:
        return None
    async with get_client() as client:
        if schedule.catch_up == "all":
            # Where it is made already, nothing is.
            await schedule_own_run(client, deployment_id, wanted)
            return None
        if not await _is_made(client, deployment_id, wanted, now):
            await schedule_own_run(client, deployment_id, wanted)
        return wanted if await _is_made(client, deployment_id, wanted, now) else None


async def _is_made(client: PrefectClient, deployment_id: UUID, at: datetime, now: datetime) -> bool:
    """Whether there is a run that was due then, or since; a schedule that is switched off has none."""
    found = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
            expected_start_time=FlowRunFilterExpectedStartTime(after_=at - _A_MOMENT, before_=now),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
    )
    return any(trigger_type(run) == "scheduled" for run in found)


def _in_words(duration: timedelta) -> str:
    minutes, seconds = divmod(round(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (seconds if not hours else 0, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"
