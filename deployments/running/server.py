"""Prefect's API: finding the one that is meant, and starting one where there is none."""

from __future__ import annotations

import asyncio
import atexit
import errno
import json
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
from prefect.client.base import ServerType
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

from prefect_campaigns.blocks.stores import DEFAULT_API_URL, wants_password
from prefect_campaigns.blocks.supabase_credentials import is_loopback
from prefect_campaigns.errors import ServerError
from prefect_campaigns.words import MAX_SHOWN, hide_login, why_failed

DEFAULT_PORT = 4200
"""Where ``prefect server start`` and ``campaigns up`` listen unless told otherwise."""

LOOPBACK = "127.0.0.1"
_THIS_MACHINE = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - what a person may ask for
"""By which address this machine reaches a server that listens at all of them."""

START_SECONDS = 120.0
STOP_SECONDS = 15.0

_PROCESS = "prefect_campaigns.deployments.running.server_process"
"""Not imported: it brings SQLAlchemy, which takes every command half a second."""

EVENT_ORDER = "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING", "prefect_campaigns.deployments.running.event_order"
"""In which order a server's automations are to look at events, so that none waits for what came before a restart."""

_EVENTS = {
    **dict([EVENT_ORDER]),
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "1000",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.2",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_MAX_FLUSH_RETRIES": "1500",
}
"""And how many of them keep it from hearing of more until they are written down (of itself 20), how many seconds that
may be (5), and how often it is tried (5 times): of what a server has not written down nobody knows that it was mailed,
and it is mailed again."""

_DATABASE_URL = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_BY_THE_HUNDRED = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}


def recorder_settings(database_url: str) -> dict[str, str]:
    """Return how Prefect's server is to write the states of tasks: on PostgreSQL by the hundred, or after a second.

    Of itself it has a transaction for each, falls behind while hundreds of runs go, and drops those that come when it
    is 10,000 behind. SQLite would look through all tasks there ever were for any two of them.
    """
    return _BY_THE_HUNDRED if database_url.startswith("postgresql") else {}


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
                await must_answer(client, url)
                yield client
        except (httpx.HTTPError, PrefectException) as error:
            why = wants_password(error) or why_failed(error)
            raise ServerError(f"Prefect's API at {hide_login(url)} failed: {why}") from error


async def must_answer(client: PrefectClient, url: str) -> None:
    """Make sure that what the client asks is a Prefect API, and is there.

    Raises:
        ServerError: it is not, with what to do.
    """
    shown = hide_login(url)
    try:
        said = json.dumps((await client.request("GET", "/health")).json())
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise _no_api(shown, error) from error
        said = f"{error.response.status_code} {error.response.reason_phrase}"
    except json.JSONDecodeError:
        said = "no JSON"
    # Whatever httpx makes of an address that is none.
    except Exception as error:
        raise _no_api(shown, error) from error
    if said == "true" or client.server_type is ServerType.CLOUD:
        return
    is_page = not urlsplit(url).path.strip("/")
    meant = f"{shown.rstrip('/')}/api" if is_page else "that of a Prefect server, such as http://127.0.0.1:4200/api"
    raise ServerError(
        f"what answers at {shown} is no Prefect API (/health says: {said[:MAX_SHOWN]})."
        f" PREFECT_API_URL has to be {meant}"
    )


def _no_api(shown: str, error: Exception) -> ServerError:
    return ServerError(
        f"no Prefect API answers at {shown}: {why_failed(error).rstrip('.')}. Start one with `campaigns up` (or"
        " `prefect server start`), or set PREFECT_API_URL."
    )


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


def port_is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether something could listen there now."""
    try:
        _try_to_listen(host, port)
    except OSError:
        return False
    return True


def _try_to_listen(host: str, port: int) -> None:
    """Listen there for a moment.

    Raises:
        OSError: it cannot be.
    """
    # Not both kinds of addresses at once, which a name may stand for.
    (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


class EmbeddedServer:
    """A Prefect server on SQLite, as a process of ours; on loopback unless told otherwise.

    Its database and results lie in ``home``, and outlive it.

    Attributes:
        host: the address or name at which it listens; ``0.0.0.0`` and ``::`` are all addresses of this machine.
        password: what its API asks everybody for; None where it asks nobody.
    """

    def __init__(
        self,
        *,
        home: Path,
        port: int,
        log: Path,
        host: str = LOOPBACK,
        password: str | None = None,
        ui_url: str | None = None,
        extra_env: dict[str, str] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.home = home
        self.log = log
        self.password = password
        self._chosen_ui_url = ui_url
        self._extra_env = extra_env or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_reachable_from_elsewhere(self) -> bool:
        """Whether other machines may reach it."""
        return not is_loopback(self.host)

    @property
    def api_url(self) -> str:
        """Where its API answers this machine."""
        return f"{self._url(_THIS_MACHINE.get(self.host, self.host))}/api"

    @property
    def ui_url(self) -> str:
        """Where people look; from other machines, too, where they may reach it."""
        here = socket.gethostname() if self.host in _THIS_MACHINE else self.host
        return self._chosen_ui_url or self._url(here)

    def _url(self, host: str) -> str:
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of its process.

        Raises:
            RuntimeError: it does not run.
        """
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    def _environment(self) -> dict[str, str]:
        left_out = ["PREFECT_API_URL", "PREFECT_PROFILE"]
        if not os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
            # Prefect's server would ask for an empty one.
            left_out.append("PREFECT_SERVER_API_AUTH_STRING")
        inherited = {k: v for k, v in os.environ.items() if k not in left_out}
        if self.password is not None:
            inherited |= dict.fromkeys(("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"), self.password)
        database_url = {**inherited, **self._extra_env}.get(_DATABASE_URL, "")
        return {
            **recorder_settings(database_url),
            **_EVENTS,
            **inherited,
            "PREFECT_HOME": str(self.home),
            "PREFECT_UI_URL": self.ui_url,
            # The API beside the pages, by whatever name a browser knows this machine.
            "PREFECT_UI_API_URL": "/api",
            # No other page than its own; of itself Prefect lets the pages of all origins read what it answers.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": self.ui_url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLI_PROMPT": "false",
            "DO_NOT_TRACK": "1",
            **self._extra_env,
        }

    def _check_address(self) -> None:
        try:
            _try_to_listen(self.host, self.port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ServerError(
                    f"port {self.port} is taken, and the Prefect server wants it; choose another with --port"
                ) from None
            raise ServerError(
                f"the Prefect server cannot listen at {self.host}, port {self.port}: {error.strerror or error};"
                " --host takes an address of this machine, or 0.0.0.0 for all of them"
            ) from None

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            ServerError: the port is taken, the host is none of this machine's, or it does not come up within two
                minutes.
        """
        await asyncio.to_thread(self._check_address)
        self.home.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", _PROCESS, "--host", self.host, "--port", str(self.port)]
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
    names = {
        "PREFECT_API_URL": server.api_url,
        "PREFECT_UI_URL": server.ui_url,
        "PREFECT_HOME": str(server.home),
    }
    settings = {PREFECT_API_URL: server.api_url, PREFECT_UI_URL: server.ui_url}
    if server.password is not None:
        names["PREFECT_API_AUTH_STRING"] = server.password
        settings[PREFECT_API_AUTH_STRING] = server.password
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        with temporary_settings(settings):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
