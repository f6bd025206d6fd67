"""What runs cost, and the parts that are ours (make bench). Compare figures within one run of it only.

All of it takes an hour on two cores, of which growth has half and runs a quarter. With a PostgreSQL installed, runs are
measured on a server with that, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from applies import bench_apply, bench_validate
from books import bench_sqlite, bench_supabase
from figures import Figure, Stopwatch, against, measure
from growth import bench_growth
from pages import bench_pages
from report import as_line, growth_ratios, ratios, show_growth, show_ratios, show_runs
from rich.console import Console
from rich.table import Table
from runs import RunCost
from stops import bench_stop
from ways import OURS, PROCESS, bench_on_postgres, bench_ways

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


PARTS = ("files", "books", "exchange", "applies", "stop", "pages", "runs", "growth")


async def _bench_runs(console: Console | None, *, with_process: bool) -> list[dict[str, Any]]:
    costs: list[RunCost] = []
    for source in (bench_ways(with_process=with_process), bench_on_postgres()):
        async for cost in source:
            costs.append(cost)
            _tell(f"measured: {cost.way}")
    by_way = {cost.way: cost for cost in costs}
    script, bare = (by_way.get(way) for way in ("the flow in a script", "bare Prefect tasks in a script"))
    found = ratios(by_way[OURS], by_way.get(PROCESS), script, bare)
    if console is not None:
        show_runs(console, costs)
        show_ratios(console, found)
    return [as_line("run", cost) for cost in costs] + [as_line("ratio", one) for one in found]


async def _bench_growth(console: Console | None, *, largest: int, past: int) -> list[dict[str, Any]]:
    sizes = {"deployments": (10, 1000, largest), "automations": (1, 1000, largest), "past runs": (0, past)}
    grown = []
    async for one in bench_growth(sizes):
        grown.append(one)
        _tell(f"measured: {one.count:,} {one.kind}")
    found = growth_ratios(grown)
    if console is not None:
        show_growth(console, grown)
        show_ratios(console, found)
    return [as_line("growth", one) for one in grown] + [as_line("ratio", one) for one in found]


def _tell(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, and print tables or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", default=PARTS, help=f"what is measured: {', '.join(PARTS)}")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of tables")
    parser.add_argument("--lines", type=int, default=1_000_000, help="books: how many ledger lines are many")
    parser.add_argument("--files", type=int, default=10_000, help="files: how many campaign files are checked")
    parser.add_argument("--campaigns", type=int, default=1_000, help="applies: how many campaigns are applied")
    parser.add_argument("--going", type=int, default=20, help="stop: how many runs go when all is stopped")
    parser.add_argument("--shown", type=int, default=500, help="pages: how many campaigns there are")
    parser.add_argument("--largest", type=int, default=10_000, help="growth: how many deployments and automations")
    parser.add_argument("--past", type=int, default=100_000, help="pages, growth: how many past runs")
    parser.add_argument("--no-process", action="store_true", help="runs: leave out Prefect's process worker")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    parts = arguments.parts
    console = None if arguments.json else Console()
    lines = [as_line("figure", figure) for figure in _figures(parts, arguments)]
    if lines and console is not None:
        _show_figures(console, lines)
    if "runs" in parts:
        lines += asyncio.run(_bench_runs(console, with_process=not arguments.no_process))
    if "growth" in parts:
        lines += asyncio.run(_bench_growth(console, largest=arguments.largest, past=arguments.past))
    for line in lines if arguments.json else ():
        print(json.dumps(line))


def _figures(parts: Sequence[str], arguments: argparse.Namespace) -> Iterator[Figure]:
    if "files" in parts:
        yield from bench_files()
        yield from bench_validate(EXAMPLE, arguments.files)
    if "books" in parts:
        campaign = load(EXAMPLE)
        yield from asyncio.run(bench_sqlite(campaign, arguments.lines))
        yield from asyncio.run(bench_supabase(campaign, arguments.lines))
    if "exchange" in parts:
        yield from asyncio.run(bench_exchange())
    if "applies" in parts:
        yield from asyncio.run(bench_apply(arguments.campaigns))
    if "stop" in parts:
        yield from asyncio.run(bench_stop(arguments.going))
    if "pages" in parts:
        yield from asyncio.run(bench_pages(arguments.shown, arguments.past))


def _show_figures(console: Console, figures: Sequence[dict[str, Any]]) -> None:
    table = Table("What", "Median (ms)", "Slowest (ms)", "Against", "Ratio")
    for one in figures:
        ratio = "" if one["ratio"] is None else f"{one['ratio']:g}"
        table.add_row(one["name"], f"{one['median_ms']:.2f}", f"{one['slowest_ms']:.2f}", one["against"], ratio)
    console.print(table)


if __name__ == "__main__":
    main()
