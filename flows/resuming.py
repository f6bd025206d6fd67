"""How a paused campaign goes on: by itself when its budget allows, or because a person says so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import DeploymentResponse

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, Pause, PausedBy
from prefect_campaigns.budget import (
    BudgetStatus,
    LimitStatus,
    Scope,
    describe_limits,
    first_moment_without,
    read_passed,
)
from prefect_campaigns.errors import EverythingStopped
from prefect_campaigns.flows.paused_deployment import (
    describe,
    due_resumptions,
    read_deployment,
    schedule_own_run,
    schedule_resumption,
    switch_on,
    until_text,
)
from prefect_campaigns.flows.pausing import (
    BEING_DELETED,
    NO_REASON,
    find_out_who_paused,
    pause_for_budget,
    show_pause,
    stop_pause,
)
from prefect_campaigns.forecast import due_from

MOMENT = timedelta(seconds=15)
"""What is due within this time is waited for: clocks differ, and Prefect starts a run up to half a second early."""

PUNCTUAL = timedelta(minutes=1)
"""A resumption that comes later than this after its moment says so."""

OVERDUE = timedelta(minutes=5)
"""A campaign that is still paused this long after its moment needs another run to resume it."""


_START_ALL = "`campaigns start --all` resumes what it has paused"


class Outcome(StrEnum):
    """What became of an attempt to resume a campaign."""

    RESUMED = "resumed"
    NOT_PAUSED = "not paused"
    LIMIT_HOLDS = "a limit holds"
    PAUSED_BY_PERSON = "paused by a person"
    STOPPED = "everything is stopped"


@dataclass(frozen=True)
class Resumption:
    """What became of an attempt to resume a campaign, and that in words.

    Attributes:
        until: when the campaign resumes, where a limit holds; None where it does not by itself.
        refusing: the limits that refuse the runs of a campaign that a person has resumed all the same.
    """

    outcome: Outcome
    message: str
    until: datetime | None = None
    refusing: tuple[LimitStatus, ...] = ()


async def resume_after_budget(
    client: PrefectClient, store: CampaignStore, key: str, *, now: datetime, is_worth_a_try: bool = False
) -> Resumption:
    """Resume a campaign that the budget paused, if no limit holds, or would be passed again by what was refused.

    Where a person has resumed the deployment in Prefect, the store forgets the pause, unless a limit holds. While the
    emergency stop stands nothing resumes, and what it has paused only its end does.

    Safe to repeat, and to do several times at once: the store forgets the pause last.

    Args:
        is_worth_a_try: whether what was refused may have become cheaper.

    Raises:
        UnknownCampaign: it has been deleted.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    record = await store.get_campaign(key)
    if (stop := await store.read_stop()) is not None:
        return Resumption(Outcome.STOPPED, f"{key} does not resume: everything is stopped by {stop.by}: {stop.reason}")
    pause = await find_out_who_paused(client, store, record)
    deployment = await read_deployment(client, record)
    if pause is None:
        return Resumption(Outcome.NOT_PAUSED, f"{key} is not paused")
    resumed_in_prefect = deployment is not None and not deployment.paused
    if pause.by is PausedBy.PERSON and not resumed_in_prefect:
        why = "" if pause.reason == NO_REASON else f": {pause.reason}"
        return Resumption(Outcome.PAUSED_BY_PERSON, f"{key} stays paused by a person{why}")
    if pause.by is PausedBy.STOP and not resumed_in_prefect:
        return Resumption(Outcome.STOPPED, f"{key} stays paused by the emergency stop: {_START_ALL}")
    status = await store.budget_status(key)
    refusing = () if resumed_in_prefect or is_worth_a_try else _refusing_still(pause, status, now=now)
    if holding := (*status.reached, *refusing):
        if pause.by is not PausedBy.BUDGET:
            # Whom a person has resumed in Prefect, the budget pauses.
            await store.set_pause(key, None, replacing=pause)
        await pause_for_budget(client, store, key, holding, now=now, are_all=True)
        until = first_moment_without(holding)
        message = f"{key} stays paused{until_text(until)}: {describe_limits(holding)}"
        return Resumption(Outcome.LIMIT_HOLDS, message, until)
    await _resume(client, store, record, deployment, now=now)
    return Resumption(Outcome.RESUMED, f"{key} is resumed{_lateness(pause, now)}; it was paused: {pause.reason}")


def _refusing_still(pause: Pause, status: BudgetStatus, *, now: datetime) -> tuple[LimitStatus, ...]:
    """Return the limits that a step's estimate would have passed and that leave no more than they left then.

    A limit that has been raised since, or of which less is spent by now, is worth a try.
    """
    if pause.until is not None and pause.until <= now:
        return ()
    then = read_passed(pause.reason)
    return tuple(
        limit
        for limit in status.all
        if not limit.reached
        and limit.name in then
        and limit.limit is not None
        and limit.limit <= then[limit.name][0]
        and limit.spent + limit.reserved >= then[limit.name][1]
    )


async def resume_overdue(client: PrefectClient, store: CampaignStore, *, now: datetime) -> list[str]:
    """Schedule the resumption of campaigns that should have been resumed long ago, and return their keys.

    The run that was to resume them gave up, or was deleted; where it only waits for a worker there will be no other.
    However many workers look, each campaign gets one run in five minutes.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    overdue = [
        record.key
        for record in await store.list_campaigns()
        if record.pause is not None
        and record.pause.by is PausedBy.BUDGET
        and record.pause.until is not None
        and now - record.pause.until > OVERDUE
    ]
    if not overdue or await store.read_stop() is not None:
        # The end of the emergency stop looks at them.
        return []
    waiting = await due_resumptions(client, now, begun_within=OVERDUE)
    unseen = [key for key in overdue if key not in waiting]
    moment = now - (now - datetime.fromtimestamp(0, UTC)) % OVERDUE
    for key in unseen:
        await schedule_resumption(client, key, moment)
    return unseen


async def _resume(
    client: PrefectClient,
    store: CampaignStore,
    record: CampaignRecord,
    deployment: DeploymentResponse | None,
    *,
    now: datetime,
) -> None:
    await _resume_deployment(client, record, deployment, now=now)
    if not await store.set_pause(record.key, None, replacing=record.pause):
        # Somebody has paused it in the meantime.
        present = await store.get_campaign(record.key)
        if present.pause is not None:
            await show_pause(client, store, present, present.pause)


async def _resume_deployment(
    client: PrefectClient, record: CampaignRecord, deployment: DeploymentResponse | None, *, now: datetime
) -> None:
    until = record.pause.until if record.pause else None
    if deployment is not None:
        await describe(client, deployment, None, paused=False)
        # A run that is due at the very moment is not lost, nor is one that was missed while nothing ran.
        since, schedule = min(until or now, now), record.campaign.schedule
        await schedule_own_run(client, deployment.id, due_from(schedule, since) if schedule else since)


async def resume_after_stop(client: PrefectClient, store: CampaignStore, key: str, *, now: datetime) -> bool:
    """Resume a campaign that the emergency stop has paused, now that the stop has ended; safe to repeat.

    Returns:
        Whether it was the stop that had paused it.

    Raises:
        EverythingStopped: the stop stands, again perhaps.
        UnknownCampaign: it has been deleted.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    if (stop := await store.read_stop()) is not None:
        raise EverythingStopped(by=stop.by, reason=stop.reason, since=stop.since)
    record = await store.get_campaign(key)
    if record.pause is None or record.pause.by is not PausedBy.STOP:
        return False
    await _resume(client, store, record, await read_deployment(client, record), now=now)
    return True


async def resume_after_deletion(client: PrefectClient, store: CampaignStore, key: str, *, now: datetime) -> bool:
    """Resume a campaign whose deletion has broken off, where it was that which paused it; safe to repeat.

    While the emergency stop stands the pause becomes the stop's, whose end resumes it.

    Returns:
        Whether it is resumed.

    Raises:
        UnknownCampaign: it is deleted by now.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    record = await store.get_campaign(key)
    if record.pause is None or record.pause.reason != BEING_DELETED:
        return False
    if (stop := await store.read_stop()) is not None:
        await store.set_pause(key, stop_pause(stop, since=now), replacing=record.pause)
        return False
    await _resume(client, store, record, await read_deployment(client, record), now=now)
    return True


async def resume_by_person(
    client: PrefectClient, store: CampaignStore, record: CampaignRecord, *, now: datetime
) -> Resumption:
    """Resume a campaign, whoever paused it, and say so where its limits will refuse its runs all the same.

    The outcome is ``NOT_PAUSED`` where it was not paused, whatever the store still says of a pause that is over.

    Pausing the deployment and switching its schedule off are two ways in which people pause in Prefect: both end.

    Where its limits refuse its runs, the store keeps the budget's pause, as it does when a person resumes in Prefect:
    the next run finds it, and people who have been told of a limit that is reached are not told again.

    Raises:
        EverythingStopped: the emergency stop stands.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    if (stop := await store.read_stop()) is not None:
        raise EverythingStopped(by=stop.by, reason=stop.reason, since=stop.since)
    pause, status = record.pause, await store.budget_status(record.key)
    refusing = (*status.reached, *(_refusing_still(pause, status, now=now) if pause else ()))
    deployment = await read_deployment(client, record)
    was_paused = pause is not None
    if deployment is not None:
        was_paused = await switch_on(client, record, deployment) or deployment.paused
    if refusing and pause is not None and pause.by is PausedBy.BUDGET:
        await _resume_deployment(client, record, deployment, now=now)
    elif was_paused or pause is not None:
        await _resume(client, store, record, deployment, now=now)
    message = f"{record.key} is {'resumed' if was_paused else 'not paused'}"
    if refusing:
        message = f"{message}, but {_refusal(refusing)}"
    outcome = Outcome.RESUMED if was_paused else Outcome.NOT_PAUSED
    return Resumption(outcome, message, first_moment_without(refusing), refusing)


def _refusal(limits: tuple[LimitStatus, ...]) -> str:
    """Say that these limits will refuse the next run, until when, and what to do."""
    until = first_moment_without(limits)
    when = f"any run before {until:%Y-%m-%d %H:%M} UTC" if until else "every run"
    will = "will" if any(limit.reached for limit in limits) else "may"
    scopes = {limit.scope for limit in limits}
    acts = ["raise the limit in its file and apply"] if Scope.CAMPAIGN in scopes else []
    acts += ["raise the account's with campaigns budget --account"] if Scope.ACCOUNT in scopes else []
    return f"{when} {will} be refused: {describe_limits(limits)}. To have it run, {', and '.join(acts)}."


def _lateness(pause: Pause, now: datetime) -> str:
    if pause.until is None or now - pause.until <= PUNCTUAL:
        return ""
    hours, minutes = divmod(round((now - pause.until).total_seconds() / 60), 60)
    return f", {f'{hours} h ' if hours else ''}{minutes} min late"
