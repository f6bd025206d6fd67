"""The REST API as an application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.deployments.api import account, campaigns, document, pages, runs
from prefect_campaigns.deployments.api.auth import Policy
from prefect_campaigns.deployments.api.errors import HANDLERS
from prefect_campaigns.deployments.api.gate import InnerGate, OuterGate
from prefect_campaigns.deployments.api.parts import Parts
from prefect_campaigns.deployments.pages.money_page import MoneyPages

DESCRIPTION = (
    "Lead-generation campaigns on Prefect: what they do, when they run, what they may spend and have spent. What is"
    ' done here is done as the command "campaigns" does it. Amounts are US dollars, instants are UTC.'
)

_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def create_app(settings: Settings, policy: Policy) -> FastAPI:
    """Return the application; what it shares between requests lives as long as its lifespan."""

    parts = Parts(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with parts:
            yield

    app = FastAPI(
        title="Campaigns",
        version=version("prefect-campaigns"),
        summary="Lead-generation campaigns on Prefect.",
        description=DESCRIPTION,
        # Ours stand below: FastAPI's pages load their scripts from the internet.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
        redirect_slashes=False,
    )
    app.state.parts, app.state.policy, app.state.money_pages = parts, policy, MoneyPages()
    for router in (campaigns.router, runs.router, account.router, pages.router):
        app.include_router(router)

    @app.get(document.OPENAPI_JSON, include_in_schema=False)
    async def openapi_json() -> JSONResponse:
        return JSONResponse(document.openapi(app))

    @app.get(document.DOCS, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(document.page(document.openapi(app)), headers={"Content-Security-Policy": _PAGE_POLICY})

    # The last one added is the first that a request comes to.
    app.add_middleware(InnerGate, policy=policy)
    if policy.origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(policy.origins), allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(OuterGate, policy=policy)
    return app
