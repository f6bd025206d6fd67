"""Whether the engines that campaigns call are there: one question to each, ``GET /api/health``."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

import httpx

from prefect_campaigns.flows.exchange import new_client
from prefect_campaigns.flows.messages import one_line
from prefect_campaigns.models import Campaign

HEALTH_PATH = "/api/health"
HEALTHY = ("healthy", "ok", "up", "pass")
"""What an engine's ``status`` says when it is well."""

ANSWER_SECONDS = 5.0
AT_ONCE = 16


class Answering(StrEnum):
    """How an engine answers."""

    HEALTHY = "healthy"
    UNCLEAR = "unclear"
    SILENT = "silent"


@dataclass(frozen=True, kw_only=True)
class EngineHealth:
    """What an engine answered.

    Attributes:
        origin: its address, without a path: ``http://localhost:3010``.
        answering: UNCLEAR is an engine that answers, and does not say that it is healthy.
        said: what it said, or why nothing came, in one line.
    """

    origin: str
    answering: Answering
    said: str


def engine_origin(endpoint: str) -> str:
    """Return the address of a step's engine, without a path."""
    url = urlsplit(endpoint)
    return f"{url.scheme}://{url.netloc}"


def campaigns_by_engine(campaigns: Iterable[Campaign]) -> dict[str, list[str]]:
    """Return which campaigns call each engine: their keys, by the engine's address."""
    found: dict[str, dict[str, None]] = {}
    for campaign in campaigns:
        for step in campaign.steps:
            found.setdefault(engine_origin(step.endpoint), {})[campaign.slug] = None
    return {origin: list(keys) for origin, keys in sorted(found.items())}


async def ask_engines(origins: Collection[str]) -> list[EngineHealth]:
    """Ask each engine how it is, several at a time, five seconds each at the most."""
    turns = asyncio.Semaphore(AT_ONCE)
    async with new_client() as client:

        async def ask(origin: str) -> EngineHealth:
            async with turns:
                return await _ask(client, origin)

        return list(await asyncio.gather(*map(ask, origins)))


async def _ask(client: httpx.AsyncClient, origin: str) -> EngineHealth:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await client.get(f"{origin}{HEALTH_PATH}", headers={"Accept": "application/json"})
    except TimeoutError:
        return EngineHealth(
            origin=origin, answering=Answering.SILENT, said=f"no answer within {ANSWER_SECONDS:g} seconds"
        )
    except httpx.ConnectError:
        return EngineHealth(origin=origin, answering=Answering.SILENT, said="no connection")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = one_line(str(error) or type(error).__name__, limit=200)
        return EngineHealth(origin=origin, answering=Answering.SILENT, said=f"no answer: {why}")
    status = _status(answer)
    if answer.is_success and (status or "").lower() in HEALTHY:
        return EngineHealth(origin=origin, answering=Answering.HEALTHY, said="healthy")
    said = f"answered {answer.status_code} to {HEALTH_PATH}{f', status {status}' if status else ''}"
    return EngineHealth(origin=origin, answering=Answering.UNCLEAR, said=one_line(said, limit=200))


def _status(answer: httpx.Response) -> str | None:
    try:
        said = answer.json()
    except ValueError:
        return None
    status = said.get("status") if isinstance(said, dict) else None
    return status if isinstance(status, str) else None
