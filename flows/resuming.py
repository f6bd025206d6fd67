"""How a paused campaign goes on: by itself when its budget allows, or because a person says so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import DeploymentResponse

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, Pause, PausedBy
from prefect_campaigns.budget import BudgetStatus, LimitStatus, describe_limits, first_moment_without
from prefect_campaigns.flows.paused_deployment import (
    describe,
    due_resumptions,
    read_deployment,
    schedule_own_run,
    schedule_resumption,
    until_text,
)
from prefect_campaigns.flows.pausing import find_out_who_paused, pause_for_budget, show_pause
from prefect_campaigns.money import format_money

MOMENT = timedelta(seconds=15)
"""What is due within this time is waited for: clocks differ, and Prefect starts a run up to half a second early."""

PUNCTUAL = timedelta(minutes=1)
"""A resumption that comes later than this after its moment says so."""

OVERDUE = timedelta(minutes=5)
"""A campaign that is still paused this long after its moment needs another run to resume it."""


class Outcome(StrEnum):
    """What became of an attempt to resume a campaign."""

    RESUMED = "resumed"
    NOT_PAUSED = "not paused"
    LIMIT_HOLDS = "a limit holds"
    PAUSED_BY_PERSON = "paused by a person"


@dataclass(frozen=True)
class Resumption:
    """What became of an attempt to resume a campaign, and that in words.

    Attributes:
        until: when the campaign resumes, where a limit holds; None where it does not by itself.
    """

    outcome: Outcome
    message: str
    until: datetime | None = None


async def resume_after_budget(client: PrefectClient, store: CampaignStore, key: str, *, now: datetime) -> Resumption:
    """Resume a campaign that the budget paused, if no limit holds, or would be passed again by what was refused.

    Where a person has resumed the deployment in Prefect, the store forgets the pause, unless a limit holds.

    Safe to repeat, and to do several times at once: the store forgets the pause last.

    Raises:
        UnknownCampaign: it has been deleted.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    record = await store.get_campaign(key)
    pause = await find_out_who_paused(client, store, record)
    deployment = await read_deployment(client, record)
    if pause is None:
        return Resumption(Outcome.NOT_PAUSED, f"{key} is not paused")
    resumed_in_prefect = deployment is not None and not deployment.paused
    if pause.by is PausedBy.PERSON and not resumed_in_prefect:
        return Resumption(Outcome.PAUSED_BY_PERSON, f"{key} stays paused by a person: {pause.reason}")
    status = await store.budget_status(key)
    is_due = pause.until is not None and pause.until <= now
    refusing = () if is_due or resumed_in_prefect else _refusing_still(pause, status)
    if holding := (*status.reached, *refusing):
        if pause.by is PausedBy.PERSON:
            # Whom a person has resumed in Prefect, the budget pauses.
            await store.set_pause(key, None, replacing=pause)
        await pause_for_budget(client, store, key, holding, now=now, are_all=True)
        until = first_moment_without(holding)
        message = f"{key} stays paused{until_text(until)}: {describe_limits(holding)}"
        return Resumption(Outcome.LIMIT_HOLDS, message, until)
    await _resume(client, store, record, deployment, now=now)
    return Resumption(Outcome.RESUMED, f"{key} is resumed{_lateness(pause, now)}; it was paused: {pause.reason}")


def _refusing_still(pause: Pause, status: BudgetStatus) -> tuple[LimitStatus, ...]:
    """Return the limits that a step's estimate would have passed and that stand as they stood.

    A limit that has been changed since is worth a try.
    """
    return tuple(
        limit
        for limit in status.all
        if limit.limit
        and not limit.reached
        and f"budget: {limit.name} {format_money(limit.limit)} would be passed" in pause.reason
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
    if not overdue:
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
    until = record.pause.until if record.pause else None
    if deployment is not None:
        await describe(client, deployment, None, paused=False)
        # A run that is due at the very moment is not lost, nor is one that was missed while nothing ran.
        await schedule_own_run(client, deployment.id, min(until or now, now))
    if not await store.set_pause(record.key, None, replacing=record.pause):
        # Somebody has paused it in the meantime.
        present = await store.get_campaign(record.key)
        if present.pause is not None:
            await show_pause(client, store, present, present.pause)


async def resume_by_person(
    client: PrefectClient, store: CampaignStore, record: CampaignRecord, *, now: datetime
) -> str:
    """Resume a campaign, whoever paused it; return what happened. While a limit holds, the budget pauses it.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    holding = (await store.budget_status(record.key)).reached
    if holding:
        if record.pause is not None and record.pause.by is PausedBy.PERSON:
            await store.set_pause(record.key, None, replacing=record.pause)
        await pause_for_budget(client, store, record.key, holding, now=now, are_all=True)
        until = first_moment_without(holding)
        then = "resumes by itself then" if until else "does not resume by itself"
        return f"{record.key} stays paused{until_text(until)}, and {then}: {describe_limits(holding)}"
    await _resume(client, store, record, await read_deployment(client, record), now=now)
    return f"{record.key} is resumed"


def _lateness(pause: Pause, now: datetime) -> str:
    if pause.until is None or now - pause.until <= PUNCTUAL:
        return ""
    hours, minutes = divmod(round((now - pause.until).total_seconds() / 60), 60)
    return f", {f'{hours} h ' if hours else ''}{minutes} min late"
