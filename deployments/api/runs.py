"""The routes of runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import httpx
from fastapi import APIRouter, Query
from prefect.exceptions import PrefectException
from starlette.requests import Request
from starlette.responses import Response

from prefect_campaigns.blocks.store_types import CampaignRecord
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.api import views
from prefect_campaigns.deployments.api.answers import DryRun, RunList, RunMessage, RunRow, RunStarted, answer
from prefect_campaigns.deployments.api.bodies import RunBody, read_body
from prefect_campaigns.deployments.api.campaigns import why_paused
from prefect_campaigns.deployments.api.errors import Refused, logger
from prefect_campaigns.deployments.api.parts import Parts
from prefect_campaigns.deployments.api.routing import Actor, CampaignId, RunId, SharedParts, body, errors
from prefect_campaigns.deployments.driving.dry_run import look_ahead
from prefect_campaigns.deployments.driving.run_changes import BODY_WORDS, RunChanges, parameters_for
from prefect_campaigns.deployments.driving.runs import (
    approve_run,
    cancel_run,
    find_run,
    refuse_while_stopped,
    retry_run,
    start_run,
    state_of_campaign,
)
from prefect_campaigns.deployments.driving.standing import GOES_ON, CampaignState, Standing, ask_states, warnings_of
from prefect_campaigns.errors import ServerError

router = APIRouter(tags=["runs"])


@router.post(
    "/api/campaigns/{id}/run",
    response_model=RunStarted | DryRun,
    responses=errors(400, 404, 409),
    openapi_extra=body(
        RunBody.model_json_schema(), {"params": {"steps.prospecting.count": 5}, "dryRun": True}, required=False
    ),
    summary="Run a campaign",
)
async def run_campaign(request: Request, campaign_id: CampaignId, parts: SharedParts, actor: Actor) -> Response:
    """Start the campaign now. One that a person has paused is not started, nor any while the emergency stop stands.

    Without a body it does what the campaign says; a body says what this run does differently, or that it is a dry run.
    """
    wanted = await read_body(request, RunBody)
    changes = RunChanges(params=wanted.params, from_step=wanted.from_step, send_again=wanted.send_again)
    async with parts.both() as (client, store):
        record = await parts.find(store, campaign_id)
        if not wanted.dry_run:
            await refuse_while_stopped(store)
        (state,) = await ask_states(client, store, [record])
        refusal = f"{record.key} is not started. {why_paused(state)}" if views.is_paused_by_person(state) else None
        if refusal and not wanted.dry_run:
            raise Refused(409, refusal)
        parameters, source = await parameters_for(client, store, record, changes, words=BODY_WORDS)
        if wanted.dry_run:
            ahead = await look_ahead(client, store, state, parameters)
            obstacles = [*ahead.obstacles, *([refusal] if refusal else [])]
            return answer(views.dry_run(ahead, record, obstacles=obstacles))
        flow_run = await start_run(client, store, record, actor=actor, parameters=parameters)
    content = RunStarted(
        message="Campaign started",
        campaign_id=record.id,
        run_id=flow_run.id,
        note=_note(state),
        results_of=source.run_id if source else None,
    )
    return answer(content)


def _note(state: CampaignState) -> str | None:
    # The run asks the budget itself, and may find that it has been raised.
    if state.standing is not Standing.PAUSED:
        return None
    return f"the run ends at once while the campaign's budget holds it back. {why_paused(state)}"


@router.get(
    "/api/campaigns/{id}/runs", response_model=RunList, responses=errors(400, 404), summary="List a campaign's runs"
)
async def list_runs(
    campaign_id: CampaignId,
    parts: SharedParts,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at the most.")] = 50,
) -> Response:
    """List the campaign's runs, newest first; one that no worker has taken up yet is running, too."""
    async with parts.books() as store:
        record = await parts.find(store, campaign_id)
        # Before the store is asked: a run that begins in between is in either.
        awaited = await _awaited(parts, record)
        rows = [views.run_row(report) for report in await store.list_runs(record.key, limit=limit)]
        listed = {row.id for row in rows}
        rows += [one for one in awaited if one.id not in listed and await store.get_run(one.id) is None]
    rows = sorted(rows, key=lambda row: row.started_at, reverse=True)[:limit]
    # In a thread: what engines answer may be long.
    return await asyncio.to_thread(answer, RunList(count=len(rows), runs=rows))


async def _awaited(parts: Parts, record: CampaignRecord) -> list[RunRow]:
    """Return the runs that are due, which the store may not know yet; without Prefect nobody knows of any."""
    now = current_clock().now()
    try:
        async with parts.prefect() as client:
            flow_runs = await views.awaited_runs(client, record, now=now)
    except (ServerError, httpx.HTTPError, PrefectException) as error:
        logger.warning("What no worker has taken up yet is not listed: %s", error)
        return []
    return [views.awaited_row(one, now=now) for one in flow_runs]


@router.post("/api/runs/{id}/cancel", response_model=RunMessage, responses=errors(404, 409), summary="Cancel a run")
async def cancel(run_id: RunId, parts: SharedParts, actor: Actor) -> Response:
    """Cancel the run, and wait for its end."""
    async with parts.both() as (client, store):
        flow_run = await find_run(client, store, run_id)
        put_right = await cancel_run(client, store, flow_run, actor=actor)
    message = f"Run had ended already; {put_right}" if put_right else "Run cancelled"
    return answer(RunMessage(message=message, run_id=flow_run.id))


@router.post("/api/runs/{id}/retry", response_model=RunMessage, responses=errors(404, 409), summary="Retry a run")
async def retry(run_id: RunId, parts: SharedParts, actor: Actor) -> Response:
    """Let the run go on at the step that failed; not while a person has its campaign paused."""
    async with parts.both() as (client, store):
        flow_run = await find_run(client, store, run_id)
        await refuse_while_stopped(store)
        state = await state_of_campaign(client, store, flow_run)
        if state is not None and views.is_paused_by_person(state):
            raise Refused(409, f"run {flow_run.name} is not retried. {why_paused(state)}")
        await retry_run(client, store, flow_run, actor=actor)
    return answer(RunMessage(message="Run goes on", run_id=flow_run.id))


@router.post("/api/runs/{id}/approve", response_model=RunMessage, responses=errors(404, 409), summary="Approve a step")
async def approve(run_id: RunId, parts: SharedParts, actor: Actor) -> Response:
    """Approve the step that the run waits for, and let the run go on."""
    async with parts.both() as (client, store):
        flow_run = await find_run(client, store, run_id)
        state = await state_of_campaign(client, store, flow_run)
        approval = await approve_run(client, store, flow_run, actor=actor)
    warnings = warnings_of(state, GOES_ON, now=current_clock().now())
    return answer(RunMessage(message=f"Step {approval.step} approved", run_id=flow_run.id, warnings=warnings))
