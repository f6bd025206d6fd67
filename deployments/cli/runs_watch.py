"""The runs of a campaign, watched: how they ended, what they cost, and how far the one is that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import NoReturn

from prefect.client.orchestration import PrefectClient
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.deployments.cli.printing import runs_table, sparkline, strip
from prefect_campaigns.deployments.driving.going import Going, read_going
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunReport, RunStatus

LOOK_SECONDS = 1.0

_BAR_CELLS = 30


async def watch_runs(
    console: Console, client: PrefectClient, store: CampaignStore, key: str, *, limit: int
) -> NoReturn:
    """Show a campaign's runs until somebody interrupts it; in a pipe, a line for whatever changes."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                runs, going = await _look(client, store, key, limit)
                live.update(runs_view(runs, going), refresh=True)
                await asyncio.sleep(LOOK_SECONDS)
    said: set[str] = set()
    while True:
        runs, going = await _look(client, store, key, limit)
        for line in [*map(_line, reversed(runs)), *([f"  {going.describe()}"] if going else [])]:
            if line not in said:
                said.add(line)
                console.print(line, highlight=False, markup=False)
        await asyncio.sleep(LOOK_SECONDS)


async def _look(
    client: PrefectClient, store: CampaignStore, key: str, limit: int
) -> tuple[Sequence[RunReport], Going | None]:
    runs = await store.run_outlines(campaign_key=key, limit=limit)
    return runs, (await read_going(client, store, [key])).get(key)


def _line(run: RunReport) -> str:
    ended = f", cost {format_money(run.total_cost)} USD" if run.status is not RunStatus.RUNNING else ""
    return f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC  {run.run_name}: {run.state_name or 'Running'}{ended}"


def runs_view(runs: Sequence[RunReport], going: Going | None) -> RenderableType:
    """Return a campaign's runs, newest first, as they stand, for eighty columns."""
    if not runs:
        return Text("It has not run yet.")
    return Group(*_head(runs, going), Text(), runs_table(runs))


def _head(runs: Sequence[RunReport], going: Going | None) -> Iterator[Text]:
    yield Text.assemble("outcomes  ", strip(runs), ("  oldest first", "dim"))
    costs = [run.total_cost for run in reversed(runs)]
    if any(costs):
        most = format_money(max(costs))
        yield Text.assemble("cost      ", (sparkline(costs), "cyan"), (f"  at the most {most} USD", "dim"))
    if going is not None:
        full = round(going.percent / 100 * _BAR_CELLS)
        bar = Text.assemble(("█" * full, "cyan"), ("░" * (_BAR_CELLS - full), "dim"))
        yield Text.assemble("now       ", bar, f" {going.percent:.0f} %  {going.run.run_name}")
        yield Text(f"          {going.describe()}")
