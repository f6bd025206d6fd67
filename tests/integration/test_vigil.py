"""When campaigns are not being run: people hear of it once, and once when it is over, and a watchdog hears nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from driving import Driver, until
from mails import mails_to
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.objects import WorkPoolStatus
from prefect.events.schemas.events import Event, Resource
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled, Scheduled
from prefect_proxy import PrefectProxy
from pydantic import SecretStr
from real_stack import Stack
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.running.vigil import LATE_AFTER, Trouble, Vigil

logger = logging.getLogger(__name__)


class Watchdog:
    """Keeps what it is asked for; ``answers`` is the status of the next answers."""

    def __init__(self) -> None:
        self.pings: list[str] = []
        self.answers = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.pings.append(Request(scope).url.path)
            await Response(status_code=self.answers)(scope, receive, send)


class Watching:
    """One worker's vigil, in which a trouble is one at its second look."""

    def __init__(self, client: PrefectClient, *, own_id: UUID) -> None:
        self.own_id = own_id
        self._vigil = Vigil(
            client, own_id=own_id, worker_name="of a test", work_pool=WORK_POOL, logger=logger, away_seconds=0.001
        )

    async def look(self, times: int = 1, **settings: Any) -> None:
        """Look so many times, with settings that differ from the stack's."""
        for _ in range(times):
            await self._vigil.look(load_settings().model_copy(update=settings))
            await asyncio.sleep(0.01)

    def ping_again(self) -> None:
        """Let a minute pass for the watchdog."""
        self._vigil._pinged_at = None


@pytest.fixture
def operator() -> str:
    return f"operator-{uuid4().hex[:8]}@example.com"


@pytest.fixture
async def watchdog(monkeypatch: pytest.MonkeyPatch, in_stack: Stack, operator: str) -> AsyncIterator[Watchdog]:
    watchdog = Watchdog()
    async with serve(watchdog) as url:
        monkeypatch.setenv("CAMPAIGNS_HEARTBEAT_URL", f"{url}/ping/sesame")
        monkeypatch.setenv("CAMPAIGNS_OPERATORS", operator)
        yield watchdog


@pytest.fixture
async def watching(driver: Driver, watchdog: Watchdog, proxy: PrefectProxy) -> AsyncIterator[Watching]:
    """The vigil of a worker that lives and tells people; it has seen, and said, that all is well."""
    await Driver(driver.client, driver.store, load_settings().model_copy(update={"campaigns_operators": None})).apply()

    async def is_ready() -> bool:
        return (await driver.client.read_work_pool(WORK_POOL)).status is WorkPoolStatus.READY

    # That a pool is ready people hear, too.
    await until(is_ready, "the work pool is ready")
    await Driver(driver.client, driver.store, load_settings()).apply()
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        async with get_client() as client:
            # The first of all workers there are.
            watching = Watching(client, own_id=UUID(int=uuid4().int >> 64))
            await driver.store.keep_worker(watching.own_id, name="of a test", pool=WORK_POOL, ttl_seconds=600)
            await watching.look()
            assert watchdog.pings == ["/ping/sesame"]
            watchdog.pings.clear()
            watching.ping_again()
            yield watching
            await driver.store.remove_worker(watching.own_id)


async def told(stack: Stack, operator: str, count: int) -> list[str]:
    return [str(mail.message["Subject"]) for mail in await mails_to(stack, operator, count)]


def of(trouble: Trouble) -> list[str]:
    """What people are told of a trouble that is over."""
    return [f"Nobody works: {trouble}", f"Works again: it is over that {trouble}"]


async def test_of_a_server_that_is_away_people_hear_once_and_once_when_it_is_back(
    watching: Watching, proxy: PrefectProxy, in_stack: Stack, operator: str, watchdog: Watchdog
) -> None:
    proxy.cut = "/"
    await watching.look(times=4)
    assert await told(in_stack, operator, 1) == of(Trouble.SERVER)[:1]
    assert watchdog.pings == []
    proxy.cut = None
    await watching.look(times=3)
    assert await told(in_stack, operator, 2) == of(Trouble.SERVER)
    assert len(watchdog.pings) == 1


async def test_of_a_store_that_is_away_people_hear_once_and_once_when_it_is_back(
    watching: Watching, in_stack: Stack, operator: str, watchdog: Watchdog, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    await watching.look(times=4, campaigns_database=tmp_path / "file" / "campaigns.db")
    assert watchdog.pings == []
    await watching.look(times=3)
    assert await told(in_stack, operator, 2) == of(Trouble.STORE)


async def test_what_was_seen_for_a_moment_before_the_server_went_away_is_not_told_with_it(
    watching: Watching, proxy: PrefectProxy, in_stack: Stack, operator: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    await watching.look(campaigns_database=tmp_path / "file" / "campaigns.db")
    proxy.cut = "/"
    await watching.look(times=4)
    assert await told(in_stack, operator, 1) == of(Trouble.SERVER)[:1]
    proxy.cut = None
    await watching.look(times=3)
    assert await told(in_stack, operator, 2) == of(Trouble.SERVER)


async def test_what_nobody_can_see_while_the_server_is_away_is_not_over(
    watching: Watching, proxy: PrefectProxy, in_stack: Stack, operator: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    away = {"campaigns_database": tmp_path / "file" / "campaigns.db"}
    await watching.look(times=3, **away)
    proxy.cut = "/"
    await watching.look(times=3, **away)
    proxy.cut = None
    await watching.look(times=2, **away)
    begun = [of(trouble)[0] for trouble in (Trouble.STORE, Trouble.SERVER)]
    assert await told(in_stack, operator, 3) == [*begun, of(Trouble.SERVER)[1]]
    await watching.look(times=2)
    assert await told(in_stack, operator, 4) == [*begun, of(Trouble.SERVER)[1], of(Trouble.STORE)[1]]


@pytest.mark.usefixtures("watching")
async def test_what_does_not_last_nobody_hears_of(
    driver: Driver, in_stack: Stack, operator: str, proxy: PrefectProxy
) -> None:
    async with get_client() as client:
        vigil = Vigil(client, own_id=UUID(int=1), worker_name="patient", work_pool=WORK_POOL, logger=logger)
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            await driver.store.keep_worker(UUID(int=1), name="patient", pool=WORK_POOL, ttl_seconds=600)
            for cut in ("/", "/", None, "/", None):
                proxy.cut = cut
                await vigil.look(load_settings())
    await driver.store.remove_worker(UUID(int=1))
    assert not [mail for mail in in_stack.mail.messages if operator in mail.recipients]


async def test_of_several_workers_one_tells(
    driver: Driver, watching: Watching, proxy: PrefectProxy, in_stack: Stack, operator: str
) -> None:
    async with get_client() as client:
        later = Watching(client, own_id=UUID(int=2**128 - 1))
        await driver.store.keep_worker(later.own_id, name="later", pool=WORK_POOL, ttl_seconds=600)
        await later.look()
        proxy.cut = "/"
        for one in (later, watching, later):
            await one.look(times=2)
        proxy.cut = None
        for one in (later, watching):
            await one.look(times=2)
    await driver.store.remove_worker(later.own_id)
    assert await told(in_stack, operator, 2) == of(Trouble.SERVER)


async def test_of_runs_that_nobody_takes_up_people_hear(
    driver: Driver, watching: Watching, in_stack: Stack, operator: str, watchdog: Watchdog
) -> None:
    flow_run = await driver.start_later(await driver.deploy("Vigil Late", "http://127.0.0.1:1", only=1))
    await asyncio.to_thread(in_stack.stop_worker)
    try:
        due = datetime.now(UTC) - LATE_AFTER - timedelta(seconds=1)
        await driver.client.set_flow_run_state(flow_run.id, Scheduled(scheduled_time=due), force=True)
        await watching.look(times=4)
        assert await told(in_stack, operator, 1) == [f"Late: {Trouble.LATE}"]
        assert watchdog.pings == []
        await driver.client.set_flow_run_state(flow_run.id, Cancelled(), force=True)
    finally:
        await asyncio.to_thread(in_stack.start_worker)
    await watching.look(times=2)
    assert (await told(in_stack, operator, 2))[1] == of(Trouble.LATE)[1]


async def test_while_the_work_pool_is_paused_the_watchdog_hears_nothing_and_people_hear_from_the_server(
    driver: Driver, watching: Watching, in_stack: Stack, operator: str, watchdog: Watchdog
) -> None:
    paused = f"Paused: work pool {WORK_POOL}"
    await driver.client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=True))
    try:
        assert await told(in_stack, operator, 1) == [paused]
        await watching.look(times=3)
        assert watchdog.pings == []
    finally:
        await driver.client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=False))
    assert await told(in_stack, operator, 2) == [paused, f"Works again: work pool {WORK_POOL}"]


async def test_that_nobody_works_in_the_pool_people_hear_from_the_server(
    driver: Driver, watching: Watching, in_stack: Stack, operator: str
) -> None:
    pool = await driver.client.read_work_pool(WORK_POOL)
    # As Prefect's server says it when no worker was heard of for a minute and a half.
    event = Event(
        event="prefect.work-pool.not-ready",
        resource=Resource({"prefect.resource.id": f"prefect.work-pool.{pool.id}", "prefect.resource.name": WORK_POOL}),
    )
    await driver.client.request("POST", "/events", json=[event.model_dump(mode="json")])
    (mail,) = await mails_to(in_stack, operator, 1)
    assert mail.message["Subject"] == f"Nobody works: work pool {WORK_POOL}"
    assert "No worker is alive" in mail.text
    assert watching.own_id


async def test_a_watchdog_is_pinged_once_a_minute_and_its_url_is_shown_nowhere(
    watching: Watching, watchdog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    await watching.look(times=3)
    assert watchdog.pings == ["/ping/sesame"]
    watchdog.answers = 404
    watching.ping_again()
    await watching.look()
    assert "The watchdog did not take the ping: it answered 404" in caplog.text
    watching.ping_again()
    await watching.look(campaigns_heartbeat_url=SecretStr("http://127.0.0.1:1/sesame"))
    assert "The watchdog could not be pinged: ConnectError" in caplog.text
    assert "sesame" not in caplog.text
