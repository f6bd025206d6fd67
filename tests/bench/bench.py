"""``make bench``: what the parts cost that are ours. Figures are medians of one run; compare them within it only."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import httpx
from applies import bench_apply, bench_validate
from books import bench_sqlite, bench_supabase
from figures import Figure, Stopwatch, against, measure
from rich.console import Console
from rich.table import Table

from prefect_campaigns.deployments.compile import compile_campaign
from prefect_campaigns.deployments.demo.engines import SEND, DemoEngines
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.flows.exchange import EngineRequest, call_engine, new_client
from prefect_campaigns.loader import load

EXAMPLE = Path(__file__).parents[2] / "campaigns" / "weekly-restaurant.json"
EXCHANGES = 200


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


async def bench_exchange() -> list[Figure]:
    """A request to an engine, against the same request by bare httpx."""
    engines = DemoEngines()
    # As the exchange does: no connection is used twice.
    no_reuse = httpx.Limits(max_keepalive_connections=0)
    async with serve(engines) as url, new_client() as client, httpx.AsyncClient(limits=no_reuse) as bare:
        stopwatch, plain, exchange, body = Stopwatch(), "bare httpx POST", "exchange with an engine", {"count": 1}
        for number in range(EXCHANGES):
            with stopwatch.time(plain):
                await bare.post(f"{url}{SEND}", json=body)
            request = EngineRequest(
                method="POST", url=f"{url}{SEND}", params=body, idempotency_key=str(number), timeout_seconds=10
            )
            with stopwatch.time(exchange):
                await call_engine(client, request)
        return [stopwatch.figure(plain), stopwatch.figure(exchange, against=plain)]


def main() -> None:
    """Measure, and print a table or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument("--lines", type=int, default=1_000_000, help="how many ledger lines count as many")
    parser.add_argument("--files", type=int, default=10_000, help="how many campaign files are checked")
    parser.add_argument("--campaigns", type=int, default=1_000, help="how many campaigns are applied")
    arguments = parser.parse_args()
    campaign = load(EXAMPLE)
    figures = [
        *bench_files(),
        *bench_validate(EXAMPLE, arguments.files),
        *asyncio.run(bench_sqlite(campaign, arguments.lines)),
        *asyncio.run(bench_supabase(campaign, arguments.lines)),
        *asyncio.run(bench_exchange()),
        *asyncio.run(bench_apply(arguments.campaigns)),
    ]
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
