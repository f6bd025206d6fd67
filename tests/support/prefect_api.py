"""Prefect's REST API, as any HTTP client sees it."""

from __future__ import annotations

from typing import Any

import httpx
from driving import until

FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


class Api:
    """Somebody who speaks HTTP to a Prefect server."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Post, again while the server says 503: on SQLite it does where two things want to write at once."""

        async def answered() -> httpx.Response | None:
            answer = await self._http.post(path, json=body)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        return (await until(answered, f"an answer to POST {path}")).raise_for_status().json()

    async def deployment_id(self, slug: str) -> str:
        found = (await self._http.get(f"/deployments/name/campaign/{slug}")).raise_for_status()
        return str(found.json()["id"])

    async def runs(self, deployment_id: str) -> list[dict[str, Any]]:
        return list(await self.post("/flow_runs/filter", {"deployments": {"id": {"any_": [deployment_id]}}}))

    async def first_that_ended(self, deployment_id: str, *, seconds: float) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            runs = await self.runs(deployment_id)
            return next((run for run in runs if run["state_type"] in FINAL), None)

        return await until(look, "a run that has ended", seconds=seconds)
