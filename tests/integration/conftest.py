"""What the integration tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC

import pytest
from clocks import SettableClock
from day import AT_THREE, Day
from driving import Driver
from operating import Operator
from prefect.client.orchestration import PrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_proxy import PrefectProxy
from real_stack import Stack
from run_process import RunProcess

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.clock import using_clock
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.demo.serving import serve


@pytest.fixture
def day_clock() -> Iterator[SettableClock]:
    """The clock of everything in the test's process, at three in the afternoon of yesterday."""
    clock = SettableClock(AT_THREE.astimezone(UTC))
    with using_clock(clock):
        yield clock


@pytest.fixture
async def proxy(in_stack: Stack) -> AsyncIterator[PrefectProxy]:
    """Prefect's API as the applies of a test see it."""
    proxy = PrefectProxy(in_stack.server.api_url.removesuffix("/api"))
    async with serve(proxy) as url:
        with temporary_settings({PREFECT_API_URL: f"{url}/api"}):
            yield proxy
    await proxy.close()


@pytest.fixture
def operator(driver: Driver) -> Operator:
    """Somebody who plans and applies the campaigns of one folder."""
    return Operator(driver)


@pytest.fixture
async def day(
    day_clock: SettableClock,
    client: PrefectClient,
    settings: Settings,
    in_stack: Stack,
    runner: RunProcess,
    engines: DemoEngines,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Day]:
    """A campaign on a day in New York."""
    async with SqliteStore(in_stack.database, clock=day_clock) as store:
        driver = Driver(client, store, settings)
        day = Day(driver, runner, day_clock, engines.url, request.node.name[:60])
        yield day
        await day.end()
