"""Who did what to campaigns and runs: a row in the books, and an event on the Prefect server."""

from __future__ import annotations

import getpass
import json
import logging
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.events import Event, Resource
from prefect.exceptions import PrefectException
from prefect.logging import get_logger

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AuditAction, AuditEntry
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.running.server import connect
from prefect_campaigns.errors import ServerError
from prefect_campaigns.flows.alerts import CAMPAIGN_RESOURCE

EVENT_PREFIX = "prefect-campaigns"
"""What the names of our events begin with; the action follows: ``prefect-campaigns.campaign.paused``."""

ACCOUNT_RESOURCE = "prefect-campaigns.account"
"""What an event is about that is about all campaigns together."""

EVENTS_AT_ONCE = 50
"""How many events the server is given in one request."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_logger = get_logger("campaigns.audit")
_deeds = logging.getLogger("prefect_campaigns.audit")


def local_actor() -> str:
    """Return who sits at this machine: ``ada@laptop``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # Nobody has given this user id a name, as happens in a container.
        user = str(os.getuid())
    return f"{re.sub(r'[^ -~]', '?', user)}@{socket.gethostname()}"


@dataclass(frozen=True, kw_only=True)
class Deed:
    """Something that was done.

    Attributes:
        campaign_key: None where it is about all campaigns.
        detail: JSON, with nothing secret in it.
    """

    action: AuditAction
    campaign_key: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


async def record(
    client: PrefectClient | None,
    store: CampaignStore,
    *,
    actor: str,
    action: AuditAction,
    campaign_key: str | None = None,
    detail: Mapping[str, Any] = _NOTHING,
) -> None:
    """Write down what somebody has done, and tell the Prefect server.

    The books have the last word: that the server does not take the event is a warning in the log.

    Args:
        client: None where no server answers.
        campaign_key: None where it is about all campaigns.
        detail: JSON, with nothing secret in it.

    Raises:
        StoreError: the store is not there.
    """
    deed = Deed(action=action, campaign_key=campaign_key, detail=detail)
    await record_all(client, store, actor=actor, deeds=[deed])


async def record_all(client: PrefectClient | None, store: CampaignStore, *, actor: str, deeds: Sequence[Deed]) -> None:
    """Do what ``record`` does for several deeds at once.

    Raises:
        StoreError: the store is not there.
    """
    now = current_clock().now()
    entries = [
        AuditEntry(at=now, actor=actor, action=deed.action, campaign_key=deed.campaign_key, detail=dict(deed.detail))
        for deed in deeds
    ]
    for entry in entries:
        await store.record_audit(entry)
        _log(entry)
    if client is None:
        return
    try:
        for first in range(0, len(entries), EVENTS_AT_ONCE):
            # Given to the server and waited for: what Prefect emits in the background may be lost at a command's end.
            events = [_event(entry).model_dump(mode="json") for entry in entries[first : first + EVENTS_AT_ONCE]]
            await client.request("POST", "/events", json=events)
    except (httpx.HTTPError, PrefectException) as error:
        _logger.warning("The Prefect server was not told of what %s did: %s", actor, error)


def _log(entry: AuditEntry) -> None:
    """Log what somebody did from elsewhere; whoever did it at this terminal is told there what came of it."""
    if entry.actor == local_actor():
        return
    detail = f" {json.dumps(entry.detail, ensure_ascii=False, default=str)}" if entry.detail else ""
    _deeds.info("%s by %s%s", entry.action, entry.actor, detail, extra={"campaign": entry.campaign_key})


async def record_beside(
    store: CampaignStore,
    *,
    action: AuditAction,
    campaign_key: str | None = None,
    detail: Mapping[str, Any] = _NOTHING,
) -> None:
    """Write down what whoever sits here has done in the books alone, and tell the Prefect server where one answers.

    Raises:
        StoreError: the store is not there.
    """

    async def tell(client: PrefectClient | None) -> None:
        await record(client, store, actor=local_actor(), action=action, campaign_key=campaign_key, detail=detail)

    try:
        async with connect() as client:
            await tell(client)
    except ServerError:
        # Before anything was written: what goes wrong after that is a warning.
        await tell(None)


def _event(entry: AuditEntry) -> Event:
    about = ACCOUNT_RESOURCE if entry.campaign_key is None else f"{CAMPAIGN_RESOURCE}.{entry.campaign_key}"
    return Event(
        occurred=entry.at,
        event=f"{EVENT_PREFIX}.{entry.action}",
        resource=Resource.model_validate(
            {"prefect.resource.id": about, "prefect.resource.name": entry.campaign_key or "all campaigns"}
        ),
        payload={"actor": entry.actor, **entry.detail},
    )
