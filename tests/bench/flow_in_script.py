"""The flow awaited in a script, as often and as many at once as asked: what Prefect itself costs."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import httpx
from prefect import flow, task

from prefect_campaigns.flows.campaign import run_campaign

SETTLE_SECONDS = 3.0
"""How long what Prefect sends aside, events and logs, may take to leave."""


@task
async def ask(client: httpx.AsyncClient, url: str) -> Any:
    """Make one request."""
    return (await client.post(url, json={"count": 1})).raise_for_status().json()


@flow(name="bare")
async def bare_tasks(url: str, key: str) -> None:
    """Make the four requests with a bare Prefect task each, on a shared client."""
    async with httpx.AsyncClient() as client:
        for step in range(4):
            await ask(client, f"{url}/{key}/{step}")


async def _ours(parameters: dict[str, Any]) -> float:
    began = time.monotonic()
    await run_campaign(**parameters)
    return began


async def _bare(url: str, key: str) -> float:
    began = time.monotonic()
    await bare_tasks(url, key)
    return began


async def main(url: str, bare: list[str], alone: list[Any], together: list[Any]) -> None:
    """Do runs one by one, then all at once, and print when each was begun and what all at once took of the CPU."""
    bare_began, began = [], []
    for key, parameters in zip(bare, alone, strict=True):
        bare_began.append(await _bare(url, key))
        began.append(await _ours(parameters))
    await asyncio.sleep(SETTLE_SECONDS)
    cpu = time.process_time()
    began += await asyncio.gather(*map(_ours, together))
    await asyncio.sleep(SETTLE_SECONDS)
    cpu_seconds = time.process_time() - cpu
    print(json.dumps({"bare_began": bare_began, "began": began, "cpu_seconds": cpu_seconds}))


if __name__ == "__main__":
    asyncio.run(main(*json.loads(sys.argv[1])))
