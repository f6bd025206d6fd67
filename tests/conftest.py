"""What every test shares: a clean environment, and a real Prefect stack for those that ask for one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import hypothesis
import pytest
import zones
from driving import Driver
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings
from real_stack import SCRUBBED, Stack
from run_process import RunProcess

from prefect_campaigns.blocks.settings import Settings, load_settings
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.running.timezones import remember_timezones

pytest_plugins = ["supabase_fixtures"]

# Before anything asks which timezones there are.
zones.install()
remember_timezones()

# The same examples each time: whatever else is broken, no change fails over somebody's luck.
hypothesis.settings.register_profile("steady", derandomize=True)
hypothesis.settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tests that can be large be so."""
    parser.addoption("--at-full-size", action="store_true", help="a thousand campaigns where a test can have them")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """End with the quick tests, so that no process is left with a long file when the others have nothing more to do."""
    items.sort(key=lambda item: "unit" in item.path.parts)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's settings out of the tests, and the tests out of the machine's folders."""
    for name in list(os.environ):
        if name.startswith(SCRUBBED):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One real stack for all tests that need one; each test uses campaigns of its own."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    with stack.mail:
        asyncio.run(stack.server.start())
        try:
            stack.start_worker()
            yield stack
        finally:
            stack.stop_worker()
            asyncio.run(stack.server.stop())


@pytest.fixture
def in_stack(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """Make the test's own process a citizen of the stack."""
    for name, value in stack.environment.items():
        if name.startswith(SCRUBBED):
            monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: stack.server.api_url, PREFECT_UI_URL: stack.server.ui_url}):
        yield stack


@pytest.fixture
def settings(in_stack: Stack) -> Settings:
    """The settings of the stack."""
    return load_settings()


@pytest.fixture(scope="session")
def runner(stack: Stack) -> Iterator[RunProcess]:
    """A process that executes flow runs of the stack when a test says so."""
    runner = RunProcess(stack.environment, log=stack.home / "runner.log")
    yield runner
    runner.kill()


@pytest.fixture
async def client(in_stack: Stack) -> AsyncIterator[PrefectClient]:
    """A client of the stack's Prefect API."""
    async with get_client() as client:
        yield client


@pytest.fixture
async def store(in_stack: Stack) -> AsyncIterator[SqliteStore]:
    """The store that the stack's worker writes to."""
    async with SqliteStore(in_stack.database) as store:
        yield store


@pytest.fixture
async def no_worker(driver: Driver) -> AsyncIterator[None]:
    """Let the stack's worker take up nothing."""
    await driver.apply()
    await driver.client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=True))
    yield
    await driver.client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=False))


@pytest.fixture
async def engines() -> AsyncIterator[DemoEngines]:
    """Real engines on loopback, that a test can make fail."""
    engines = DemoEngines()
    async with serve(engines) as url:
        engines.url = url
        yield engines


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client."""
    async with httpx.AsyncClient(timeout=30) as client:
        yield client


@pytest.fixture
def driver(client: PrefectClient, store: SqliteStore, settings: Settings) -> Driver:
    """A person who applies and runs campaigns on the stack."""
    return Driver(client, store, settings)
