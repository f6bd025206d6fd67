"""What a run costs that a worker does, or a script, or nobody but bare httpx."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.settings import PREFECT_API_URL, temporary_settings
from processes import cpu_seconds, memory_mb
from stub_engine import StubEngine

from prefect_campaigns.deployments.running.server import EmbeddedServer, free_port

HERE = Path(__file__).parent
CAMPAIGNS = str(Path(sys.executable).with_name("campaigns"))
STEPS = 4
BESIDE = "beside"
TRIGGERED_AT_ONCE = 8
STALL_SECONDS = 120.0
SETTLE_SECONDS = 4.0
"""How long a server may take to write down what came last."""


@dataclass(frozen=True)
class CrowdCost:
    """What many runs cost that were asked for at once.

    Attributes:
        runs_per_second: from the first trigger to the last request.
        worker_cpu: seconds for each run, in what does the runs.
        server_cpu: the same in Prefect's server and its database.
        wall_seconds: how long it took in all, until the last state was written down.
    """

    count: int
    runs_per_second: float
    worker_cpu: float
    server_cpu: float
    wall_seconds: float


@dataclass
class RunCost:
    """What runs made in one way cost.

    Attributes:
        first_ms: from the trigger to the first request, one run at a time.
        steps_ms: from the first to the last request.
        memory_mb: for each run that is under way, in what does the runs.
    """

    way: str
    first_ms: list[float] = field(default_factory=list)
    steps_ms: list[float] = field(default_factory=list)
    crowds: list[CrowdCost] = field(default_factory=list)
    memory_mb: float | None = None

    @property
    def median_first_ms(self) -> float:
        """The median of ``first_ms``."""
        return statistics.median(self.first_ms)

    @property
    def median_steps_ms(self) -> float:
        """The median of ``steps_ms``."""
        return statistics.median(self.steps_ms)

    def add_alone(self, began: float, arrivals: Sequence[float]) -> None:
        """Take a run into account that was made alone."""
        self.first_ms.append((arrivals[0] - began) * 1000)
        self.steps_ms.append((arrivals[-1] - arrivals[0]) * 1000)


class Bench:
    """A server, a store, an engine, and campaigns to run."""

    def __init__(self, home: Path, stub: StubEngine, server: EmbeddedServer, client: PrefectClient) -> None:
        self.home = home
        self.stub = stub
        self.server = server
        self.client = client
        self.environment = {**_clean_environment(), **_variables(home), "PREFECT_API_URL": server.api_url}
        self._deployments: dict[str, UUID] = {}
        self.database_pid: int | None = None
        """The process of the server's database, where it has one."""

    def server_cpu(self) -> float:
        """Return the CPU time of the server so far, and of its database."""
        return cpu_seconds(self.server.pid) + (cpu_seconds(self.database_pid) if self.database_pid else 0)

    async def apply(self, keys: Sequence[str]) -> None:
        """Have campaigns of these keys."""
        with tempfile.TemporaryDirectory() as folder:
            self._write(keys, Path(folder))
            await self.command("apply", folder)
        for key in keys:
            self._deployments[key] = (await self.client.read_deployment_by_name(f"campaign/{key}")).id

    def _write(self, keys: Sequence[str], folder: Path) -> None:
        for key in keys:
            (folder / f"{key}.json").write_text(json.dumps(self.campaign(key)))

    def campaign(self, key: str) -> dict[str, Any]:
        """Return what its file says."""
        engines = ("prospecting", "analysis", "outreach", "sender")
        steps = [
            {"name": engine, "engine": engine, "endpoint": f"{self.stub.url}/{key}/{at}", "params": {"count": 1}}
            for at, engine in enumerate(engines)
        ]
        return {"name": key, "budget": {"daily": 100, "monthly": 1000}, "steps": steps}

    async def parameters(self, key: str) -> dict[str, Any]:
        """Return what its flow is called with."""
        return (await self.client.read_deployment(self._deployments[key])).parameters

    async def move(self, keys: Sequence[str], pool: str) -> None:
        """Let another work pool run them."""
        for key in keys:
            await self.client.update_deployment(self._deployments[key], DeploymentUpdate(work_pool_name=pool))

    async def command(self, *arguments: str) -> None:
        """Run ``campaigns`` with these arguments."""
        process = await asyncio.create_subprocess_exec(
            CAMPAIGNS, *arguments, env=self.environment, cwd=self.home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(said.decode())

    @asynccontextmanager
    async def worker(self, pool: str, kind: str, *options: str) -> AsyncIterator[int]:
        """Run a worker as an operator does, and yield its process id."""
        command = ["-m", "prefect", "worker", "start", "--pool", pool, "--type", kind, *options]
        with (self.home / f"worker-{pool}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                # A bench that a script runs in the background would hand down an ignored SIGINT, which ends a worker.
                *("env", "--default-signal", sys.executable, *command),
                env=self.environment,
                cwd=self.home,
                stdout=log,
                stderr=log,
            )
        try:
            yield process.pid
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), STALL_SECONDS)

    async def script(self, program: str, *arguments: Any) -> dict[str, Any]:
        """Run one of the scripts and return what it prints."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(HERE / program),
            json.dumps(arguments),
            env=self.environment,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        said, complained = await process.communicate()
        if process.returncode:
            raise RuntimeError(complained.decode())
        return dict(json.loads(said.splitlines()[-1]))

    async def trigger(self, key: str) -> tuple[float, UUID]:
        """Ask for a run; return when, and its id."""
        began = time.monotonic()
        return began, (await self.client.create_flow_run_from_deployment(self._deployments[key])).id

    async def trigger_all(self, keys: Sequence[str]) -> list[UUID]:
        """Ask for a run of each at once; return their ids."""
        gate = asyncio.Semaphore(TRIGGERED_AT_ONCE)

        async def one(key: str) -> UUID:
            async with gate:
                return (await self.trigger(key))[1]

        return list(await asyncio.gather(*(one(key) for key in keys)))

    async def arrived(self, keys: Sequence[str], runs: int = 1) -> None:
        """Wait until all of these have made all their requests in that many runs."""
        await until_arrived(lambda: sum(len(self.stub.arrivals[key]) for key in keys), len(keys) * STEPS * runs)

    async def under_way(self, count: int) -> None:
        """Wait until so many requests wait for their answer."""
        await until_arrived(lambda: self.stub.open, count)

    async def all_final(self, ids: Sequence[UUID]) -> dict[str, int]:
        """Wait until the runs have ended; return how many have ended in which state."""
        while True:
            ended: dict[str, int] = {}
            for start in range(0, len(ids), 200):
                of_these = FlowRunFilter(id=FlowRunFilterId(any_=list(ids[start : start + 200])))
                for run in await self.client.read_flow_runs(flow_run_filter=of_these, limit=200):
                    if run.state and run.state.is_final():
                        ended[run.state.name or ""] = ended.get(run.state.name or "", 0) + 1
            if sum(ended.values()) == len(ids):
                return ended
            await asyncio.sleep(1)


async def until_arrived(look: Callable[[], int], wanted: int) -> None:
    """Wait until so many requests have come, as long as more of them come.

    Raises:
        RuntimeError: none came for minutes.
    """
    seen, since = -1, time.monotonic()
    while (now := look()) < wanted:
        if now != seen:
            seen, since = now, time.monotonic()
        if time.monotonic() - since > STALL_SECONDS:
            raise RuntimeError(f"{now} of {wanted} requests came, and then none for {STALL_SECONDS:g} seconds")
        await asyncio.sleep(0.02)


async def bench_bare(bench: Bench, *, alone: int, queued: Sequence[int]) -> RunCost:
    """Measure bare httpx, as a process that makes the requests of all runs on one client."""
    return await _bench_script(bench, RunCost("bare httpx"), "bare_httpx.py", ["bare"], alone=alone, queued=queued)


async def bench_script(
    bench: Bench, keys: Sequence[str], *, alone: int, queued: Sequence[int]
) -> tuple[RunCost, RunCost]:
    """Measure the flow awaited in a script, and in the same process bare Prefect tasks that make the same requests."""
    bare = RunCost("bare Prefect tasks in a script")
    cost = await _bench_script(
        bench, RunCost("the flow in a script"), "flow_in_script.py", keys, alone=alone, queued=queued, beside=bare
    )
    return cost, bare


async def _bench_script(
    bench: Bench,
    cost: RunCost,
    program: str,
    keys: Sequence[str],
    *,
    alone: int,
    queued: Sequence[int],
    beside: RunCost | None = None,
) -> RunCost:
    runs = [await bench.parameters(key) for key in keys] if beside else list(keys)
    for count in (0, *queued):
        times = 0 if count else alone + 1
        crowd = runs[:count] if beside else [f"{keys[0]}-{number}" for number in range(count)]
        arguments = [[BESIDE] * times] if beside else []
        before = bench.server_cpu(), time.monotonic()
        said = await bench.script(program, bench.stub.url, *arguments, runs[:1] * times, crowd)
        server_cpu, wall = bench.server_cpu() - before[0], time.monotonic() - before[1]
        _take_alone(cost, said["began"][:times], bench.stub.arrivals[keys[0]])
        if beside:
            _take_alone(beside, said["bare_began"], bench.stub.arrivals[BESIDE])
        if count:
            last = max(max(arrivals) for arrivals in bench.stub.arrivals.values() if arrivals)
            rate = count / (last - min(said["began"]))
            cost.crowds.append(CrowdCost(count, rate, said["cpu_seconds"] / count, server_cpu / count, wall))
        bench.stub.arrivals.clear()
    return cost


def _take_alone(cost: RunCost, began: Sequence[float], arrivals: Sequence[float]) -> None:
    # The first warms up what all of them use.
    for number, moment in enumerate(began):
        if number:
            cost.add_alone(moment, arrivals[number * STEPS : (number + 1) * STEPS])


async def bench_deployments(
    bench: Bench, way: str, keys: Sequence[str], pid: int, *, alone: int, queued: Sequence[int], held: int
) -> RunCost:
    """Measure runs that a worker does."""
    cost = RunCost(way)
    for number in range(alone + 1):
        began, run_id = await bench.trigger(keys[0])
        await bench.arrived(keys[:1], number + 1)
        if number:
            cost.add_alone(began, bench.stub.arrivals[keys[0]][-STEPS:])
        await bench.all_final([run_id])
        await asyncio.sleep(0.5)
    bench.stub.arrivals.clear()
    for count in queued:
        cost.crowds.append(await _bench_crowd(bench, way, keys[:count], pid))
    if held:
        idle = memory_mb(pid)
        bench.stub.hold()
        ids = await bench.trigger_all(keys[:held])
        await bench.under_way(held)
        await asyncio.sleep(1)
        cost.memory_mb = (memory_mb(pid) - idle) / held
        bench.stub.release()
        await bench.all_final(ids)
        bench.stub.arrivals.clear()
    return cost


async def _bench_crowd(bench: Bench, way: str, keys: Sequence[str], pid: int) -> CrowdCost:
    await asyncio.sleep(SETTLE_SECONDS)
    worker, server, began = cpu_seconds(pid), bench.server_cpu(), time.monotonic()
    ids = await bench.trigger_all(keys)
    await bench.arrived(keys)
    rate = len(keys) / (max(max(bench.stub.arrivals[key]) for key in keys) - began)
    states = await bench.all_final(ids)
    if states != {"Completed": len(keys)}:
        raise RuntimeError(f"{way}: of {len(keys)} runs ended {states}")
    await asyncio.sleep(SETTLE_SECONDS)
    bench.stub.arrivals.clear()
    return CrowdCost(
        len(keys),
        rate,
        (cpu_seconds(pid) - worker) / len(keys),
        (bench.server_cpu() - server) / len(keys),
        time.monotonic() - began,
    )


def _clean_environment() -> dict[str, str]:
    ours = ("PREFECT_", "CAMPAIGNS_", "SMTP_", "SUPABASE_", "LOG_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _variables(home: Path) -> Mapping[str, str]:
    return {
        "PREFECT_HOME": f"{home}/prefect",
        "CAMPAIGNS_DATABASE": f"{home}/campaigns.db",
        "CAMPAIGNS_LOGS": f"{home}/logs",
    }


@asynccontextmanager
async def a_bench(extra_env: Mapping[str, str] | None = None) -> AsyncIterator[Bench]:
    """Yield a bench on a server of its own."""
    with tempfile.TemporaryDirectory() as folder, StubEngine() as stub:
        home = Path(folder)
        server = EmbeddedServer(
            home=home / "prefect", port=free_port(), log=home / "server.log", extra_env=dict(extra_env or {})
        )
        async with server:
            with temporary_settings({PREFECT_API_URL: server.api_url}):
                async with get_client() as client:
                    yield Bench(home, stub, server, client)
