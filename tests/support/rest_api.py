"""The REST API on the tests' stack, and somebody who calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
from campaign_files import campaign_json

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.deployments.api.serving import Listener, running_api
from prefect_campaigns.deployments.running.server import free_port

NOWHERE = "http://127.0.0.1:9"


@asynccontextmanager
async def served(**headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the API by the settings of the test's own process, and yield a client of it."""
    listener = Listener(load_settings(), port=free_port())
    async with (
        running_api(listener),
        httpx.AsyncClient(base_url=listener.url, headers=headers, timeout=60) as client,
    ):
        yield client


async def create(api: httpx.AsyncClient, name: str, url: str = NOWHERE, **options: Any) -> dict[str, Any]:
    """Post a campaign, and return what came of it."""
    answer = await api.post("/api/campaigns", json=campaign_json(name, url, **options))
    assert answer.status_code == 201, answer.text
    campaign: dict[str, Any] = answer.json()["campaign"]
    assert answer.headers["location"] == f"/api/campaigns/{campaign['id']}"
    return campaign


@asynccontextmanager
async def forwarding(port: int, to: int) -> AsyncIterator[None]:
    """Let a port of this machine lead to another one."""
    writers: set[asyncio.StreamWriter] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", to)
        writers.update((writer, back))
        await asyncio.gather(copy(reader, back), copy(there, writer))

    server = await asyncio.start_server(connect, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
