"""The routes about all campaigns together: how they are, what was done to them, and the emergency stop."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from decimal import Decimal
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from prefect_campaigns.blocks.stores import choose_store
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.api import views
from prefect_campaigns.deployments.api.answers import (
    AuditList,
    Health,
    Message,
    Started,
    Stats,
    StatsAnswer,
    StopAnswer,
    Stopped,
    answer,
)
from prefect_campaigns.deployments.api.bodies import StopBody, TrialMailBody, read_body
from prefect_campaigns.deployments.api.errors import Refused, logger
from prefect_campaigns.deployments.api.parts import Parts
from prefect_campaigns.deployments.api.routing import Actor, SharedParts, body, errors
from prefect_campaigns.deployments.applying.saved_mail import load_mail
from prefect_campaigns.deployments.driving.emergency import start_all, stop_first
from prefect_campaigns.deployments.driving.standing import ask_states, read_states
from prefect_campaigns.deployments.driving.trial_mail import send_trial_mail
from prefect_campaigns.errors import CampaignsError, MailNotSent, ServerError
from prefect_campaigns.flows.campaign import FLOW_NAME

HEALTH_SECONDS = 5.0
"""How long a part is waited for before it counts as down."""

HEALTH_REMEMBERED = timedelta(seconds=1)
"""How long one look serves all who ask: nobody needs a key for it."""

STOP_SECONDS = 120.0
"""How long pausing and cancelling may take once everything is stopped: less than a request may."""

router = APIRouter(prefix="/api", tags=["account"])


@router.get("/stats", response_model=StatsAnswer, responses=errors(), summary="See all campaigns in figures")
async def get_stats(parts: SharedParts) -> Response:
    """Count the campaigns and their runs, and add up what they have cost."""
    async with parts.both() as (client, store):
        states = await ask_states(client, store, await store.list_campaigns())
        figures = await store.campaign_figures()
    now = current_clock().now()
    statuses = [views.status_of(state) for state in states]
    known = [figures.get(state.record.key, views.NO_FIGURES) for state in states]
    stats = Stats(
        total_campaigns=len(states),
        active_campaigns=statuses.count("active"),
        paused_campaigns=statuses.count("paused"),
        scheduled_campaigns=sum(views.next_run(state, now=now) is not None for state in states),
        total_runs=sum(one.runs for one in known),
        total_cost=sum((one.cost for one in known), Decimal(0)),
    )
    return answer(StatsAnswer(stats=stats))


@router.get(
    "/health",
    response_model=Health,
    responses={
        200: {"description": "Everything is there."},
        503: {"model": Health, "description": "Something is not."},
    },
    summary="See whether everything is there",
)
async def get_health(parts: SharedParts, actor: Actor) -> Response:
    """Look at Prefect's API and at the store. Needs no key; where there are keys, only who has one is told why."""
    async with parts.looking:
        now = current_clock().now()
        if parts.health is None or now - parts.health_at > HEALTH_REMEMBERED:
            parts.health, parts.health_at = await _look(parts), now
        health = parts.health
    if health.error is not None and not actor:
        # The whole error names addresses that are nobody's business.
        health = health.model_copy(update={"error": f"down: {', '.join(health.down)}; who has a key is told why"})
    uptime = round((now - parts.started_at).total_seconds(), 3)
    return answer(health.model_copy(update={"uptime": uptime}), 200 if health.success else 503)


@router.head(
    "/health",
    response_class=Response,
    responses={200: {"description": "Everything is there."}, 503: {"description": "Something is not."}},
    summary="See by the status alone whether everything is there",
)
async def head_health(parts: SharedParts, actor: Actor) -> Response:
    """Answer as GET does, without the body: what many monitors ask."""
    return await get_health(parts, actor)


async def _look(parts: Parts) -> Health:
    (scheduled, no_prefect), unknown = await asyncio.gather(_scheduled_runs(parts), _why_store_is_unknown(parts))
    if unknown:
        # Only Prefect could say which it is: where that is down, nothing is known of the store.
        active, no_store = None, None if no_prefect else unknown
    else:
        active, no_store = await _active_campaigns(parts)
    problems = {"prefect": no_prefect, "store": no_store}
    down = [name for name, problem in problems.items() if problem]
    return Health(
        success=not down,
        status="degraded" if down else "healthy",
        version=version("prefect-campaigns"),
        active_campaigns=active,
        scheduled_runs=scheduled,
        uptime=0,
        error="; ".join(problem for problem in problems.values() if problem) or None,
        down=down,
    )


async def _scheduled_runs(parts: Parts) -> tuple[int | None, str | None]:
    """Return how many runs Prefect has scheduled, or what is wrong with it."""
    wanted = {"flows": {"name": {"any_": [FLOW_NAME]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    try:
        async with asyncio.timeout(HEALTH_SECONDS), parts.prefect() as client:
            found = await client.request("POST", "/flow_runs/count", json=wanted)
            return int(found.json()), None
    except TimeoutError:
        return None, f"Prefect's API does not answer within {HEALTH_SECONDS:g} seconds"
    except ServerError as error:
        return None, str(error)


async def _why_store_is_unknown(parts: Parts) -> str | None:
    try:
        async with asyncio.timeout(HEALTH_SECONDS):
            await choose_store(parts.settings)
    except TimeoutError:
        return f"Prefect's API does not say within {HEALTH_SECONDS:g} seconds which store keeps the books"
    except CampaignsError as error:
        return str(error)
    return None


async def _active_campaigns(parts: Parts) -> tuple[int | None, str | None]:
    """Return how many campaigns are active, or what is wrong with the store; neither where Prefect does not say."""
    store_answers = False
    try:
        async with AsyncExitStack() as opened:
            async with asyncio.timeout(HEALTH_SECONDS):
                store = await opened.enter_async_context(parts.store())
                # What is asked of it below, too.
                records, _ = await store.list_campaigns(), await store.read_stop()
            store_answers = True
            async with asyncio.timeout(HEALTH_SECONDS):
                states = await read_states(store, records)
        return sum(views.status_of(state) == "active" for state in states.campaigns), None
    except TimeoutError:
        return None, None if store_answers else f"the store does not answer within {HEALTH_SECONDS:g} seconds"
    except CampaignsError as error:
        return None, str(error)


@router.get("/audit", response_model=AuditList, responses=errors(400, 404), summary="See who did what")
async def get_audit(
    parts: SharedParts,
    campaign: Annotated[str, Query(description="Only what was done to this campaign, by its id or slug.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="How many entries at the most.")] = 50,
) -> Response:
    """List what was done, and by whom, newest first; what was done to a deleted campaign is there by its slug."""
    async with parts.books() as store:
        key = await parts.key_of(store, campaign) if campaign else None
        entries = [views.audit_row(entry) for entry in await store.list_audit(campaign_key=key, limit=limit)]
    return answer(AuditList(count=len(entries), entries=entries))


@router.post(
    "/test-email",
    response_model=Message,
    responses=errors(400, 502),
    openapi_extra=body(TrialMailBody.model_json_schema(), {"to": "ops@example.com"}, required=False),
    summary="Send a mail to try the mail server",
)
async def test_email(request: Request, parts: SharedParts, actor: Actor) -> Response:
    """Send a mail, and answer when the mail server has taken it, or what it said instead."""
    wanted = await read_body(request, TrialMailBody)
    async with parts.prefect() as client:
        saved = await load_mail(client)
    try:
        recipient = await send_trial_mail(parts.settings, saved, to=wanted.to)
    except MailNotSent:
        raise
    except CampaignsError as error:
        raise Refused(400, str(error)) from None
    logger.info("test mail by %s", actor)
    return answer(Message(message=f"The mail server has taken a mail to {recipient}"))


@router.post(
    "/stop",
    response_model=Stopped,
    responses=errors(400),
    openapi_extra=body(
        StopBody.model_json_schema(), {"reason": "the wrong list", "cancelRunning": True}, required=False
    ),
    summary="Stop everything",
)
async def stop(request: Request, parts: SharedParts, actor: Actor) -> Response:
    """Pause everything, and let nothing begin, until everything is started again: the emergency stop.

    It stands also where Prefect is away, or does not do all that is asked of it: then `problems` says what is left, and
    saying it again tries that again.
    """
    wanted = await read_body(request, StopBody)
    async with parts.books() as store:
        stopped = await stop_first(
            parts.prefect,
            store,
            actor=actor,
            reason=wanted.reason,
            cancel_running=wanted.cancel_running,
            seconds=STOP_SECONDS,
        )
    left = "; but not all of it could be done" if stopped.problems else ""
    content = Stopped(
        message=f"Everything is stopped by {stopped.stop.by}: {stopped.stop.reason}{left}",
        stop=StopAnswer(by=stopped.stop.by, reason=stopped.stop.reason, since=stopped.stop.since),
        paused=list(stopped.paused),
        strays=list(stopped.strays),
        cancelled=[run.id for run in stopped.cancelled],
        still_going=[run.id for run in stopped.still_going],
        problems=list(stopped.problems),
    )
    return answer(content)


@router.post("/start", response_model=Started, responses=errors(409), summary="Start everything again")
async def start(parts: SharedParts, actor: Actor) -> Response:
    """End the emergency stop, and resume what it had paused, and nothing else."""
    async with parts.both() as (client, store):
        started = await start_all(client, store, actor=actor)
    content = Started(
        message="The emergency stop has ended" if started.ended else "There was no emergency stop",
        resumed=[*started.resumed, *started.resumed_after_budget],
        strays=list(started.strays),
        paused=list(started.paused),
        problems=list(started.problems),
    )
    return answer(content)
