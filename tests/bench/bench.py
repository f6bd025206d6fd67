"""``make bench``: what the parts cost that are ours. Figures are medians of one run; compare them within it only."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from prefect_campaigns.blocks.sqlite import SqliteStore
from prefect_campaigns.blocks.store import Lease
from prefect_campaigns.deployments.compile import compile_campaign
from prefect_campaigns.deployments.demo.engines import SEND, DemoEngines
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.flows.exchange import EngineRequest, call_engine, new_client
from prefect_campaigns.loader import load
from prefect_campaigns.models import Campaign

EXAMPLE = Path(__file__).parents[2] / "campaigns" / "weekly-restaurant.json"


@dataclass(frozen=True)
class Figure:
    """How long something took, in milliseconds, and what it is held against within the same run."""

    name: str
    median_ms: float
    slowest_ms: float
    against: str = ""
    ratio: float | None = None


def measure(name: str, act: Callable[[], object], *, times: int) -> Figure:
    """Time an act, after one that is not counted."""
    act()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append((time.perf_counter() - began) * 1000)
    return Figure(name, statistics.median(taken), max(taken))


async def measure_async(name: str, act: Callable[[int], Awaitable[object]], *, times: int) -> Figure:
    """Time an act that is awaited, after one that is not counted; it is given its number."""
    await act(-1)
    taken = []
    for number in range(times):
        began = time.perf_counter()
        await act(number)
        taken.append((time.perf_counter() - began) * 1000)
    return Figure(name, statistics.median(taken), max(taken))


def against(figure: Figure, other: Figure) -> Figure:
    """Hold a figure against another of the same run."""
    return Figure(
        figure.name, figure.median_ms, figure.slowest_ms, other.name, round(figure.median_ms / other.median_ms, 3)
    )


def bench_files() -> list[Figure]:
    """Loading and compiling a campaign file, against Python's own JSON tool run once per file."""
    tool = measure(
        "python -m json.tool FILE",
        lambda: subprocess.run([sys.executable, "-m", "json.tool", str(EXAMPLE)], capture_output=True, check=True),
        times=10,
    )
    campaign = load(EXAMPLE)
    return [
        tool,
        against(measure("load a campaign file", lambda: load(EXAMPLE), times=300), tool),
        against(measure("compile a campaign", lambda: compile_campaign(campaign), times=300), tool),
    ]


async def _leased(store: SqliteStore, campaign: Campaign) -> Lease:
    await store.save_campaign(campaign)
    lease = await store.acquire_lease(
        campaign.slug,
        run_id="bench",
        run_name="bench",
        holder="bench",
        ttl_seconds=3600,
        waiting_since=datetime.now(UTC),
    )
    assert isinstance(lease, Lease)
    return lease


async def bench_store(entries: int) -> list[Figure]:
    """The acts of the ledger, with nothing in it and with many entries."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteStore(Path(folder) / "campaigns.db") as store:
            lease = await _leased(store, load(EXAMPLE))

            async def reserve_and_settle(step: str) -> None:
                held = await store.reserve(
                    lease, step=step, attempt=1, estimated_cost=Decimal("0.000001"), hold_seconds=60
                )
                await store.settle(lease, await store.mark_sent(lease, held), Decimal("0.000001"))

            empty = await measure_async(
                "reserve, mark sent, settle: empty ledger", lambda n: reserve_and_settle(f"a{n}"), times=200
            )
            figures.append(empty)
            figures.append(
                await measure_async(
                    "budget status: empty ledger", lambda n: store.budget_status(lease.campaign_key), times=200
                )
            )
            for number in range(entries // 2):
                await reserve_and_settle(f"fill{number}")
            full = await measure_async(
                f"reserve, mark sent, settle: {entries:,} entries", lambda n: reserve_and_settle(f"b{n}"), times=200
            )
            figures.append(against(full, empty))
    return figures


async def bench_exchange() -> list[Figure]:
    """A request to an engine, against the same request by bare httpx."""
    engines = DemoEngines()
    # As the exchange does: no connection is used twice.
    no_reuse = httpx.Limits(max_keepalive_connections=0)
    async with serve(engines) as url, new_client() as client, httpx.AsyncClient(limits=no_reuse) as bare:
        body = {"count": 1}
        bare_figure = await measure_async("bare httpx POST", lambda n: bare.post(f"{url}{SEND}", json=body), times=200)

        async def exchange(number: int) -> None:
            await call_engine(
                client,
                EngineRequest(
                    method="POST",
                    url=f"{url}{SEND}",
                    params=body,
                    idempotency_key=str(number),
                    timeout_seconds=10,
                ),
            )

        return [bare_figure, against(await measure_async("exchange with an engine", exchange, times=200), bare_figure)]


def main() -> None:
    """Measure, and print a table or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument("--entries", type=int, default=4_000, help="how many ledger entries count as many")
    arguments = parser.parse_args()
    figures = [*bench_files(), *asyncio.run(bench_store(arguments.entries)), *asyncio.run(bench_exchange())]
    if arguments.json:
        for figure in figures:
            print(json.dumps(asdict(figure)))
        return
    table = Table("What", "Median (ms)", "Slowest (ms)", "Against", "Ratio")
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:g}"
        table.add_row(figure.name, f"{figure.median_ms:.2f}", f"{figure.slowest_ms:.2f}", figure.against, ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
