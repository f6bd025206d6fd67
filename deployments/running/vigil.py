"""Noticing that campaigns are not being run, and saying so: once when it begins, and once when it is over.

What Prefect's server can see by itself, that nobody works in the work pool or that it is paused, its automations say
(``compile_operators``). Here is what only a worker can see: that the Prefect server is away, or the store, or that runs
are late although somebody works. Of all workers the first one says so.

As long as none of that is so, and the pool is not paused, each worker pings an outside watchdog, which tells people
when nothing comes any more, whatever the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid4

import anyio
import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound, PrefectException

from prefect_campaigns.blocks.email import CampaignEmail, MailFailed
from prefect_campaigns.blocks.email_composing import RunNotice
from prefect_campaigns.blocks.settings import Settings, load_settings
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.clock import Clock, current_clock
from prefect_campaigns.deployments.applying.saved_mail import MailServer, load_mail, mail_in_use
from prefect_campaigns.deployments.compile import CAMPAIGN_TAG
from prefect_campaigns.deployments.running.upkeep import WorkerLogger
from prefect_campaigns.errors import CampaignsError

LOOK_SECONDS = 15.0

AWAY_SECONDS = 120.0
"""How long something is wrong before anybody is told: a restart is no outage."""

LATE_AFTER = timedelta(minutes=2)
"""How long a run has been due, and nobody has taken it up, when it is late."""

PING_SECONDS = 60.0
PING_LIMIT_SECONDS = 10.0
ASK_SECONDS = 20.0
"""How long server and store have for an answer before they count as away."""


class Trouble(StrEnum):
    """Why campaigns are not being run."""

    SERVER = "the Prefect server is away"
    STORE = "the store is away"
    LATE = "runs are late"
    PAUSED = "the work pool is paused"

    @property
    def consequence(self) -> str:
        """What follows from it, and what to do."""
        return _CONSEQUENCES[self]


_CONSEQUENCES = {
    Trouble.SERVER: "Campaigns that are due do not begin. What runs goes on as far as it can. See whether Prefect's"
    " server is up, and whether this machine reaches it.",
    Trouble.STORE: "Campaigns that are due do not begin, since nobody knows what they may spend. What runs waits for"
    " five minutes. See whether the store is up, and whether this machine reaches it.",
    Trouble.LATE: "Nobody has taken up runs that are due, although a worker lives. See whether a work queue is paused,"
    " or a limit of the pool or of its workers is reached: prefect work-pool inspect campaigns.",
    Trouble.PAUSED: "",
}

_TOLD_BY_SERVER = (Trouble.PAUSED,)


@dataclass
class _Incident:
    """A trouble that goes on, or of whose end people have to be told still.

    Attributes:
        id: names it, so that a mail about it that is repeated can be told as such.
        began, since: when it was noticed first, by the event loop's clock and by that on the wall.
        has_begun: whether it has lasted long enough for people to be told.
        owes: the addresses that are to be told that it began, and have not been.
        over: when it ended.
        owes_end: the addresses that are to be told that it is over, and have not been.
    """

    id: UUID
    began: float
    since: datetime
    has_begun: bool = False
    owes: tuple[str, ...] = ()
    over: datetime | None = None
    owes_end: tuple[str, ...] = ()


class Vigil:
    """What one worker does about campaigns that are not being run.

    Args:
        own_id: the worker's own process; of all that lived when the store was last there, the first one tells people.
        away_seconds: how long something is wrong before anybody is told.
    """

    def __init__(
        self,
        client: PrefectClient,
        *,
        own_id: UUID,
        worker_name: str,
        work_pool: str,
        logger: WorkerLogger,
        away_seconds: float = AWAY_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._own_id = own_id
        self._worker_name = worker_name
        self._work_pool = work_pool
        self._away_seconds = away_seconds
        self._logger = logger
        self._clock = clock or current_clock()
        self._incidents: dict[Trouble, _Incident] = {}
        self._ended: list[tuple[Trouble, _Incident]] = []
        self._first: UUID = own_id
        self._mail: MailServer | None = None
        self._pinged_at: float | None = None

    async def keep_for_ever(self) -> None:
        """Look every fifteen seconds."""
        while True:
            try:
                await self.look(load_settings())
            except Exception as error:
                # Of any kind: nobody else would notice that this task has ended.
                self._logger.warning("Not known whether campaigns are being run: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, settings: Settings) -> None:
        """See whether campaigns are being run; tell people, or the watchdog."""
        troubles = await self._troubles(settings)
        self._note(troubles, settings)
        if self._first == self._own_id:
            await self._tell()
        else:
            # Somebody else does.
            self._ended.clear()
        if not troubles:
            await self._ping(settings)

    async def _troubles(self, settings: Settings) -> set[Trouble]:
        troubles = set()
        try:
            async with asyncio.timeout(ASK_SECONDS), open_store(settings) as store:
                workers = await store.list_workers()
            self._first = min((one.id for one in workers if not one.has_expired), default=self._own_id)
        except (CampaignsError, TimeoutError):
            troubles.add(Trouble.STORE)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                troubles |= await self._troubles_of_server(settings)
        except (httpx.HTTPError, PrefectException, TimeoutError):
            # Which books to open may be the server's to say. Of what only it knows, nobody knows that it is over; nor
            # that it goes on, where it was seen for a moment only.
            troubles.discard(Trouble.STORE)
            troubles |= {Trouble.SERVER, *(one for one, incident in self._incidents.items() if incident.has_begun)}
        return troubles

    async def _troubles_of_server(self, settings: Settings) -> set[Trouble]:
        self._mail = mail_in_use(settings, await load_mail(self._client))
        try:
            pool = await self._client.read_work_pool(self._work_pool)
        except ObjectNotFound:
            # Nothing is deployed yet; the worker makes the pool.
            return set()
        if pool.is_paused:
            return {Trouble.PAUSED}
        due = FlowRunFilter(
            tags=FlowRunFilterTags(all_=[CAMPAIGN_TAG]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=self._clock.now() - LATE_AFTER),
        )
        return {Trouble.LATE} if await self._client.read_flow_runs(flow_run_filter=due, limit=1) else set()

    def _note(self, troubles: set[Trouble], settings: Settings) -> None:
        now = anyio.current_time()
        for trouble in troubles:
            incident = self._incidents.setdefault(trouble, _Incident(uuid4(), now, self._clock.now()))
            if not incident.has_begun and now - incident.began >= self._away_seconds:
                incident.has_begun = True
                self._logger.error("Since %s %s", f"{incident.since:%H:%M:%S} UTC", trouble)
                if trouble not in _TOLD_BY_SERVER:
                    incident.owes = tuple(settings.operators)
        for trouble in self._incidents.keys() - troubles:
            incident = self._incidents.pop(trouble)
            if incident.has_begun:
                incident.over = self._clock.now()
                self._logger.info("It is over that %s", trouble)
                if trouble not in _TOLD_BY_SERVER:
                    incident.owes_end = tuple(settings.operators)
                    self._ended.append((trouble, incident))

    async def _tell(self) -> None:
        for trouble, incident in self._incidents.items():
            incident.owes = await self._mail_to(incident.owes, self._beginning(trouble, incident))
        for trouble, incident in self._ended:
            # Whom nobody could tell that it began hears of both at once.
            late = f" {trouble.consequence}" if incident.owes else ""
            incident.owes_end = await self._mail_to(incident.owes_end, self._end(trouble, incident, late))
        self._ended = [(trouble, incident) for trouble, incident in self._ended if incident.owes_end]

    def _beginning(self, trouble: Trouble, incident: _Incident) -> RunNotice:
        return RunNotice(
            campaign_name=str(trouble),
            state="Nobody works" if trouble is not Trouble.LATE else "Late",
            message=f"Since {incident.since:%Y-%m-%d %H:%M:%S} UTC {trouble}, says worker {self._worker_name!r}."
            f" {trouble.consequence}",
            occurred=incident.since.isoformat(),
            event=str(incident.id),
        )

    def _end(self, trouble: Trouble, incident: _Incident, late: str) -> RunNotice:
        over = incident.over or self._clock.now()
        minutes = max(round((over - incident.since).total_seconds() / 60), 1)
        return RunNotice(
            campaign_name=f"it is over that {trouble}",
            state="Works again",
            message=f"It lasted from {incident.since:%Y-%m-%d %H:%M:%S} UTC for about {minutes} min.{late}",
            occurred=over.isoformat(),
            event=f"{incident.id} over",
        )

    async def _mail_to(self, addresses: Sequence[str], notice: RunNotice) -> tuple[str, ...]:
        """Mail them; return those to whom it did not go, for the next look."""
        if not addresses or self._mail is None or self._mail.sender is None:
            return tuple(addresses)
        left = []
        for address in addresses:
            block = CampaignEmail(credentials=self._mail.credentials, sender=self._mail.sender, recipient=address)
            try:
                await block.send(notice.dump(), notice.headline)
            except MailFailed as failure:
                self._logger.warning("%s", failure.log)
                left.append(address)
        return tuple(left)

    async def _ping(self, settings: Settings) -> None:
        """Tell the watchdog that all is well, once a minute."""
        url, now = settings.campaigns_heartbeat_url, anyio.current_time()
        if url is None or (self._pinged_at is not None and now - self._pinged_at < PING_SECONDS - LOOK_SECONDS / 2):
            return
        self._pinged_at = now
        try:
            async with httpx.AsyncClient(timeout=PING_LIMIT_SECONDS, follow_redirects=True) as http:
                (await http.get(url.get_secret_value())).raise_for_status()
        except httpx.HTTPStatusError as error:
            self._logger.warning("The watchdog did not take the ping: it answered %s", error.response.status_code)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Of which the text may have the URL in it.
            self._logger.warning("The watchdog could not be pinged: %s", type(error).__name__)
