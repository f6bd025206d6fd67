"""The same four requests as an n8n workflow and as an Airflow DAG, beside our worker (make bench-peers).

Both are installed into a folder that is thrown away, which takes some minutes and 4 GB. With --folder DIR it is kept,
and the next run uses what is there. Airflow, and Prefect's server here, keep their data in a PostgreSQL that is made
for the time, of what "apt-get install postgresql" brings.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prefect_postgres import system_postgres
from processes import cpu_seconds, memory_mb
from report import as_line, peer_ratios, show_ratios, show_runs
from rich.console import Console
from runs import SETTLE_SECONDS, STEPS, TRIGGERED_AT_ONCE, CrowdCost, RunCost, until_arrived
from stub_engine import StubEngine
from supabase_rig.postgres import SUPERUSER, Postgres
from ways import ON_POSTGRES, bench_on_postgres

from prefect_campaigns.deployments.running.server import free_port

N8N, AIRFLOW = "n8n", "Airflow"
N8N_VERSION, AIRFLOW_VERSION = "2.8.4", "3.3.2"
"""n8n's newest for Node 20. The registry's own xlsx is wanted in place of the one that n8n fetches from elsewhere."""

START_SECONDS = 240.0
ALONE = 10
HELD = 50
AIRFLOW_PARALLELISM = 64


@dataclass(frozen=True)
class Peer:
    """What does runs, as it stands here.

    Attributes:
        pids: its processes.
        trigger: asks for a run whose requests go to a path of the stub engine.
    """

    pids: Sequence[int]
    trigger: Callable[[str], Awaitable[None]]

    def cpu_seconds(self) -> float:
        """Return the CPU time of its processes so far."""
        return sum(map(cpu_seconds, self.pids))

    def memory_mb(self) -> float:
        """Return the memory of its processes in MB."""
        return sum(map(memory_mb, self.pids))


async def bench_peer(
    way: str, peer: Peer, stub: StubEngine, *, alone: int, queued: Sequence[int], held: int
) -> RunCost:
    """Measure the runs of a peer as those of a worker are measured."""
    cost = RunCost(way)
    for number in range(alone + 1):
        began = time.monotonic()
        await peer.trigger(f"alone-{number}")
        await _arrived(stub, STEPS)
        if number:
            # The first warms up what all of them use.
            cost.add_alone(began, stub.arrivals[f"alone-{number}"])
        stub.arrivals.clear()
        await asyncio.sleep(0.5)
    for count in queued:
        await asyncio.sleep(SETTLE_SECONDS)
        before, began = peer.cpu_seconds(), time.monotonic()
        await _trigger_all(peer, count)
        await _arrived(stub, count * STEPS)
        rate = count / (max(map(max, stub.arrivals.values())) - began)
        await asyncio.sleep(SETTLE_SECONDS)
        stub.arrivals.clear()
        cpu = (peer.cpu_seconds() - before) / count
        cost.crowds.append(CrowdCost(count, rate, cpu, 0.0, time.monotonic() - began))
    if held:
        idle = peer.memory_mb()
        stub.hold()
        triggering = asyncio.ensure_future(_trigger_all(peer, held))
        await until_arrived(lambda: stub.open, held)
        cost.memory_mb = (peer.memory_mb() - idle) / held
        stub.release()
        await triggering
        await _arrived(stub, held * STEPS)
        stub.arrivals.clear()
    return cost


async def _arrived(stub: StubEngine, count: int) -> None:
    await until_arrived(lambda: sum(map(len, stub.arrivals.values())), count)


async def _trigger_all(peer: Peer, count: int) -> None:
    gate = asyncio.Semaphore(TRIGGERED_AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            await peer.trigger(f"queued-{number}")

    await asyncio.gather(*(one(number) for number in range(count)))


@asynccontextmanager
async def running(
    command: Sequence[str | Path], *, environment: Mapping[str, str], folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program in the folder, with a log there."""
    with (folder / f"{Path(command[-1]).name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *("env", "--default-signal", *command),
            env={**_environment(), **environment},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)


def _environment() -> dict[str, str]:
    theirs = ("N8N_", "AIRFLOW", "PREFECT_", "VIRTUAL_ENV", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(theirs)}


def _run(command: Sequence[str | Path], *, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**_environment(), **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


async def _answers(
    url: str, *, process: asyncio.subprocess.Process, is_ready: Callable[[httpx.Response], bool]
) -> None:
    deadline = time.monotonic() + START_SECONDS
    async with httpx.AsyncClient(timeout=10) as http:
        while time.monotonic() < deadline:
            if process.returncode is not None:
                raise RuntimeError(f"it ended with {process.returncode} instead of answering at {url}")
            try:
                if is_ready(await http.get(url)):
                    return
            except httpx.HTTPError:
                # It does not listen yet.
                await asyncio.sleep(0.5)
            await asyncio.sleep(0.5)
    raise TimeoutError(f"{url} does not answer as it should within {START_SECONDS:g} seconds")


def _tell(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


@asynccontextmanager
async def n8n(folder: Path, stub: StubEngine) -> AsyncIterator[Peer]:
    """Run n8n with the workflow, on SQLite as it comes."""
    program = await asyncio.to_thread(_install_n8n, folder / "n8n")
    with tempfile.TemporaryDirectory(dir=folder) as home:
        async with _n8n_in(Path(home), program, stub) as peer:
            yield peer


@asynccontextmanager
async def _n8n_in(home: Path, program: Path, stub: StubEngine) -> AsyncIterator[Peer]:
    port = free_port()
    environment = {
        "N8N_USER_FOLDER": str(home),
        "N8N_PORT": str(port),
        "N8N_LISTEN_ADDRESS": "127.0.0.1",
        "N8N_RUNNERS_BROKER_PORT": str(free_port()),
        "N8N_DIAGNOSTICS_ENABLED": "false",
        "N8N_VERSION_NOTIFICATIONS_ENABLED": "false",
        "N8N_PERSONALIZATION_ENABLED": "false",
    }
    workflow = home / "workflow.json"
    workflow.write_text(json.dumps(_n8n_workflow(stub)))
    await asyncio.to_thread(
        _run, [program, "import:workflow", f"--input={workflow}"], folder=home, environment=environment
    )
    await asyncio.to_thread(_run, [program, "publish:workflow", "--id=bench"], folder=home, environment=environment)
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(running([program, "start"], environment=environment, folder=home))
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=60))
        hook = f"http://127.0.0.1:{port}/webhook/bench"
        await _answers(hook, process=process, is_ready=lambda answer: "not registered for GET" in answer.text)

        async def trigger(path: str) -> None:
            (await http.post(hook, json={"path": path})).raise_for_status()

        yield Peer([process.pid], trigger)


def _install_n8n(folder: Path) -> Path:
    program = folder / "node_modules" / ".bin" / "n8n"
    if not program.exists():
        _tell(f"installing n8n {N8N_VERSION}")
        folder.mkdir(parents=True, exist_ok=True)
        package = {"private": True, "dependencies": {"n8n": N8N_VERSION}, "overrides": {"xlsx": "0.18.5"}}
        (folder / "package.json").write_text(json.dumps(package))
        _run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"], folder=folder)
    return program


def _n8n_workflow(stub: StubEngine) -> dict[str, Any]:
    hook = {
        "id": "hook",
        "name": "Webhook",
        "type": "n8n-nodes-base.webhook",
        "typeVersion": 2,
        "position": [0, 0],
        "webhookId": "bench",
        "parameters": {"httpMethod": "POST", "path": "bench", "responseMode": "onReceived", "options": {}},
    }
    steps = [
        {
            "id": f"step-{at}",
            "name": f"Step {at}",
            "type": "n8n-nodes-base.httpRequest",
            "typeVersion": 4.2,
            "position": [200 * (at + 1), 0],
            "parameters": {
                "method": "POST",
                "url": f"={stub.url}/{{{{ $('Webhook').first().json.body.path }}}}/{at}",
                "sendBody": True,
                "specifyBody": "json",
                "jsonBody": '{"count": 1}',
                "options": {},
            },
        }
        for at in range(STEPS)
    ]
    nodes = [hook, *steps]
    connections = {
        node["name"]: {"main": [[{"node": after["name"], "type": "main", "index": 0}]]}
        for node, after in itertools.pairwise(nodes)
    }
    return {
        "id": "bench",
        "name": "bench",
        "active": False,
        "settings": {"executionOrder": "v1"},
        "nodes": nodes,
        "connections": connections,
    }


@asynccontextmanager
async def airflow(folder: Path, stub: StubEngine) -> AsyncIterator[Peer]:
    """Run Airflow with the DAG, on PostgreSQL."""
    program = await asyncio.to_thread(_install_airflow, folder / "airflow")
    with tempfile.TemporaryDirectory(dir=folder) as home:
        async with _airflow_in(Path(home), program, stub) as peer:
            yield peer


@asynccontextmanager
async def _airflow_in(home: Path, program: Path, stub: StubEngine) -> AsyncIterator[Peer]:
    port = free_port()
    (home / "dags").mkdir()
    (home / "dags" / "bench.py").write_text(AIRFLOW_DAG.format(url=stub.url, steps=STEPS))
    binaries = system_postgres()
    assert binaries is not None
    postgres = Postgres(binaries=binaries, is_project=False, is_durable=True)
    async with AsyncExitStack() as stack:
        stack.callback(postgres.stop)
        url = postgres.url(postgres.create_database(), SUPERUSER).replace("postgresql", "postgresql+psycopg2", 1)
        environment = {
            "AIRFLOW_HOME": str(home),
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(AIRFLOW_PARALLELISM),
            "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "1000",
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": "bench" * 16,
            "AIRFLOW__API__SECRET_KEY": "bench" * 16,
        }
        await asyncio.to_thread(_run, [program, "db", "migrate"], folder=home, environment=environment)
        processes = [
            await stack.enter_async_context(running([program, part], environment=environment, folder=home))
            for part in ("api-server", "scheduler", "dag-processor")
        ]
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60))
        base = f"http://127.0.0.1:{port}"
        await _answers(
            f"{base}/auth/token", process=processes[0], is_ready=lambda answer: answer.status_code in (200, 201)
        )
        token = (await http.get("/auth/token")).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"

        async def trigger(path: str) -> None:
            body = {"logical_date": None, "conf": {"path": path}}
            (await http.post("/api/v2/dags/bench/dagRuns", json=body)).raise_for_status()

        deadline = time.monotonic() + START_SECONDS
        while (await http.get("/api/v2/dags/bench")).status_code != 200:
            if time.monotonic() > deadline:
                raise TimeoutError("Airflow does not find the DAG")
            await asyncio.sleep(1)
        yield Peer([*(process.pid for process in processes), postgres.pid], trigger)


AIRFLOW_DAG = """
import urllib.request

from airflow.sdk import dag, get_current_context, task


@dag(dag_id="bench", schedule=None, catchup=False, max_active_runs=1000)
def bench():
    @task
    def ask(at: int) -> str:
        path = get_current_context()["dag_run"].conf["path"]
        request = urllib.request.Request(f"{url}/{{path}}/{{at}}", data=b'{{{{"count": 1}}}}', method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    before = None
    for at in range({steps}):
        step = ask.override(task_id=f"step_{{at}}")(at)
        if before is not None:
            before >> step
        before = step


bench()
"""


def _install_airflow(folder: Path) -> Path:
    program = folder / "bin" / "airflow"
    if not program.exists():
        _tell(f"installing Airflow {AIRFLOW_VERSION}")
        uv = shutil.which("uv") or str(Path(__file__).parents[2] / ".uv" / "bin" / "uv")
        _run([uv, "venv", "--quiet", "--python", sys.executable, folder], folder=folder.parent)
        python = folder / "bin" / "python"
        packages = [f"apache-airflow=={AIRFLOW_VERSION}", "psycopg2-binary", "asyncpg"]
        _run([uv, "pip", "install", "--quiet", "--python", python, *packages], folder=folder.parent)
    return program


async def bench_peers(folder: Path, *, only: Sequence[str]) -> AsyncIterator[RunCost]:
    """Measure what is wanted of the peers, and then our worker on PostgreSQL, one after the other."""
    with StubEngine() as stub:
        if "n8n" in only:
            async with n8n(folder, stub) as peer:
                yield await bench_peer(N8N, peer, stub, alone=ALONE, queued=(50, 100, 200), held=HELD)
        if "airflow" in only:
            async with airflow(folder, stub) as peer:
                yield await bench_peer(AIRFLOW, peer, stub, alone=5, queued=(50,), held=0)
    if "ours" in only:
        async for cost in bench_on_postgres():
            yield cost


async def _main(folder: Path, arguments: argparse.Namespace) -> None:
    costs = []
    async for cost in bench_peers(folder, only=arguments.only):
        costs.append(cost)
        _tell(f"measured: {cost.way}")
    by_way = {cost.way: cost for cost in costs}
    found = peer_ratios(by_way.get(ON_POSTGRES), by_way.get(N8N))
    if arguments.json:
        for line in [*(as_line("run", cost) for cost in costs), *(as_line("ratio", one) for one in found)]:
            print(json.dumps(line))
    else:
        console = Console()
        show_runs(console, costs)
        if found:
            show_ratios(console, found)


def main() -> None:
    """Install, measure, and print tables or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where they are installed; default: a folder that is thrown away")
    ways = ("n8n", "airflow", "ours")
    parser.add_argument("--only", nargs="+", default=ways, choices=ways, help="measure these alone")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of tables")
    arguments = parser.parse_args()
    if system_postgres() is None:
        parser.error("Airflow, and Prefect's server here, need PostgreSQL: apt-get install postgresql")
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        asyncio.run(_main(arguments.folder.resolve(), arguments))
        return
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_main(Path(folder), arguments))


if __name__ == "__main__":
    main()
