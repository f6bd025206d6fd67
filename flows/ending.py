"""The ends of a run that is executed: each is written to the books, and is the state that says the same to people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

import httpx
from prefect import State, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectException
from prefect.states import Cancelled, Completed, Crashed

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import LeaseHeld, PausedBy
from prefect_campaigns.budget import LimitStatus
from prefect_campaigns.errors import ServerError
from prefect_campaigns.flows import leaving
from prefect_campaigns.flows.budget import per_lead_excess
from prefect_campaigns.flows.closing import broken_off, failure_in_words, summary_of
from prefect_campaigns.flows.control import is_unwanted
from prefect_campaigns.flows.paused_deployment import until_text
from prefect_campaigns.flows.pausing import pause_for_budget
from prefect_campaigns.flows.reporting import BRIEFLY_SECONDS, LEAVE_SECONDS, leave_own_report
from prefect_campaigns.flows.run import CampaignRun, patiently, trigger_type
from prefect_campaigns.flows.shielding import to_its_end
from prefect_campaigns.flows.steps import MAY_HAVE_GONE_OUT, UNANSWERED, failed_result, must_not_repeat
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus

RUNS_LOOKED_AT = 50

_RUNNING = StepStatus.RUNNING

API_SECONDS = 10.0
"""How long a run that is being cancelled may still ask Prefect who wants it cancelled."""


def another_is_going(held: LeaseHeld) -> str:
    """Say why a run is skipped that does not get its turn."""
    return f"run {held.run_name!r} of this campaign is still going"


async def skip(store: CampaignStore, campaign: Campaign, flow_run: FlowRun, why: str, *, at: datetime) -> State[Any]:
    """End a run that does not begin."""
    message = f"Skipped: {why}"
    report = RunReport(
        run_id=str(flow_run.id),
        run_name=flow_run.name,
        campaign_key=campaign.slug,
        campaign_name=campaign.name,
        status=RunStatus.ABORTED,
        state_name="Skipped",
        message=message,
        trigger_type=trigger_type(flow_run),
        started_at=at,
        completed_at=at,
    )
    await patiently(lambda: store.record_skipped_run(report), logger=get_run_logger())
    await leave_own_report(store, report, now=at, logger=get_run_logger())
    return Completed(name="Skipped", message=message)


async def break_off(run: CampaignRun) -> State[Any]:
    """Write down that the run was cancelled, by a person or by the end of its worker, and what was under way.

    Raises:
        Pause: its worker stops, and the run is handed back for another to go on with.
    """
    if leaving.is_over() and await _can_go_on_elsewhere(run):
        is_cancelled = await leaving.hand_back_at_the_end(run.flow_run.id)
    else:
        is_cancelled = await was_cancelled_by_a_person(run.flow_run)
    under_way = []
    for index, step in enumerate(run.campaign.steps):
        if run.steps[index].status is not StepStatus.RUNNING:
            continue
        attempts = await run.store.attempts(run.run_id, step.name)
        under_way.append(await failed_result(run, index, broken_off(run.steps[index], attempts)))
    said = [*map(failure_in_words, under_way)]
    if is_cancelled:
        why = "The run was cancelled"
        return await finish(run, RunStatus.ABORTED, Cancelled(), why, *said, report_seconds=BRIEFLY_SECONDS)
    why = "The worker was stopped while the run was going"
    return await finish(run, RunStatus.FAILED, Crashed(), why, *said, report_seconds=BRIEFLY_SECONDS)


async def _can_go_on_elsewhere(run: CampaignRun) -> bool:
    """Whether another worker can do what is left: not where it may have sent, or this disk alone knows what is paid."""
    if run.is_behind:
        return False
    under_way = [step for step, kept in zip(run.campaign.steps, run.steps, strict=True) if kept.status is _RUNNING]
    for step in filter(must_not_repeat, under_way):
        if any(one.state in UNANSWERED for one in await run.store.attempts(run.run_id, step.name)):
            return False
    return True


async def was_cancelled_by_a_person(flow_run: FlowRun) -> bool:
    """Whether the run is to be cancelled, as its worker knows or Prefect says; otherwise its worker is going down."""
    if is_unwanted():
        return True

    async def look() -> bool:
        async with get_client() as client:
            state = (await client.read_flow_run(flow_run.id)).state
            return state is not None and (state.is_cancelling() or state.is_cancelled())

    try:
        return await to_its_end(look(), seconds=API_SECONDS)
    except (TimeoutError, httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("not known whether a person cancelled the run: %s", error)
        return False


def unrecorded(run: CampaignRun, error: Exception) -> State[Any]:
    """The end of a run that was cut off while the books were away: what has ended in Prefect alone is closed later."""
    steps = zip(run.campaign.steps, run.steps, strict=True)
    under_way = [step for step, recorded in steps if recorded.status is StepStatus.RUNNING]
    said = [f"The run was cut off, and the books could not be told: {str(error) or type(error).__name__}"]
    said += [f"Step {step.name!r} was under way" for step in under_way]
    if any(step.sends_something for step in under_way):
        said.append(MAY_HAVE_GONE_OUT)
    return (Cancelled if is_unwanted() else Crashed)(message="; ".join(said))


async def over_budget(
    run: CampaignRun, limits: Sequence[LimitStatus], why: str, failures: list[StepResult]
) -> State[Any]:
    """End a run that the budget stopped, and pause its campaign for as long as these limits hold.

    A run that finds the campaign paused by the budget already ends as ``Paused``: people have been told.
    """
    name = "BudgetExceeded"
    try:
        async with get_client() as client:
            pause = partial(pause_for_budget, client, run.store, run.campaign.slug, limits)
            is_new = await run.patiently(lambda: pause(now=run.clock.now()))
            if not is_new and await run.patiently(lambda: _people_have_been_told(run)):
                name = "Paused"
    except (httpx.HTTPError, PrefectException, ServerError) as error:
        # The store has it, and stops every run that Prefect makes nevertheless.
        get_run_logger().error("The deployment could not be paused in Prefect: %s", error)
    state = State(type=StateType.CANCELLED, name=name)
    return await finish(
        run, RunStatus.ABORTED, state, why, *await _consequence(run, limits), *map(failure_in_words, failures)
    )


async def _consequence(run: CampaignRun, limits: Sequence[LimitStatus]) -> list[str]:
    """Say, to people who may hear of it by this run's mail alone, that the campaign is paused now and what to do."""
    pause = (await run.patiently(lambda: run.store.get_campaign(run.campaign.slug))).pause
    if not limits or pause is None or pause.by is not PausedBy.BUDGET:
        return []
    return [f"The campaign is paused{until_text(pause.until)}; raising the limit resumes it at once."]


async def _people_have_been_told(run: CampaignRun) -> bool:
    """Whether a run has ended as BudgetExceeded since the campaign is paused; the one that paused it may have died."""
    pause = (await run.store.get_campaign(run.campaign.slug)).pause
    runs = await run.store.list_runs(run.campaign.slug, limit=RUNS_LOOKED_AT)
    return pause is not None and any(
        one.state_name == "BudgetExceeded" and one.completed_at is not None and one.completed_at >= pause.since
        for one in runs
    )


async def end(run: CampaignRun, failures: list[StepResult], *notes: str) -> State[Any]:
    """End a run that has nothing more to do; what it cost per lead is said, though there is nothing left to stop."""
    said = [*notes]
    if excess := per_lead_excess(run.campaign, await run.patiently(run.report)):
        said.append(excess)
    if failures:
        return await finish(run, RunStatus.PARTIAL, Completed(name="Partial"), *map(failure_in_words, failures), *said)
    said += [f"Step {step.name!r} failed, which is only logged: {step.error}" for step in run.steps if step.error]
    return await finish(run, RunStatus.COMPLETED, Completed(), *said)


async def finish(
    run: CampaignRun, status: RunStatus, state: State[Any], *reasons: str, report_seconds: float = LEAVE_SECONDS
) -> State[Any]:
    """Write the run's end to the store, leave its report, and return the state that says the same to people."""

    async def write() -> RunReport:
        report = await run.report(status, state_name=state.name)
        message = "\n".join([*reasons, await summary_of(run.store, report)])
        ended = report.model_copy(update={"message": message})
        await run.store.finish_run(run.lease, ended)
        return ended

    ended = await run.patiently(write)
    await leave_own_report(run.store, ended, now=run.clock.now(), logger=run.logger, seconds=report_seconds)
    return state.model_copy(update={"message": ended.message})
