"""The routes of campaigns."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from prefect.client.orchestration import PrefectClient
from starlette.requests import Request
from starlette.responses import Response

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.api import views
from prefect_campaigns.deployments.api.answers import (
    Budget,
    CampaignAnswer,
    CampaignChanged,
    CampaignCreated,
    CampaignList,
    Message,
    StatusAnswer,
    answer,
)
from prefect_campaigns.deployments.api.bodies import PauseBody, other_name, read_body, read_campaign
from prefect_campaigns.deployments.api.errors import Refused
from prefect_campaigns.deployments.api.routing import Actor, CampaignId, SharedParts, body, errors
from prefect_campaigns.deployments.applying.apply import API_ORIGIN, Change, apply
from prefect_campaigns.deployments.applying.removal import delete_campaign
from prefect_campaigns.deployments.driving import pausing
from prefect_campaigns.deployments.driving.budget_view import view_budget, view_json
from prefect_campaigns.deployments.driving.standing import CampaignState, ask_states, describe_state
from prefect_campaigns.errors import AlreadyThere, UnknownCampaign

CAMPAIGN_SCHEMA = {"$ref": "#/components/schemas/Campaign"}
CAMPAIGN_EXAMPLE = {
    "name": "My First Campaign",
    "schedule": {"cron": "0 9 * * MON", "timezone": "America/New_York"},
    "budget": {"daily": 5},
    "steps": [
        {
            "name": "prospecting",
            "engine": "prospecting",
            "endpoint": "http://localhost:3010/api/prospect",
            "params": {"count": 20},
        }
    ],
}

router = APIRouter(prefix="/api/campaigns", tags=["campaigns"])


@router.post(
    "",
    status_code=201,
    response_model=CampaignCreated,
    responses=errors(400, 409),
    openapi_extra=body(CAMPAIGN_SCHEMA, CAMPAIGN_EXAMPLE, required=True),
    summary="Create a campaign",
)
async def create_campaign(request: Request, parts: SharedParts, actor: Actor) -> Response:
    """Deploy the campaign that the body is; one of its name must not be there yet."""
    campaign = await read_campaign(request)
    there = f'a campaign "{campaign.slug}" is there already; PUT /api/campaigns/{campaign.slug} changes it'
    async with parts.both() as (client, store):
        # Said at once; whether it is new when its turn comes, the apply looks itself.
        if await _exists(store, campaign.slug):
            raise Refused(409, there)
        try:
            result = await apply(
                [campaign], store=store, settings=parts.settings, actor=actor, origin=API_ORIGIN, must_be_new=True
            )
        except AlreadyThere:
            raise Refused(409, there) from None
        state = await _state(client, store, await store.get_campaign(campaign.slug))
    made = views.brief(state, now=current_clock().now())
    content = CampaignCreated(campaign=made, notes=list(result.notes))
    return answer(content, 201, headers={"Location": f"/api/campaigns/{made.id}"})


async def _exists(store: CampaignStore, key: str) -> bool:
    try:
        await store.get_campaign(key)
    except UnknownCampaign:
        return False
    return True


async def _state(client: PrefectClient, store: CampaignStore, record: CampaignRecord) -> CampaignState:
    (state,) = await ask_states(client, store, [record])
    return state


@router.get("", response_model=CampaignList, responses=errors(400), summary="List campaigns")
async def list_campaigns(
    parts: SharedParts,
    status: Annotated[
        Literal["", "active", "paused", "completed", "error"], Query(description="Only those that stand so.")
    ] = "",
    project_id: Annotated[str, Query(description="Only those whose metadata has this project_id.")] = "",
) -> Response:
    """List the campaigns, by name."""
    async with parts.both() as (client, store):
        records = await store.list_campaigns()
        if project_id:
            records = [record for record in records if str(views.project_of(record)) == project_id]
        states = await ask_states(client, store, records)
        figures = await store.campaign_figures()
    now = current_clock().now()
    rows = [
        views.row(state, figures.get(state.record.key), now=now)
        for state in states
        if status in ("", views.status_of(state))
    ]
    return answer(CampaignList(count=len(rows), campaigns=rows))


@router.get("/{id}", response_model=CampaignAnswer, responses=errors(404), summary="Get a campaign")
async def get_campaign(campaign_id: CampaignId, parts: SharedParts) -> Response:
    """Return the campaign, with its JSON."""
    async with parts.both() as (client, store):
        record = await parts.find(store, campaign_id)
        state = await _state(client, store, record)
        figures = await store.campaign_figures()
    return answer(CampaignAnswer(campaign=views.detail(state, figures.get(record.key), now=current_clock().now())))


@router.put(
    "/{id}",
    response_model=CampaignChanged,
    responses=errors(400, 404, 409),
    openapi_extra=body(CAMPAIGN_SCHEMA, CAMPAIGN_EXAMPLE, required=True),
    summary="Change a campaign",
)
async def change_campaign(request: Request, campaign_id: CampaignId, parts: SharedParts, actor: Actor) -> Response:
    """Make the campaign so as the body says; what a person has paused stays paused."""
    campaign = await read_campaign(request)
    async with parts.both() as (client, store):
        before = await parts.find(store, campaign_id)
        if campaign.slug != before.key:
            raise other_name(campaign, key=before.key)
        result = await apply([campaign], store=store, settings=parts.settings, actor=actor)
        after = await store.get_campaign(before.key)
        state = await _state(client, store, after)
    content = CampaignChanged(
        campaign=views.brief(state, now=current_clock().now()),
        changed=result.campaigns[0].change is not Change.UNCHANGED,
        changes=views.changes(before.campaign, after.campaign),
        notes=list(result.notes),
    )
    return answer(content)


@router.delete("/{id}", response_model=Message, responses=errors(404), summary="Delete a campaign")
async def remove_campaign(campaign_id: CampaignId, parts: SharedParts, actor: Actor) -> Response:
    """Delete the campaign and its runs; what it has spent stays in the books."""
    async with parts.both() as (client, store):
        await delete_campaign(client, store, await parts.find(store, campaign_id), actor=actor)
    return answer(Message(message="Campaign deleted"))


@router.put(
    "/{id}/pause",
    response_model=StatusAnswer,
    responses=errors(400, 404),
    openapi_extra=body(PauseBody.model_json_schema(), {"reason": "holidays"}, required=False),
    summary="Pause a campaign",
)
async def pause_campaign(request: Request, campaign_id: CampaignId, parts: SharedParts, actor: Actor) -> Response:
    """Pause the campaign until somebody resumes it."""
    wanted = await read_body(request, PauseBody)
    async with parts.both() as (client, store):
        record = await parts.find(store, campaign_id)
        now = current_clock().now()
        is_new = await pausing.pause_campaign(client, store, record, reason=wanted.reason, actor=actor, now=now)
    message = f"{record.key} {'is paused' if is_new else 'was paused already,'} until somebody resumes it"
    return answer(StatusAnswer(status="paused", message=message))


@router.put("/{id}/resume", response_model=StatusAnswer, responses=errors(404, 409), summary="Resume a campaign")
async def resume_campaign(campaign_id: CampaignId, parts: SharedParts, actor: Actor) -> Response:
    """Resume the campaign, whoever paused it; the message says so where its budget refuses its runs all the same."""
    async with parts.both() as (client, store):
        record = await parts.find(store, campaign_id)
        resumption = await pausing.resume_campaign(client, store, record, actor=actor, now=current_clock().now())
        state = await _state(client, store, await store.get_campaign(record.key))
    return answer(StatusAnswer(status=views.status_of(state), message=resumption.message))


@router.get("/{id}/budget", response_model=Budget, responses=errors(404), summary="See what a campaign has spent")
async def get_budget(campaign_id: CampaignId, parts: SharedParts) -> Response:
    """Return what the campaign has spent and may yet, and what its next run will likely cost."""
    async with parts.both() as (client, store):
        state = await _state(client, store, await parts.find(store, campaign_id))
        view = await view_budget(store, state)
    return answer(Budget(budget=views.with_amounts(view_json(view))))


def why_paused(state: CampaignState) -> str:
    """Return why a campaign does not run by itself, in words."""
    return describe_state(state, now=current_clock().now()) or ""
