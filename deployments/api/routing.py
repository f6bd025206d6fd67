"""What all routes have in common: who asks, what is shared, and which answers may come besides the good one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

from fastapi import Depends, Path
from starlette.requests import Request

from prefect_campaigns.deployments.api.answers import ErrorAnswer
from prefect_campaigns.deployments.api.parts import Parts

_MEANINGS = {
    400: "What came cannot be used; the error names every field that is wrong.",
    401: "No key came that is known.",
    403: "The key is for reading only, or the request comes from a web page that may not.",
    404: "There is no such campaign, or run.",
    408: "The body did not come in time.",
    409: "Not as things stand; the error says why.",
    413: "The body has more than a megabyte.",
    502: "The mail server did not take it; the error says what it said.",
    503: "Prefect's API or the store is not there.",
}
_ANYWHERE = (401, 403, 408, 413, 503)


def errors(*status_codes: int) -> dict[int | str, dict[str, Any]]:
    """Return which errors a route may answer, besides those that any of them may."""
    return {
        code: {"model": ErrorAnswer, "description": _MEANINGS[code]} for code in sorted((*status_codes, *_ANYWHERE))
    }


def body(schema: Mapping[str, Any], example: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    """Return what the OpenAPI document says of a body that a route reads itself."""
    content = {"application/json": {"schema": dict(schema), "example": dict(example)}}
    return {"requestBody": {"required": required, "content": content}}


async def _parts(request: Request) -> Parts:
    return cast(Parts, request.app.state.parts)


async def _actor(request: Request) -> str:
    return cast(str, request.state.actor)


SharedParts = Annotated[Parts, Depends(_parts)]
Actor = Annotated[str, Depends(_actor)]
"""The name of whoever asks, for the audit."""

CampaignId = Annotated[str, Path(alias="id", description="The campaign's id, or its slug.")]
RunId = Annotated[str, Path(alias="id", description="The run's id, or its name.")]
