"""What runs have together, and how patient they are with Prefect's server."""

from __future__ import annotations

import prefect
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_RETRY_EXTRA_CODES, temporary_settings
from prefect.states import Running
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.running.run_loop import what_runs_share

RUN = "00000000-0000-4000-8000-000000000001"


class ServerWithoutBroker:
    """Prefect's API, which can change no state at first: its message broker is away.

    Attributes:
        failures: how often it still answers that it cannot.
        asked: how often it was asked to.
    """

    def __init__(self, failures: int, status_code: int) -> None:
        self.failures = failures
        self.asked = 0
        self._status_code = status_code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(Request(scope, receive))(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        if request.url.path.endswith("/version"):
            return JSONResponse(prefect.__version__)
        if not request.url.path.endswith("/set_state"):
            # It has no CSRF tokens to give.
            return Response(status_code=404)
        self.asked += 1
        if self.asked <= self.failures:
            return Response(status_code=self._status_code, headers={"Retry-After": "0"})
        return JSONResponse({"status": "ACCEPT", "details": {"type": "accept_details"}, "state": None})


@pytest.mark.parametrize("of_the_user", [set(), {501}])
async def test_a_change_of_state_is_asked_for_again_while_the_server_cannot_tell_of_it(of_the_user: set[int]) -> None:
    server = ServerWithoutBroker(failures=3, status_code=max({500, *of_the_user}))
    async with serve(server) as url:
        with temporary_settings({PREFECT_API_URL: f"{url}/api", PREFECT_CLIENT_RETRY_EXTRA_CODES: of_the_user}):
            async with what_runs_share(), get_client() as client:
                answer = await client.set_flow_run_state(RUN, Running())
    assert (answer.status.value, server.asked) == ("ACCEPT", 4)
