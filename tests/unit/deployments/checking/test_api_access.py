"""What the doctor says of who else may use the Prefect server; ours is asked in the tests of the embedded server."""

from __future__ import annotations

import pytest
from prefect.client.orchestration import PrefectClient
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from prefect_campaigns.deployments.checking.api_access import SOME_PAGE, check_api_access
from prefect_campaigns.deployments.checking.findings import Finding, Health
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.running.server import free_port


async def found(*origins: str, password: str | None = None) -> Finding:
    """Check a server that lets pages of these origins in, and asks for that password."""

    async def version(request: Request) -> Response:
        is_let_in = password is None or "authorization" in request.headers
        return PlainTextResponse("3.8.8", status_code=200 if is_let_in else 401)

    app = Starlette(routes=[Route("/api/admin/version", version)])
    app.add_middleware(CORSMiddleware, allow_origins=list(origins))
    async with serve(app) as url, PrefectClient(f"{url}/api", auth_string=password) as client:
        return await check_api_access(client)


@pytest.mark.parametrize("origin", ["*", SOME_PAGE])
async def test_a_server_that_any_page_may_use(origin: str) -> None:
    finding = await found(origin)
    assert finding.health is Health.DOUBTFUL
    assert "any web page that is open on this machine may use the server" in finding.found
    assert "PREFECT_SERVER_CORS_ALLOWED_ORIGINS" in str(finding.remedy)


async def test_a_server_that_only_its_own_page_may_use() -> None:
    assert (await found("http://127.0.0.1:4200")).health is Health.WELL


async def test_a_server_with_a_password_even_if_any_page_may_ask() -> None:
    finding = await found("*", password="ada:secret")
    said = "whoever uses the server has to say who it is (a stranger gets 401)"
    assert (finding.health, finding.found) == (Health.WELL, said)


async def test_a_server_that_does_not_answer_a_stranger_breaks_nothing() -> None:
    async with PrefectClient(f"http://127.0.0.1:{free_port()}/api") as client:
        finding = await check_api_access(client)
    assert finding.health is Health.WELL
    assert finding.found.startswith("not known")


async def test_a_server_elsewhere_without_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    # It is this machine all the same, which the check does not know.
    monkeypatch.setattr("prefect_campaigns.deployments.checking.api_access.is_loopback", lambda host: False)
    finding = await found()
    assert finding.health is Health.DOUBTFUL
    assert "whoever reaches the server may do everything" in finding.found
