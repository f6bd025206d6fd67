"""Who did what to campaigns and runs: a row in the books, and an event on the Prefect server."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Mapping
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
from prefect_campaigns.flows.alerts import CAMPAIGN_RESOURCE

EVENT_PREFIX = "prefect-campaigns"
"""What the names of our events begin with; the action follows: ``prefect-campaigns.campaign.paused``."""

ACCOUNT_RESOURCE = "prefect-campaigns.account"
"""What an event is about that is about all campaigns together."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_logger = get_logger("campaigns.audit")


def local_actor() -> str:
    """Return who sits at this machine: ``ada@laptop``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # Nobody has given this user id a name, as happens in a container.
        user = str(os.getuid())
    return f"{re.sub(r'[^ -~]', '?', user)}@{socket.gethostname()}"


async def record(
    client: PrefectClient,
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
        campaign_key: None where it is about all campaigns.
        detail: JSON, with nothing secret in it.

    Raises:
        StoreError: the store is not there.
    """
    entry = AuditEntry(
        at=current_clock().now(), actor=actor, action=action, campaign_key=campaign_key, detail=dict(detail)
    )
    await store.record_audit(entry)
    try:
        # Given to the server and waited for: what Prefect emits in the background may be lost at a command's end.
        await client.request("POST", "/events", json=[_event(entry).model_dump(mode="json")])
    except (httpx.HTTPError, PrefectException) as error:
        _logger.warning("The Prefect server was not told of %s by %s: %s", action, actor, error)


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
