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
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.server.events.ordering import EventArrivedEarly, event_handler, memory
from prefect.server.events.schemas.events import ReceivedEvent

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
        if await self._holds(event):
            raise EventArrivedEarly(event)
        async with super().preceding_event_confirmed(handler, event, depth):
            yield

    async def get_lost_followers(self) -> list[ReceivedEvent]:
        """Return the events that have waited for long enough, oldest first; a server asks every few seconds."""
        over = [event for event in self._held.values() if not self._is_in_grace(event)]
        for event in over:
            del self._held[event.resource.id]
        return sorted([*await super().get_lost_followers(), *over], key=lambda event: event.occurred)

    async def _holds(self, event: ReceivedEvent) -> bool:
        if event.event not in POOL_STATES:
            return False
        if held := self._held.pop(event.resource.id, None):
            # The pool has become something else meanwhile; where it is ready again, nothing has happened.
            await self.record_event_as_seen(held)
            if event.event == POOL_READY:
                await self.record_event_as_seen(event)
                return True
        if event.event == POOL_NOT_READY and self._is_in_grace(event):
            self._held[event.resource.id] = event
            return True
        return False

    def _is_in_grace(self, event: ReceivedEvent) -> bool:
        return event.received < self._started + JUST_STARTED and current_clock().now() < event.received + GRACE


def _is_before(event_id: UUID, instant: datetime) -> bool:
    """Whether an event happened before then, by the milliseconds in its id (RFC 9562, section 5.7); False of others."""
    if event_id.version != _UUID7:
        return False
    return datetime.fromtimestamp((event_id.int >> 80) / 1_000, UTC) < instant
