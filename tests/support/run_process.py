"""A process that executes flow runs when it is told, as a worker would, at whatever time it is told that it is."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import wraps
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from clocks import SettableClock, SteppedClock
from forked import forkserver, take_over

if TYPE_CHECKING:
    from prefect_campaigns.blocks.sqlite.store import SqliteStore
    from prefect_campaigns.blocks.store_types import Lease, Reservation
    from prefect_campaigns.clock import Clock

ANSWER_SECONDS = 60.0
NOT_SET = timedelta()


@dataclass
class StoreAway:
    """That the store does not answer a run once.

    Attributes:
        at: at which of the run's calls, from 0.
        is_done: whether it does what it was asked for all the same.
        calls: how many there have been.
    """

    at: int
    is_done: bool
    calls: int = 0


@dataclass(frozen=True)
class Ended:
    """How a flow run ended.

    Attributes:
        store_calls: how often it has called the store, where that was told to be away.
    """

    flow_run_id: UUID
    name: str
    message: str
    store_calls: int = 0


_store_away: ContextVar[StoreAway | None] = ContextVar("_store_away", default=None)


class RunProcess:
    """The process, as seen from the tests; it starts when it is first needed, and again after it was killed."""

    def __init__(self, environment: Mapping[str, str], *, log: Path) -> None:
        self._environment = dict(environment)
        self._log = log
        self._process: ForkServerProcess | None = None
        self._connection: Connection | None = None

    async def tell(
        self,
        flow_run_id: UUID,
        *,
        now: datetime | None = None,
        set_by: timedelta = NOT_SET,
        lingers: float = 0,
        store_away: StoreAway | None = None,
    ) -> None:
        """Let it execute a flow run, beside those that it executes, now or at that time.

        Args:
            set_by: by how much somebody has set the machine's clock.
            lingers: how many seconds pass between a reservation of the run and the request that it is for.
            store_away: at which call the store does not answer.
        """
        if self._connection is None:
            self._connection, theirs = forkserver().Pipe()
            self._process = forkserver().Process(target=_serve, args=(theirs, self._environment, self._log))
            await asyncio.to_thread(self._process.start)
            theirs.close()
        clock = SettableClock(now) if now else SteppedClock(set_by)
        self._connection.send((flow_run_id, clock, lingers, store_away))

    async def hear(self) -> Ended:
        """Wait for the end of one of the runs."""
        assert self._connection is not None
        if not await asyncio.to_thread(self._connection.poll, ANSWER_SECONDS):
            raise AssertionError(f"no run ended within {ANSWER_SECONDS:g} seconds; see {self._log}")
        ended = self._connection.recv()
        assert isinstance(ended, Ended)
        return ended

    async def run(self, flow_run_id: UUID, *, now: datetime | None = None) -> Ended:
        """Let it execute a flow run, and wait for its end."""
        await self.tell(flow_run_id, now=now)
        ended = await self.hear()
        assert ended.flow_run_id == flow_run_id, "runs that were told before are heard first"
        return ended

    def kill(self) -> None:
        """End it as a machine does that goes away."""
        if self._process is not None and self._connection is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._process = self._connection = None


def _serve(connection: Connection, environment: Mapping[str, str], log: Path) -> None:
    take_over(environment, cwd=str(log.parent), out=str(log), err=str(log))
    lingering: dict[str, float] = {}
    _linger_before_sending(lingering)
    _let_the_store_be_away()
    asyncio.run(_execute_what_comes(connection, lingering))


def _linger_before_sending(lingering: Mapping[str, float]) -> None:
    """Widen the moment between reserving and sending, which is over in two milliseconds."""
    from prefect_campaigns.blocks.sqlite.store import SqliteStore

    mark_sent = SqliteStore.mark_sent

    async def linger_and_mark_sent(
        store: SqliteStore, lease: Lease, reservation: Reservation, **options: Any
    ) -> Reservation:
        await asyncio.sleep(lingering[lease.run_id])
        return await mark_sent(store, lease, reservation, **options)

    SqliteStore.mark_sent = linger_and_mark_sent  # type: ignore[method-assign]


def _let_the_store_be_away() -> None:
    """Let each call of the store look whether it is the one that is not answered."""
    from prefect_campaigns.blocks.sqlite.store import SqliteStore
    from prefect_campaigns.errors import StoreUnavailable

    def counted(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(call)
        async def answer(*args: Any, **kwargs: Any) -> Any:
            away = _store_away.get()
            if away is None:
                return await call(*args, **kwargs)
            away.calls += 1
            if away.calls - 1 != away.at:
                return await call(*args, **kwargs)
            if away.is_done:
                await call(*args, **kwargs)
            raise StoreUnavailable(f"{call.__name__} is not answered")

        return answer

    for name, call in vars(SqliteStore).items():
        if inspect.iscoroutinefunction(call) and not name.startswith("_"):
            setattr(SqliteStore, name, counted(call))


async def _execute_what_comes(connection: Connection, lingering: dict[str, float]) -> None:
    running: set[asyncio.Task[None]] = set()
    while True:
        try:
            flow_run_id, clock, lingering[str(flow_run_id)], away = await asyncio.to_thread(connection.recv)
        except EOFError:
            return
        task = asyncio.create_task(_execute(connection, flow_run_id, clock, away))
        running.add(task)
        task.add_done_callback(running.discard)


async def _execute(connection: Connection, flow_run_id: UUID, clock: Clock, away: StoreAway | None) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import Pause
    from prefect.flow_engine import run_flow_async

    from prefect_campaigns.clock import using_clock
    from prefect_campaigns.deployments.running.taken_run import load_flow

    async with get_client() as client:
        flow_run = await client.read_flow_run(flow_run_id)
        deployment = await client.read_deployment(flow_run.deployment_id)
    _store_away.set(away)
    with using_clock(clock):
        try:
            state = await run_flow_async(
                load_flow(deployment.entrypoint),
                flow_run=flow_run,
                parameters=flow_run.parameters,
                return_type="state",
            )
        except Pause as pause:
            # It is handed back, or suspended.
            state = pause.state
    calls = 0 if away is None else away.calls
    connection.send(Ended(flow_run_id, name=state.name or "", message=state.message or "", store_calls=calls))
