"""Four requests with bare httpx, as often and as many at once as asked: the limit of what any engine can do."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import httpx

STEPS = 4


async def run(client: httpx.AsyncClient, url: str, key: str) -> float:
    """Make the four requests, one after the other; return when it began."""
    began = time.monotonic()
    for step in range(STEPS):
        (await client.post(f"{url}/{key}/{step}", json={"count": 1})).raise_for_status()
    return began


async def main(url: str, alone: list[str], together: list[str]) -> None:
    """Do runs one by one, then all at once, and print when each was begun and what all at once took of the CPU."""
    async with httpx.AsyncClient() as client:
        began = [await run(client, url, key) for key in alone]
        cpu = time.process_time()
        began += await asyncio.gather(*(run(client, url, key) for key in together))
        cpu_seconds = time.process_time() - cpu
    print(json.dumps({"began": began, "cpu_seconds": cpu_seconds}))


if __name__ == "__main__":
    asyncio.run(main(*json.loads(sys.argv[1])))
