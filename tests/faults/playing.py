"""One round: fifty scenarios or so at once on real processes, while things around them break; then the questions."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from invariants import Evidence, broken_promises, histories
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled
from real_stack import Stack
from scenarios import WITHIN_SECONDS, Break, Event, Scenario
from starlette.requests import Request
from supabase_rig import Project, Proxy

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.supabase.store import SupabaseStore
from prefect_campaigns.deployments.applying.apply import apply
from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.demo.faults import Fault
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.demo.smtp_sink import ReceivedMail, SmtpSink

WORKERS = 2
END_SECONDS = 330.0
"""How long after everything is well again all runs have for their ends: what is behind may have died twice."""

TELL_SECONDS = 420.0
"""How long people may wait for mails after that: one of which nothing is heard is taken over after 150 seconds, by a
worker that may have been started only now, and on a machine that has too much to do."""

_PAUSE = 2.0


class ScriptedEngines(DemoEngines):
    """Engines that do wrong what each scenario says."""

    def __init__(self, scenarios: Sequence[Scenario], *, honours_idempotency_key: bool) -> None:
        super().__init__(pace=0.15, honours_idempotency_key=honours_idempotency_key)
        self._script: dict[int, dict[str, deque[Fault]]] = {one.number: one.script() for one in scenarios}

    def _fault_at(self, request: Request) -> Fault | None:
        # What was read of it before: the body of a poll is empty.
        body = getattr(request, "_body", b"")
        number = json.loads(body).get("of") if body else None
        faults = self._script.get(number, {}).get(request.url.path) if number is not None else None
        return faults.popleft() if faults else None


@dataclass
class Result:
    """What came of a round."""

    broken: list[tuple[int, str]]
    events: Sequence[Event]
    kills: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class Round:
    """The processes of a round, and what can break of them.

    Args:
        project: the Supabase project that keeps the books; None keeps them in a SQLite file.
        events: what breaks.
    """

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        home: Path,
        *,
        project: Project | None,
        events: Sequence[Event],
    ) -> None:
        self._scenarios = scenarios
        self._stack = Stack(home)
        self._project = project
        self._proxy: Proxy | None = None
        self._workers: list[subprocess.Popen[bytes] | None] = [None] * WORKERS
        self._mails: list[SmtpSink] = [self._stack.mail]
        self._events = events
        self.kills = 0

    async def play(self) -> Result:
        """Play the round; return what did not hold."""
        began = time.monotonic()
        honest = ScriptedEngines(self._scenarios, honours_idempotency_key=True)
        careless = ScriptedEngines(self._scenarios, honours_idempotency_key=False)
        async with (
            self._running(),
            serve(honest) as honest_url,
            serve(careless) as careless_url,
            get_client() as client,
            self._store() as store,
        ):
            runs = await self._begin(client, store, honest_url, careless_url)
            await asyncio.gather(*map(self._break, self._events))
            await self._mend()
            await self._all_have_ended(client, runs)
            evidence = Evidence(
                client=client, store=store, honest=honest, careless=careless, mails=self._all_mails(), runs=runs
            )
            broken = await self._ask(evidence)
            ends = Counter(states[-1].name or "" for states in (await histories(evidence)).values())
        return Result(broken=broken, events=self._events, kills=self.kills, ends=ends, seconds=time.monotonic() - began)

    async def _ask(self, evidence: Evidence) -> list[tuple[int, str]]:
        """Ask until all promises hold, or the time is over: mails that are owed come in a while."""
        deadline = time.monotonic() + TELL_SECONDS
        while True:
            now = replace(evidence, mails=self._all_mails())
            lived = not any(event.is_of_worker for event in self._events)
            broken = await broken_promises(self._scenarios, now, kills=self.kills, workers_lived=lived)
            if not broken or time.monotonic() > deadline:
                return broken
            await asyncio.sleep(_PAUSE)

    def _all_mails(self) -> list[ReceivedMail]:
        return [mail for sink in self._mails for mail in sink.messages]

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if self._project is not None:
                self._project.clean()
                self._proxy = stack.enter_context(self._project.proxy())
            self._stack.mail.__enter__()
            await self._stack.server.start()
            os.environ.update(self._environment())
            try:
                with temporary_settings({PREFECT_API_URL: self._stack.server.api_url}):
                    for number in range(WORKERS):
                        self._start_worker(number)
                    yield
            finally:
                for number in range(WORKERS):
                    self._end_worker(number, signal.SIGKILL)
                # What tells this process's events has a connection to the server of this round.
                await EventsWorker.drain_all(timeout=10, at_exit=False)
                await self._stack.server.stop()
                self._mails[-1].__exit__(None, None, None)

    def _environment(self) -> dict[str, str]:
        environment = dict(self._stack.environment)
        if self._project is not None and self._proxy is not None:
            del environment["CAMPAIGNS_DATABASE"]
            environment |= {"SUPABASE_URL": self._proxy.url, "SUPABASE_KEY": self._project.secret_key}
        return environment

    def _store(self) -> CampaignStore:
        # Past whatever is broken on the way.
        if self._project is not None:
            return SupabaseStore(self._project.url, self._project.secret_key)
        return SqliteStore(self._stack.database)

    async def _begin(
        self, client: PrefectClient, store: CampaignStore, honest_url: str, careless_url: str
    ) -> dict[int, UUID]:
        campaigns = [one.campaign(honest_url, careless_url) for one in self._scenarios]
        applied = await apply(campaigns, store=store, settings=load_settings())
        now, runs = datetime.now(UTC), {}
        for scenario, one in zip(self._scenarios, applied.campaigns, strict=True):
            # As long as something is about to break there have to be runs.
            within = max(WITHIN_SECONDS, *(event.after for event in self._events))
            due = now + timedelta(seconds=scenario.begins_after * within / WITHIN_SECONDS)
            run = await client.create_flow_run_from_deployment(one.deployment_id, state=Scheduled(scheduled_time=due))
            runs[scenario.number] = run.id
        return runs

    async def _all_have_ended(self, client: PrefectClient, runs: dict[int, UUID]) -> None:
        deadline = time.monotonic() + END_SECONDS
        left = set(runs.values())
        while left and time.monotonic() < deadline:
            for run_id in list(left):
                try:
                    state = (await client.read_flow_run(run_id)).state
                except (httpx.HTTPError, PrefectException):
                    break
                if state is not None and _has_ended(state):
                    left.discard(run_id)
            await asyncio.sleep(_PAUSE)

    # What breaks

    async def _break(self, event: Event) -> None:
        await asyncio.sleep(event.after)
        match event.what:
            case Break.KILL_WORKER | Break.STOP_WORKER:
                is_kill = event.what is Break.KILL_WORKER
                worker = self._workers[event.worker]
                self.kills += is_kill and worker is not None and worker.poll() is None
                self._end_worker(event.worker, signal.SIGKILL if is_kill else signal.SIGTERM)
                await asyncio.sleep(event.seconds)
                self._start_worker(event.worker)
            case Break.FREEZE_WORKER:
                worker = self._workers[event.worker]
                if worker is not None and worker.poll() is None:
                    worker.send_signal(signal.SIGSTOP)
                    await asyncio.sleep(event.seconds)
                    worker.send_signal(signal.SIGCONT)
                    # It may be killed without knowing of it.
                    self.kills += 1
            case Break.KILL_SERVER:
                if self._stack.server.is_running:
                    os.kill(self._stack.server.pid, signal.SIGKILL)
                    self.kills += 1
                    await self._stack.server.stop()
                    await asyncio.sleep(event.seconds)
                    await self._stack.server.start()
            case Break.SMTP_DOWN | Break.SMTP_REFUSES:
                await self._break_mail(event)
            case _:
                assert self._proxy is not None
                break_it = {
                    Break.STORE_REFUSES: self._proxy.refuse,
                    Break.STORE_STALLS: self._proxy.stall,
                    Break.STORE_CUTS: self._proxy.cut,
                }[event.what]
                await asyncio.to_thread(break_it)
                await asyncio.sleep(event.seconds)
                await asyncio.to_thread(self._proxy.pass_on)

    async def _break_mail(self, event: Event) -> None:
        port = self._stack.mail.port
        before = self._mails[-1]
        await asyncio.to_thread(before.__exit__, None, None, None)
        if event.what is Break.SMTP_REFUSES:
            with SmtpSink(port=port, replies={"DATA": "451 4.3.0 try again later"}):
                await asyncio.sleep(event.seconds)
        else:
            await asyncio.sleep(event.seconds)
        self._mails.append(SmtpSink(port=port).__enter__())

    async def _mend(self) -> None:
        """Let everything be well again."""
        for number, worker in enumerate(self._workers):
            if worker is None or worker.poll() is not None:
                self._start_worker(number)

    def _start_worker(self, number: int) -> None:
        worker = self._workers[number]
        if worker is None or worker.poll() is not None:
            self._workers[number] = self._stack._spawn_worker(WORK_POOL, self._environment(), name=f"worker-{number}")

    def _end_worker(self, number: int, sign: signal.Signals) -> None:
        worker = self._workers[number]
        if worker is not None and worker.poll() is None:
            worker.send_signal(signal.SIGCONT)
            worker.send_signal(sign)
            if sign is signal.SIGKILL:
                worker.wait()


def _has_ended(state: State[Any]) -> bool:
    """Whether a run will stay so: one that has crashed may go on at once."""
    is_fresh = datetime.now(UTC) - state.timestamp < timedelta(seconds=20)
    return state.is_final() and not (state.is_crashed() and is_fresh)
