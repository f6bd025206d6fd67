"""What ``campaigns stop --all`` and ``campaigns start --all`` do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any

from cyclopts import Parameter
from rich.markup import escape

from prefect_campaigns.blocks.settings import Settings, load_settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.stores import SqliteChoice, choose_store, open_chosen
from prefect_campaigns.deployments.cli.main import EXIT_FAILED, EXIT_OK, AsJson, err, error_json, print_json, say
from prefect_campaigns.deployments.cli.run_commands import at_work
from prefect_campaigns.deployments.driving.audit import local_actor
from prefect_campaigns.deployments.driving.budget_view import stop_json
from prefect_campaigns.deployments.driving.emergency import Started, Stopped, start_all, stop_first
from prefect_campaigns.deployments.driving.standing import describe_stop
from prefect_campaigns.deployments.driving.strays import NOT_IN_BOOKS
from prefect_campaigns.deployments.running.interrupts import cancel_on_signals
from prefect_campaigns.deployments.running.server import connect
from prefect_campaigns.errors import StoreUnavailable, UsageError

All = Annotated[bool, Parameter(name="--all")]


async def stop_command(
    *, all_: All = False, cancel_running: bool = False, reason: str | None = None, json: AsJson = False
) -> int:
    """Stop everything.

    Parameters
    ----------
    all_
        Has to be there: nothing less than all is stopped.
    cancel_running
        Also cancel runs that go on, wait, or were asked for.
    reason
        Why; shown to whoever starts something meanwhile.
    """
    if not all_:
        raise UsageError("it stops everything: campaigns stop --all. One campaign is paused: campaigns pause NAME")
    cancel_on_signals()
    # The books alone: that the stop stands must not wait for Prefect.
    async with _books_to_stop(load_settings()) as (store, doubts):
        stopped = await stop_first(connect, store, actor=local_actor(), reason=reason, cancel_running=cancel_running)
    stopped = replace(stopped, problems=[*doubts, *stopped.problems])
    if json:
        print_json(_stopped_json(stopped))
    else:
        _say_stopped(stopped, cancel_running=cancel_running)
    return EXIT_FAILED if stopped.problems else EXIT_OK


@asynccontextmanager
async def _books_to_stop(settings: Settings) -> AsyncIterator[tuple[CampaignStore, list[str]]]:
    """Yield the books, and what is doubtful about them.

    Where Prefect cannot be asked which books are used, these are the ones of this machine: to stop by the wrong books
    does no harm, as to spend by them would.
    """
    doubts = []
    try:
        choice = await choose_store(settings)
    except StoreUnavailable as error:
        if not settings.database_path.exists():
            raise
        choice = SqliteChoice(path=settings.database_path, chosen_by="default")
        doubts.append(f"it stands in {choice.path}, which may not be the books that runs go by: {error}")
    async with open_chosen(choice) as store:
        yield store, doubts


def _say_stopped(stopped: Stopped, *, cancel_running: bool) -> None:
    say(f"[bold red]■[/] {escape(describe_stop(stopped.stop))}")
    say(f"  {_counted(len(stopped.paused), 'campaign')} paused by it; what was paused before stays as it was.")
    if stopped.strays:
        strays = f"{_counted(len(stopped.strays), 'deployment')} paused by it in Prefect, and {NOT_IN_BOOKS}"
        say(f"[yellow]![/] {strays}: {escape(', '.join(stopped.strays))}. campaigns list says what to do.")
    if cancel_running:
        say(f"  {_counted(len(stopped.cancelled), 'run')} cancelled.")
    if stopped.still_going:
        names = ", ".join(run.name for run in stopped.still_going[:5])
        more = ", …" if len(stopped.still_going) > 5 else ""
        say(f"[yellow]![/] {_counted(len(stopped.still_going), 'run')} not ended: {names}{more}")
        say("  To cancel what goes on: campaigns stop --all --cancel-running")
    if stopped.problems:
        say("[yellow]![/] The stop stands, and no run begins; but not all of it could be done:", to=err)
    _say_problems(stopped.problems, f"campaigns stop --all{' --cancel-running' * cancel_running}")


def _say_problems(problems: Any, command: str) -> None:
    for problem in problems:
        say(f"[red]✗[/] {escape(problem)}", to=err)
    if problems:
        say(f"  To try these again: {command}", to=err)


def _counted(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count} {what}s are"


def _stopped_json(stopped: Stopped) -> dict[str, Any]:
    return {
        "success": not stopped.problems,
        **error_json(stopped.problems),
        "stop": stop_json(stopped.stop),
        "stoodBefore": stopped.stood_before,
        "paused": list(stopped.paused),
        "strays": list(stopped.strays),
        "cancelled": [{"runId": str(run.id), "name": run.name} for run in stopped.cancelled],
        "stillGoing": [{"runId": str(run.id), "name": run.name} for run in stopped.still_going],
        "problems": list(stopped.problems),
    }


async def start_command(*, all_: All = False, json: AsJson = False) -> int:
    """Start everything again.

    Parameters
    ----------
    all_
        Has to be there, as of campaigns stop.
    """
    if not all_:
        raise UsageError("it ends the emergency stop: campaigns start --all. One campaign runs by: campaigns run NAME")
    async with at_work() as (client, store):
        started = await start_all(client, store, actor=local_actor())
    if json:
        print_json(_started_json(started))
    else:
        _say_started(started)
    return EXIT_FAILED if started.problems else EXIT_OK


def _say_started(started: Started) -> None:
    if started.ended is None and not (started.resumed or started.strays or started.problems):
        say("Nothing was stopped.")
    else:
        say(f"[green]✓[/] {_counted(len(started.resumed), 'campaign')} resumed that the stop had paused.")
    for name in started.strays:
        say(f"  {escape(name)} is resumed in Prefect, too, and still {NOT_IN_BOOKS}.")
    for key in started.resumed_after_budget:
        say(f"  {key} is resumed, too: its budget allows it by now.")
    if started.paused:
        say(f"  Still paused, as before: {', '.join(started.paused)}. campaigns list says why.")
    _say_problems(started.problems, "campaigns start --all")


def _started_json(started: Started) -> dict[str, Any]:
    return {
        "success": not started.problems,
        **error_json(started.problems),
        "ended": stop_json(started.ended),
        "resumed": list(started.resumed),
        "strays": list(started.strays),
        "resumedAfterBudget": list(started.resumed_after_budget),
        "paused": list(started.paused),
        "problems": list(started.problems),
    }
