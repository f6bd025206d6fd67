"""In which order a server that has been restarted looks at events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from clocks import SettableClock
from prefect._internal.uuid7 import uuid7
from prefect.server.events.ordering import EventArrivedEarly
from prefect.server.events.schemas.events import ReceivedEvent, Resource

from prefect_campaigns.clock import using_clock
from prefect_campaigns.deployments.running import event_order
from prefect_campaigns.deployments.running.event_order import GRACE, JUST_STARTED, CausalOrdering

NOT_READY, READY, PAUSED = (f"prefect.work-pool.{status}" for status in ("not-ready", "ready", "paused"))


def id_at(instant: datetime) -> UUID:
    return uuid7(int(instant.timestamp() * 1_000))


POOL = "prefect.work-pool.1"


def event_at(instant: datetime, what: str, *, follows: UUID | None = None, pool: str = POOL) -> ReceivedEvent:
    return ReceivedEvent(
        id=id_at(instant),
        event=what,
        resource=Resource({"prefect.resource.id": pool}),
        occurred=instant,
        received=instant,
        follows=follows,
    )


class Server:
    """A server that starts now, and its look at events: what it has looked at is in ``looked_at``."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC)
        self.clock = SettableClock(self.started)
        self.looked_at: list[str] = []
        self.was_ready = True
        self.is_broken = False
        with using_clock(self.clock):
            self.order = CausalOrdering(scope=uuid4().hex)

    async def hears(self, what: str, *, after: timedelta, follows: UUID | None = None, pool: str = POOL) -> UUID:
        """Let something happen so long after the start; return the event's id."""
        self.clock.instant = self.started + after
        event = event_at(self.clock.now(), what, follows=follows, pool=pool)
        await self.look(event)
        return event.id

    async def look(self, event: ReceivedEvent, depth: int = 0) -> None:
        with suppress(EventArrivedEarly):
            async with self.order.preceding_event_confirmed(self.look, event, depth):
                if self.is_broken:
                    raise OSError("the database is locked")
                self.looked_at.append(event.event)

    async def was_ready_before(self, event: ReceivedEvent) -> bool:
        """As the server has it written down."""
        return self.was_ready

    async def waits(self, *, until: timedelta) -> None:
        """Let time pass until so long after the start."""
        self.clock.instant = self.started + until
        for event in await self.order.get_lost_followers():
            await self.look(event)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setattr(event_order, "was_ready_before", server.was_ready_before)
    with using_clock(server.clock):
        yield server


def before_the_start(server: Server) -> UUID:
    return id_at(server.started - timedelta(seconds=5))


async def test_what_happened_before_the_start_is_waited_for_by_nobody(server: Server) -> None:
    await server.hears(PAUSED, after=timedelta(minutes=2), follows=before_the_start(server))
    assert server.looked_at == [PAUSED]


@pytest.mark.parametrize("leader", [uuid4, lambda: id_at(datetime.now(UTC) + timedelta(minutes=1))])
async def test_what_may_yet_come_is_waited_for(server: Server, leader) -> None:
    await server.hears(PAUSED, after=timedelta(minutes=2), follows=leader())
    assert server.looked_at == []


async def test_an_event_is_looked_at_when_the_one_that_it_follows_has_come(server: Server) -> None:
    leader = event_at(server.started + timedelta(seconds=100), PAUSED)
    await server.hears(READY, after=timedelta(minutes=2), follows=leader.id)
    await server.look(leader)
    assert server.looked_at == [PAUSED, READY]


async def test_a_pool_whose_workers_are_heard_again_after_the_start_was_ready_all_the_time(server: Server) -> None:
    not_ready = await server.hears(NOT_READY, after=timedelta(seconds=1), follows=before_the_start(server))
    ready = await server.hears(READY, after=timedelta(seconds=20), follows=not_ready)
    await server.waits(until=2 * GRACE)
    assert server.looked_at == []
    # Its next change is waited for by nobody.
    await server.hears(NOT_READY, after=timedelta(minutes=3), follows=ready)
    assert server.looked_at == [NOT_READY]


async def test_of_a_pool_that_is_made_just_after_the_start_and_has_a_worker_soon_nobody_hears(server: Server) -> None:
    # What follows the making of a pool does not say so.
    await server.hears(NOT_READY, after=timedelta(seconds=10))
    await server.hears(READY, after=timedelta(seconds=20))
    await server.waits(until=3 * GRACE)
    assert server.looked_at == []


async def test_what_is_held_of_one_pool_is_not_over_by_what_becomes_of_another(server: Server) -> None:
    await server.hears(NOT_READY, after=timedelta(seconds=1))
    await server.hears(READY, after=timedelta(seconds=2), pool="prefect.work-pool.2")
    await server.waits(until=3 * GRACE)
    assert server.looked_at == [READY, NOT_READY]


async def test_a_pool_whose_workers_are_heard_no_more_is_told_of_after_the_grace(
    server: Server,
) -> None:
    not_ready = await server.hears(NOT_READY, after=timedelta(seconds=1))
    await server.waits(until=GRACE)
    assert server.looked_at == []
    await server.waits(until=GRACE + timedelta(seconds=1))
    assert server.looked_at == [NOT_READY]
    await server.waits(until=2 * GRACE)
    await server.hears(READY, after=timedelta(minutes=5), follows=not_ready)
    assert server.looked_at == [NOT_READY, READY]


async def test_a_pool_that_was_paused_before_the_start_and_is_resumed_after_it_is_ready_again(server: Server) -> None:
    server.was_ready = False
    not_ready = await server.hears(NOT_READY, after=timedelta(seconds=5), follows=before_the_start(server))
    await server.hears(READY, after=timedelta(seconds=20), follows=not_ready)
    await server.waits(until=2 * GRACE)
    assert server.looked_at == [READY]


async def test_what_ends_it_just_after_the_grace_is_told_of_after_it(server: Server) -> None:
    not_ready = await server.hears(NOT_READY, after=timedelta(seconds=1))
    await server.hears(READY, after=GRACE + timedelta(seconds=3), follows=not_ready)
    await server.waits(until=GRACE + timedelta(seconds=5))
    assert server.looked_at == [NOT_READY, READY]


async def test_what_could_not_be_looked_at_is_looked_at_again(server: Server) -> None:
    await server.hears(NOT_READY, after=timedelta(seconds=1))
    server.is_broken = True
    with pytest.raises(OSError, match="locked"):
        await server.waits(until=GRACE + timedelta(seconds=1))
    server.is_broken = False
    await server.waits(until=GRACE + timedelta(seconds=6))
    await server.waits(until=GRACE + timedelta(seconds=11))
    assert server.looked_at == [NOT_READY]


async def test_a_pool_that_is_paused_in_the_grace_is_told_of_as_paused(server: Server) -> None:
    not_ready = await server.hears(NOT_READY, after=timedelta(seconds=1))
    await server.hears(PAUSED, after=timedelta(seconds=2), follows=not_ready)
    await server.waits(until=2 * GRACE)
    assert server.looked_at == [PAUSED]


async def test_a_pool_that_nobody_works_in_later_is_told_of_at_once(server: Server) -> None:
    await server.hears(NOT_READY, after=JUST_STARTED)
    assert server.looked_at == [NOT_READY]
