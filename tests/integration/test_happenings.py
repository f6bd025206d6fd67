"""What has happened that people may be told of: of a work pool only what it was for more than a moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from clocks import SettableClock
from driving import until
from httpx import Response
from prefect.client.orchestration import PrefectClient
from prefect.events.schemas.events import Event, RelatedResource, Resource
from real_stack import Stack

from prefect_campaigns.clock import using_clock
from prefect_campaigns.flows.happenings import BRIEF, SURE, Happening, Happenings, Teller

STATUSES = ("not-ready", "ready", "paused")
LONG = BRIEF + timedelta(seconds=1)
SHORT = BRIEF - timedelta(seconds=1)


class Pool:
    """A work pool of which Prefect's server hears this and that."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client
        self._name = f"pool-{uuid4().hex[:8]}"
        self._id = f"prefect.work-pool.{uuid4()}"
        self.began = datetime.now(UTC) - timedelta(minutes=10)
        self.events: list[Event] = []

    async def becomes(self, *statuses: tuple[str, timedelta]) -> None:
        """Let it have become so, so long after it began."""
        resource = Resource({"prefect.resource.id": self._id, "prefect.resource.name": self._name})
        events = [
            Event(event=f"prefect.work-pool.{status}", occurred=self.began + after, resource=resource)
            for status, after in statuses
        ]
        await self._send(events)
        self.events = events

        async def are_kept() -> bool:
            wanted = {"filter": {"resource": {"id": [self._id]}}}
            kept = (await self._client.request("POST", "/events/filter", json=wanted)).json()
            return kept["total"] == len(events)

        await until(are_kept, "the events are kept")

    async def was_told_of(self, number: int) -> None:
        """Let an automation have told of one of the events."""
        trigger = {"prefect.resource.id": f"prefect.event.{self.events[number].id}"}
        event = Event(
            event="prefect.automation.action.executed",
            resource=Resource({"prefect.resource.id": f"prefect.automation.{uuid4()}"}),
            related=[RelatedResource({**trigger, "prefect.resource.role": "triggering-event"})],
        )
        await self._send([event])

        async def is_kept() -> bool:
            return bool(await Happenings(self._client).said([self.events[number].id]))

        await until(is_kept, "the event is kept")

    async def _send(self, events: list[Event]) -> None:
        await self._client.request("POST", "/events", json=[event.model_dump(mode="json") for event in events])

    async def told(self, *, since: timedelta = timedelta(), by: PrefectClient | None = None) -> list[str]:
        """Return what people may be told of it."""
        names = frozenset(f"prefect.work-pool.{status}" for status in STATUSES)
        tags = frozenset({f"work pool {self._name}"})
        teller = Teller(uuid4(), names, tags, uuid4(), self.began)
        found = await Happenings(by or self._client).happenings(self.began + since, [teller], known=())
        ours = sorted((one for one in found if one.tags == tags), key=_at)
        return [one.event.removeprefix("prefect.work-pool.") for one in ours]


class Interrupted(PrefectClient):
    """A client that has something done after it has asked for events so many times."""

    def __init__(self, api: str, *, after: int = 1, then: Callable[[], Awaitable[None]]) -> None:
        super().__init__(api)
        self._left = after
        self._then = then

    async def request(self, method: Any, path: Any, *arguments: Any, **options: Any) -> Response:
        """Ask, and have it done."""
        answer = await super().request(method, path, *arguments, **options)
        if path == "/events/filter":
            self._left -= 1
            if self._left == 0:
                await self._then()
        return answer


def _at(happening: Happening) -> datetime:
    return happening.at


async def test_that_a_pool_was_not_ready_for_a_moment_nobody_is_told(client: PrefectClient) -> None:
    pool = Pool(client)
    await pool.becomes(("ready", timedelta()), ("not-ready", LONG), ("ready", LONG + SHORT))
    assert await pool.told() == ["ready"]
    # A look that goes back to between the two knows no more.
    assert await pool.told(since=LONG + timedelta(seconds=1)) == []


async def test_that_a_pool_was_not_ready_for_longer_people_are_told_and_that_it_is_over(client: PrefectClient) -> None:
    pool = Pool(client)
    await pool.becomes(("not-ready", timedelta()), ("ready", LONG))
    assert await pool.told() == ["not-ready", "ready"]


async def test_that_a_pool_is_paused_people_are_told_however_short_it_was_not_ready_before(
    client: PrefectClient,
) -> None:
    pool = Pool(client)
    await pool.becomes(("not-ready", timedelta()), ("paused", SHORT), ("ready", SHORT + SHORT))
    assert await pool.told() == ["paused", "ready"]


async def test_that_a_pool_was_not_ready_for_a_moment_and_that_it_is_over_people_are_told_who_heard_of_it(
    client: PrefectClient,
) -> None:
    pool = Pool(client)
    await pool.becomes(("not-ready", timedelta()), ("ready", SHORT))
    assert await pool.told() == []
    await pool.was_told_of(0)
    assert await pool.told() == ["not-ready", "ready"]


async def test_that_a_pool_works_again_that_was_paused_people_are_told_though_it_was_not_ready_in_between(
    client: PrefectClient,
) -> None:
    pool = Pool(client)
    await pool.becomes(("paused", timedelta()), ("not-ready", LONG), ("ready", LONG + SHORT))
    assert await pool.told() == ["paused", "ready"]
    assert await pool.told(since=LONG) == ["ready"]


async def test_of_a_pool_that_is_not_ready_people_are_told_when_it_is_sure_that_this_is_no_moment(
    client: PrefectClient,
) -> None:
    young, old = Pool(client), Pool(client)
    young.began = datetime.now(UTC) - BRIEF
    old.began = datetime.now(UTC) - BRIEF - SURE
    for pool in (young, old):
        await pool.becomes(("not-ready", timedelta()))
    assert await young.told() == []
    assert await old.told() == ["not-ready"]


async def test_of_what_a_pool_was_for_a_moment_nobody_is_told_who_asks_in_that_moment(
    client: PrefectClient, in_stack: Stack
) -> None:
    pool = Pool(client)

    async def be_gone_for_a_moment() -> None:
        await pool.becomes(("ready", timedelta()), ("not-ready", LONG), ("ready", LONG + SHORT))

    async with Interrupted(in_stack.server.api_url, then=be_gone_for_a_moment) as interrupted:
        assert await pool.told(since=LONG, by=interrupted) == []


async def test_reading_what_became_of_a_pool_may_take_a_while(client: PrefectClient, in_stack: Stack) -> None:
    pool, clock = Pool(client), SettableClock(datetime.now(UTC))
    pool.began = clock.now() - BRIEF - SURE + timedelta(seconds=1)
    await pool.becomes(("not-ready", timedelta()))

    async def take_a_while() -> None:
        # It is ready again meanwhile, and was so in time, for all that is known.
        clock.instant += SURE

    with using_clock(clock):
        async with Interrupted(in_stack.server.api_url, after=2, then=take_a_while) as slow:
            assert await pool.told(by=slow) == []
        assert await pool.told() == ["not-ready"]
