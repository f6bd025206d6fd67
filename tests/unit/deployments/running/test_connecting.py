"""What a command says of an address at which no Prefect API answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.running.server import connect
from prefect_campaigns.errors import ServerError


def engine(_: Request) -> Response:
    return JSONResponse({"status": "healthy"})


def page(_: Request) -> Response:
    return PlainTextResponse("<!doctype html>")


def talkative(_: Request) -> Response:
    return JSONResponse("\x1b[31m" + "a" * 100_000)


def nothing(_: Request) -> Response:
    return JSONResponse({"detail": "Not Found"}, status_code=404)


def tired(_: Request) -> Response:
    return PlainTextResponse("", status_code=403)


def prefect(_: Request) -> Response:
    return JSONResponse(True)


async def problem_at(answer: Callable[[Request], Response], path: str) -> str | None:
    """Return what is said of a server that answers all requests so; the address without its port."""
    async with serve(Starlette(routes=[Route("/{path:path}", answer)])) as url:
        with temporary_settings({PREFECT_API_URL: f"{url}{path}"}):
            try:
                async with connect():
                    return None
            except ServerError as error:
                return str(error).replace(url, "http://here")


@pytest.mark.parametrize(
    ("answer", "path", "said"),
    [
        (
            engine,
            "/api",
            'what answers at http://here/api is no Prefect API (/health says: {"status": "healthy"}). PREFECT_API_URL'
            " has to be that of a Prefect server, such as http://127.0.0.1:4200/api",
        ),
        # Its address as the browser shows it.
        (
            nothing,
            "",
            "what answers at http://here is no Prefect API (/health says: 404 Not Found). PREFECT_API_URL has to be"
            " http://here/api",
        ),
        (
            page,
            "/",
            "what answers at http://here/ is no Prefect API (/health says: no JSON). PREFECT_API_URL has to be"
            " http://here/api",
        ),
        # As JSON, which shows a terminal no control characters, and its beginning only.
        (
            talkative,
            "/api",
            f'what answers at http://here/api is no Prefect API (/health says: "\\u001b[31m{"a" * 49}). PREFECT_API_URL'
            " has to be that of a Prefect server, such as http://127.0.0.1:4200/api",
        ),
        (prefect, "/api", None),
    ],
)
async def test_what_is_no_prefect_api_is_said_to_be_none(
    answer: Callable[[Request], Response], path: str, said: str | None
) -> None:
    assert await problem_at(answer, path) == said


async def test_what_does_not_let_us_in_is_asked_for_in_vain() -> None:
    said = await problem_at(tired, "/api")
    assert said is not None
    assert said.startswith("no Prefect API answers at http://here/api: Client error '403 Forbidden'")
    assert said.endswith(". Start one with `campaigns up` (or `prefect server start`), or set PREFECT_API_URL.")


async def test_of_an_address_that_is_none_it_is_said_what_it_lacks() -> None:
    with temporary_settings({PREFECT_API_URL: "garbage"}), pytest.raises(ServerError) as raised:
        async with connect():
            pass
    assert str(raised.value).startswith("no Prefect API answers at garbage: Request URL is missing an 'http://' or")
    assert ".." not in str(raised.value)
