"""How a campaign that the budget stopped is paused, and how it goes on by itself.

A pause stands in the store, which decides, and on the Prefect deployment, where people see it: paused, with the reason
at the head of its description. A flow run of ``resume-campaign`` is scheduled for the moment at which the limits no
longer hold, and so is the campaign's own next run from that moment on, which nobody would make otherwise: Prefect's
scheduler makes no runs of a paused deployment, and none in the past of one that is resumed.

What a person paused stays paused. A person says so by ``campaigns pause``, which writes it into the store, or by
pausing the deployment in Prefect. If the budget had paused it before, Prefect shows no difference, save one: pausing
deletes the runs that are scheduled, and the run that we had scheduled is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, Pause, PausedBy
from prefect_campaigns.budget import BudgetStatus, LimitStatus, Scope, first_moment_without
from prefect_campaigns.errors import ServerError, StoreError
from prefect_campaigns.money import format_money

RESUME_FLOW_NAME = "resume-campaign"
RESUME_DEPLOYMENT = f"{RESUME_FLOW_NAME}/campaigns"
"""The deployment whose runs resume campaigns; ``campaigns apply`` makes it."""

RESUME_ENTRYPOINT = "prefect_campaigns.flows.resume.resume_campaign"

MOMENT = timedelta(seconds=15)
"""What is due within this time is waited for: clocks differ, and Prefect starts a run up to half a second early."""

PUNCTUAL = timedelta(minutes=1)
"""A resumption that comes later than this after its moment says so."""

EPOCH = datetime.fromtimestamp(0, UTC)

_TRIES = 5
_MARK = re.compile(r"\A\*\*Paused\.\*\* .*?(\n\n|\Z)", re.DOTALL)


def described(description: str | None, pause: Pause | None) -> str:
    """Return a deployment's description with its pause at the head, in place of any that stands there."""
    plain = _MARK.sub("", description or "")
    if pause is None:
        return plain
    return f"**Paused.** {pause.reason}. Since {pause.since:%Y-%m-%d %H:%M} UTC{_until(pause.until)}.\n\n{plain}"


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


def pause_in_force(record: CampaignRecord, deployment: DeploymentResponse) -> Pause | None:
    """Return why a campaign is paused, by what the store and Prefect say together; None when it is not.

    Prefect has the last word on whether, the store on why: a person resumes in Prefect what anybody has paused, and a
    pause that the store knows nothing of is a person's.
    """
    if not deployment.paused:
        return None
    return record.pause or Pause(by=PausedBy.PERSON, reason="paused in Prefect", since=deployment.updated or EPOCH)


async def pause_for_budget(
    client: PrefectClient,
    store: CampaignStore,
    key: str,
    limits: Iterable[LimitStatus],
    *,
    now: datetime,
) -> bool:
    """Pause a campaign whose run these limits stopped, until the first moment at which none of them holds.

    The limit of a run (``perRun``) pauses nothing. What a person paused is left as it is; what the budget has paused
    already is paused for longer, if it has to be. The store comes first: while Prefect cannot be reached the
    deployment goes on making runs, and each of them ends at the budget gate.

    Returns:
        Whether the budget had not paused it before.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there; the store knows of the pause all the same.
    """
    windowed = [limit for limit in limits if limit.scope is not Scope.RUN]
    if not windowed:
        return True
    wanted = Pause(
        by=PausedBy.BUDGET,
        reason=_said(windowed),
        since=now,
        until=first_moment_without(windowed),
    )
    for _ in range(_TRIES):
        record = await store.get_campaign(key)
        present = await find_out_who_paused(client, store, record)
        if present is None:
            if await store.set_pause(key, wanted, replacing=None):
                await show_pause(client, store, record, wanted)
                return True
        elif present.by is PausedBy.PERSON:
            return True
        elif not _is_longer(wanted, present):
            deployment = await _deployment(client, record)
            if deployment is not None and not deployment.paused:
                # Somebody resumed it in Prefect; the money is spent all the same.
                await show_pause(client, store, record, present)
            return False
        else:
            longer = replace(wanted, since=present.since)
            if await store.set_pause(key, longer, replacing=present):
                await show_pause(client, store, record, longer)
                return False
    raise _unsettled(key)


def _is_longer(wanted: Pause, present: Pause) -> bool:
    if present.until is None:
        return False
    return wanted.until is None or wanted.until > present.until


def _unsettled(key: str) -> StoreError:
    return StoreError(f"the pause of campaign {key!r} could not be written: somebody changes it all the time")


async def show_pause(client: PrefectClient, store: CampaignStore, record: CampaignRecord, pause: Pause) -> None:
    """Make Prefect's side of a pause so: the deployment paused and described, and what ends the pause scheduled.

    Safe to repeat. The resumption comes first, so that a crash leaves no campaign paused that nobody resumes; should it
    be over before this is, the deployment is resumed again.
    """
    pause = await await_no_run(store, record.key, pause)
    if pause.by is PausedBy.BUDGET and pause.until is not None:
        await _schedule_resumption(client, record.key, pause.until)
    deployment = await _deployment(client, record)
    if deployment is None:
        return
    await _describe(client, deployment, pause)
    await client.pause_deployment(deployment.id)
    if pause.by is PausedBy.BUDGET and pause.until is not None:
        awaited = await _schedule_own_run(client, deployment.id, pause.until)
        await store.set_pause(record.key, replace(pause, awaited_run_id=awaited), replacing=pause)
    if (await store.get_campaign(record.key)).pause is None:
        await _describe(client, deployment, None, paused=False)


async def await_no_run(store: CampaignStore, key: str, pause: Pause) -> Pause:
    """Forget the run by whose absence a person's pause is known, before the deployment is changed, which deletes it."""
    forgetful = replace(pause, awaited_run_id=None)
    if forgetful != pause and not await store.set_pause(key, forgetful, replacing=pause):
        return pause
    return forgetful


async def _deployment(client: PrefectClient, record: CampaignRecord) -> DeploymentResponse | None:
    if record.deployment_id is None:
        return None
    try:
        return await client.read_deployment(record.deployment_id)
    except ObjectNotFound:
        return None


async def _describe(
    client: PrefectClient, deployment: DeploymentResponse, pause: Pause | None, *, paused: bool | None = None
) -> None:
    """Write the pause into the deployment's description, or take it out; and pause or resume it in the same act."""
    changes: dict[str, object] = {"description": described(deployment.description, pause)}
    if paused is not None:
        changes["paused"] = paused
    # Whatever an update does not name is emptied where its schema has a default.
    await client.update_deployment(deployment.id, DeploymentUpdate.model_validate({"tags": deployment.tags, **changes}))


async def _schedule_resumption(client: PrefectClient, key: str, until: datetime) -> None:
    try:
        deployment = await client.read_deployment_by_name(RESUME_DEPLOYMENT)
    except ObjectNotFound:
        raise ServerError(f"there is no deployment {RESUME_DEPLOYMENT}; `campaigns apply` makes it") from None
    await client.create_flow_run_from_deployment(
        deployment.id,
        name=f"resume-{key}",
        parameters={"campaign": key},
        state=Scheduled(scheduled_time=until),
        idempotency_key=f"resume {key} {until.isoformat()}",
    )


async def _schedule_own_run(client: PrefectClient, deployment_id: UUID, since: datetime) -> UUID | None:
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


async def who_paused(client: PrefectClient, record: CampaignRecord) -> Pause | None:
    """Return the pause of the campaign: a person's, where one has paused in Prefect what the budget had paused."""
    pause = record.pause
    if pause is None or pause.by is PausedBy.PERSON or pause.awaited_run_id is None:
        return pause
    deployment = await _deployment(client, record)
    if deployment is None or not deployment.paused:
        return pause
    try:
        await client.read_flow_run(pause.awaited_run_id)
    except ObjectNotFound:
        return Pause(by=PausedBy.PERSON, reason=f"paused in Prefect, after {pause.reason}", since=pause.since)
    return pause


async def find_out_who_paused(client: PrefectClient, store: CampaignStore, record: CampaignRecord) -> Pause | None:
    """Return what ``who_paused`` does, and write it down."""
    pause = await who_paused(client, record)
    if pause != record.pause and pause is not None and await store.set_pause(record.key, pause, replacing=record.pause):
        deployment = await _deployment(client, record)
        if deployment is not None:
            await _describe(client, deployment, pause)
    return pause


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
    deployment = await _deployment(client, record)
    if pause is None:
        return Resumption(Outcome.NOT_PAUSED, f"{key} is not paused")
    resumed_in_prefect = deployment is not None and not deployment.paused
    if pause.by is PausedBy.PERSON and not resumed_in_prefect:
        return Resumption(Outcome.PAUSED_BY_PERSON, f"{key} stays paused by a person: {pause.reason}")
    status = await store.budget_status(key)
    holding = status.reached
    is_due = pause.until is not None and pause.until <= now
    if holding:
        await pause_for_budget(client, store, key, holding, now=now)
        until = first_moment_without(holding)
        return Resumption(Outcome.LIMIT_HOLDS, f"{key} stays paused{_until(until)}: {_said(holding)}", until)
    if not (is_due or resumed_in_prefect) and _would_be_passed_again(pause, status):
        return Resumption(Outcome.LIMIT_HOLDS, f"{key} stays paused{_until(pause.until)}: {pause.reason}", pause.until)
    await _resume(client, store, record, deployment, now=now)
    return Resumption(Outcome.RESUMED, f"{key} is resumed{_lateness(pause, now)}; it was paused: {pause.reason}")


def _would_be_passed_again(pause: Pause, status: BudgetStatus) -> bool:
    """Whether a limit that a step's estimate would have passed stands as it stood; a changed one is worth a try."""
    return any(
        f"{passing.name} {format_money(passing.limit)} would be passed" in pause.reason
        for passing in status.all
        if passing.limit
    )


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
        await _describe(client, deployment, None, paused=False)
        # A run that is due at the very moment is not lost, nor is one that was missed while nothing ran.
        await _schedule_own_run(client, deployment.id, min(until or now, now))
    if not await store.set_pause(record.key, None, replacing=record.pause):
        # Somebody has paused it in the meantime.
        present = await store.get_campaign(record.key)
        if present.pause is not None:
            await show_pause(client, store, present, present.pause)


async def pause_by_person(
    client: PrefectClient, store: CampaignStore, record: CampaignRecord, *, reason: str | None, now: datetime
) -> None:
    """Pause a campaign until a person resumes it, whatever the budget says meanwhile.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there; the store knows of the pause all the same.
    """
    pause = Pause(by=PausedBy.PERSON, reason=reason or "paused by a person", since=now)
    for _ in range(_TRIES):
        if await store.set_pause(record.key, pause, replacing=record.pause):
            await show_pause(client, store, record, pause)
            return
        record = await store.get_campaign(record.key)
    raise _unsettled(record.key)


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
        await pause_for_budget(client, store, record.key, holding, now=now)
        until = first_moment_without(holding)
        then = "resumes by itself then" if until else "does not resume by itself"
        return f"{record.key} stays paused{_until(until)}, and {then}: {_said(holding)}"
    await _resume(client, store, record, await _deployment(client, record), now=now)
    return f"{record.key} is resumed"


def _said(limits: Iterable[LimitStatus]) -> str:
    return "; ".join(limit.describe() for limit in limits)


def _until(instant: datetime | None) -> str:
    return f" until {instant:%Y-%m-%d %H:%M} UTC" if instant else ""


def _lateness(pause: Pause, now: datetime) -> str:
    if pause.until is None or now - pause.until <= PUNCTUAL:
        return ""
    hours, minutes = divmod(round((now - pause.until).total_seconds() / 60), 60)
    return f", {f'{hours} h ' if hours else ''}{minutes} min late"
