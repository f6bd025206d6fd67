"""Sending the mails that are owed: those that an automation could not send, and those that none has tried to.

Prefect's server tries once, shortly, and keeps what waits in its memory. It says of each mail, by an event, that it was
sent or that it failed. So what is owed is found by comparing: what has happened to the runs, whom the automations would
tell of it, and what the events say. A mail that failed is tried again at once. One of which nothing is heard for a
while, since the server was killed, is taken over: by then no automation is at it any more (``LATE`` in ``email``).

Everything is tried until it is sent, or until a day has passed. A mail has one Message-ID, however often it is tried.
Slack channels are told by Prefect's own block, once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import anyio
from prefect.blocks.core import Block
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
from prefect.logging.loggers import flow_run_logger
from prefect.utilities.urls import url_for

from prefect_campaigns.blocks.email import LATE, POOL_STATES, CampaignEmail, MailFailed
from prefect_campaigns.blocks.email_composing import BUDGET_ALERT_STATE, RunNotice
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import MailRecord, MailState
from prefect_campaigns.flows.alerts import ALERT_EVENT, CAMPAIGN_RESOURCE
from prefect_campaigns.flows.run import RunLogger
from prefect_campaigns.flows.silence import Watch

OWED_FOR = timedelta(days=1)
"""How long a mail is tried."""

TAKEN_OVER_SECONDS = LATE.total_seconds() + 60.0
"""How long nothing was heard of a mail when it is taken over: its automation may have begun to send it when it was
nearly late, has ten seconds for it, and its event is on its way for a while."""

OVERLAP = timedelta(minutes=5)
"""How far a look goes back beyond the one before: by clocks that differ, and for what was written late."""

TRIES_FOR_SECONDS = 60.0
"""How long one look goes on trying; what is left is tried at the next one."""

FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
"""After how long a mail that the mail server has refused is tried again; twice as long each time."""

_FLOW_RUN_EVENT = "prefect.flow-run."
_RUNS, _EVENTS = 200, 50
_RUN_TAG = "campaign"
_POOL = frozenset({"work pool"})
"""What stands for the tags of what is about the work pool."""


@dataclass(frozen=True)
class _Teller:
    """An automation that mails one recipient.

    Attributes:
        since: when it was made, or changed last: of what was before nobody knows whether it would have told.
    """

    id: UUID
    events: frozenset[str]
    tags: frozenset[str]
    block_id: UUID
    since: datetime

    def tells_of(self, happening: _Happening) -> bool:
        return happening.event in self.events and bool(happening.tags & self.tags) and happening.at >= self.since


@dataclass(frozen=True, kw_only=True)
class _Happening:
    """Something that people may be told of, and all that a mail about it says."""

    event_id: UUID
    event: str
    tags: frozenset[str]
    campaign_key: str | None
    run_id: UUID | None
    notice: RunNotice
    at: datetime


@dataclass(frozen=True)
class _Mail:
    """Something that one recipient is to be told of."""

    happening: _Happening
    teller: _Teller

    @property
    def key(self) -> tuple[UUID, UUID]:
        return self.happening.event_id, self.teller.id


class OwedMails:
    """Finds the mails that are owed, and sends them; one at a time does so.

    What it has found once it remembers: the first look goes back a day, the later ones a few minutes.

    Args:
        taken_over_seconds: how long nothing was heard of a mail when it is taken over.
    """

    def __init__(
        self, client: PrefectClient, *, logger: RunLogger, taken_over_seconds: float = TAKEN_OVER_SECONDS
    ) -> None:
        self._client = client
        self._logger = logger
        self._looked_at: datetime | None = None
        self._open: dict[tuple[UUID, UUID], _Mail] = {}
        self._done: dict[tuple[UUID, UUID], datetime] = {}
        self._unheard = Watch(taken_over_seconds)
        self._blocks: dict[UUID, CampaignEmail | None] = {}

    async def look(self, store: CampaignStore, *, now: datetime) -> None:
        """Find what is owed by now, and try to send it.

        Raises:
            StoreError: the store is not there.
            PrefectException, httpx.HTTPError: Prefect is not there.
        """
        tellers = await self._read_tellers()
        self._blocks = {}
        since = now - OWED_FOR if self._looked_at is None else self._looked_at - OVERLAP
        for happening in await self._happenings(since, tellers):
            for teller in tellers:
                mail = _Mail(happening, teller)
                if teller.tells_of(happening) and mail.key not in self._done:
                    self._open.setdefault(mail.key, mail)
        self._done = {key: at for key, at in self._done.items() if at > now - OWED_FOR - OVERLAP}
        self._looked_at = now
        if self._open:
            await self._see_to_open(store, now)

    async def _see_to_open(self, store: CampaignStore, now: datetime) -> None:
        """Cross off what was sent, and try what is owed."""
        said = await self._said_by_prefect({mail.happening.event_id for mail in self._open.values()})
        self._unheard.look({key: key for key in self._open if key not in said})
        records = await self._records(store)
        owed: list[tuple[_Mail, CampaignEmail, MailRecord]] = []
        sent: list[MailRecord] = []
        for mail in list(self._open.values()):
            block = await self._block(mail.teller)
            if block is None:
                # No mail, or deleted with its automation.
                self._close(mail)
                continue
            known = records.get((mail.happening.event_id, block.recipient))
            record = known or _record_of(mail, block)
            if record.state is not MailState.OWED:
                self._close(mail)
            elif said.get(mail.key):
                sent.append(replace(record, state=MailState.SENT, attempts=record.attempts + 1, sent_at=now))
                self._close(mail)
            elif mail.key in said or known is not None or self._unheard.is_silent(mail.key):
                owed.append((mail, block, record))
        await store.record_mails([*sent, *(record for _, _, record in owed)])
        await self._try(store, owed, now)

    async def _try(
        self, store: CampaignStore, owed: Sequence[tuple[_Mail, CampaignEmail, MailRecord]], now: datetime
    ) -> None:
        unreachable: set[tuple[object, int | None]] = set()
        until = anyio.current_time() + TRIES_FOR_SECONDS
        # Those that were tried least often come first, so that none that fails is in the way of the others.
        for mail, block, record in sorted(owed, key=lambda one: one[2].attempts):
            server = (block.credentials.smtp_server, block.credentials.smtp_port)
            if now - record.owed_since > OWED_FOR:
                await self._give_up(store, mail, record)
            elif server in unreachable or anyio.current_time() > until or (record.next_try_at or now) > now:
                continue
            else:
                tried = await self._send(mail, block, record, now)
                await store.record_mails([tried])
                if tried.state is MailState.SENT:
                    self._close(mail)
                elif tried.next_try_at is None:
                    unreachable.add(server)

    async def _send(self, mail: _Mail, block: CampaignEmail, record: MailRecord, now: datetime) -> MailRecord:
        """Try once; return what is to be written down."""
        attempts = record.attempts + 1
        try:
            await block.send(mail.happening.notice.dump(), record.subject)
        except MailFailed as failure:
            self._logger.warning("%s", failure.log)
            pause = min(FIRST_PAUSE * 2 ** min(record.attempts, 10), LONGEST_PAUSE)
            next_try_at = now + pause if failure.is_refused else None
            return replace(record, attempts=attempts, next_try_at=next_try_at, error=failure.log)
        self._logger.info("Mailed %s, which was owed: %s", record.recipient, record.subject)
        return replace(record, state=MailState.SENT, attempts=attempts, sent_at=now, next_try_at=None, error=None)

    async def _give_up(self, store: CampaignStore, mail: _Mail, record: MailRecord) -> None:
        """Say in the log, on the run and in the store that nobody was told."""
        await store.record_mails([replace(record, state=MailState.GIVEN_UP, next_try_at=None)])
        self._close(mail)
        said = f"{record.recipient} was not told: {record.subject}; given up after a day: {record.error}"
        self._logger.error("%s", said)
        if mail.happening.run_id is not None:
            with suppress(ObjectNotFound):
                flow_run_logger(await self._client.read_flow_run(mail.happening.run_id)).error("%s", said)

    def _close(self, mail: _Mail) -> None:
        del self._open[mail.key]
        self._done[mail.key] = mail.happening.at

    async def _records(self, store: CampaignStore) -> Mapping[tuple[UUID, str], MailRecord]:
        ids = {mail.happening.event_id for mail in self._open.values()}
        return {(one.event_id, one.recipient): one for one in await store.mails_about(ids)}

    # What Prefect knows

    async def _read_tellers(self) -> list[_Teller]:
        found: list[_Teller] = []
        offset = 0
        while True:
            # As JSON: Prefect's client leaves out when an automation was changed last.
            wanted = {"sort": AutomationSort.NAME_ASC, "limit": _RUNS, "offset": offset}
            page = (await self._client.request("POST", "/automations/filter", json=wanted)).json()
            offset += len(page)
            found += [teller for automation in page if (teller := _teller(automation)) is not None]
            if len(page) < _RUNS:
                return found

    async def _block(self, teller: _Teller) -> CampaignEmail | None:
        """Return the block that mails; None where it is of another kind, or deleted."""
        if teller.block_id not in self._blocks:
            try:
                document = await self._client.read_block_document(teller.block_id)
            except ObjectNotFound:
                self._blocks[teller.block_id] = None
            else:
                is_mail = document.block_type and document.block_type.slug == CampaignEmail.get_block_type_slug()
                block = Block._from_block_document(document) if is_mail else None
                self._blocks[teller.block_id] = block if isinstance(block, CampaignEmail) else None
        return self._blocks[teller.block_id]

    async def _said_by_prefect(self, event_ids: Collection[UUID]) -> dict[tuple[UUID, UUID], bool]:
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

    async def _happenings(self, since: datetime, tellers: Iterable[_Teller]) -> list[_Happening]:
        """Return what has happened to runs, and the alerts, that somebody may be told of."""
        events = {event for teller in tellers for event in teller.events}
        if not events:
            return []
        found: list[_Happening] = []
        ended = FlowRunFilter(end_time=FlowRunFilterEndTime(after_=since))
        paused = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])))
        for wanted in (ended, paused):
            for flow_run in await self._read_runs(wanted):
                states = await self._states(flow_run)
                names = [state for state in states if f"{_FLOW_RUN_EVENT}{state.name}" in events]
                found += [_of_run(flow_run, state) for state in names if state.timestamp > since - OVERLAP]
        if others := sorted(events & _OTHERS.keys()):
            wanted_events = {"event": {"name": others}, "occurred": {"since": since.isoformat()}}
            found += [_OTHERS[event["event"]](event) for event in await self._read_events(wanted_events)]
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


def _teller(said: Mapping[str, Any]) -> _Teller | None:
    """Return the automation as far as it tells somebody of campaigns; None where it does not, or is switched off."""
    automation = Automation.model_validate(said)
    trigger, actions = automation.trigger, automation.actions
    if not automation.enabled or not isinstance(trigger, EventTrigger) or len(actions) != 1:
        return None
    (action,) = actions
    tags = _POOL if trigger.expect <= POOL_STATES.keys() else _tags(trigger)
    if not tags or not isinstance(action, SendNotification):
        return None
    since = datetime.fromisoformat(said["updated"])
    return _Teller(automation.id, frozenset(trigger.expect), tags, action.block_document_id, since)


def _tags(trigger: EventTrigger) -> frozenset[str]:
    related = trigger.match_related
    found: list[str] = []
    for one in related if isinstance(related, list) else [related]:
        ids = (one if isinstance(one, dict) else one.model_dump()).get("prefect.resource.id", [])
        found += [ids] if isinstance(ids, str) else ids
    return frozenset(id.removeprefix("prefect.tag.") for id in found if id.startswith("prefect.tag."))


def _record_of(mail: _Mail, block: CampaignEmail) -> MailRecord:
    happening = mail.happening
    return MailRecord(
        event_id=happening.event_id,
        recipient=block.recipient,
        campaign_key=happening.campaign_key,
        run_id=None if happening.run_id is None else str(happening.run_id),
        subject=happening.notice.headline,
        state=MailState.OWED,
        owed_since=happening.at,
    )


def _of_run(flow_run: FlowRun, state: State[Any]) -> _Happening:
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
    )
    return _Happening(
        event_id=state.id,
        event=f"{_FLOW_RUN_EVENT}{state.name}",
        tags=frozenset(flow_run.tags),
        campaign_key=None,
        run_id=flow_run.id,
        notice=notice,
        at=state.timestamp,
    )


def _of_alert(event: Mapping[str, Any]) -> _Happening:
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
    return _Happening(
        event_id=UUID(event["id"]),
        event=event["event"],
        tags=frozenset(tag.removeprefix("prefect.tag.") for tag in tags),
        campaign_key=key,
        run_id=UUID(run_id) if run_id else None,
        notice=notice,
        at=datetime.fromisoformat(event["occurred"]),
    )


def _of_pool(event: Mapping[str, Any]) -> _Happening:
    state, message = POOL_STATES[event["event"]]
    notice = RunNotice(
        campaign_name=f"work pool {event['resource'].get('prefect.resource.name', '')}",
        state=state,
        message=message,
        occurred=event["occurred"],
        event=event["id"],
    )
    return _Happening(
        event_id=UUID(event["id"]),
        event=event["event"],
        tags=_POOL,
        campaign_key=None,
        run_id=None,
        notice=notice,
        at=datetime.fromisoformat(event["occurred"]),
    )


_OTHERS: Mapping[str, Callable[[Mapping[str, Any]], _Happening]] = {
    ALERT_EVENT: _of_alert,
    **dict.fromkeys(POOL_STATES, _of_pool),
}
"""What people may be told of beside the states of runs, by Prefect's event."""
