"""The blocks and automations that tell people, as they are on a Prefect server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStartTime, FlowRunFilterTags
from prefect.client.schemas.sorting import AutomationSort
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from prefect_campaigns.blocks.email import (
    BUDGET_ALERT,
    RUN_ENDED,
    CampaignEmail,
)
from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.deployments.compile import (
    CompiledAutomation,
    MailRecipient,
    NotificationKind,
    SlackChannel,
)
from prefect_campaigns.deployments.saved_blocks import document_id, load_block, save_if_changed
from prefect_campaigns.deployments.saved_mail import MailServer, load_mail, save_mail
from prefect_campaigns.errors import ServerError

OUR_TAG = "prefect-campaigns"
"""The tag that marks an automation as made by this package."""

RETRIED_WITHIN = timedelta(days=30)

_PAGE = 200


class Notifiers:
    """Makes the blocks and automations of campaigns so on a server, without doubles.

    One automation serves one recipient and one kind of end, however many campaigns carry its tag.

    Attributes:
        leaves_unmailed: whether somebody should get mail, and there is no SMTP server to send it by.
    """

    def __init__(self, client: PrefectClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self.leaves_unmailed = False
        self._mail_is_known = False
        self._mail: MailServer | None = None
        self._block_ids: dict[str, UUID] = {}
        self._on_server: dict[str, list[Automation]] = {}

    async def look(self) -> None:
        """See which of our automations the server has."""
        self._on_server = await self._read_ours()

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
        wanted = _automation(automation, await self._block_id(automation))
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
        if _same(kept, wanted):
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
            found = await load_block(SlackWebhook, recipient.block_name)
            if found is None:
                raise ServerError(f"the server has no block {recipient.label!r}; create it, or give the webhook URL")
            return document_id(found)
        if self._mail is None or self._mail.sender is None:
            raise ServerError("there is no SMTP server to send by")
        block = CampaignEmail(credentials=self._mail.credentials, sender=self._mail.sender, recipient=recipient.address)
        return (await save_if_changed(block, recipient.block_name)).id

    async def remove_unused(self, tags_in_use: set[str]) -> int:
        """Delete our automations that nobody asks for any more; return how many.

        A run carries the tags its deployment had when it was made. Whoever is told by them is told as long as the run
        may still end: while it goes on, and for a month after, in which somebody may retry it.
        """
        removed = 0
        for automation in [one for several in self._on_server.values() for one in several]:
            tags = _tags_of(automation)
            if tags & tags_in_use or await self._has_recent_runs(tags):
                continue
            await self._client.delete_automation(automation.id)
            removed += 1
        return removed

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


def _automation(automation: CompiledAutomation, block_id: UUID) -> AutomationCore:
    kind = automation.kind
    is_mail = isinstance(automation.recipient, MailRecipient)
    templates = BUDGET_ALERT if kind is NotificationKind.ALERT else RUN_ENDED
    return AutomationCore(
        name=automation.name,
        description=f"Tells {automation.recipient.label} of {kind.description}. Kept by `campaigns apply`.",
        tags=[OUR_TAG],
        enabled=True,
        trigger=EventTrigger(
            expect=set(kind.events),
            match=ResourceSpecification({"prefect.resource.id": kind.resource}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{automation.tag}"}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            SendNotification(
                block_document_id=block_id,
                subject=templates.subject,
                body=templates.mail if is_mail else templates.slack,
            )
        ],
    )


def _same(existing: Automation, wanted: AutomationCore) -> bool:
    """Whether the server's automation does what it should; the server adds ids to what it was told."""
    return all(
        _comparable(getattr(existing, field)) == _comparable(getattr(wanted, field))
        for field in ("name", "description", "tags", "trigger", "actions")
    )


def _comparable(value: object) -> object:
    if hasattr(value, "model_dump"):
        return _comparable(value.model_dump(mode="json", exclude={"id"}))
    if isinstance(value, Mapping):
        return {key: _comparable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        items = [_comparable(item) for item in value]
        return sorted(items, key=repr)
    return value


def _tags_of(automation: Automation) -> set[str]:
    trigger = automation.trigger
    if not isinstance(trigger, EventTrigger):
        return set()
    related = trigger.match_related
    specifications = related if isinstance(related, list) else [related]
    return {value.removeprefix("prefect.tag.") for specification in specifications for value in _values(specification)}


def _values(specification: ResourceSpecification | dict[str, str | list[str]]) -> list[str]:
    labels = specification if isinstance(specification, dict) else specification.model_dump()
    value = labels.get("prefect.resource.id", [])
    return [value] if isinstance(value, str) else list(value)
