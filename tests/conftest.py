"""What every test shares: a clean environment, and a real Prefect stack for those that ask for one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

from prefect_campaigns.blocks.settings import Settings, load_settings
from prefect_campaigns.blocks.sqlite import SqliteStore
from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.demo.smtp_sink import SmtpSink
from prefect_campaigns.deployments.server import EmbeddedServer, free_port

SCRUBBED = ("PREFECT_", "CAMPAIGNS_", "SMTP_", "SUPABASE_")

# A person's patience is not a test's: the same services, asked oftener.
FAST_SERVER = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's settings out of the tests, and the tests out of the machine's folders."""
    for name in list(os.environ):
        if name.startswith(SCRUBBED):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


class Stack:
    """A Prefect server, a campaign worker and a mail server, as processes and threads of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.database = home / "campaigns.db"
        self.server = EmbeddedServer(
            home=home / "prefect", port=free_port(), log=home / "server.log", extra_env=FAST_SERVER
        )
        self.mail = SmtpSink()
        self._worker: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which a person would work with this stack."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(SCRUBBED)},
            "PREFECT_API_URL": self.server.api_url,
            "PREFECT_UI_URL": self.server.ui_url,
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_WORKER_QUERY_SECONDS": "0.5",
            "CAMPAIGNS_DATABASE": str(self.database),
            "SMTP_HOST": self.mail.host,
            "SMTP_PORT": str(self.mail.port),
            "SMTP_TYPE": "INSECURE",
            "SMTP_FROM": "campaigns@example.com",
            "DO_NOT_TRACK": "1",
        }

    def start_worker(self) -> None:
        """Start the worker as an operator does; Prefect finds it through the package's entry point."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", WORK_POOL, "--name", "test"]
        with (self.home / "worker.log").open("ab") as log:
            self._worker = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, cwd=self.home, start_new_session=True
            )

    def stop_worker(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """End the worker's process; with SIGKILL as a machine does that goes away."""
        if self._worker is None:
            return
        self._worker.send_signal(sign)
        try:
            self._worker.wait(30)
        except subprocess.TimeoutExpired:
            self._worker.kill()
            self._worker.wait()
        self._worker = None

    def run_command(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``campaigns …`` as a user does."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("campaigns")), *arguments],
            env=self.environment,
            cwd=cwd or self.home,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


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
