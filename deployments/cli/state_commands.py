"""What ``campaigns list``, ``pause`` and ``resume`` do. Their help stands in ``main``, which imports this."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from rich.markup import escape
from rich.text import Text

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, RunBrief
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.budget import BudgetStatus, LimitStatus, describe_limits
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.cli.budget_lines import bar
from prefect_campaigns.deployments.cli.main import EXIT_FAILED, EXIT_OK, AsJson, err, print_json, say
from prefect_campaigns.deployments.cli.printing import STANDING_STYLES, strip
from prefect_campaigns.deployments.driving.audit import local_actor
from prefect_campaigns.deployments.driving.budget_view import limit_json, pause_json, state_json, stop_json
from prefect_campaigns.deployments.driving.pausing import pause_campaign, resume_campaign
from prefect_campaigns.deployments.driving.standing import (
    CampaignState,
    Standing,
    ask_states,
    describe_state,
    describe_stop,
    read_states,
)
from prefect_campaigns.deployments.driving.strays import (
    NOT_IN_BOOKS,
    find_campaign_or_stray,
    find_in_books,
    pause_stray,
    remedy,
    schedule_of,
)
from prefect_campaigns.deployments.running.interrupts import cancel_on_signals
from prefect_campaigns.deployments.running.server import connect
from prefect_campaigns.flows.resuming import Outcome, Resumption
from prefect_campaigns.money import format_money


async def list_command(*, json: AsJson = False) -> int:
    """List campaigns."""
    cancel_on_signals()
    async with open_store(load_settings()) as store:
        records = await store.list_campaigns()
        states, budgets, runs = await asyncio.gather(
            read_states(store, records, with_strays=True),
            store.budget_statuses(),
            store.latest_runs(limit=RUNS_SHOWN),
        )
    # One that was deleted meanwhile has none.
    shown = [(state, budgets[state.record.key]) for state in states.campaigns if state.record.key in budgets]
    if json:
        listed = [_listed_json(state, budget, runs.get(state.record.key, ())) for state, budget in shown]
        problem = states.server_problem
        stop = stop_json(states.stop)
        strays = [_stray_json(one) for one in states.strays]
        body = {"count": len(listed), "campaigns": listed, "notInBooks": strays, "stop": stop, "serverProblem": problem}
        print_json({"success": True, **body})
        return EXIT_OK
    if states.stop:
        say(Text(describe_stop(states.stop), style="bold red"))
    if not records and not states.strays:
        say("There are no campaigns yet. campaigns apply FILE makes one.")
    for state, budget in shown:
        for line in _lines(state, budget, runs.get(state.record.key, ())):
            say(line)
    for stray in states.strays:
        for line in _stray_lines(stray):
            say(line)
    if states.server_problem:
        say(f"[yellow]![/] What was paused in Prefect is not known: {escape(states.server_problem)}", to=err)
    return EXIT_OK


_WINDOWS = ("today", "this week", "this month")
BAR_CELLS = 12


RUNS_SHOWN = 20
"""How many runs of each campaign are shown, as a strip of outcomes."""


def _lines(state: CampaignState, budget: BudgetStatus, runs: Sequence[RunBrief]) -> Iterator[Text]:
    """Yield what there is to say of a campaign, for eighty columns."""
    campaign, schedule = state.record.campaign, state.record.campaign.schedule
    yield Text.assemble((campaign.name, "bold"), (f"  campaign/{campaign.slug}", "dim"))
    due = f"{schedule.cron} {schedule.timezone}" if schedule else "by hand"
    yield Text.assemble("  ", (state.standing.words, STANDING_STYLES.get(state.standing, "yellow")), f", runs {due}")
    spent = (f"{_share(limit)} {when}" for limit, when in zip(budget.limits, _WINDOWS, strict=True))
    yield Text(f"  spent {', '.join(spent)}")
    if any(limit.limit for limit in budget.limits):
        yield Text("  ").append_text(
            Text("   ").join(
                Text.assemble(f"{limit.window.period} ", bar(limit, campaign.budget.alert_at, cells=BAR_CELLS))
                for limit in budget.limits
                if limit.limit and limit.window
            )
        )
    if runs:
        yield Text.assemble("  last runs ", strip(runs), ", oldest first")
    if state.standing not in (Standing.ACTIVE, Standing.NOT_ENABLED):
        yield Text(f"  {describe_state(state, now=budget.at)}", style="yellow")


def _stray_lines(stray: DeploymentResponse) -> Iterator[Text]:
    """Yield what there is to say of a deployment that the books do not know."""
    yield Text.assemble((stray.name, "bold"), (f"  campaign/{stray.name}", "dim"))
    paused = ", paused in Prefect" if stray.paused else ""
    yield Text.assemble("  ", (f"{NOT_IN_BOOKS}{paused}", "red"), f", runs {schedule_of(stray)}")
    yield Text(f"  Its runs fail and spend nothing: {remedy(stray.name)}.", style="yellow")


def _stray_json(stray: DeploymentResponse) -> dict[str, Any]:
    return {
        "slug": stray.name,
        "deployment": f"campaign/{stray.name}",
        "deploymentId": str(stray.id),
        "state": NOT_IN_BOOKS,
        "paused": stray.paused,
    }


def _share(limit: LimitStatus) -> str:
    of = "" if limit.limit is None else f" of {format_money(limit.limit)}"
    return f"{format_money(limit.spent)}{of}"


def _listed_json(state: CampaignState, budget: BudgetStatus, runs: Sequence[RunBrief]) -> dict[str, Any]:
    campaign, schedule = state.record.campaign, state.record.campaign.schedule
    return {
        "slug": campaign.slug,
        "name": campaign.name,
        "deployment": f"campaign/{campaign.slug}",
        "deploymentId": str(state.record.deployment_id) if state.record.deployment_id else None,
        **state_json(state),
        "schedule": schedule.model_dump(mode="json", by_alias=True) if schedule else None,
        "limits": [limit_json(limit) for limit in budget.limits],
        "lastRuns": [
            {"runId": run.run_id, "name": run.run_name, "status": run.status.value, "state": run.state_name}
            for run in runs
        ],
    }


async def pause_command(name: str, /, *, reason: str | None = None, json: AsJson = False) -> int:
    """Pause a campaign.

    Parameters
    ----------
    name
        The campaign's name, slug or id.
    reason
        Why; shown by `campaigns list` and in the Prefect UI.
    """

    async def pause(client: PrefectClient, store: CampaignStore, record: CampaignRecord) -> tuple[str, dict[str, Any]]:
        now = current_clock().now()
        if await pause_campaign(client, store, record, reason=reason, actor=local_actor(), now=now):
            said = f"{record.key} is paused until somebody resumes it: campaigns resume {record.key}"
            return said, {"changed": True}
        (state,) = await ask_states(client, store, [record])
        return f"{record.key} was paused already. {describe_state(state, now=now)}", {"changed": False}

    async with _at_work() as (client, store):
        found = await find_campaign_or_stray(client, store, name)
        if isinstance(found, DeploymentResponse):
            await _pause_stray(client, store, found, reason, as_json=json)
        else:
            await _act(client, store, found, pause, as_json=json)
    return EXIT_OK


async def _pause_stray(
    client: PrefectClient, store: CampaignStore, stray: DeploymentResponse, reason: str | None, *, as_json: bool
) -> None:
    now = current_clock().now()
    pause = await pause_stray(client, store, stray, reason=reason, actor=local_actor(), now=now)
    said = f"campaign/{stray.name}, which is {NOT_IN_BOOKS}, is paused in Prefect until somebody resumes it there"
    if as_json:
        state = {"state": NOT_IN_BOOKS, "pause": pause_json(pause)}
        print_json({"success": True, "campaign": stray.name, "message": said, **state})
    else:
        say(escape(said))


async def resume_command(name: str, /, *, json: AsJson = False) -> int:
    """Resume a campaign.

    Parameters
    ----------
    name
        The campaign's name, slug or id.
    """

    async def resume(client: PrefectClient, store: CampaignStore, record: CampaignRecord) -> tuple[str, dict[str, Any]]:
        resumption = await resume_campaign(client, store, record, actor=local_actor(), now=current_clock().now())
        is_resumed = resumption.outcome is Outcome.RESUMED
        return resumption.message, {"changed": is_resumed, "runsRefused": _refusal_json(resumption)}

    async with _at_work() as (client, store):
        state = await _act(client, store, await find_in_books(client, store, name), resume, as_json=json)
    # A run that the budget stopped may have come in between.
    return EXIT_FAILED if state.standing in (Standing.PAUSED, Standing.PAUSED_BY_PERSON) else EXIT_OK


def _refusal_json(resumption: Resumption) -> dict[str, Any] | None:
    """Return why and until when the budget refuses the runs of a resumed campaign; None when it does not."""
    if not resumption.refusing:
        return None
    return {
        "reason": describe_limits(resumption.refusing),
        "until": resumption.until.isoformat() if resumption.until else None,
        "limits": [limit_json(limit) for limit in resumption.refusing],
    }


@asynccontextmanager
async def _at_work() -> AsyncIterator[tuple[PrefectClient, CampaignStore]]:
    cancel_on_signals()
    async with open_store(load_settings()) as store, connect() as client:
        yield client, store


async def _act(
    client: PrefectClient,
    store: CampaignStore,
    record: CampaignRecord,
    act: Callable[[PrefectClient, CampaignStore, CampaignRecord], Awaitable[tuple[str, dict[str, Any]]]],
    *,
    as_json: bool,
) -> CampaignState:
    """Do something to a campaign, print what came of it, and return how the campaign stands then.

    Args:
        act: returns what came of it in words, and what only programs read of it.
    """
    key = record.key
    said, fields = await act(client, store, record)
    (state,) = (await read_states(store, [await store.get_campaign(key)])).campaigns
    if as_json:
        print_json({"success": True, "campaign": key, "message": said, **fields, **state_json(state)})
    else:
        say(escape(said))
    return state
