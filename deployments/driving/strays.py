"""Strays: deployments of campaigns that the books do not know.

Their row may be in other books, or have come after the backup that was restored. A run of one finds no row, and ends as
Failed before it asks anybody for anything: it spends nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AuditAction, CampaignRecord, Pause, PausedBy, Stop
from prefect_campaigns.deployments.driving.audit import record as record_audit
from prefect_campaigns.deployments.driving.lookup import as_uuid, match_campaign, match_name, read_deployments
from prefect_campaigns.errors import EverythingStopped, UnknownCampaign
from prefect_campaigns.faults import examine
from prefect_campaigns.flows.campaign import ENTRYPOINT, FLOW_NAME
from prefect_campaigns.flows.paused_deployment import describe, said_of_pause
from prefect_campaigns.flows.pausing import NO_REASON, stop_pause
from prefect_campaigns.models import Campaign

NOT_IN_BOOKS = "not in the books"

_SHOWN = 3
"""How many deployments a sentence names."""


def strays_among(deployments: Iterable[DeploymentResponse], keys: Collection[str]) -> list[DeploymentResponse]:
    """Return the deployments of campaigns that the books, which have these keys, do not know.

    A flow that somebody else has named like ours is none.
    """
    return [one for one in deployments if one.entrypoint == ENTRYPOINT and one.name not in keys]


async def read_strays(client: PrefectClient, store: CampaignStore) -> list[DeploymentResponse]:
    """Return the deployments of campaigns that the books do not know.

    Prefect is asked first: an apply writes the row before it makes the deployment.
    """
    deployments = await read_deployments(client)
    return strays_among(deployments, {record.key for record in await store.list_campaigns()})


def remedy(name: str = "NAME") -> str:
    """Say what to do about a stray, in an order that harms nobody: other books first."""
    return (
        "if its books are others, set SUPABASE_URL or CAMPAIGNS_DATABASE; else campaigns apply of its file takes it"
        f" into these, and campaigns delete {name} deletes it"
    )


def describe_strays(strays: Sequence[DeploymentResponse]) -> str:
    """Say in one sentence which deployments the books do not know, what their runs do, and what to do about them."""
    names = [f"{FLOW_NAME}/{one.name}" for one in strays]
    shown = ", ".join(names[:_SHOWN]) + ("" if len(names) <= _SHOWN else f" and {len(names) - _SHOWN} more")
    if len(strays) == 1:
        return f"Deployment {shown} is {NOT_IN_BOOKS}, and its runs fail and spend nothing: {remedy(strays[0].name)}."
    return f"Deployments {shown} are {NOT_IN_BOOKS}, and their runs fail and spend nothing. Of each: {remedy()}."


def campaign_of_stray(stray: DeploymentResponse) -> Campaign | None:
    """Return the campaign that the deployment's parameters hold; None where they hold none that can be used."""
    campaign, _ = examine(stray.parameters.get("campaign"))
    return campaign


def schedule_of(stray: DeploymentResponse) -> str:
    """Say when the deployment runs by itself."""
    active = [one.schedule for one in stray.schedules or () if one.active and isinstance(one.schedule, CronSchedule)]
    return ", ".join(f"{at.cron} {at.timezone or 'UTC'}" for at in active) or "by hand"


async def find_campaign_or_stray(
    client: PrefectClient, store: CampaignStore, name: str
) -> CampaignRecord | DeploymentResponse:
    """Return the campaign that a name, a slug, its id or its deployment's id means, or else the stray.

    Raises:
        UnknownCampaign: there is neither; says the nearest ones.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    records = await store.list_campaigns()
    try:
        return match_campaign(name, records)
    except UnknownCampaign:
        deployments = await read_deployments(client)
    by_key = {record.key: record for record in records}
    strays = {one.name: one for one in strays_among(deployments, by_key)}
    if (wanted := as_uuid(name)) is not None:
        for one in deployments:
            # Of a campaign whose row does not know its deployment, too.
            if one.id == wanted and (found := by_key.get(one.name) or strays.get(one.name)):
                return found
    key = match_name(name, [*by_key, *strays])
    return by_key.get(key) or strays[key]


async def find_in_books(client: PrefectClient, store: CampaignStore, name: str) -> CampaignRecord:
    """Return the campaign that a name, a slug, its id or its deployment's id means.

    Raises:
        UnknownCampaign: there is none, or only a stray; says which, and what to do about it.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    found = await find_campaign_or_stray(client, store, name)
    if isinstance(found, DeploymentResponse):
        raise UnknownCampaign(describe_strays([found]).rstrip("."))
    return found


async def pause_stray(
    client: PrefectClient,
    store: CampaignStore,
    stray: DeploymentResponse,
    *,
    reason: str | None,
    actor: str,
    now: datetime,
) -> Pause:
    """Pause a stray in Prefect, which is all there is of it; an apply that takes it into the books leaves it paused."""
    pause = Pause(by=PausedBy.PERSON, reason=reason or NO_REASON, since=now)
    await _show(client, stray, pause)
    detail = {"state": NOT_IN_BOOKS, **({"reason": reason} if reason else {})}
    await record_audit(
        client, store, actor=actor, action=AuditAction.CAMPAIGN_PAUSED, campaign_key=stray.name, detail=detail
    )
    return pause


async def _show(client: PrefectClient, stray: DeploymentResponse, pause: Pause) -> None:
    await describe(client, stray, pause)
    await client.pause_deployment(stray.id)


def is_held_by_stop(store: CampaignStore, deployment: DeploymentResponse) -> bool:
    """Whether the emergency stop of these books has paused the deployment as a stray, and nobody has paused it since.

    The deployment's description remembers it, as there is no row that could.
    """
    return deployment.paused and _of_stray(store) in said_of_pause(deployment.description)


def _of_stray(store: CampaignStore) -> str:
    """Return what tells the stop of these books from one of others, to which the deployment may belong."""
    return f"; it is {NOT_IN_BOOKS} at {store.books}, which are stopped"


async def stop_stray(
    client: PrefectClient, store: CampaignStore, stray: DeploymentResponse, stop: Stop, *, now: datetime
) -> bool:
    """Pause a stray that is not paused, until the emergency stop ends; safe to repeat.

    Returns:
        Whether it is paused by the stop now.

    Raises:
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    if stray.paused:
        return is_held_by_stop(store, stray)
    pause = stop_pause(stop, since=now)
    try:
        await _show(client, stray, replace(pause, reason=f"{pause.reason}{_of_stray(store)}"))
    except ObjectNotFound:
        # Deleted meanwhile.
        return False
    return True


async def start_stray(client: PrefectClient, store: CampaignStore, stray: DeploymentResponse) -> bool:
    """Resume a stray that the emergency stop has paused, now that the stop has ended; safe to repeat.

    Returns:
        Whether it was the stop that had paused it.

    Raises:
        EverythingStopped: the stop stands, again perhaps.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    if not is_held_by_stop(store, stray):
        return False
    if (stop := await store.read_stop()) is not None:
        raise EverythingStopped(by=stop.by, reason=stop.reason, since=stop.since)
    try:
        await describe(client, stray, None, paused=False)
    except ObjectNotFound:
        # Deleted meanwhile.
        return False
    return True
