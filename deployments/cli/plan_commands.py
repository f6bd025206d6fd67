"""What ``campaigns plan`` and ``campaigns apply`` do. Their help stands in ``main``, which imports this."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from prefect_campaigns.blocks.settings import Settings, load_settings
from prefect_campaigns.blocks.store_types import PausedBy
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.applying.apply import Applied, ApplyResult, apply
from prefect_campaigns.deployments.applying.outlook import look_ahead
from prefect_campaigns.deployments.applying.plan import Change
from prefect_campaigns.deployments.applying.planning import make_plan
from prefect_campaigns.deployments.checking.engine_health import ask_engines, campaigns_by_engine
from prefect_campaigns.deployments.cli.main import (
    EXIT_CHANGES,
    EXIT_FAILED,
    EXIT_OK,
    AsJson,
    err,
    out,
    print_json,
    say,
)
from prefect_campaigns.deployments.cli.plan_view import plan_json, plan_lines
from prefect_campaigns.deployments.cli.printing import PAUSERS, plain_table
from prefect_campaigns.deployments.compile import compile_campaign
from prefect_campaigns.deployments.running.interrupts import cancel_on_signals
from prefect_campaigns.deployments.running.server import connect
from prefect_campaigns.errors import InvalidCampaign, UsageError
from prefect_campaigns.loader import LoadedCampaign, load_many, load_usable

Prune = Annotated[bool, Parameter(help="Delete the campaigns of these folders whose files are gone.")]

SHOWN = 40
"""How many campaigns an apply lists; of more, those to which something has happened."""


def origin_of(folder: Path) -> str:
    """Return what a folder is called as the origin of campaigns, on whatever machine: ``laptop:/srv/my-campaigns``."""
    return f"{socket.gethostname()}:{folder.resolve()}"


def origins_of(loaded: Sequence[LoadedCampaign]) -> dict[str, str]:
    """Return the folder of each campaign's file, by key."""
    return {one.campaign.slug: origin_of(one.path.resolve().parent) for one in loaded}


def _pruned(paths: Sequence[Path], prune: bool) -> list[str]:
    """Return the folders whose campaigns may be deleted.

    Raises:
        UsageError: none of the paths is a folder.
    """
    if not prune:
        return []
    folders = [origin_of(path) for path in paths if path.is_dir()]
    if not folders:
        raise UsageError("--prune deletes what has no file in a folder; name the folder: campaigns apply campaigns/")
    return folders


async def plan_command(
    *paths: Path,
    prune: Prune = False,
    exit_code: Annotated[bool, Parameter(help="Exit with 2 if there are changes, and 0 if there are none.")] = False,
    json: AsJson = False,
) -> int:
    """Show what apply would do.

    Parameters
    ----------
    paths
        Campaign files, or folders of them; by default the folder campaigns/.
    """
    cancel_on_signals()
    paths = paths or (Path("campaigns"),)
    folders = _pruned(paths, prune)
    loaded, complaints = load_usable(paths)
    if not loaded:
        raise InvalidCampaign(complaints)
    settings, now = load_settings(), current_clock().now()
    async with open_store(settings) as store, connect() as client:
        compiled = [compile_campaign(one.campaign) for one in loaded]
        plan = await make_plan(
            client,
            store,
            settings,
            compiled,
            origins=origins_of(loaded),
            prune=folders,
            are_all=not complaints,
        )
        engines = await ask_engines(campaigns_by_engine(one.campaign for one in loaded))
        outlooks = await look_ahead(store, plan, now=now, engines=engines)
    if json:
        said = [
            {"file": one.source, "line": one.line, "pointer": one.pointer, "message": one.message} for one in complaints
        ]
        error = {"error": "\n".join(map(str, complaints))} if complaints else {}
        print_json({"success": not complaints, **error, **plan_json(plan, outlooks), "complaints": said})
    else:
        for line in plan_lines(plan, outlooks, now=now):
            say(line)
        for note in plan.notes:
            say(f"[yellow]![/] {escape(note)}")
        for complaint in complaints:
            say(f"[red]✗[/] {escape(str(complaint))}", to=err)
        if complaints:
            say("[red]✗[/] while a file cannot be used, apply does nothing", to=err)
    if complaints:
        return EXIT_FAILED
    return EXIT_CHANGES if exit_code and plan.has_changes else EXIT_OK


async def apply_command(*paths: Path, prune: Prune = False, json: AsJson = False) -> int:
    """Deploy campaigns.

    Parameters
    ----------
    paths
        Campaign files, or folders of them; by default the folder campaigns/.
    """
    cancel_on_signals()
    result = await apply_files(paths or (Path("campaigns"),), load_settings(), prune=prune)
    if json:
        print_json(_applied_json(result))
    else:
        print_applied(result)
    return EXIT_OK


async def apply_files(paths: Sequence[Path], settings: Settings, *, prune: bool = False) -> ApplyResult:
    """Apply the campaigns of files and folders, with a bar at a terminal while there are many."""
    folders = _pruned(paths, prune)
    loaded = load_many(paths)
    async with open_store(settings) as store:
        with _bar(len(loaded)) as progress:
            return await apply(
                [one.campaign for one in loaded],
                store=store,
                settings=settings,
                origins=origins_of(loaded),
                prune=folders,
                progress=progress,
            )


@contextmanager
def _bar(total: int) -> Iterator[Any]:
    columns = (TextColumn("Applying"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal or total < 10) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, _: bar.update(task, completed=done)


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
                "paused": one.pause is not None or one.switched_off,
                "resumed": one.resumed,
            }
            for one in result.campaigns
        ],
        "deleted": list(result.deleted),
        "notifications": [{"change": one.change.value, "what": one.what} for one in result.telling],
        "notes": list(result.notes),
    }


_CHANGE_STYLES = {Change.CREATED: "green", Change.CHANGED: "yellow", Change.UNCHANGED: "dim"}


def print_applied(result: ApplyResult) -> None:
    """Print what an apply has done: a table of campaigns, what resumed, and what one should know."""
    shown = [one for one in result.campaigns if len(result.campaigns) <= SHOWN or one.change is not Change.UNCHANGED]
    if shown:
        table = plain_table("", "Deployment", "Runs", "Timezone")
        for one in shown:
            style = _CHANGE_STYLES[one.change]
            table.add_row(f"[{style}]{one.change}[/]", one.compiled.full_name, *_when(one))
        out.print(table)
    if len(shown) < len(result.campaigns):
        out.print(f"[dim]unchanged[/]  {len(result.campaigns) - len(shown)} campaigns")
    for key in result.deleted:
        say(f"[red]deleted[/]  campaign/{key}")
    for telling in result.telling:
        say(f"[{_CHANGE_STYLES.get(Change(telling.change), 'red')}]{telling.change}[/]  {escape(telling.what)}")
    for one in result.campaigns:
        if one.resumed:
            say(f"[green]✓[/] {one.compiled.slug}: {escape(one.resumed)}")
    for note in result.notes:
        say(f"[yellow]![/] {escape(note)}")


def _when(applied: Applied) -> tuple[str, str]:
    schedule = applied.compiled.schedule
    if schedule is None:
        return "by hand", ""
    if not schedule.active:
        return f"{schedule.cron} (not enabled)", schedule.timezone
    by = PausedBy.PERSON if applied.switched_off else applied.pause.by if applied.pause else None
    return f"{schedule.cron}{f' (paused by {PAUSERS[by]})' if by else ''}", schedule.timezone
