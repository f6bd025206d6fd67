"""The blocks and automations that tell people, as they are on a Prefect server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStartTime, FlowRunFilterTags
from prefect.client.schemas.sorting import AutomationSort
from prefect.events.schemas.automations import Automation

from prefect_campaigns.blocks.email import CampaignEmail
from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.deployments.applying.automations import is_of_pool, is_same, tags_of, wanted_automation
from prefect_campaigns.deployments.applying.saved_blocks import (
    Saving,
    UnusableBlock,
    content_of,
    document_id,
    load_block,
    save_if_changed,
)
from prefect_campaigns.deployments.applying.saved_mail import (
    SMTP_BLOCK_NAME,
    MailServer,
    load_mail,
    mail_server_of,
    save_mail,
    saving_of_mail,
)
from prefect_campaigns.deployments.applying.saved_secrets import read_secret_state
from prefect_campaigns.deployments.compile import (
    CompiledAutomation,
    MailRecipient,
    Recipient,
    SlackChannel,
    compile_operators,
)
from prefect_campaigns.deployments.secrets_in_files import CompiledSecret, SecretKind
from prefect_campaigns.errors import ServerError, UnknownBlock
from prefect_campaigns.flows.paused_deployment import OUR_TAG

RETRIED_WITHIN = timedelta(days=30)

AT_ONCE = 8
"""How many questions are put to the server at the same time."""

_PAGE = 200


class Telling(StrEnum):
    """What becomes of something that tells people."""

    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"


@dataclass(frozen=True, kw_only=True)
class TellingChange:
    """A block or an automation that has to be written: which, in words that show nothing secret, and why."""

    change: Telling
    what: str


class Notifiers:
    """Makes the blocks and automations of campaigns so on a server, without doubles.

    One automation serves one recipient and one kind of end, however many campaigns carry its tag.

    Attributes:
        leaves_unmailed: whether somebody should get mail, and there is no SMTP server to send it by.
        switched_off: the names of planned automations that a person has switched off, which they stay.
    """

    def __init__(self, client: PrefectClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self.leaves_unmailed = False
        self.switched_off: list[str] = []
        self._mail_is_known = False
        self._mail: MailServer | None = None
        self._block_ids: dict[str, UUID] = {}
        self._on_server: dict[str, list[Automation]] = {}

    async def look(self) -> None:
        """See which of our automations the server has."""
        self._on_server = await self._read_ours()

    async def plan(
        self, automations: Collection[CompiledAutomation], *, tags_in_use: set[str], secrets: Iterable[CompiledSecret]
    ) -> tuple[TellingChange, ...]:
        """Return what ``ensure`` and ``remove_unused`` would write; nothing is.

        Args:
            secrets: what apply is about to save; a Slack block among them need not be there yet.

        Raises:
            ServerError: a campaign names a Slack block that is not on the server.
        """
        await self.look()
        changes = [one async for one in self._secret_changes(secrets)]
        told = [one for one in automations if not isinstance(one.recipient, MailRecipient)]
        mailed = [one for one in automations if isinstance(one.recipient, MailRecipient)]
        mail = None
        if mailed:
            mail, saving = await self._planned_mail()
            if saving is not None and saving is not Saving.UNCHANGED:
                changes.append(TellingChange(change=Telling(saving), what=f"mail server (block {SMTP_BLOCK_NAME})"))
            self.leaves_unmailed = mail is None
        to_come = {secret.block_name for secret in secrets if secret.kind is SecretKind.SLACK}
        wanted = (*told, *(mailed if mail else ()))
        for recipient in sorted({one.recipient for one in wanted}, key=lambda one: one.label):
            saving = await self._planned_block(recipient, mail, is_to_come=recipient.block_name in to_come)
            if saving is not Saving.UNCHANGED:
                changes.append(TellingChange(change=Telling(saving), what=f"block of {recipient.label}"))
        for automation in dict.fromkeys(wanted):
            changes += self._automation_changes(automation)
        changes += [
            TellingChange(change=Telling.DELETED, what=f"automation {one.name!r}, which nobody asks for any more")
            for one in await self._unused(tags_in_use)
        ]
        return tuple(changes)

    async def _secret_changes(self, secrets: Iterable[CompiledSecret]) -> AsyncIterator[TellingChange]:
        turns = asyncio.Semaphore(AT_ONCE)

        async def look(secret: CompiledSecret) -> Saving:
            async with turns:
                return await read_secret_state(self._client, secret)

        secrets = tuple(secrets)
        for secret, saving in zip(secrets, await asyncio.gather(*map(look, secrets)), strict=True):
            if saving is not Saving.UNCHANGED:
                yield TellingChange(change=Telling(saving), what=f"block {secret.block_name}, which holds a secret")

    async def _planned_mail(self) -> tuple[MailServer | None, Saving | None]:
        """Return the mail server that there will be, and what saving it comes to; None where nobody can be mailed."""
        saved, smtp = await load_mail(self._client), self._settings.smtp
        if smtp is None:
            return (saved, None) if saved is not None and saved.sender is not None else (None, None)
        wanted = mail_server_of(smtp)
        # Blocks of recipients refer to the block of the mail server: they hold what that one holds.
        credentials = saved.credentials if saved is not None else wanted.credentials
        return MailServer(credentials=credentials, sender=wanted.sender), await saving_of_mail(self._client, smtp)

    async def _planned_block(self, recipient: Recipient, mail: MailServer | None, *, is_to_come: bool) -> Saving:
        """Return what saving a recipient's block comes to; a Slack block that is to come is told of as a secret."""
        if isinstance(recipient, SlackChannel):
            found = await self._slack_block(recipient, may_lack=is_to_come)
            if found is not None:
                self._block_ids[recipient.block_name] = document_id(found)
            return Saving.UNCHANGED
        assert mail is not None and mail.sender is not None  # noqa: S101 - nobody is mailed without
        wanted = CampaignEmail(credentials=mail.credentials, sender=mail.sender, recipient=recipient.address)
        try:
            existing = await load_block(CampaignEmail, recipient.block_name, client=self._client)
        except UnusableBlock:
            return Saving.CHANGED
        if existing is None:
            return Saving.CREATED
        self._block_ids[recipient.block_name] = document_id(existing)
        return Saving.UNCHANGED if content_of(existing) == content_of(wanted) else Saving.CHANGED

    def _automation_changes(self, automation: CompiledAutomation) -> Iterator[TellingChange]:
        existing = self._on_server.get(automation.name, [])
        if not existing:
            yield TellingChange(change=Telling.CREATED, what=f"automation {automation.name!r}")
            return
        kept, *doubles = existing
        if not kept.enabled:
            self.switched_off.append(automation.name)
        for _ in doubles:
            yield TellingChange(change=Telling.DELETED, what=f"automation {automation.name!r}, which is there twice")
        block_id = self._block_ids.get(automation.recipient.block_name)
        wanted = None if block_id is None else wanted_automation(automation, block_id)
        if wanted is None or not is_same(kept, wanted.model_copy(update={"enabled": kept.enabled})):
            yield TellingChange(change=Telling.CHANGED, what=f"automation {automation.name!r}")

    async def _can_mail(self) -> bool:
        """Whether there is an SMTP server to send by: that of the settings, or one that was saved before."""
        if not self._mail_is_known:
            await CampaignEmail.register_type_and_schema(client=self._client)
            if self._settings.smtp is not None:
                await save_mail(self._client, self._settings.smtp)
            self._mail = await load_mail(self._client)
            self._mail_is_known = True
        return self._mail is not None and self._mail.sender is not None

    async def _read_ours(self) -> dict[str, list[Automation]]:
        ours: dict[str, list[Automation]] = {}
        offset = 0
        while page := await self._client.read_automations(sort=AutomationSort.NAME_ASC, limit=_PAGE, offset=offset):
            offset += len(page)
            for automation in page:
                if OUR_TAG in automation.tags:
                    ours.setdefault(automation.name, []).append(automation)
        return ours

    async def ensure(self, automations: Iterable[CompiledAutomation]) -> int:
        """Create or mend the automations; return how many were changed.

        Raises:
            ServerError: a campaign names a Slack block that is not on the server.
        """
        changed = 0
        for automation in automations:
            if isinstance(automation.recipient, MailRecipient) and not await self._can_mail():
                self.leaves_unmailed = True
                continue
            changed += await self._ensure_one(automation)
        return changed

    async def _ensure_one(self, automation: CompiledAutomation) -> bool:
        wanted = wanted_automation(automation, await self._block_id(automation))
        existing = self._on_server.get(automation.name, [])
        if not existing:
            created = await self._client.create_automation(wanted)
            self._on_server[automation.name] = [Automation(id=created, **wanted.model_dump())]
            return True
        kept, *doubles = existing
        for double in doubles:
            await self._client.delete_automation(double.id)
        self._on_server[automation.name] = [kept]
        # Whether it is switched on is a person's choice.
        wanted = wanted.model_copy(update={"enabled": kept.enabled})
        if is_same(kept, wanted):
            return bool(doubles)
        await self._client.update_automation(kept.id, wanted)
        return True

    async def _block_id(self, automation: CompiledAutomation) -> UUID:
        recipient = automation.recipient
        if recipient.block_name not in self._block_ids:
            self._block_ids[recipient.block_name] = await self._ensure_block(recipient)
        return self._block_ids[recipient.block_name]

    async def _ensure_block(self, recipient: MailRecipient | SlackChannel) -> UUID:
        if isinstance(recipient, SlackChannel):
            found = await self._slack_block(recipient)
            assert found is not None  # noqa: S101 - or it had raised
            return document_id(found)
        if self._mail is None or self._mail.sender is None:
            raise ServerError("there is no SMTP server to send by")
        block = CampaignEmail(credentials=self._mail.credentials, sender=self._mail.sender, recipient=recipient.address)
        return (await save_if_changed(block, recipient.block_name)).id

    async def _slack_block(self, channel: SlackChannel, *, may_lack: bool = False) -> SlackWebhook | None:
        found = await load_block(SlackWebhook, channel.block_name, client=self._client)
        if found is None and not may_lack:
            raise UnknownBlock(f"the server has no block {channel.label!r}; create it, or give the webhook URL")
        return found

    async def remove_unused(self, tags_in_use: set[str]) -> int:
        """Delete our automations that nobody asks for any more; return how many."""
        unused = await self._unused(tags_in_use)
        for automation in unused:
            await self._client.delete_automation(automation.id)
        return len(unused)

    async def _unused(self, tags_in_use: set[str]) -> list[Automation]:
        """Return our automations that nobody asks for any more.

        A run carries the tags its deployment had when it was made. Whoever is told by them is told as long as the run
        may still end: while it goes on, and for a month after, in which somebody may retry it.
        """
        ours = [(one, tags_of(one)) for several in self._on_server.values() for one in several]
        candidates = [(one, tags) for one, tags in ours if not tags & tags_in_use]
        unused = [one for one, tags in candidates if not is_of_pool(tags) and not await self._has_recent_runs(tags)]
        # Where nobody says who operates, those are told who were.
        wanted = {automation.tag for automation in compile_operators(self._settings.operators)}
        return unused + [one for one, tags in candidates if wanted and is_of_pool(tags) and not tags & wanted]

    async def _has_recent_runs(self, tags: set[str]) -> bool:
        since = datetime.now(UTC) - RETRIED_WITHIN
        runs = await self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                tags=FlowRunFilterTags(any_=sorted(tags)),
                start_time=FlowRunFilterStartTime(after_=since),
            ),
            limit=1,
        )
        return bool(runs)
