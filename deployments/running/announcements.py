"""Hearing of what people do to runs when they do it, rather than when a worker asks next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter
from prefect.events.schemas.events import Event, ResourceSpecification

from prefect_campaigns.flows.leaving import HANDED_BACK, RECOVERING

ASKED_FOR = tuple(
    f"prefect.flow-run.{name}" for name in ("Scheduled", "AwaitingRetry", "Resuming", HANDED_BACK, RECOVERING)
)
"""Events after which there may be a run to take up at once. Runs that the scheduler makes come without one, early."""

CANCELLED = ("prefect.flow-run.Cancelling", "prefect.flow-run.Cancelled")
SUSPENDED = ("prefect.flow-run.Suspended",)
"""Events of runs that somebody may want to end, or to hold; Prefect has them also of runs that end so by themselves."""

RECONNECT_SECONDS = 5.0

_FLOW_RUN = "prefect.flow-run."


@dataclass(frozen=True)
class Announcement:
    """That something has happened to a run.

    Attributes:
        event: what: one of ASKED_FOR, CANCELLED, SUSPENDED.
        occurred: when, by the server's clock; it may be heard late.
    """

    flow_run_id: UUID
    event: str
    occurred: datetime


async def announcements(
    work_pool: str, *, logger: logging.Logger | logging.LoggerAdapter[logging.Logger]
) -> AsyncIterator[Announcement]:
    """Yield, for ever, what happens to the runs of the work pool.

    Something may be missed where the connection breaks: whoever listens asks the server now and then all the same.
    """
    of_pool = ResourceSpecification({"prefect.resource.role": "work-pool", "prefect.resource.name": work_pool})
    # The stream of events pays no attention to a filter on related resources.
    in_pool = EventAnyResourceFilter(labels=of_pool)
    wanted = EventFilter(event=EventNameFilter(name=[*ASKED_FOR, *CANCELLED, *SUSPENDED]), any_resource=in_pool)
    told = False
    while True:
        try:
            async with get_events_subscriber(filter=wanted, reconnection_attempts=0) as subscriber:
                if told:
                    logger.info("The server's events are there again.")
                told = False
                async for event in subscriber:
                    if announcement := _read(event):
                        yield announcement
        except Exception as error:
            # Of any kind: a login that is refused is a bare Exception.
            if not told:
                logger.warning("The server's events are not there, so runs start when they are polled for: %s", error)
            told = True
        await asyncio.sleep(RECONNECT_SECONDS)


def _read(event: Event) -> Announcement | None:
    resource = event.resource.id
    if not resource.startswith(_FLOW_RUN):
        return None
    return Announcement(UUID(resource.removeprefix(_FLOW_RUN)), event.event, event.occurred)
