"""How soon the money page is there: of no campaigns, of many, and of many that have run for long."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import httpx
from figures import Figure, Stopwatch
from history import fill, made_up

from prefect_campaigns.blocks.settings import load_settings, without_env_file
from prefect_campaigns.deployments.api.serving import Listener, running_api
from prefect_campaigns.deployments.running.server import EmbeddedServer, free_port, using

TIMES = 60
FEW_RUNS = 14
"""How many runs a campaign has whose history is short: as many as its row shows."""


async def bench_pages(campaigns: int, runs: int) -> list[Figure]:
    """``GET /`` on SQLite, over HTTP, one after the other; the campaigns stand in the books alone, not in Prefect."""
    empty, short, long = (
        "money page, no campaigns",
        f"money page, {campaigns:,} campaigns with {campaigns * FEW_RUNS:,} runs",
        f"money page, {campaigns:,} campaigns with {runs:,} runs",
    )
    many = [made_up(number) for number in range(campaigns)]
    stopwatch = Stopwatch()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(without_env_file())
        server = EmbeddedServer(home=folder / "prefect", port=free_port(), log=folder / "server.log")
        await stack.enter_async_context(server)
        stack.enter_context(using(server))
        clients = {}
        for name, some, each in ((empty, [], 0), (short, many, FEW_RUNS), (long, many, runs // campaigns)):
            path = folder / f"{len(clients)}.db"
            await fill(path, some, runs=each, now=datetime.now(UTC))
            settings = load_settings().model_copy(update={"campaigns_database": path})
            listener = Listener(settings, port=free_port())
            await stack.enter_async_context(running_api(listener))
            clients[name] = await stack.enter_async_context(httpx.AsyncClient(base_url=listener.url, timeout=60))
        for _ in range(TIMES + 1):
            for name, client in clients.items():
                with stopwatch.time(name):
                    (await client.get("/")).raise_for_status()
    return [
        stopwatch.figure(empty),
        stopwatch.figure(short, against=empty),
        stopwatch.figure(long, against=empty),
        stopwatch.figure(long, against=short),
    ]
