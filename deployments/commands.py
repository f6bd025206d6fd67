"""What the commands do that speak to Prefect. Their help stands in ``cli``, which imports this when one is run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from cyclopts import Parameter
from cyclopts.validators import Number
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.urls import url_for
from rich.table import Table

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.deployments.cli import EXIT_FAILED, EXIT_OK, AsJson, err, out, print_json
from prefect_campaigns.deployments.interrupts import cancel_on_signals
from prefect_campaigns.deployments.lookup import find_deployment, match_name
from prefect_campaigns.deployments.plan_commands import apply_files, print_applied
from prefect_campaigns.deployments.printing import plain_table
from prefect_campaigns.deployments.server import configured_api_url, connect
from prefect_campaigns.deployments.stack import embedded_server, running_worker, saying_it_starts, stand
from prefect_campaigns.deployments.watch import RunView, budget_table, print_run, watch
from prefect_campaigns.loader import load_many
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunReport, RunStatus
from prefect_campaigns.words import hide_login


async def run_command(name: str, /, *, watch: bool = False, json: AsJson = False) -> int:
    """Start a campaign.

    Parameters
    ----------
    name
        The campaign's name or slug.
    watch
        Stay, show its steps live, and end with exit code 1 if it fails.
    """
    cancel_on_signals()
    async with connect() as client:
        deployment = await find_deployment(client, name)
        flow_run = await client.create_flow_run_from_deployment(
            # Prefect's client repeats a request whose answer is lost; with a key that is still one run.
            deployment.id,
            idempotency_key=str(uuid4()),
        )
        if not watch:
            _say_started(flow_run, as_json=json)
            return EXIT_OK
        return await _watch_to_the_end(client, flow_run, as_json=json)


def _say_started(flow_run: FlowRun, *, as_json: bool) -> None:
    url = url_for(flow_run)
    if as_json:
        print_json({"success": True, "runId": str(flow_run.id), "name": flow_run.name, "url": url})
        return
    out.print(f"Started run [bold]{flow_run.name}[/] ({flow_run.id})", soft_wrap=True)
    if url:
        out.print(url, soft_wrap=True)


async def _watch_to_the_end(client: PrefectClient, flow_run: FlowRun, *, as_json: bool) -> int:
    async with open_store(load_settings()) as store:
        view = await watch(err if as_json else out, client, store, flow_run.id)
        if as_json:
            print_json({"success": _went_well(view), "run": _run_json(view)})
        else:
            print_run(out, view)
            if view.record is not None:
                out.print(budget_table(await store.budget_status(view.record.campaign_key)))
    return EXIT_OK if _went_well(view) else EXIT_FAILED


def _went_well(view: RunView) -> bool:
    return view.flow_run.state is not None and view.flow_run.state.is_completed()


def _run_json(view: RunView) -> dict[str, Any]:
    record = view.record.model_dump(mode="json") if view.record else {"run_id": str(view.flow_run.id)}
    state = view.flow_run.state
    return {**record, "state_name": view.state_name, "message": state.message if state else None}


async def runs_command(
    name: str, /, *, limit: Annotated[int, Parameter(validator=Number(gte=1))] = 20, json: AsJson = False
) -> int:
    """List a campaign's runs.

    Parameters
    ----------
    name
        The campaign's name or slug.
    limit
        How many to show at the most.
    """
    cancel_on_signals()
    async with open_store(load_settings()) as store:
        key = match_name(name, [row.key for row in await store.list_campaigns()])
        runs = await store.list_runs(key, limit=limit)
    if json:
        print_json({"success": True, "count": len(runs), "runs": [run.model_dump(mode="json") for run in runs]})
    elif not runs:
        out.print(f"{key} has not run yet. Start it with: campaigns run {key}")
    else:
        out.print(_runs_table(runs))
        for run in runs:
            if run.message and run.status is not RunStatus.COMPLETED:
                out.print(f"\n{run.run_name}: {run.message.splitlines()[0]}", markup=False)
    return EXIT_OK


_RUN_STYLES = {"completed": "green", "partial": "yellow", "failed": "red", "aborted": "yellow", "running": "cyan"}


def _runs_table(runs: Sequence[RunReport]) -> Table:
    numbers = ("Steps", "Cost (USD)")
    table = plain_table("Started (UTC)", "Run", "State", *numbers, right=numbers)
    for run in runs:
        table.add_row(
            f"{run.started_at:%Y-%m-%d %H:%M}",
            run.run_name,
            f"[{_RUN_STYLES[run.status]}]{run.state_name or run.status}[/]",
            f"{run.steps_completed}/{len(run.steps)}",
            format_money(run.total_cost),
        )
    return table


def _default_folder() -> tuple[Path, ...]:
    folder = Path("campaigns")
    return (folder,) if folder.is_dir() else ()


async def up_command(
    *paths: Path, port: Annotated[int | None, Parameter(validator=Number(gte=1, lte=65_535))] = None
) -> int:
    """Run the embedded stack.

    Parameters
    ----------
    paths
        Campaign files, or folders of them; by default the folder campaigns/ where there is one.
    port
        The port of the embedded Prefect server; 4200 by default.
    """
    cancel_on_signals()
    paths = paths or _default_folder()
    if paths:
        load_many(paths)
    async with AsyncExitStack() as stack:
        with saying_it_starts(out):
            server = await stack.enter_async_context(embedded_server(port=port))
        where = server.ui_url if server else hide_login(configured_api_url() or "")
        out.print(f"[green]✓[/] Prefect server at {where}{'' if server else ', which was there already'}")
        if paths:
            print_applied(await apply_files(paths, load_settings()))
        working = await stack.enter_async_context(running_worker())
        out.print("[green]✓[/] Campaign worker is waiting for runs. Ctrl-C ends everything.")
        await stand(working, server)
    return EXIT_OK


async def demo_command(*, keep: bool = False) -> int:
    """Show it all.

    Parameters
    ----------
    keep
        Leave everything running afterwards, until Ctrl-C.
    """
    cancel_on_signals()
    from prefect_campaigns.deployments.demo.show import run_demo

    return EXIT_OK if await run_demo(console=out, keep=keep) else EXIT_FAILED
