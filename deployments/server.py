"""Prefect's API: finding the one that is meant, and starting one where there is none."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

from prefect_campaigns.blocks.stores import DEFAULT_API_URL
from prefect_campaigns.deployments import server_process
from prefect_campaigns.errors import ServerError, SettingsError
from prefect_campaigns.words import hide_login

DEFAULT_PORT = 4200
"""Where ``prefect server start`` and ``campaigns up`` listen unless told otherwise."""

START_SECONDS = 120.0
STOP_SECONDS = 15.0


def configured_api_url() -> str | None:
    """Return the API that Prefect's settings name; None when they name none."""
    return PREFECT_API_URL.value() or None


@asynccontextmanager
async def connect() -> AsyncIterator[PrefectClient]:
    """Yield a client of the API that the settings name, or else of the one on this machine's port 4200.

    Prefect itself would start a server of its own for the moment; a campaign deployed there would never run.

    Raises:
        ServerError: no API answers, or a request failed on the way.
    """
    url = configured_api_url() or DEFAULT_API_URL
    # Prefect's thread for events would warn, at the end of a command, that it still has some to send.
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)
    with temporary_settings({PREFECT_API_URL: url}):
        try:
            async with get_client() as client:
                failure = await client.api_healthcheck()
                if failure is not None:
                    raise ServerError(
                        f"no Prefect API answers at {hide_login(url)}: {_one_line(failure)}. Start one with"
                        " `campaigns up` (or `prefect server start`), or set PREFECT_API_URL."
                    )
                yield client
        except (httpx.HTTPError, PrefectException) as error:
            raise ServerError(f"Prefect's API at {hide_login(url)} failed: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return hide_login(" ".join(str(error).split())[:500]) or type(error).__name__


def own_port(url: str) -> int | None:
    """Return the port of this machine at which the URL expects Prefect's API; None where it names another machine."""
    parts = urlsplit(url)
    try:
        is_own = (parts.scheme, parts.hostname, parts.path.rstrip("/")) in (
            ("http", "127.0.0.1", "/api"),
            ("http", "localhost", "/api"),
        )
        return parts.port or 80 if is_own else None
    except ValueError:
        return None


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


class EmbeddedServer:
    """A Prefect server on SQLite, as a process of ours, on loopback.

    Its database and results lie in ``home``, and outlive it.
    """

    def __init__(self, *, home: Path, port: int, log: Path, extra_env: dict[str, str] | None = None) -> None:
        self.port = port
        self.home = home
        self.log = log
        self._extra_env = extra_env or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def api_url(self) -> str:
        """Where its API answers."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def ui_url(self) -> str:
        """Where people look."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if k not in ("PREFECT_API_URL", "PREFECT_PROFILE")}
        return {
            **inherited,
            "PREFECT_HOME": str(self.home),
            "PREFECT_UI_URL": self.ui_url,
            "PREFECT_UI_API_URL": self.api_url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLI_PROMPT": "false",
            "DO_NOT_TRACK": "1",
            **self._extra_env,
        }

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            ServerError: the port is taken, or it does not come up within two minutes.
        """
        if not port_is_free(self.port):
            raise ServerError(f"port {self.port} is taken, and the Prefect server wants it; choose another with --port")
        self.home.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", server_process.__name__, "--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("ab") as log:
            # A session of its own: a Ctrl-C at the terminal is ours to pass on, once.
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - starting is quick, and the command is ours
                command, env=self._environment(), stdout=log, stderr=log, start_new_session=True
            )
        # An impatient second Ctrl-C breaks off whatever is being awaited, and would leave it behind.
        atexit.register(self._process.terminate)
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._wait_until_healthy(self._process)
        except TimeoutError:
            await self.stop()
            raise ServerError(
                f"the Prefect server did not come up within {START_SECONDS:g} seconds; see {self.log}"
            ) from None
        except BaseException:
            await self.stop()
            raise

    async def _wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            while True:
                if process.poll() is not None:
                    raise ServerError(f"the Prefect server ended with exit code {process.returncode}; see {self.log}")
                try:
                    if (await client.get(f"{self.api_url}/health")).is_success:
                        return
                except httpx.HTTPError:
                    # Not up yet; the loop and its time limit decide.
                    await asyncio.sleep(0.1)
                    continue
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """End it; by force when it does not end within fifteen seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
        atexit.unregister(process.terminate)

    async def __aenter__(self) -> EmbeddedServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


@contextmanager
def using(server: EmbeddedServer) -> Iterator[None]:
    """Make this process, and those it starts, speak to the server."""
    url = configured_api_url()
    if url is not None and own_port(url) != server.port:
        raise SettingsError(f"PREFECT_API_URL names another server: {hide_login(url)}")
    names = {
        "PREFECT_API_URL": server.api_url,
        "PREFECT_UI_URL": server.ui_url,
        "PREFECT_HOME": str(server.home),
    }
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        with temporary_settings({PREFECT_API_URL: server.api_url, PREFECT_UI_URL: server.ui_url}):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
