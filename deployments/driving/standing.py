"""Whether campaigns run by themselves, and why not: by what the store and the Prefect server say together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import DeploymentResponse

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, Pause, PausedBy, Stop
from prefect_campaigns.deployments.driving.lookup import read_deployments
from prefect_campaigns.deployments.driving.strays import strays_among
from prefect_campaigns.deployments.running.server import connect
from prefect_campaigns.errors import ServerError
from prefect_campaigns.flows.paused_deployment import read_deployment
from prefect_campaigns.flows.pausing import BEING_DELETED, NO_REASON, pause_in_force, stop_pause, who_paused
from prefect_campaigns.instants import local_time

SERVER_SECONDS = 30.0
"""How long the server is waited for; without it the store says what it knows."""


ASKED_ONE_BY_ONE, ASKED_BY_NAME = 3, 100
"""Of how many campaigns the server is asked singly, and of how many by their names; of more, it is asked of all."""

RUNS, GOES_ON = "this run runs all the same", "this run goes on all the same"
"""What ``warnings_of`` says becomes of a run."""


class Standing(StrEnum):
    """How a campaign stands."""

    ACTIVE = "active"
    PAUSED = "paused"
    PAUSED_BY_PERSON = "paused by a person"
    STOPPED = "stopped"
    NOT_ENABLED = "not enabled"
    NOT_DEPLOYED = "not deployed"

    @property
    def words(self) -> str:
        """How people read it; programs read the value."""
        return "paused by the budget" if self is Standing.PAUSED else self.value


@dataclass(frozen=True, kw_only=True)
class CampaignState:
    """A campaign, and how it stands.

    Attributes:
        pause: why it is paused, since and until when; None when it is not, or when nobody wrote that down.
    """

    record: CampaignRecord
    standing: Standing
    pause: Pause | None = None


@dataclass(frozen=True, kw_only=True)
class States:
    """How campaigns stand.

    Attributes:
        stop: the emergency stop that stands; None where none does.
        strays: the deployments that the books do not know, where they were asked for.
        server_problem: why Prefect's API could not be asked; what a person paused there is not known then.
    """

    campaigns: tuple[CampaignState, ...]
    stop: Stop | None = None
    strays: tuple[DeploymentResponse, ...] = ()
    server_problem: str | None = None


async def read_states(store: CampaignStore, records: Iterable[CampaignRecord], *, with_strays: bool = False) -> States:
    """Ask the Prefect server how these campaigns stand; where it is away, go by the store alone.

    Args:
        with_strays: whether these are all campaigns of the books, and what they do not know is asked for, too.
    """
    records, stop = tuple(records), await store.read_stop()
    try:
        async with asyncio.timeout(SERVER_SECONDS), connect() as client:
            states = await _ask(client, store, records)
            there = await read_deployments(client) if with_strays else []
    except (ServerError, TimeoutError) as error:
        silence = f"no Prefect API answers within {SERVER_SECONDS:g} seconds"
        problem = silence if isinstance(error, TimeoutError) else str(error)
        return states_by_the_store(records, stop, server_problem=problem)
    strays = strays_among(there, {record.key for record in records})
    return replace(_seen(states, stop), strays=tuple(sorted(strays, key=lambda stray: stray.name)))


def states_by_the_store(
    records: Iterable[CampaignRecord], stop: Stop | None, *, server_problem: str | None = None
) -> States:
    """Return how campaigns stand as far as the store knows, which is not told what a person does in Prefect."""
    return _seen((_by_the_store(record) for record in records), stop, server_problem=server_problem)


def _seen(states: Iterable[CampaignState], stop: Stop | None, *, server_problem: str | None = None) -> States:
    """Return states as they are while the stop stands, which nobody but its end can lift."""
    campaigns = tuple(_while_stopped(state, stop) if stop else state for state in states)
    return States(campaigns=campaigns, stop=stop, server_problem=server_problem)


def _while_stopped(state: CampaignState, stop: Stop) -> CampaignState:
    """Return how a campaign stands that would run by itself, or by hand, if nothing were stopped."""
    if state.standing not in (Standing.ACTIVE, Standing.NOT_ENABLED):
        return state
    return replace(state, standing=Standing.STOPPED, pause=stop_pause(stop, since=stop.since))


async def ask_states(
    client: PrefectClient, store: CampaignStore, records: Sequence[CampaignRecord]
) -> Sequence[CampaignState]:
    """Ask the Prefect server how these campaigns stand.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    return _seen(await _ask(client, store, records), await store.read_stop()).campaigns


async def _ask(client: PrefectClient, store: CampaignStore, records: Sequence[CampaignRecord]) -> list[CampaignState]:
    found: list[DeploymentResponse | None]
    if len(records) <= ASKED_ONE_BY_ONE:
        found = [await read_deployment(client, record) for record in records]
    else:
        keys = [record.key for record in records] if len(records) <= ASKED_BY_NAME else None
        found = [*await read_deployments(client, keys)]
    deployments = {deployment.name: deployment for deployment in found if deployment is not None}
    return [await _state(client, store, record, deployments.get(record.key)) for record in records]


async def _state(
    client: PrefectClient, store: CampaignStore, record: CampaignRecord, deployment: DeploymentResponse | None
) -> CampaignState:
    if deployment is None:
        return CampaignState(record=record, standing=Standing.NOT_DEPLOYED)
    if not deployment.paused:
        return CampaignState(record=record, standing=_of_schedule(record, deployment))
    # A person may have paused what the budget had paused before.
    known = await who_paused(client, record)
    pause = known or pause_in_force(record, deployment)
    return CampaignState(record=record, standing=_of_pause(pause), pause=pause)


def _of_schedule(record: CampaignRecord, deployment: DeploymentResponse) -> Standing:
    schedule = record.campaign.schedule
    if schedule is None or any(one.active for one in deployment.schedules or ()):
        return Standing.ACTIVE
    return Standing.PAUSED_BY_PERSON if schedule.enabled and record.applied_schedule_active else Standing.NOT_ENABLED


_OF_PAUSE = {
    PausedBy.BUDGET: Standing.PAUSED,
    PausedBy.PERSON: Standing.PAUSED_BY_PERSON,
    PausedBy.STOP: Standing.STOPPED,
}


def _of_pause(pause: Pause | None) -> Standing:
    return Standing.PAUSED_BY_PERSON if pause is None else _OF_PAUSE[pause.by]


def _by_the_store(record: CampaignRecord) -> CampaignState:
    if record.pause is not None:
        return CampaignState(record=record, standing=_of_pause(record.pause), pause=record.pause)
    schedule = record.campaign.schedule
    if record.deployment_id is None:
        return CampaignState(record=record, standing=Standing.NOT_DEPLOYED)
    enabled = schedule is None or schedule.enabled
    return CampaignState(record=record, standing=Standing.ACTIVE if enabled else Standing.NOT_ENABLED)


def describe_state(state: CampaignState, *, now: datetime) -> str | None:
    """Say in one line why a campaign does not run by itself; None when it does, or has no schedule to run by.

    Instants are by the clocks of the campaign's timezone, and name it: nothing else may, where this is shown.
    """
    pause, zone = state.pause, state.record.campaign.timezone
    if state.standing is Standing.ACTIVE:
        return None
    if state.standing is Standing.NOT_DEPLOYED:
        return "Not deployed: the Prefect server has no such deployment; `campaigns apply` makes it."
    if state.standing is Standing.NOT_ENABLED:
        return "Not enabled: its schedule says so."
    if pause is None:
        return "Paused by a person: its schedule is switched off in Prefect."
    if pause.by is PausedBy.STOP:
        return f"Stopped since {local_time(pause.since, zone, now=now)} ({zone}): {pause.reason}"
    by = " by a person" if pause.by is PausedBy.PERSON and pause.reason != BEING_DELETED else ""
    until = f" until {local_time(pause.until, zone, now=now)}" if pause.until else ""
    why = "" if pause.reason == NO_REASON else f": {pause.reason}"
    return f"Paused{by} since {local_time(pause.since, zone, now=now)}{until} ({zone}){why}"


def warnings_of(state: CampaignState | None, what: str, *, now: datetime) -> list[str]:
    """Say what becomes of a run although a person has its campaign paused; nothing where none has."""
    if state is None or state.standing is not Standing.PAUSED_BY_PERSON:
        return []
    return [f"{state.record.key}: {what}. {describe_state(state, now=now)}"]


def describe_stop(stop: Stop) -> str:
    """Say that the emergency stop stands, who has said so, why, and what ends it."""
    return (
        f"Everything is stopped since {stop.since:%Y-%m-%d %H:%M} UTC, by {stop.by}: {stop.reason}."
        " To go on: campaigns start --all"
    )
