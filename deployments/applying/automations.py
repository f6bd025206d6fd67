"""Automations as Prefect knows them: what one of ours should be, and whether the server's is so. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from uuid import UUID

from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from prefect_campaigns.blocks.email_templates import BUDGET_ALERT, POOL_STATE, RUN_ENDED
from prefect_campaigns.deployments.compile import CompiledAutomation, MailRecipient, NotificationKind
from prefect_campaigns.flows.paused_deployment import OUR_TAG

_TEMPLATES = {NotificationKind.ALERT: BUDGET_ALERT, NotificationKind.POOL: POOL_STATE}


def wanted_automation(automation: CompiledAutomation, block_id: UUID) -> AutomationCore:
    """Return the automation that tells one recipient of one kind of occasion."""
    kind = automation.kind
    is_mail = isinstance(automation.recipient, MailRecipient)
    templates = _TEMPLATES.get(kind, RUN_ENDED)
    of_campaigns = {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{automation.tag}"}
    return AutomationCore(
        name=automation.name,
        description=f"Tells {automation.recipient.label} of {kind.description}. Kept by `campaigns apply`.",
        tags=[OUR_TAG, automation.tag] if kind is NotificationKind.POOL else [OUR_TAG],
        enabled=True,
        trigger=EventTrigger(
            expect=set(kind.events),
            match=ResourceSpecification(dict(kind.resource)),
            match_related=ResourceSpecification({} if kind is NotificationKind.POOL else dict(of_campaigns)),
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


def is_same(existing: Automation, wanted: AutomationCore) -> bool:
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


def tags_of(automation: Automation) -> set[str]:
    """Return the tags of the runs that an automation is about; of one about the work pool its own."""
    if own := set(automation.tags) - {OUR_TAG}:
        return own
    trigger = automation.trigger
    if not isinstance(trigger, EventTrigger):
        return set()
    related = trigger.match_related
    specifications = related if isinstance(related, list) else [related]
    return {value.removeprefix("prefect.tag.") for specification in specifications for value in _values(specification)}


def is_of_pool(tags: Iterable[str]) -> bool:
    """Whether these are the tags of an automation about the work pool."""
    return any(tag.startswith(f"on-{NotificationKind.POOL}:") for tag in tags)


def _values(specification: ResourceSpecification | dict[str, str | list[str]]) -> list[str]:
    labels = specification if isinstance(specification, dict) else specification.model_dump()
    value = labels.get("prefect.resource.id", [])
    return [value] if isinstance(value, str) else list(value)
