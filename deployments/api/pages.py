"""The routes of the pages that people look at: the money page, a campaign's page, a run's report, and the buttons.

What a button does is what the REST API's route does, with the same rights, and with the same audit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Annotated, cast
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Query
from prefect.client.orchestration import PrefectClient
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from prefect_campaigns.blocks.api_keys import Access, find_key
from prefect_campaigns.blocks.run_figures import figures_of_run
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.api.auth import Caller, Policy
from prefect_campaigns.deployments.api.errors import Refused
from prefect_campaigns.deployments.api.page_answers import html
from prefect_campaigns.deployments.api.routing import Actor, CampaignId, SharedParts
from prefect_campaigns.deployments.api.sessions import COOKIE, SESSION
from prefect_campaigns.deployments.driving.lookup import as_uuid
from prefect_campaigns.deployments.driving.pausing import pause_campaign, resume_campaign
from prefect_campaigns.deployments.driving.runs import start_run
from prefect_campaigns.deployments.driving.standing import Standing, ask_states, describe_state
from prefect_campaigns.deployments.pages.campaign_page import look_at_campaign
from prefect_campaigns.deployments.pages.money_page import MoneyPages, Show
from prefect_campaigns.deployments.pages.rendering import render, script, stylesheet
from prefect_campaigns.deployments.pages.report_pages import run_page
from prefect_campaigns.errors import CampaignsError, UnknownRun

MAX_REASON, MAX_SAID = 200, 500
"""How long a reason is that a button takes, and what is said of what came of it."""

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Who looks at a page.

    Attributes:
        may_change: whether buttons are shown.
        can_leave: whether there is a session to end.
        token: what the page's forms send back.
        once: what the button sends that starts a run: pressed twice it starts one.
    """

    may_change: bool
    can_leave: bool
    token: str
    once: UUID


def _policy(request: Request) -> Policy:
    return cast(Policy, request.app.state.policy)


def _caller(request: Request) -> Caller:
    return cast(Caller, request.state.caller)


async def _viewer(request: Request) -> Viewer:
    caller, policy = _caller(request), _policy(request)
    return Viewer(
        may_change=caller.access is Access.FULL,
        can_leave=bool(caller.session),
        token=policy.sessions.form_token(caller.session),
        once=uuid4(),
    )


async def _money_pages(request: Request) -> MoneyPages:
    return cast(MoneyPages, request.app.state.money_pages)


Viewing = Annotated[Viewer, Depends(_viewer)]
Looking = Annotated[MoneyPages, Depends(_money_pages)]


@router.get("/")
async def money_page(
    parts: SharedParts,
    viewer: Viewing,
    looking: Looking,
    show: str = "",
    q: Annotated[str, Query(max_length=200)] = "",
    page: str = "1",
) -> Response:
    """All campaigns at a glance."""
    wanted = Show(show) if show in (*Show,) else Show.ALL
    number = int(page) if page.isascii() and page.isdecimal() and len(page) < 8 else 1
    async with parts.books() as store:
        content = await looking.look(parts.prefect, store, show=wanted, query=q, page=number)
    return html(render("money.html", page=content, viewer=viewer))


@router.get("/campaigns")
async def all_campaigns() -> Response:
    """The money page, for who cuts an address off."""
    return RedirectResponse("/", status_code=303)


@router.get("/campaigns/{id}")
async def campaign_page(
    request: Request, campaign_id: CampaignId, parts: SharedParts, viewer: Viewing, said: str = "", seal: str = ""
) -> Response:
    """One campaign."""
    async with parts.books() as store:
        record = await parts.find(store, campaign_id)
        page = await look_at_campaign(parts.prefect, store, record)
    told = _Told.read(said) if compare_digest(seal.encode(), _policy(request).sessions.seal(said).encode()) else None
    return html(render("campaign.html", page=page, viewer=viewer, said=told))


@router.get("/campaigns/{id}/runs/{run_id}")
async def run_report(campaign_id: CampaignId, run_id: str, parts: SharedParts) -> Response:
    """The report of a run."""
    async with parts.books() as store:
        record = await parts.find(store, campaign_id)
        report = await store.get_run(run_id)
        if report is None or report.campaign_key != record.key:
            raise UnknownRun(f"{record.key} has no run {run_id!r}")
        figures = await figures_of_run(store, report, now=current_clock().now())
    return html(run_page(figures, back=f"/campaigns/{record.key}"))


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What came of a button, in the address of the page that it leads to."""

    is_bad: bool
    text: str

    @classmethod
    def read(cls, said: str) -> _Told | None:
        sign, _, text = said.partition(":")
        return cls(is_bad=sign == "bad", text=text) if sign in ("bad", "good") and text else None


Deed = Callable[[PrefectClient, CampaignStore, CampaignRecord], Awaitable[str]]


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form that a page of ours made for this session.

    Raises:
        Refused: it is another one's.
    """
    fields = {name: values[0] for name, values in parse_qs((await request.body()).decode("utf-8", "replace")).items()}
    if not _policy(request).sessions.is_form_token(fields.get("token", ""), _caller(request).session):
        raise Refused(403, "This form is an old one, or was made for somebody else. Load the page again.")
    return fields


async def _do(request: Request, parts: SharedParts, looking: MoneyPages, name: str, deed: Deed) -> Response:
    """Do something to a campaign, and lead back to its page, which says what came of it."""
    key = name
    try:
        async with parts.both() as (client, store):
            record = await parts.find(store, name)
            key = record.key
            said = f"good:{await deed(client, store, record)}"
    except CampaignsError as error:
        said = f"bad:{error}"
    looking.forget()
    said = said[:MAX_SAID]
    seal = _policy(request).sessions.seal(said)
    return RedirectResponse(f"/campaigns/{quote(key)}?said={quote(said)}&seal={seal}", status_code=303)


@router.post("/campaigns/{id}/run")
async def run(
    request: Request, campaign_id: CampaignId, parts: SharedParts, looking: Looking, actor: Actor
) -> Response:
    """Start a run, as the REST API does: not of a campaign that a person has paused."""
    once = as_uuid((await _form(request)).get("once", ""))

    async def deed(client: PrefectClient, store: CampaignStore, record: CampaignRecord) -> str:
        (state,) = await ask_states(client, store, [record])
        if state.standing is Standing.PAUSED_BY_PERSON:
            raise Refused(409, f"{record.key} is not started. {describe_state(state, now=current_clock().now())}")
        flow_run = await start_run(client, store, record, actor=actor, once=once)
        return f"Run {flow_run.name} is started."

    return await _do(request, parts, looking, campaign_id, deed)


@router.post("/campaigns/{id}/pause")
async def pause(
    request: Request, campaign_id: CampaignId, parts: SharedParts, looking: Looking, actor: Actor
) -> Response:
    """Pause the campaign until somebody resumes it."""
    reason = (await _form(request)).get("reason", "").strip()[:MAX_REASON] or None

    async def deed(client: PrefectClient, store: CampaignStore, record: CampaignRecord) -> str:
        now = current_clock().now()
        is_new = await pause_campaign(client, store, record, reason=reason, actor=actor, now=now)
        return f"{record.key} {'is paused' if is_new else 'was paused already,'} until somebody resumes it."

    return await _do(request, parts, looking, campaign_id, deed)


@router.post("/campaigns/{id}/resume")
async def resume(
    request: Request, campaign_id: CampaignId, parts: SharedParts, looking: Looking, actor: Actor
) -> Response:
    """Resume the campaign, whoever paused it."""
    await _form(request)

    async def deed(client: PrefectClient, store: CampaignStore, record: CampaignRecord) -> str:
        return (await resume_campaign(client, store, record, actor=actor, now=current_clock().now())).message

    return await _do(request, parts, looking, campaign_id, deed)


@router.get("/login")
async def login_page(request: Request, next: str = "/") -> Response:
    """Ask for a key, also for another one than was given; where none is needed, lead on."""
    if not _policy(request).keys:
        return RedirectResponse(_own_path(next), status_code=303)
    return html(render("login.html", problem=None, next=_own_path(next)))


@router.post("/login")
async def login(request: Request) -> Response:
    """Begin a session for whoever has a key."""
    fields = {name: values[0] for name, values in parse_qs((await request.body()).decode("utf-8", "replace")).items()}
    policy, next = _policy(request), _own_path(fields.get("next", "/"))
    key = find_key(policy.keys, fields.get("key", "").strip().encode())
    if key is None:
        return html(render("login.html", problem="This key is not in CAMPAIGNS_API_KEY.", next=next), 401)
    answer = RedirectResponse(next, status_code=303)
    answer.set_cookie(
        COOKIE,
        policy.sessions.begin(key, now=current_clock().now()),
        max_age=int(SESSION.total_seconds()),
        httponly=True,
        samesite="lax",
        # A proxy before it speaks TLS, and the browser says so.
        secure=request.headers.get("origin", "").startswith("https://"),
    )
    return answer


@router.post("/logout")
async def logout(request: Request) -> Response:
    """End the session in this browser."""
    await _form(request)
    answer = RedirectResponse("/login", status_code=303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return answer


def _own_path(text: str) -> str:
    """Return the path of a page of ours; that of the first one where it is none."""
    parts = urlsplit(text)
    is_own = text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return text if is_own and text.isprintable() else "/"


@router.get("/static/page.css")
async def page_css() -> Response:
    """How pages look."""
    return Response(stylesheet(), media_type="text/css", headers=_STATIC_HEADERS)


@router.get("/static/page.js")
async def page_js() -> Response:
    """What moves in pages."""
    return Response(script(), media_type="text/javascript", headers=_STATIC_HEADERS)


_STATIC_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
