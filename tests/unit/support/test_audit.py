"""The audit of what the package depends on: what is vulnerable fails it, and so does nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.running.server import free_port

ROOT = Path(__file__).parents[3]
KNOWN = {"id": "GHSA-0000", "modified": "2026-01-01T00:00:00Z", "summary": "lets everybody in"}


def advisories(*vulnerable: str) -> Starlette:
    """Return a service that knows these packages as vulnerable, as osv.dev answers."""

    async def query(request: Request) -> Response:
        asked = [one["package"]["name"] for one in (await request.json())["queries"]]
        found: list[dict[str, Any]] = [{"vulns": [KNOWN]} if name in vulnerable else {} for name in asked]
        return JSONResponse({"results": found})

    async def one(_: Request) -> Response:
        return JSONResponse({**KNOWN, "published": KNOWN["modified"], "affected": []})

    return Starlette(routes=[Route("/v1/querybatch", query, methods=["POST"]), Route("/v1/vulns/{id}", one)])


async def audit(url: str, **environment: str) -> tuple[int, str]:
    """Run it; return its exit code, and all it has said."""
    own = ROOT / ".uv" / "bin" / "uv"
    uv = str(own) if own.exists() else shutil.which("uv")
    assert uv is not None, "make test brings uv along"
    process = await asyncio.create_subprocess_exec(
        str(ROOT / ".ci" / "audit"),
        env={**os.environ, "UV": uv, "OSV_URL": url, "UV_HTTP_RETRIES": "0", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_what_is_vulnerable_fails_it_and_is_named() -> None:
    async with serve(advisories("prefect")) as url:
        code, said = await audit(url)
    assert code == 1
    assert "prefect 3." in said
    assert "lets everybody in" in said


async def test_where_nothing_is_known_it_passes() -> None:
    async with serve(advisories("no-such-package")) as url:
        assert (await audit(url))[0] == 0


@pytest.mark.parametrize(("environment", "code"), [({}, 0), ({"AUDIT": "required"}, 2)])
async def test_where_nobody_can_be_asked_it_says_so(environment: dict[str, str], code: int) -> None:
    found, said = await audit(f"http://127.0.0.1:{free_port()}", **environment)
    assert found == code
    assert "NOT AUDITED" in said
