"""The order in which automations are asked about events: Prefect's own, with two habits that a restart needs.

``PREFECT_SERVER_EVENTS_CAUSAL_ORDERING`` names this module to a server; the embedded one is told so.

What happened before the server's start is waited for by nobody. An event that follows another waits for that one, for
a quarter of an hour, and Prefect keeps in memory what it has seen: of a pool whose last worker went away soon after a
restart, or of a run that failed, people would hear fifteen minutes late.

That a work pool is not ready is heard with a grace when the server has just been started. No worker could say while it
was away that it lives: at once Prefect calls every pool not ready, and ready again at the workers' next heartbeats.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

from prefect.server.database import provide_database_interface
from prefect.server.events.ordering import EventArrivedEarly, event_handler, memory
from prefect.server.events.schemas.events import ReceivedEvent
from sqlalchemy import select

from prefect_campaigns.blocks.email_templates import POOL_NOT_READY, POOL_READY, POOL_STATES
from prefect_campaigns.clock import current_clock
from prefect_campaigns.flows.happenings import BRIEF

JUST_STARTED = timedelta(seconds=30)
"""How long after a server's start it takes workers for gone that are not."""

GRACE = BRIEF
"""How long such workers have for their heartbeats, of which there are two in a minute."""

_UUID7 = 7


class CausalOrdering(memory.CausalOrdering):
    """By what Prefect's server asks in which order it may look at events; there is one for each scope.

    Args:
        scope: the service that asks; the server itself knows "triggers".
    """

    def __init__(self, scope: str) -> None:
        # It is made anew for each event, and is the same one.
        if not getattr(self, "_initialized", False):
            self._started = current_clock().now()
            self._held: dict[str, ReceivedEvent] = {}
        super().__init__(scope)

    async def wait_for_leader(self, event: ReceivedEvent) -> None:
        """Wait for the event that this one follows.

        Raises:
            EventArrivedEarly: it has not come yet, and this one is looked at when it does.
        """
        if event.follows is None or not _is_before(event.follows, self._started):
            await super().wait_for_leader(event)

    @asynccontextmanager
    async def preceding_event_confirmed(
        self, handler: event_handler, event: ReceivedEvent, depth: int = 0
    ) -> AsyncIterator[None]:
        """Let an event be looked at in the block, and what waits for it after that.

        Raises:
            EventArrivedEarly: it is looked at later, or never.
        """
        if event.event in POOL_STATES and await self._holds(event):
            raise EventArrivedEarly(event)
        async with super().preceding_event_confirmed(handler, event, depth):
            yield
            # Not before: what is raised in the block leaves it to the next look.
            if self._held.get(event.resource.id) == event:
                del self._held[event.resource.id]

    async def get_lost_followers(self) -> list[ReceivedEvent]:
        """Return the events that have waited for long enough, oldest first; a server asks every few seconds."""
        over = [event for event in self._held.values() if not self._is_in_grace(event)]
        return sorted([*await super().get_lost_followers(), *over], key=lambda event: event.occurred)

    async def _holds(self, event: ReceivedEvent) -> bool:
        """Whether an event of a pool is to be looked at later, or never."""
        held = self._held.get(event.resource.id)
        if held is not None and held.id != event.id:
            if event.follows == held.id and not self._is_in_grace(held):
                # That one is looked at within seconds, and this one after it.
                await self.record_follower(event)
                return True
            # The pool has become something else meanwhile; where it is ready again, nothing has happened.
            del self._held[event.resource.id]
            await self.record_event_as_seen(held)
            if event.event == POOL_READY and await was_ready_before(held):
                await self.record_event_as_seen(event)
                return True
        if event.event == POOL_NOT_READY and self._is_in_grace(event):
            self._held[event.resource.id] = event
            return True
        return False

    def _is_in_grace(self, event: ReceivedEvent) -> bool:
        return event.received < self._started + JUST_STARTED and current_clock().now() < event.received + GRACE


async def was_ready_before(event: ReceivedEvent) -> bool:
    """Whether a pool was ready before an event of its own, by what the server has written down; or was nothing yet."""
    db = provide_database_interface()
    before = (
        select(db.Event.event)
        .where(db.Event.resource_id == event.resource.id, db.Event.event.in_(POOL_STATES))
        .where(db.Event.occurred < event.occurred)
        .order_by(db.Event.occurred.desc())
        .limit(1)
    )
    async with db.session_context() as session:
        return await session.scalar(before) in (None, POOL_READY)


def _is_before(event_id: UUID, instant: datetime) -> bool:
    """Whether an event happened before then, by the milliseconds in its id (RFC 9562, section 5.7); False of others."""
    return event_id.version == _UUID7 and event_id.int >> 80 < instant.timestamp() * 1_000
