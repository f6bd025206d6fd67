"""The same four requests made in each way that there is, on one server."""

from __future__ import annotations

from collections.abc import AsyncIterator

from prefect.client.schemas.actions import WorkPoolCreate
from prefect_postgres import prefect_postgres, system_postgres
from runs import RunCost, a_bench, bench_bare, bench_deployments, bench_script

from prefect_campaigns.deployments.compile import WORK_POOL, WORK_POOL_TYPE

OURS, PROCESS, ON_POSTGRES = "the campaign worker", "Prefect's process worker", "the campaign worker, PostgreSQL"
PROCESS_POOL = "bench-process"

ALONE = 10
SLOW_ALONE = 5
QUEUED = (50, 200)
HELD, SLOW_HELD = 50, 8
PROCESSES = 16
"""How many processes at once two cores are busy with.

Each holds three or four websockets. A Prefect server on SQLite has a hundred connections at a time, these among them:
fifty processes take all, and it answers nobody any more.
"""


async def bench_ways(*, with_process: bool) -> AsyncIterator[RunCost]:
    """Measure bare httpx, the flow in a script, the campaign worker, and Prefect's process worker, one after the other.

    Args:
        with_process: whether the last of them is measured, which takes a quarter of an hour.
    """
    async with a_bench() as bench:
        keys = [f"bench-{number}" for number in range(max(QUEUED))]
        await bench.apply(keys)
        yield await bench_bare(bench, alone=ALONE, queued=QUEUED)
        for cost in await bench_script(bench, keys, alone=ALONE, queued=QUEUED[:1]):
            yield cost
        async with bench.worker(WORK_POOL, WORK_POOL_TYPE) as pid:
            yield await bench_deployments(bench, OURS, keys, pid, alone=ALONE, queued=QUEUED, held=HELD)
        if not with_process:
            return
        await bench.client.create_work_pool(WorkPoolCreate(name=PROCESS_POOL, type="process"))
        crowd = keys[: QUEUED[0]]
        await bench.move(crowd, PROCESS_POOL)
        async with bench.worker(PROCESS_POOL, "process", "--limit", str(PROCESSES)) as pid:
            yield await bench_deployments(
                bench, PROCESS, crowd, pid, alone=SLOW_ALONE, queued=QUEUED[:1], held=SLOW_HELD
            )


async def bench_on_postgres() -> AsyncIterator[RunCost]:
    """Measure the campaign worker with a server on PostgreSQL, if this machine has one."""
    if system_postgres() is None:
        return
    with prefect_postgres(is_durable=True) as (postgres, environment):
        async with a_bench(environment) as bench:
            bench.database_pid = postgres.pid
            keys = [f"bench-{number}" for number in range(max(QUEUED))]
            await bench.apply(keys)
            async with bench.worker(WORK_POOL, WORK_POOL_TYPE) as pid:
                yield await bench_deployments(bench, ON_POSTGRES, keys, pid, alone=ALONE, queued=QUEUED, held=0)
