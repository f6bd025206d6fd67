"""How a campaign that the budget stopped is paused, and who paused it.

A pause stands in the store, which decides, and on the Prefect deployment, where people see it: paused, with the reason
at the head of its description. A flow run of ``resume-campaign`` is scheduled for the moment at which the limits no
longer hold, and so is the campaign's own next run from that moment on, which nobody would make otherwise: Prefect's
scheduler makes no runs of a paused deployment, and none in the past of one that is resumed.

What a person paused stays paused. A person says so by ``campaigns pause``, which writes it into the store, or by
pausing the deployment in Prefect. If the budget had paused it before, Prefect shows no difference, save one: pausing
deletes the runs that are scheduled, and the run that we had scheduled is gone.

The emergency stop pauses what is not paused, and its end resumes that and nothing else. ``campaigns pause`` makes its
pause a person's; the budget does not touch it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import DeploymentResponse

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, Pause, PausedBy, Stop
from prefect_campaigns.budget import LimitStatus, Scope, describe_limits, first_moment_without
from prefect_campaigns.errors import StoreError
from prefect_campaigns.flows.paused_deployment import (
    describe,
    described,
    read_deployment,
    run_exists,
    schedule_own_run,
    schedule_resumption,
)
from prefect_campaigns.forecast import due_from

EPOCH = datetime.fromtimestamp(0, UTC)

NO_REASON = "paused by a person"
"""The reason of a person's pause who gave none."""

BEING_DELETED = "its deletion has begun; `campaigns delete` finishes it, and applying its file takes it back"
"""The reason of the pause with which a deletion begins: nobody but these two ends it, save a person who resumes."""

_TRIES = 5


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
    are_all: bool = False,
) -> bool:
    """Pause a campaign that these limits stop, until the first moment at which none of them holds.

    The limit of a run (``perRun``) pauses nothing. What a person or the emergency stop paused is left as it is. What
    the budget has paused already is paused for longer, if it has to be; and for less, if these are all limits that
    hold now (``are_all``) and not just those that a step ran into. The store comes first: while Prefect cannot be
    reached the deployment goes on making runs, and each of them ends at the budget gate.

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
        reason=describe_limits(windowed),
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
        elif present.by is not PausedBy.BUDGET:
            return True
        elif wanted.until == present.until or not (are_all or _is_longer(wanted, present)):
            deployment = await read_deployment(client, record)
            has_next = record.campaign.schedule is not None and present.until is not None
            is_shown = not has_next or present.awaited_run_id is not None
            if deployment is not None and not (deployment.paused and is_shown):
                # Somebody resumed it in Prefect, and the money is spent all the same; or whoever paused was cut off.
                await show_pause(client, store, record, present)
            return False
        else:
            other = replace(wanted, since=present.since)
            if await store.set_pause(key, other, replacing=present):
                await show_pause(client, store, record, other)
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

    Safe to repeat. The resumption comes first, so that a crash leaves no campaign paused that nobody resumes; should
    the budget's pause be over before this is, the deployment is resumed again.
    """
    pause = await await_no_run(store, record.key, pause)
    if pause.by is PausedBy.BUDGET and pause.until is not None:
        await schedule_resumption(client, record.key, pause.until)
    deployment = await read_deployment(client, record)
    if deployment is None:
        return
    await describe(client, deployment, pause)
    await client.pause_deployment(deployment.id)
    if pause.by is PausedBy.PERSON:
        return
    if pause.until is not None:
        schedule = record.campaign.schedule
        since = due_from(schedule, pause.until) if schedule else pause.until
        await _await_own_run(client, store, record.key, deployment.id, pause, since=since)
    if (await store.get_campaign(record.key)).pause is None:
        await describe(client, deployment, None, paused=False)


async def _await_own_run(
    client: PrefectClient, store: CampaignStore, key: str, deployment_id: UUID, pause: Pause, *, since: datetime
) -> None:
    """Schedule the campaign's first run after its pause and write down which it is, however many do so at once."""
    present = pause
    for _ in range(_TRIES):
        awaited = await schedule_own_run(client, deployment_id, since)
        if await store.set_pause(key, replace(present, awaited_run_id=awaited), replacing=present):
            return
        found = (await store.get_campaign(key)).pause
        if found is None or replace(found, awaited_run_id=None) != replace(pause, awaited_run_id=None):
            # It is over, or another one, which whoever made it shows.
            return
        if found.awaited_run_id is not None and await run_exists(client, found.awaited_run_id):
            return
        # Whoever wrote that one down made it before we paused the deployment, which deleted it.
        present = found
    raise _unsettled(key)


async def await_no_run(store: CampaignStore, key: str, pause: Pause) -> Pause:
    """Forget the run by whose absence a person's pause is known, before the deployment is changed, which deletes it."""
    forgetful = replace(pause, awaited_run_id=None)
    if forgetful != pause and not await store.set_pause(key, forgetful, replacing=pause):
        return pause
    return forgetful


async def who_paused(client: PrefectClient, record: CampaignRecord) -> Pause | None:
    """Return the pause of the campaign: a person's, where one has paused in Prefect what the budget had paused."""
    pause = record.pause
    if pause is None or pause.by is PausedBy.PERSON or pause.awaited_run_id is None:
        return pause
    deployment = await read_deployment(client, record)
    if deployment is None or not deployment.paused:
        return pause
    if await run_exists(client, pause.awaited_run_id):
        return pause
    return Pause(by=PausedBy.PERSON, reason=f"paused in Prefect, after {pause.reason}", since=pause.since)


async def find_out_who_paused(client: PrefectClient, store: CampaignStore, record: CampaignRecord) -> Pause | None:
    """Return what ``who_paused`` does, and write it down."""
    pause = await who_paused(client, record)
    if pause != record.pause and pause is not None and await store.set_pause(record.key, pause, replacing=record.pause):
        deployment = await read_deployment(client, record)
        if deployment is not None:
            await describe(client, deployment, pause)
    return pause


async def pause_by_person(
    client: PrefectClient, store: CampaignStore, record: CampaignRecord, *, reason: str | None, now: datetime
) -> bool:
    """Pause a campaign until a person resumes it, whatever the budget says meanwhile.

    A person's pause that is in force stays as it is, unless another reason is given.

    Prefect comes first: a deployment that is paused there, and of which the store knows nothing, was paused by a
    person, while a person's pause in the store of a deployment that is not looks as if somebody had resumed it.

    Returns:
        Whether that has changed anything.

    Raises:
        StoreError: the store is not there; Prefect knows of the pause all the same.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    if await _is_paused_so(client, record, reason):
        return False
    for _ in range(_TRIES):
        deployment = await read_deployment(client, record)
        pause = Pause(by=PausedBy.PERSON, reason=reason or NO_REASON, since=now)
        present = record.pause
        # What a person has resumed in Prefect since is over, whatever the store still says.
        is_in_force = deployment is None or deployment.paused
        is_a_persons = present is not None and present.by is PausedBy.PERSON and present.reason != BEING_DELETED
        if not reason and is_in_force and present is not None and is_a_persons:
            pause = present
        if deployment is not None:
            await client.pause_deployment(deployment.id)
        if await store.set_pause(record.key, pause, replacing=record.pause):
            await show_pause(client, store, record, pause)
            return True
        record = await store.get_campaign(record.key)
    raise _unsettled(record.key)


async def _is_paused_so(client: PrefectClient, record: CampaignRecord, reason: str | None) -> bool:
    """Whether a person has paused the campaign already, for that reason where one is given; lets Prefect say so."""
    deployment, pause = await read_deployment(client, record), record.pause
    present = pause if deployment is None else pause_in_force(record, deployment)
    if present is None or present.by is not PausedBy.PERSON or present.reason == BEING_DELETED:
        return False
    if reason and reason != present.reason:
        return False
    if (
        pause is not None
        and deployment is not None
        and deployment.description != described(deployment.description, pause)
    ):
        # Whoever paused it was broken off.
        await describe(client, deployment, pause)
    return True


async def pause_for_deletion(
    client: PrefectClient,
    store: CampaignStore,
    record: CampaignRecord,
    deployment: DeploymentResponse,
    *,
    now: datetime,
) -> None:
    """Pause a campaign that is to be deleted, and say so, unless it is paused already: that pause stays as it is.

    The store comes first: a deployment that is paused, and of which the store knows nothing, counts as paused by a
    person, and nothing would take that back but a person.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there; the store knows of the pause all the same.
    """
    present = record.pause
    if not deployment.paused and (present is None or present.by is PausedBy.PERSON):
        # A person's pause of a deployment that is not paused is over: somebody has resumed it in Prefect.
        pause = Pause(by=PausedBy.PERSON, reason=BEING_DELETED, since=now)
        await store.set_pause(record.key, pause, replacing=present)
    await client.pause_deployment(deployment.id)


def stop_pause(stop: Stop, *, since: datetime) -> Pause:
    """Return the pause of a campaign that the emergency stop pauses."""
    return Pause(by=PausedBy.STOP, reason=f"emergency stop by {stop.by}: {stop.reason}", since=since)


async def pause_by_stop(
    client: PrefectClient, store: CampaignStore, record: CampaignRecord, stop: Stop, *, now: datetime
) -> bool:
    """Pause a campaign that is not paused, until the emergency stop ends.

    What a person or the budget has paused stays theirs, unless somebody has resumed it in Prefect since. Safe to
    repeat. The store comes first: a deployment that is paused, and of which the store knows nothing, counts as paused
    by a person, and the end of the stop would leave it so.

    Returns:
        Whether the campaign is paused by the stop now.

    Raises:
        UnknownCampaign: it has been deleted.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there; the store knows of the pause all the same.
    """
    wanted = stop_pause(stop, since=now)
    for _ in range(_TRIES):
        present, deployment = record.pause, await read_deployment(client, record)
        is_paused = deployment.paused if deployment is not None else present is not None
        if present is not None and present.by is PausedBy.STOP:
            wanted = present
        elif is_paused:
            return False
        if wanted == present or await store.set_pause(record.key, wanted, replacing=present):
            if deployment is not None:
                await show_pause(client, store, record, wanted)
            return True
        record = await store.get_campaign(record.key)
    raise _unsettled(record.key)
