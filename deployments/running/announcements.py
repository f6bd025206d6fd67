"""Hearing of runs when somebody asks for them, rather than when a worker asks next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter
from prefect.events.schemas.events import ResourceSpecification

ANNOUNCING = ("prefect.flow-run.Scheduled", "prefect.flow-run.AwaitingRetry", "prefect.flow-run.Resuming")
"""Events after which there may be a run to take up at once. Runs that the scheduler makes come without one, early."""

RECONNECT_SECONDS = 5.0


async def announced_runs(
    work_pool: str, *, logger: logging.Logger | logging.LoggerAdapter[logging.Logger]
) -> AsyncIterator[None]:
    """Yield, for ever, whenever a run of the work pool has been asked for.

    One may be missed where the connection breaks: whoever listens asks the server now and then all the same.
    """
    of_pool = ResourceSpecification({"prefect.resource.role": "work-pool", "prefect.resource.name": work_pool})
    # The stream of events pays no attention to a filter on related resources.
    in_pool = EventAnyResourceFilter(labels=of_pool)
    wanted = EventFilter(event=EventNameFilter(name=list(ANNOUNCING)), any_resource=in_pool)
    told = False
    while True:
        try:
            async with get_events_subscriber(filter=wanted, reconnection_attempts=0) as subscriber:
                if told:
                    logger.info("The server's events are there again.")
                told = False
                async for _ in subscriber:
                    yield
        except Exception as error:
            # Of any kind: a login that is refused is a bare Exception.
            if not told:
                logger.warning("The server's events are not there, so runs start when they are polled for: %s", error)
            told = True
        await asyncio.sleep(RECONNECT_SECONDS)
