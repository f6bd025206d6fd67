"""What a run costs on a Prefect server that has much: deployments, recipients' automations, past runs."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

from processes import cpu_seconds
from runs import Bench, a_bench, bench_deployments

from prefect_campaigns.deployments.compile import WORK_POOL, WORK_POOL_TYPE

IDLE_SECONDS = 20.0
STARTED_SECONDS = 10.0
EVENTS_OF_A_RUN = 20
RUNS = 10
"""How many campaigns run at once: no more than there are deployments where there are few."""
CROWDS = 5
ALONE = 7
LOOKS = 10
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Growth:
    """What a run costs where there is so much.

    Attributes:
        kind: what there is much of.
        first_ms: the median from the trigger to the first request, one run at a time.
        runs_per_second: of those that were triggered at once.
        worker_cpu: seconds for each run.
        server_cpu: the same, with what the server takes for itself while nothing runs taken out.
        idle_cpu: of one core, what the server takes while nothing runs.
        look_cpu: seconds of the server for a look for runs that are due, none of which is; a worker looks after each
            trigger.
    """

    kind: str
    count: int
    first_ms: float
    runs_per_second: float
    worker_cpu: float
    server_cpu: float
    idle_cpu: float
    look_cpu: float

    @property
    def cpu(self) -> float:
        """Seconds of CPU for each run, of worker and server together."""
        return self.worker_cpu + self.server_cpu


async def bench_growth(sizes: Mapping[str, Iterable[int]]) -> AsyncIterator[Growth]:
    """Measure for each kind, at each of its sizes, on a server that is made anew."""
    for kind, counts in sizes.items():
        for count in counts:
            async with a_bench() as bench:
                keys = [f"grown-{number}" for number in range(RUNS)]
                await bench.apply(keys)
                await _have_run_once(bench, keys[0])
                await bench.server.stop()
                await asyncio.to_thread(_FILL[kind], bench.home / "prefect" / "prefect.db", count)
                await bench.server.start()
                yield await _measure(bench, kind, count, keys)


async def _have_run_once(bench: Bench, key: str) -> None:
    async with bench.worker(WORK_POOL, WORK_POOL_TYPE):
        _, run_id = await bench.trigger(key)
        await bench.all_final([run_id])
        await asyncio.sleep(STARTED_SECONDS)
    bench.stub.arrivals.clear()


async def _measure(bench: Bench, kind: str, count: int, keys: list[str]) -> Growth:
    async with bench.worker(WORK_POOL, WORK_POOL_TYPE) as pid:
        await asyncio.sleep(STARTED_SECONDS)
        idle = await _idle_cores(bench)
        look = await _look_cpu(bench, idle)
        cost = await bench_deployments(bench, kind, keys, pid, alone=ALONE, queued=[len(keys)] * CROWDS, held=0)
    return Growth(
        kind,
        count,
        first_ms=cost.median_first_ms,
        runs_per_second=median(crowd.runs_per_second for crowd in cost.crowds),
        worker_cpu=median(crowd.worker_cpu for crowd in cost.crowds),
        server_cpu=median(crowd.server_cpu - idle * crowd.wall_seconds / len(keys) for crowd in cost.crowds),
        idle_cpu=idle,
        look_cpu=look,
    )


async def _look_cpu(bench: Bench, idle: float) -> float:
    """Return what one look for due runs costs the server, with what it does after it has answered."""
    before, began = cpu_seconds(bench.server.pid), time.monotonic()
    for _ in range(LOOKS):
        await bench.client.get_scheduled_flow_runs_for_work_pool(WORK_POOL, scheduled_before=datetime.now(UTC))
        await asyncio.sleep(LOOK_SECONDS)
    return (cpu_seconds(bench.server.pid) - before - idle * (time.monotonic() - began)) / LOOKS


async def _idle_cores(bench: Bench) -> float:
    """Return what the server takes while nothing runs, once it has planned the runs of all schedules."""
    known = -1
    while True:
        before, began = cpu_seconds(bench.server.pid), time.monotonic()
        await asyncio.sleep(IDLE_SECONDS)
        cores = (cpu_seconds(bench.server.pid) - before) / (time.monotonic() - began)
        now = await bench.client.count_flow_runs()
        if now == known:
            return cores
        known = now


def _fill_deployments(path: Path, count: int) -> None:
    """Have so many deployments, each with its weekly schedule, as those that are there."""
    with closing(sqlite3.connect(path)) as db, db:
        db.row_factory = sqlite3.Row
        template = db.execute("SELECT * FROM deployment WHERE name LIKE 'grown-%' LIMIT 1").fetchone()
        there = db.execute("SELECT count(*) FROM deployment").fetchone()[0]
        for number in range(max(0, count - there)):
            row = {**template, "id": str(uuid4()), "name": f"filled-{number}"}
            _insert(db, "deployment", row)
            schedule = {"cron": f"{number % 60} 9 * * {number % 7}", "timezone": "America/New_York", "day_or": True}
            _insert(
                db,
                "deployment_schedule",
                {
                    "id": str(uuid4()),
                    "created": template["created"],
                    "updated": template["updated"],
                    "deployment_id": row["id"],
                    "schedule": json.dumps(schedule),
                    "active": True,
                    "parameters": "{}",
                },
            )


def _fill_automations(path: Path, count: int) -> None:
    """Have so many automations, each of which mails one recipient of failures."""
    with closing(sqlite3.connect(path)) as db, db:
        now = db.execute("SELECT created FROM deployment LIMIT 1").fetchone()[0]
        for number in range(count):
            trigger = {
                "type": "event",
                "id": str(uuid4()),
                "match": {"prefect.resource.id": "prefect.flow-run.*"},
                "match_related": {
                    "prefect.resource.role": "tag",
                    "prefect.resource.id": f"prefect.tag.on-failure-filled{number}@example.com",
                },
                "after": [],
                "expect": [f"prefect.flow-run.{name}" for name in ("Failed", "Crashed", "TimedOut")],
                "for_each": ["prefect.resource.id"],
                "posture": "Reactive",
                "threshold": 1,
                "within": 0,
            }
            row = {
                "id": str(uuid4()),
                "created": now,
                "updated": now,
                "name": f"filled {number}",
                "description": "",
                "enabled": True,
                "tags": "[]",
                "trigger": json.dumps(trigger),
                "actions": json.dumps([{"type": "do-nothing"}]),
                "actions_on_trigger": "[]",
                "actions_on_resolve": "[]",
            }
            _insert(db, "automation", row)


def _fill_runs(path: Path, count: int) -> None:
    """Have so many past runs: with their states, tasks, events and logs, as the one that is there."""
    with closing(sqlite3.connect(path)) as db, db:
        # Gigabytes, in the order of ids that are random: in memory, and where it fails it is made anew.
        for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "cache_size = -4000000"):
            db.execute(f"PRAGMA {pragma}")
        db.row_factory = sqlite3.Row
        run = dict(db.execute("SELECT * FROM flow_run WHERE state_name = 'Completed' LIMIT 1").fetchone())
        parts = {
            table: [dict(row) for row in db.execute(f"SELECT * FROM {table} WHERE {column} = ?", (run["id"],))]  # noqa: S608
            for table, column in (
                ("flow_run_state", "flow_run_id"),
                ("task_run", "flow_run_id"),
                ("log", "flow_run_id"),
            )
        }
        events = [dict(row) for row in db.execute("SELECT * FROM events LIMIT ?", (EVENTS_OF_A_RUN,))]
        for _ in range(count):
            run_id = str(uuid4())
            _insert(db, "flow_run", {**run, "id": run_id, "idempotency_key": None})
            for table, rows in parts.items():
                for row in rows:
                    _insert(db, table, {**row, "id": str(uuid4()), "flow_run_id": run_id})
            for row in events:
                _insert(db, "events", {**row, "id": str(uuid4()), "resource_id": f"prefect.flow-run.{run_id}"})


def _insert(db: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> None:
    columns = ", ".join(f'"{name}"' for name in row)
    db.execute(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))  # noqa: S608


_FILL = {"deployments": _fill_deployments, "automations": _fill_automations, "past runs": _fill_runs}
