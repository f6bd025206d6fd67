"""What the commands do that drive runs: ``run``, ``runs``, ``retry``, ``cancel``, ``approve``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.urls import url_for
from rich.markup import escape
from rich.text import Text

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.cli.main import (
    EXIT_FAILED,
    EXIT_NOT_TAKEN_UP,
    EXIT_OK,
    EXIT_SUSPENDED,
    AsJson,
    err,
    error_json,
    out,
    print_json,
    say,
)
from prefect_campaigns.deployments.cli.printing import recipient_names, runs_table
from prefect_campaigns.deployments.cli.runs_watch import watch_runs
from prefect_campaigns.deployments.cli.watch import RunView, budget_table, print_run, watch
from prefect_campaigns.deployments.driving.audit import local_actor
from prefect_campaigns.deployments.driving.dry_run import look_ahead, look_ahead_json, look_ahead_lines
from prefect_campaigns.deployments.driving.lookup import find_campaign
from prefect_campaigns.deployments.driving.run_changes import COMMAND_WORDS, parameters_for, typed
from prefect_campaigns.deployments.driving.runs import (
    approve_run,
    cancel_run,
    find_run,
    retry_run,
    start_run,
    state_of_campaign,
)
from prefect_campaigns.deployments.driving.standing import GOES_ON, RUNS, CampaignState, ask_states, warnings_of
from prefect_campaigns.deployments.driving.strays import find_in_books
from prefect_campaigns.deployments.running.interrupts import cancel_on_signals
from prefect_campaigns.deployments.running.server import connect
from prefect_campaigns.errors import UsageError
from prefect_campaigns.results import RunStatus


@asynccontextmanager
async def at_work() -> AsyncIterator[tuple[PrefectClient, CampaignStore]]:
    """Yield the Prefect server and the books."""
    cancel_on_signals()
    async with connect() as client, open_store(load_settings()) as store:
        yield client, store


async def run_command(
    name: str,
    /,
    *,
    watch: bool = False,
    dry_run: bool = False,
    param: Sequence[str] = (),
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    send_again: bool = False,
    json: AsJson = False,
) -> int:
    """Start a campaign.

    Parameters
    ----------
    name
        The campaign's name, slug or id.
    watch
        Stay to its end, and show its steps live.
    dry_run
        Start nothing: show each request, and what it would cost.
    param
        For this run alone: steps.NAME.KEY=VALUE; repeatable.
    from_
        Begin at this step, with an earlier run's results.
    send_again
        With --from: begin, though it sends a second time.
    """
    if watch and dry_run:
        raise UsageError("--watch and --dry-run are two things; a dry run starts nothing that could be watched")
    if send_again and from_ is None:
        raise UsageError("--send-again belongs to --from STEP; a run that begins at its first step is another one")
    changes = typed(param, from_step=from_, send_again=send_again)
    async with at_work() as (client, store):
        record = await find_in_books(client, store, name)
        parameters, source = await parameters_for(client, store, record, changes, words=COMMAND_WORDS)
        (state,) = await ask_states(client, store, [record])
        if dry_run:
            ahead = await look_ahead(client, store, state, parameters)
            if json:
                print_json({"success": True, **look_ahead_json(ahead)})
            else:
                for line in look_ahead_lines(ahead):
                    say(line)
            return EXIT_OK
        flow_run = await start_run(client, store, record, actor=local_actor(), parameters=parameters)
        warnings = _warn_of_pause(state, RUNS)
        if not json and source is not None:
            say(f"It begins at step {escape(str(from_))}, with the results of run {source.run_name}.")
        if not watch:
            _say_started(flow_run, warnings, as_json=json)
            return EXIT_OK
        return await _watch_to_the_end(client, store, flow_run, as_json=json)


def _warn_of_pause(state: CampaignState | None, what: str) -> list[str]:
    """Say that a person has the campaign paused, to whoever lets a run of it begin or go on; return what was said."""
    warnings = warnings_of(state, what, now=current_clock().now())
    for warning in warnings:
        say(Text(f"! {warning}", style="yellow"), to=err)
    return warnings


def _run_json(flow_run: FlowRun) -> dict[str, Any]:
    return {"success": True, "runId": str(flow_run.id), "name": flow_run.name, "url": url_for(flow_run)}


def _say_started(flow_run: FlowRun, warnings: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print_json({**_run_json(flow_run), "warnings": warnings})
        return
    out.print(f"Started run [bold]{flow_run.name}[/] ({flow_run.id})", soft_wrap=True)
    if url := url_for(flow_run):
        out.print(url, soft_wrap=True)


async def _watch_to_the_end(client: PrefectClient, store: CampaignStore, flow_run: FlowRun, *, as_json: bool) -> int:
    view = await watch(err if as_json else out, client, store, flow_run.id)
    code = _exit_code(view)
    if as_json:
        body = {**_view_json(view), "approval": await _approval_json(store, view)}
        why = body["waiting"] or body["message"] or f"run {view.flow_run.name} is {view.state_name}"
        print_json({"success": code == EXIT_OK, **error_json([] if code == EXIT_OK else [why]), "run": body})
    else:
        print_run(out, view)
        if view.ended and view.record is not None:
            out.print(budget_table(await store.budget_status(view.record.campaign_key)))
    return code


def _exit_code(view: RunView) -> int:
    if view.is_suspended:
        return EXIT_SUSPENDED
    if not view.ended:
        return EXIT_NOT_TAKEN_UP
    return EXIT_OK if view.flow_run.state is not None and view.flow_run.state.is_completed() else EXIT_FAILED


def _view_json(view: RunView) -> dict[str, Any]:
    record = view.record.model_dump(mode="json") if view.record else {"run_id": str(view.flow_run.id)}
    state = view.flow_run.state
    return {
        **record,
        "state_name": view.state_name,
        "message": state.message if state else None,
        "waiting": view.waiting,
    }


async def _approval_json(store: CampaignStore, view: RunView) -> dict[str, Any] | None:
    """Return what a suspended run waits for: until when, who is to be mailed about it, and how to say yes."""
    waiting = await store.list_approvals(run_id=str(view.flow_run.id), waiting_only=True) if view.is_suspended else ()
    if not waiting:
        return None
    approval = waiting[-1]
    told = (await store.get_campaign(approval.campaign_key)).campaign.notifications
    return {
        "step": approval.step,
        "askedAt": approval.asked_at.isoformat(),
        "until": approval.expires_at.isoformat(),
        "recipients": recipient_names((told.on_approval or told.on_failure) if told else None),
        "command": f"campaigns approve {approval.run_id}",
    }


async def runs_command(
    name: str,
    /,
    *,
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 20,
    watch: bool = False,
    json: AsJson = False,
) -> int:
    """List a campaign's runs.

    Parameters
    ----------
    name
        The campaign's name, slug or id.
    limit
        How many to show at the most.
    watch
        Go on showing them, and how far the one is that goes on; Ctrl-C ends it.
    """
    if watch and json:
        raise UsageError("--watch goes on, and --json prints one object; give one of them")
    if watch:
        async with at_work() as (client, store):
            await watch_runs(out, client, store, (await find_campaign(store, name)).key, limit=limit)
    cancel_on_signals()
    async with open_store(load_settings()) as store:
        key = (await find_campaign(store, name)).key
        runs = await store.list_runs(key, limit=limit)
    if json:
        print_json({"success": True, "count": len(runs), "runs": [run.model_dump(mode="json") for run in runs]})
    elif not runs:
        out.print(f"{key} has not run yet. Start it with: campaigns run {key}")
    else:
        out.print(runs_table(runs))
        for run in runs:
            if run.message and run.status is not RunStatus.COMPLETED:
                out.print(f"\n{run.run_name}: {run.message.splitlines()[0]}", markup=False)
    return EXIT_OK


async def retry_command(run: str, /, *, watch: bool = False, json: AsJson = False) -> int:
    """Try a run again.

    Parameters
    ----------
    run
        The run's name, its id, or the id's first 8 characters.
    watch
        Stay to its end, and show its steps live.
    """
    async with at_work() as (client, store):
        flow_run = await find_run(client, store, run)
        state = await state_of_campaign(client, store, flow_run)
        await retry_run(client, store, flow_run, actor=local_actor())
        warnings = _warn_of_pause(state, GOES_ON)
        if watch:
            return await _watch_to_the_end(client, store, flow_run, as_json=json)
        if json:
            print_json({**_run_json(flow_run), "warnings": warnings})
        else:
            say(
                f"Run [bold]{flow_run.name}[/] goes on at the step that failed: campaigns logs {flow_run.name} --follow"
            )
    return EXIT_OK


async def cancel_command(run: str, /, *, json: AsJson = False) -> int:
    """Cancel a run.

    Parameters
    ----------
    run
        The run's name, its id, or the id's first 8 characters.
    """
    async with at_work() as (client, store):
        flow_run = await find_run(client, store, run)
        put_right = await cancel_run(client, store, flow_run, actor=local_actor())
        report = await store.get_run(str(flow_run.id))
    if json:
        body = {"run": report.model_dump(mode="json") if report else None, "putRight": put_right}
        print_json({**_run_json(flow_run), **body})
    elif put_right:
        say(f"Run [bold]{flow_run.name}[/] had ended already, as {flow_run.state_name}; {escape(put_right)}")
    else:
        done = f": {report.summary()}" if report else ""
        say(f"Run [bold]{flow_run.name}[/] is cancelled{done}")
    return EXIT_OK


async def approve_command(run: str, /, *, watch: bool = False, json: AsJson = False) -> int:
    """Approve a step.

    Parameters
    ----------
    run
        The run's name, its id, or the id's first 8 characters.
    watch
        Stay to its end, and show its steps live.
    """
    async with at_work() as (client, store):
        flow_run = await find_run(client, store, run)
        state = await state_of_campaign(client, store, flow_run)
        approval = await approve_run(client, store, flow_run, actor=local_actor())
        warnings = _warn_of_pause(state, GOES_ON)
        if watch:
            return await _watch_to_the_end(client, store, flow_run, as_json=json)
    if json:
        decided = {"step": approval.step, "approvedBy": approval.decided_by}
        print_json({**_run_json(flow_run), **decided, "warnings": warnings})
    else:
        say(f"Step {escape(approval.step)} of run [bold]{flow_run.name}[/] is approved; the run goes on.")
    return EXIT_OK
