"""Sending the mails that are owed: those that an automation could not send, and those that none has tried to.

Prefect's server tries once, shortly, and keeps what waits in its memory. It says of each mail, by an event, that it was
sent or that it failed. So what is owed is found by comparing: what has happened to the runs, whom the automations would
tell of it, and what the events say. A mail that failed is tried again at once. One of which nothing is heard for a
while, since the server was killed, is taken over: by then no automation is at it any more (``LATE`` in ``email``).

Everything is tried until it is sent, or until a day has passed. A mail has one Message-ID, however often it is tried.
Slack channels are told by Prefect's own block, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import anyio
from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectNotFound
from prefect.logging.loggers import flow_run_logger

from prefect_campaigns.blocks.email import LATE, CampaignEmail, MailFailed
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import MailRecord, MailState
from prefect_campaigns.flows.happenings import Happening, Happenings, Teller
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

LONGEST_LOOK_SECONDS = 300.0
"""How long a look may take, with its last try and the wait for the next look."""

FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
"""After how long a mail that the mail server has refused is tried again; twice as long each time."""


@dataclass(frozen=True)
class _Mail:
    """Something that one recipient is to be told of."""

    happening: Happening
    teller: Teller

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
        self._happenings = Happenings(client)
        self._logger = logger
        self._looked_at: datetime | None = None
        self._owed: set[UUID] = set()
        """What is owed about by the books, whatever the automations say by now."""
        self._open: dict[tuple[UUID, UUID], _Mail] = {}
        self._done: dict[tuple[UUID, UUID], datetime] = {}
        self._unheard = Watch(taken_over_seconds, gap_seconds=LONGEST_LOOK_SECONDS)
        self._blocks: dict[UUID, CampaignEmail | None] = {}

    async def look(self, store: CampaignStore, *, now: datetime) -> None:
        """Find what is owed by now, and try to send it.

        Raises:
            StoreError: the store is not there.
            PrefectException, httpx.HTTPError: Prefect is not there.
        """
        tellers = await self._happenings.tellers()
        self._blocks = {}
        await self._give_up_forgotten(store, now)
        since = now - OWED_FOR if self._looked_at is None else self._looked_at - OVERLAP
        known = {event_id for event_id, _ in (*self._open, *self._done)}
        found = await self._happenings.happenings(since, tellers, known=known)
        for happening in (one for one in found if one.at > now - OWED_FOR - OVERLAP):
            for teller in tellers:
                mail = _Mail(happening, teller)
                is_owed = happening.event_id in self._owed
                if teller.tells_of(happening, however_old=is_owed) and mail.key not in self._done:
                    self._open.setdefault(mail.key, mail)
        self._done = {key: at for key, at in self._done.items() if at > now - OWED_FOR - OVERLAP}
        self._looked_at = now
        if self._open:
            await self._see_to_open(store, now)

    async def _give_up_forgotten(self, store: CampaignStore, now: datetime) -> None:
        """Give up what is owed by the books for so long that nobody finds it any more."""
        owed = await store.list_mails(MailState.OWED)
        self._owed = {mail.event_id for mail in owed}
        for mail in owed:
            if now - mail.owed_since > OWED_FOR + OVERLAP:
                await self._give_up(store, mail)

    async def _see_to_open(self, store: CampaignStore, now: datetime) -> None:
        """Cross off what was sent, and try what is owed."""
        said = await self._happenings.said({mail.happening.event_id for mail in self._open.values()})
        self._unheard.look({key: key for key in self._open if key not in said})
        known_mails = await self._records(store)
        owed: list[tuple[_Mail, CampaignEmail, MailRecord]] = []
        sent: list[MailRecord] = []
        for mail in list(self._open.values()):
            block = await self._block(mail.teller)
            if block is None:
                # No mail, or deleted with its automation.
                self._close(mail)
                continue
            known = known_mails.get((mail.happening.event_id, block.recipient))
            record = known or _record_of(mail, block)
            if record.state is not MailState.OWED:
                self._close(mail)
            elif said.get(mail.key):
                sent.append(replace(record, state=MailState.SENT, attempts=record.attempts + 1, sent_at=now))
                self._close(mail)
            elif mail.key in said or known is not None or self._unheard.is_silent(mail.key):
                owed.append((mail, block, record))
        # By what they are kept by: two automations may mail the same address.
        records = {(one.event_id, one.recipient): one for one in (*(record for _, _, record in owed), *sent)}
        await store.record_mails(list(records.values()))
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
                await self._give_up(store, record)
                self._close(mail)
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

    async def _give_up(self, store: CampaignStore, record: MailRecord) -> None:
        """Say in the log, on the run and in the store that nobody was told."""
        await store.record_mails([replace(record, state=MailState.GIVEN_UP, next_try_at=None)])
        said = f"{record.recipient} was not told: {record.subject}; given up after a day: {record.error}"
        self._logger.error("%s", said)
        if record.run_id is not None:
            with suppress(ObjectNotFound):
                flow_run_logger(await self._client.read_flow_run(UUID(record.run_id))).error("%s", said)

    def _close(self, mail: _Mail) -> None:
        del self._open[mail.key]
        self._done[mail.key] = mail.happening.at

    async def _records(self, store: CampaignStore) -> Mapping[tuple[UUID, str], MailRecord]:
        ids = {mail.happening.event_id for mail in self._open.values()}
        return {(one.event_id, one.recipient): one for one in await store.mails_about(ids)}

    async def _block(self, teller: Teller) -> CampaignEmail | None:
        """Return the block that mails; None where it is of another kind, or deleted."""
        if teller.block_id not in self._blocks:
            self._blocks[teller.block_id] = None
            with suppress(ObjectNotFound):
                document = await self._client.read_block_document(teller.block_id)
                if document.block_type and document.block_type.slug == CampaignEmail.get_block_type_slug():
                    self._blocks[teller.block_id] = self._made_of(document)
        return self._blocks[teller.block_id]

    def _made_of(self, document: BlockDocument) -> CampaignEmail | None:
        try:
            block = Block._from_block_document(document)
        except ValueError as error:
            # It must not keep everybody else's mails back.
            self._logger.error("block %s cannot be used, and nobody is mailed by it: %s", document.name, error)
            return None
        return block if isinstance(block, CampaignEmail) else None


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
