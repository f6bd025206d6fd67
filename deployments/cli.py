"""The command ``campaigns``."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.urls import url_for
from prefect_campaigns.blocks.settings import Settings, load_settings
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.deployments.apply import Applied, ApplyResult, Change, apply
from prefect_campaigns.deployments.lookup import find_deployment, match_name
from prefect_campaigns.deployments.server import DEFAULT_PORT, connect
from prefect_campaigns.deployments.stack import embedded_server, running_worker
from prefect_campaigns.deployments.watch import RunView, budget_table, run_table, watch
from prefect_campaigns.errors import CampaignsError, InvalidCampaign
from prefect_campaigns.loader import LoadedCampaign, load_many
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunReport
from rich.console import Console
from rich.markup import escape
from rich.table import Table

EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130

app = App(
    name="campaigns",
    help="Run lead-generation campaigns, written as JSON, on Prefect.",
    help_format="rich",
    result_action="return_value",
)

AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON instead of tables.")]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def _print_json(data: Any) -> None:
    print(json.dumps(data, ensure_ascii=False, indent=2, default=str))


@app.command(name="validate")
def validate_command(*files: Path, json: AsJson = False) -> int:
    """Check campaign files, and say everything that is wrong with them.

    Example: campaigns validate campaigns/

    Parameters
    ----------
    files
        Campaign files, or folders of them.
    """
    if not files:
        raise CampaignsError("which files? Name campaign files, or folders of them: campaigns validate campaigns/")
    loaded = load_many(files)
    if json:
        _print_json({"success": True, "campaigns": [_loaded_json(one) for one in loaded]})
    else:
        for one in loaded:
            out.print(f"[green]✓[/] {escape(str(one.path))}: {escape(one.campaign.name)} ({one.campaign.slug})")
    return EXIT_OK


def _loaded_json(loaded: LoadedCampaign) -> dict[str, Any]:
    return {"file": str(loaded.path), "name": loaded.campaign.name, "slug": loaded.campaign.slug}


@app.command(name="apply")
async def apply_command(*paths: Path, json: AsJson = False) -> int:
    """Deploy campaigns on the Prefect server, any number of times.

    Every file is checked before anything is changed. What a person paused stays paused.

    Example: campaigns apply campaigns/

    Parameters
    ----------
    paths
        Campaign files, or folders of them; by default the folder campaigns/.
    """
    result = await _apply(paths or (Path("campaigns"),), load_settings())
    if json:
        _print_json(_applied_json(result))
    else:
        _print_applied(result)
    return EXIT_OK


async def _apply(paths: Sequence[Path], settings: Settings) -> ApplyResult:
    loaded = load_many(paths)
    async with open_store(settings) as store:
        return await apply([one.campaign for one in loaded], store=store, settings=settings)


def _applied_json(result: ApplyResult) -> dict[str, Any]:
    return {
        "success": True,
        "campaigns": [
            {
                "slug": one.compiled.slug,
                "name": one.compiled.campaign.name,
                "change": one.change.value,
                "deployment": one.compiled.full_name,
                "deploymentId": str(one.deployment_id),
                "paused": one.paused,
            }
            for one in result.campaigns
        ],
        "notes": list(result.notes),
    }


_CHANGE_STYLES = {Change.CREATED: "green", Change.CHANGED: "yellow", Change.UNCHANGED: "dim"}


def _print_applied(result: ApplyResult) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("", "Deployment", "Runs", "Timezone"):
        table.add_column(name)
    for one in result.campaigns:
        style = _CHANGE_STYLES[one.change]
        table.add_row(f"[{style}]{one.change}[/]", one.compiled.full_name, *_when(one))
    out.print(table)
    for note in result.notes:
        out.print(f"[yellow]![/] {escape(note)}")


def _when(applied: Applied) -> tuple[str, str]:
    schedule = applied.compiled.schedule
    if schedule is None:
        return "by hand", ""
    if not schedule.active:
        return f"{schedule.cron} (not enabled)", schedule.timezone
    return f"{schedule.cron}{' (paused by a person)' if applied.paused else ''}", schedule.timezone


@app.command(name="run")
async def run_command(name: str, *, watch: bool = False, json: AsJson = False) -> int:
    """Start a campaign now.

    Example: campaigns run weekly-restaurant-outreach --watch

    Parameters
    ----------
    name
        The campaign's name or slug.
    watch
        Stay, show its steps live, and end with exit code 1 if it fails.
    """
    async with connect() as client:
        deployment = await find_deployment(client, name)
        flow_run = await client.create_flow_run_from_deployment(deployment.id)
        if not watch:
            _say_started(flow_run, as_json=json)
            return EXIT_OK
        return await _watch_to_the_end(client, flow_run, as_json=json)


def _say_started(flow_run: FlowRun, *, as_json: bool) -> None:
    url = url_for(flow_run)
    if as_json:
        _print_json({"success": True, "runId": str(flow_run.id), "name": flow_run.name, "url": url})
        return
    out.print(f"Started run [bold]{flow_run.name}[/] ({flow_run.id})")
    if url:
        out.print(f"See it at {url}")


async def _watch_to_the_end(client: PrefectClient, flow_run: FlowRun, *, as_json: bool) -> int:
    async with open_store(load_settings()) as store:
        view = await watch(err if as_json else out, client, store, flow_run.id)
        if as_json:
            _print_json({"success": _went_well(view), "run": _run_json(view)})
        else:
            print_run(view)
            if view.record is not None:
                out.print(budget_table(await store.budget_status(view.record.campaign_key)))
    return EXIT_OK if _went_well(view) else EXIT_FAILED


def _went_well(view: RunView) -> bool:
    return view.flow_run.state is not None and view.flow_run.state.is_completed()


def print_run(view: RunView, console: Console = out) -> None:
    """Print a run that has ended: its steps, and what it says of itself."""
    console.print(run_table(view))
    if view.flow_run.state and view.flow_run.state.message:
        console.print(view.flow_run.state.message, markup=False)
    if url := url_for(view.flow_run):
        console.print(f"See it at {url}")


def _run_json(view: RunView) -> dict[str, Any]:
    record = view.record.model_dump(mode="json") if view.record else {"run_id": str(view.flow_run.id)}
    state = view.flow_run.state
    return {**record, "state_name": view.state_name, "message": state.message if state else None}


@app.command(name="runs")
async def runs_command(name: str, *, limit: int = 20, json: AsJson = False) -> int:
    """List a campaign's runs, newest first.

    Example: campaigns runs weekly-restaurant-outreach

    Parameters
    ----------
    name
        The campaign's name or slug.
    limit
        How many to show at the most.
    """
    async with open_store(load_settings()) as store:
        key = match_name(name, [row.key for row in await store.list_campaigns()])
        runs = await store.list_runs(key, limit=limit)
    if json:
        _print_json({"success": True, "count": len(runs), "runs": [run.model_dump(mode="json") for run in runs]})
    elif not runs:
        out.print(f"{key} has not run yet. Start it with: campaigns run {key}")
    else:
        out.print(_runs_table(runs))
    return EXIT_OK


def _runs_table(runs: Sequence[RunReport]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("Started (UTC)", "Run", "State", "Steps", "Cost (USD)", "What happened"):
        table.add_column(column, justify="right" if column in ("Steps", "Cost (USD)") else "left")
    styles = {
        "completed": "green",
        "partial": "yellow",
        "failed": "red",
        "aborted": "yellow",
        "running": "cyan",
    }
    for run in runs:
        table.add_row(
            f"{run.started_at:%Y-%m-%d %H:%M}",
            run.run_name,
            f"[{styles[run.status]}]{run.state_name or run.status}[/]",
            f"{run.steps_completed}/{len(run.steps)}",
            format_money(run.total_cost),
            escape((run.message or "").splitlines()[0] if run.message else ""),
        )
    return table


def _default_folder() -> tuple[Path, ...]:
    folder = Path("campaigns")
    return (folder,) if folder.is_dir() else ()


@app.command(name="up")
async def up_command(*paths: Path, port: int = DEFAULT_PORT) -> int:
    """Run the embedded stack: Prefect server, campaign worker, and the campaigns of a folder.

    A Prefect server that PREFECT_API_URL names is used instead of an own one. Ctrl-C ends everything.

    Example: campaigns up campaigns/

    Parameters
    ----------
    paths
        Campaign files, or folders of them; by default the folder campaigns/ where there is one.
    port
        The port of the embedded Prefect server.
    """
    paths = paths or _default_folder()
    if paths:
        load_many(paths)
    async with embedded_server(port=port) as server:
        out.print(f"[green]✓[/] Prefect server {'at ' + server.ui_url if server else '(as configured)'}")
        if paths:
            _print_applied(await _apply(paths, load_settings()))
        async with running_worker():
            out.print("[green]✓[/] Campaign worker is waiting for runs. Ctrl-C ends everything.")
            await asyncio.Event().wait()
    return EXIT_OK


@app.command(name="demo")
async def demo_command(*, keep: bool = False) -> int:
    """See it all work on this machine alone: server, worker, engines, mail.

    Runs an example campaign, then one whose engine fails, and shows the mails that arrive.

    Example: campaigns demo --keep

    Parameters
    ----------
    keep
        Leave everything running afterwards, until Ctrl-C.
    """
    from prefect_campaigns.deployments.demo.show import run_demo

    return EXIT_OK if await run_demo(console=out, keep=keep) else EXIT_FAILED


def _print_error(error: CampaignsError, *, as_json: bool) -> None:
    if as_json:
        body: dict[str, Any] = {"success": False, "error": str(error)}
        if isinstance(error, InvalidCampaign):
            body["complaints"] = [
                {
                    "file": one.source,
                    "line": one.line,
                    "column": one.column,
                    "pointer": one.pointer,
                    "message": one.message,
                }
                for one in error.complaints
            ]
        _print_json(body)
        return
    for line in str(error).splitlines():
        err.print(f"[red]✗[/] {escape(line)}", soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 well, 1 not, 130 interrupted."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(tokens)
    except CampaignsError as error:
        _print_error(error, as_json="--json" in tokens)
        code = EXIT_FAILED
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    sys.exit(code if isinstance(code, int) else EXIT_OK)
