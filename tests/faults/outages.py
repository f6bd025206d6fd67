"""``make outages``: each part is stopped once, on the clock, and who hears of it when is measured.

A Prefect server, one worker, a mail server, a watchdog, and the books behind a network that can be cut. Every time is
what the package and Prefect come with; it takes about twenty minutes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.settings import PREFECT_API_URL, temporary_settings
from real_stack import SCRUBBED, Stack
from rich.console import Console
from rich.table import Table
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from supabase_rig import Project, Proxy, start_project, what_is_missing

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.supabase.store import SupabaseStore
from prefect_campaigns.deployments.applying.apply import apply
from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.demo.serving import serve

OPERATOR = "operator@example.com"
TOLD_SECONDS = 300.0
"""Within which time somebody has to hear of it."""

QUIET_SECONDS = 60.0
"""How long nothing more may come after the first mail."""

QUIET_AT_END_SECONDS = 200.0
"""The same after the last one: a worker mails after two and a half minutes of what nobody has told."""

_PAUSE = 0.5

Act = Callable[[], Awaitable[None]]


class Watchdog:
    """Answers pings, and knows when the last one came."""

    def __init__(self) -> None:
        self.last = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.last = time.monotonic()
            await Response()(scope, receive, send)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Who heard of an outage, and when.

    Attributes:
        mailed: seconds after its beginning; None where nobody was mailed in time.
        last_ping: seconds after its beginning that the watchdog was still pinged; negative is before.
        mails: the subjects of the mails that came while it lasted.
        over: seconds after its end that people were told so.
        mails_over: the subjects of those that came then.
    """

    what: str
    mailed: float | None
    last_ping: float
    mails: Sequence[str]
    over: float | None
    mails_over: Sequence[str]

    @property
    def is_well(self) -> bool:
        """Whether people were told once, and once that it is over, and no ping came when they had been told."""
        is_told = self.mailed is not None and len(self.mails) == 1 and self.last_ping < self.mailed
        return is_told and self.over is not None and len(self.mails_over) == 1


class Outages:
    """The set-up, and what can be stopped of it."""

    def __init__(self, home: Path, project: Project) -> None:
        self._stack = Stack(home)
        self._project = project
        self._proxy: Proxy | None = None
        self._watchdog = Watchdog()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PrefectClient]:
        """Let all of it run, well."""
        async with AsyncExitStack() as stack:
            self._proxy = stack.enter_context(self._project.proxy())
            stack.enter_context(self._stack.mail)
            url = await stack.enter_async_context(serve(self._watchdog))
            await self._stack.server.start()
            stack.push_async_callback(self._stack.server.stop)
            environment = {
                **self._stack.environment,
                "SUPABASE_URL": self._proxy.url,
                "SUPABASE_KEY": self._project.secret_key,
                "CAMPAIGNS_OPERATORS": OPERATOR,
                "CAMPAIGNS_HEARTBEAT_URL": f"{url}/ping",
            }
            del environment["CAMPAIGNS_DATABASE"]
            os.environ.update(environment)
            stack.enter_context(temporary_settings({PREFECT_API_URL: self._stack.server.api_url}))
            client = await stack.enter_async_context(get_client())
            async with SupabaseStore(self._project.url, self._project.secret_key) as store:
                await apply([], store=store, settings=load_settings())
            self._worker = self._stack._spawn_worker(WORK_POOL, environment, name="the only one")
            stack.callback(lambda: self._worker.send_signal(signal.SIGKILL))
            self._environment = environment
            await self._until(lambda: self._watchdog.last > 0, TOLD_SECONDS)
            yield client

    async def all(self, client: PrefectClient) -> AsyncIterator[Heard]:
        """Stop each part, one after the other."""
        assert self._proxy is not None
        store, server = self._proxy, self._stack.server

        async def pause(paused: bool) -> None:
            await client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=paused))

        async def stop_worker() -> None:
            self._worker.terminate()
            await asyncio.to_thread(self._worker.wait, 60)

        async def start_worker() -> None:
            self._worker = self._stack._spawn_worker(WORK_POOL, self._environment, name="the only one")

        yield await self._hear(
            "store stopped", lambda: asyncio.to_thread(store.refuse), lambda: asyncio.to_thread(store.pass_on)
        )
        yield await self._hear("pool paused", lambda: pause(True), lambda: pause(False))
        yield await self._hear("server stopped", server.stop, server.start)
        yield await self._hear("worker stopped", stop_worker, start_worker)

    async def _hear(self, what: str, stop: Act, mend: Act) -> Heard:
        before = len(self._mails())
        await stop()
        began = time.monotonic()
        mailed = await self._until(lambda: len(self._mails()) > before, TOLD_SECONDS)
        await asyncio.sleep(QUIET_SECONDS)
        last_ping, mails = self._watchdog.last - began, self._mails()[before:]
        told = before + len(mails)
        await mend()
        ended = time.monotonic()
        over = await self._until(lambda: len(self._mails()) > told, TOLD_SECONDS)
        await self._until(lambda: self._watchdog.last > ended, TOLD_SECONDS)
        await asyncio.sleep(QUIET_AT_END_SECONDS)
        over_mails = self._mails()[told:]
        return Heard(what=what, mailed=mailed, last_ping=last_ping, mails=mails, over=over, mails_over=over_mails)

    def _mails(self) -> list[str]:
        """Return the subjects of all mails to the operator, oldest first."""
        return [str(mail.message["Subject"]) for mail in self._stack.mail.messages if OPERATOR in mail.recipients]

    async def _until(self, holds: Callable[[], bool], seconds: float) -> float | None:
        """Wait, and return how long it took; None where it was too long."""
        began = time.monotonic()
        while (waited := time.monotonic() - began) < seconds:
            if holds():
                return waited
            await asyncio.sleep(_PAUSE)
        return None


async def measure(home: Path, project: Project, console: Console) -> bool:
    """Measure, and print a row for each; return whether everybody heard in time, once."""
    outages = Outages(home, project)
    table = Table(title="Who heard of it, and when", caption="seconds after it stopped, or came back")
    for column in ("stopped", "mailed", "mails", "last ping", "said to be over", "mails"):
        table.add_column(column, justify="left" if column == "stopped" else "right")
    all_well = True
    async with outages.running() as client:
        async for heard in outages.all(client):
            all_well &= heard.is_well
            row = [heard.mailed, len(heard.mails), heard.last_ping, heard.over, len(heard.mails_over)]
            table.add_row(heard.what, *("never" if cell is None else f"{cell:.0f}" for cell in row))
            said = "; ".join((*heard.mails, *heard.mails_over))
            console.print(f"{heard.what}{'' if heard.is_well else ' [red]NOT WELL[/]'}: {said}", soft_wrap=True)
    console.print(table)
    return all_well


def main() -> int:
    """Measure; return 1 if somebody heard too late, twice, or not at all."""
    for name in list(os.environ):
        if name.startswith(SCRUBBED):
            del os.environ[name]
    logging.disable(logging.WARNING)
    if reason := what_is_missing():
        sys.exit(f"no Supabase, whose network could be cut: {reason}")
    with start_project() as project, TemporaryDirectory(prefix="outages-") as home:
        project.migrate()
        return 0 if asyncio.run(measure(Path(home), project, Console())) else 1


if __name__ == "__main__":
    sys.exit(main())
