"""What has happened that people may be told of, as Prefect knows it, and what it says of the mails about that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import AutomationSort, FlowRunSort
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import Automation, EventTrigger
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

from prefect_campaigns.blocks.email_composing import BUDGET_ALERT_STATE, REPORT_LABEL, RunNotice
from prefect_campaigns.blocks.email_templates import POOL_NOT_READY, POOL_READY, POOL_STATES
from prefect_campaigns.clock import current_clock
from prefect_campaigns.flows.alerts import ALERT_EVENT, CAMPAIGN_RESOURCE
from prefect_campaigns.flows.paused_deployment import OUR_TAG

BRIEF = timedelta(seconds=60)
"""How long a work pool has to be not ready for people to be told of it, where the server has just been started."""

SURE = timedelta(seconds=15)
"""How long after that it is sure that the server has heard of what ended it."""

_STATUSES_SINCE = timedelta(days=7)
"""How far back the statuses of pools are looked through: what one was before tells what has become of it."""

_FLOW_RUN_EVENT = "prefect.flow-run."
_COMPLETED = f"{_FLOW_RUN_EVENT}Completed"
_RUNS, _EVENTS = 200, 50
_RUN_TAG = "campaign"
_POOL = "work pool "


@dataclass(frozen=True)
class Teller:
    """An automation that mails one recipient.

    Attributes:
        since: when it was made, or changed last: of what was before nobody knows whether it would have told.
    """

    id: UUID
    events: frozenset[str]
    tags: frozenset[str]
    block_id: UUID
    since: datetime

    def tells_of(self, happening: Happening, *, however_old: bool) -> bool:
        """Whether it tells of that; of what was before it was made so only where ``however_old``."""
        is_about = happening.event in self.events and bool(happening.tags & self.tags)
        return is_about and (however_old or happening.at >= self.since)


@dataclass(frozen=True, kw_only=True)
class Happening:
    """Something that people may be told of, and all that a mail about it says."""

    event_id: UUID
    event: str
    tags: frozenset[str]
    campaign_key: str | None
    run_id: UUID | None
    notice: RunNotice
    at: datetime


class Happenings:
    """Asks Prefect what has happened.

    Every method may raise PrefectException and httpx.HTTPError: Prefect is not there.
    """

    def __init__(self, client: PrefectClient) -> None:
        self._client = client

    async def tellers(self) -> list[Teller]:
        """Return the automations of ours that tell somebody, and that nobody has switched off."""
        found: list[Teller] = []
        offset = 0
        while True:
            # As JSON: Prefect's client leaves out when an automation was changed last.
            wanted = {"sort": AutomationSort.NAME_ASC, "limit": _RUNS, "offset": offset}
            page = (await self._client.request("POST", "/automations/filter", json=wanted)).json()
            offset += len(page)
            found += [teller for automation in page if (teller := _teller(automation)) is not None]
            if len(page) < _RUNS:
                return found

    async def said(self, event_ids: Collection[UUID]) -> dict[tuple[UUID, UUID], bool]:
        """Return, by event and automation, whether the mail was sent, for those of which Prefect says anything."""
        said: dict[tuple[UUID, UUID], bool] = {}
        ids = [str(event_id) for event_id in event_ids]
        for start in range(0, len(ids), _EVENTS):
            of_events = [f"prefect.event.{event_id}" for event_id in ids[start : start + _EVENTS]]
            found = await self._read_events({"event": {"name": [_EXECUTED, _FAILED]}, "related": {"id": of_events}})
            for event in found:
                automation = UUID(event["resource"]["prefect.resource.id"].removeprefix("prefect.automation."))
                for trigger in (one for one in event["related"] if one["prefect.resource.role"] == "triggering-event"):
                    key = UUID(trigger["prefect.resource.id"].removeprefix("prefect.event.")), automation
                    said[key] = said.get(key, False) or event["event"] == _EXECUTED
        return said

    async def _read_events(self, filter: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = (
            await self._client.request("POST", "/events/filter", json={"filter": filter, "limit": _EVENTS})
        ).json()
        found = list(answer["events"])
        while next_page := answer.get("next_page"):
            token = parse_qs(urlsplit(next_page).query)["page-token"][0]
            answer = (await self._client.request("GET", "/events/filter/next", params={"page-token": token})).json()
            found += answer["events"]
        return found

    async def happenings(
        self, since: datetime, tellers: Iterable[Teller], *, known: Collection[UUID]
    ) -> list[Happening]:
        """Return what has happened since then that somebody may be told of.

        Args:
            known: the events that need not be looked at again.
        """
        events = {event for teller in tellers for event in teller.events}
        if not events:
            return []
        found: list[Happening] = []
        ended = FlowRunFilter(end_time=FlowRunFilterEndTime(after_=since))
        paused = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])))
        for wanted in (ended, paused):
            for flow_run in await self._read_runs(wanted):
                states = await self._states(flow_run)
                names = [state for state in states if f"{_FLOW_RUN_EVENT}{state.name}" in events]
                found += [_of_run(flow_run, state) for state in names]
        found += await self._left_again(since, events, {*known, *(one.event_id for one in found)})
        if others := sorted(events & _OTHERS.keys()):
            wanted_events = {"event": {"name": others}, "occurred": {"since": since.isoformat()}}
            seen = await self._read_events(wanted_events)
            # Asked after that: what is seen of a pool is a moment, or not, by all that came up to then, and more.
            brief = await self._brief(since) if POOL_NOT_READY in events else frozenset()
            found += [_OTHERS[event["event"]](event) for event in seen if event["id"] not in brief]
        return found

    async def _brief(self, since: datetime) -> frozenset[str]:
        """Return the events since then that say of a pool what it was for a moment, and that nobody was told of.

        A server that has just been started tells nobody of these (``event_order``); any other tells at once.
        """
        # Reading may take a while, and a pool be told of meanwhile that it was gone for longer than a moment.
        now, earlier = current_clock().now(), (since - _STATUSES_SINCE).isoformat()
        statuses = await self._read_events({"event": {"name": sorted(POOL_STATES)}, "occurred": {"since": earlier}})
        moments = _moments(statuses, now=now)
        told = {str(event_id) for event_id, _ in await self.said([UUID(moment[0]) for moment in moments])}
        return frozenset(event_id for moment in moments if moment[0] not in told for event_id in moment)

    async def _left_again(self, since: datetime, events: Collection[str], known: Collection[UUID]) -> list[Happening]:
        """Return the states that runs were in for a moment: one that crashed may go on, and end much later."""
        names = [name for name in events if name.startswith(_FLOW_RUN_EVENT) and name != _COMPLETED]
        if not names:
            return []
        wanted = {"event": {"name": sorted(names)}, "occurred": {"since": since.isoformat()}}
        found: list[Happening] = []
        for event in await self._read_events(wanted):
            id = UUID(event["id"])
            if id in known:
                continue
            run_id = UUID(event["resource"]["prefect.resource.id"].removeprefix(_FLOW_RUN_EVENT))
            with suppress(ObjectNotFound):
                flow_run = await self._client.read_flow_run(run_id)
                states = await self._client.read_flow_run_states(run_id)
                found += [_of_run(flow_run, state) for state in states if state.id == id]
        return found

    async def _read_runs(self, wanted: FlowRunFilter) -> list[FlowRun]:
        wanted = wanted.model_copy(update={"tags": FlowRunFilterTags(all_=[_RUN_TAG])})
        found: list[FlowRun] = []
        while True:
            page = await self._client.read_flow_runs(
                flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, limit=_RUNS, offset=len(found)
            )
            found += page
            if len(page) < _RUNS:
                return found

    async def _states(self, flow_run: FlowRun) -> list[State[Any]]:
        """Return the states of a run that people may be told of; one that ran once has but the last one."""
        if flow_run.run_count <= 1:
            return [] if flow_run.state is None else [flow_run.state]
        return list(await self._client.read_flow_run_states(flow_run.id))


_EXECUTED, _FAILED = "prefect.automation.action.executed", "prefect.automation.action.failed"


def _teller(said: Mapping[str, Any]) -> Teller | None:
    """Return the automation as far as it tells somebody of campaigns; None where it does not, or is switched off."""
    if OUR_TAG not in said.get("tags", ()):
        return None
    automation = Automation.model_validate(said)
    trigger, actions = automation.trigger, automation.actions
    if not automation.enabled or not isinstance(trigger, EventTrigger) or len(actions) != 1:
        return None
    (action,) = actions
    tags = _pool_of(trigger) if trigger.expect <= POOL_STATES.keys() else _tags(trigger)
    if not tags or not isinstance(action, SendNotification):
        return None
    since = datetime.fromisoformat(said["updated"])
    return Teller(automation.id, frozenset(trigger.expect), tags, action.block_document_id, since)


def _pool_of(trigger: EventTrigger) -> frozenset[str]:
    """Return what stands for the tags of what is about a work pool: its name."""
    match = trigger.match if isinstance(trigger.match, dict) else trigger.match.model_dump()
    name = match.get("prefect.resource.name", "")
    return frozenset({f"{_POOL}{name if isinstance(name, str) else name[0]}"})


def _tags(trigger: EventTrigger) -> frozenset[str]:
    related = trigger.match_related
    found: list[str] = []
    for one in related if isinstance(related, list) else [related]:
        ids = (one if isinstance(one, dict) else one.model_dump()).get("prefect.resource.id", [])
        found += [ids] if isinstance(ids, str) else ids
    return frozenset(id.removeprefix("prefect.tag.") for id in found if id.startswith("prefect.tag."))


def _of_run(flow_run: FlowRun, state: State[Any]) -> Happening:
    campaign = flow_run.parameters.get("campaign")
    name = str(campaign.get("name", "")) if isinstance(campaign, dict) else ""
    notice = RunNotice(
        campaign_name=name,
        run=flow_run.name,
        run_id=str(flow_run.id),
        state=state.name or "",
        message=state.message or "",
        occurred=state.timestamp.isoformat(),
        url=url_for("flow-run", obj_id=flow_run.id) or "",
        event=str(state.id),
        report=str(flow_run.labels.get(REPORT_LABEL, "")),
    )
    return Happening(
        event_id=state.id,
        event=f"{_FLOW_RUN_EVENT}{state.name}",
        tags=frozenset(flow_run.tags),
        campaign_key=None,
        run_id=flow_run.id,
        notice=notice,
        at=state.timestamp,
    )


def _of_alert(event: Mapping[str, Any]) -> Happening:
    related = {one["prefect.resource.role"]: one for one in event["related"]}
    flow_run = related.get("flow-run", {})
    key = event["resource"]["prefect.resource.id"].removeprefix(f"{CAMPAIGN_RESOURCE}.")
    run_id = flow_run.get("prefect.resource.id", "").removeprefix(_FLOW_RUN_EVENT)
    notice = RunNotice(
        campaign=key,
        campaign_name=event["resource"].get("prefect.resource.name", key),
        run=flow_run.get("prefect.resource.name", ""),
        run_id=run_id,
        state=BUDGET_ALERT_STATE,
        message=str(event["payload"].get("message", "")),
        occurred=event["occurred"],
        event=event["id"],
    )
    tags = (one["prefect.resource.id"] for one in event["related"] if one["prefect.resource.role"] == "tag")
    return Happening(
        event_id=UUID(event["id"]),
        event=event["event"],
        tags=frozenset(tag.removeprefix("prefect.tag.") for tag in tags),
        campaign_key=key,
        run_id=UUID(run_id) if run_id else None,
        notice=notice,
        at=datetime.fromisoformat(event["occurred"]),
    )


def _of_pool(event: Mapping[str, Any]) -> Happening:
    state, message = POOL_STATES[event["event"]]
    pool = f"{_POOL}{event['resource'].get('prefect.resource.name', '')}"
    notice = RunNotice(
        campaign_name=pool,
        state=state,
        message=message,
        occurred=event["occurred"],
        event=event["id"],
    )
    return Happening(
        event_id=UUID(event["id"]),
        event=event["event"],
        tags=frozenset({pool}),
        campaign_key=None,
        run_id=None,
        notice=notice,
        at=datetime.fromisoformat(event["occurred"]),
    )


def _moments(statuses: Iterable[Mapping[str, Any]], *, now: datetime) -> list[tuple[str, ...]]:
    """Return the moments in which a pool was not ready: the event, and the one that made it ready as it was before.

    One that may be over in a moment is one of them.
    """
    moments: list[tuple[str, ...]] = []
    for pool in _by_pool(statuses):
        for at, event in enumerate(pool):
            if event["event"] != POOL_NOT_READY:
                continue
            before, after = pool[at - 1 : at] if at else [], pool[at + 1 : at + 2]
            ended = _at(after[0]) if after else now - SURE
            if ended - _at(event) >= BRIEF:
                continue
            was_ready = not before or before[0]["event"] == POOL_READY
            is_over = bool(after) and after[0]["event"] == POOL_READY
            moments.append((event["id"], after[0]["id"]) if is_over and was_ready else (event["id"],))
    return moments


def _by_pool(statuses: Iterable[Mapping[str, Any]]) -> Iterable[list[Mapping[str, Any]]]:
    pools: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for event in sorted(statuses, key=_at):
        pools[event["resource"]["prefect.resource.id"]].append(event)
    return pools.values()


def _at(event: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(event["occurred"])


_OTHERS: Mapping[str, Callable[[Mapping[str, Any]], Happening]] = {
    ALERT_EVENT: _of_alert,
    **dict.fromkeys(POOL_STATES, _of_pool),
}
"""What people may be told of beside the states of runs, by Prefect's event."""
