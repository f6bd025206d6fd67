"""How soon the emergency stop has ended what goes on."""

from __future__ import annotations

import time
from statistics import median

from figures import Figure
from runs import a_bench

from prefect_campaigns.deployments.compile import WORK_POOL, WORK_POOL_TYPE

TIMES = 3


async def bench_stop(count: int) -> list[Figure]:
    """``campaigns stop --all --cancel-running`` while so many runs wait for an engine, until all have ended."""
    taken = []
    async with a_bench() as bench:
        keys = [f"stopped-{number}" for number in range(count)]
        await bench.apply(keys)
        async with bench.worker(WORK_POOL, WORK_POOL_TYPE):
            for _ in range(TIMES):
                bench.stub.hold()
                ids = await bench.trigger_all(keys)
                await bench.under_way(count)
                began = time.monotonic()
                await bench.command("stop", "--all", "--cancel-running")
                states = await bench.all_final(ids)
                taken.append((time.monotonic() - began) * 1000)
                if states != {"Cancelled": count}:
                    raise RuntimeError(f"of {count} runs that were stopped ended {states}")
                bench.stub.release()
                await bench.command("start", "--all")
    return [Figure(f"campaigns stop --all of {count} runs, until all have ended", median(taken), max(taken))]
