"""How what goes wrong is answered: always ``{"success": false, "error": …}``, with a status that callers go by."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from prefect_campaigns import errors
from prefect_campaigns.deployments.api.answers import ComplaintAnswer, ErrorAnswer, answer
from prefect_campaigns.deployments.api.auth import is_page
from prefect_campaigns.deployments.api.document import methods_at, openapi
from prefect_campaigns.deployments.api.page_answers import problem
from prefect_campaigns.errors import CampaignsError, InvalidCampaign
from prefect_campaigns.words import came, shown

logger = logging.getLogger("prefect_campaigns.api")

UNEXPECTED = "something went wrong that should not have; the log of the API says what"

_STATUSES: Mapping[type[CampaignsError], int] = {
    errors.InvalidCampaign: 400,
    errors.InvalidChange: 400,
    errors.UnknownBlock: 400,
    errors.UnknownCampaign: 404,
    errors.UnknownRun: 404,
    errors.AlreadyThere: 409,
    errors.EverythingStopped: 409,
    errors.NotDeployed: 409,
    errors.SendMayHaveHappened: 409,
    errors.WrongState: 409,
    errors.MailNotSent: 502,
    errors.StoreError: 503,
    errors.ServerError: 503,
    errors.SettingsError: 503,
}
"""The status of each kind of error; a kind that is not here has that of what it is a kind of."""


class Refused(CampaignsError):
    """The request is not done, for a reason that is the caller's to know."""

    def __init__(self, status_code: int, message: str, *, complaints: list[ComplaintAnswer] | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.complaints = complaints


def error_answer(
    status_code: int,
    message: str,
    *,
    complaints: list[ComplaintAnswer] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error as a response."""
    return answer(ErrorAnswer(error=message, complaints=complaints), status_code, headers=headers)


async def answer_known(request: Request, error: Exception) -> Response:
    """Answer an error of this package."""
    if is_page(request.url.path):
        status = error.status_code if isinstance(error, Refused) else _status_of(error)
        return problem(status, str(error))
    if isinstance(error, Refused):
        return error_answer(error.status_code, str(error), complaints=error.complaints)
    if isinstance(error, InvalidCampaign):
        return error_answer(400, str(error), complaints=[_complaint(one) for one in error.complaints])
    status = _status_of(error)
    if isinstance(error, errors.UnknownCampaign):
        hint = f"; did you mean {' or '.join(error.near)}?" if error.near else ""
        return error_answer(status, f"Campaign not found{hint}")
    return error_answer(status, str(error))


def _status_of(error: Exception) -> int:
    """Return the status of an error of this package, and log what is nobody's request's fault."""
    status = next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), 500)
    if status >= 500:
        logger.error("%s", error)
    return status


def _complaint(complaint: errors.Complaint) -> ComplaintAnswer:
    return ComplaintAnswer(
        pointer=complaint.pointer, message=complaint.message, line=complaint.line, column=complaint.column
    )


async def answer_http(request: Request, error: Exception) -> Response:
    """Answer a path that is not there, or a method that it has not."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = request.url.path
    if is_page(path):
        text = f"{request.method} is not for {path}" if status == 405 else f"There is no page {path}."
        return problem(status, text)
    if status == 405:
        allowed = ", ".join(methods_at(openapi(request.app), path))
        return error_answer(405, f"{request.method} is not for {path}; {allowed} is", headers={"Allow": allowed})
    if status == 404:
        return error_answer(404, f"there is nothing at {path}; what there is, /docs lists")
    return error_answer(status, str(getattr(error, "detail", error)))


async def answer_invalid(request: Request, error: Exception) -> Response:
    """Answer a query that says something that is not allowed."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    if is_page(request.url.path):
        return problem(400, "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors()))
    described = openapi(request.app)["paths"][request.scope["route"].path][request.method.lower()]["parameters"]
    schemas = {(one["in"], one["name"]): one["schema"] for one in described}
    said = []
    for fault in error.errors():
        place, name = fault["loc"]
        said.append(f"{place} {name}: {came(fault['input'])}; allowed is {_allowed(schemas[place, name])}")
    return error_answer(400, "\n".join(said))


def _allowed(schema: Mapping[str, Any]) -> str:
    """Say in words what a parameter may be."""
    if "enum" in schema:
        return " or ".join(shown(one) for one in schema["enum"] if one)
    return f"a whole number from {schema['minimum']} to {schema['maximum']}"


def is_ours(error: BaseException) -> bool:
    """Whether an error says itself what is wrong."""
    return isinstance(error, CampaignsError)


HANDLERS: dict[Any, Any] = {
    CampaignsError: answer_known,
    HTTPException: answer_http,
    RequestValidationError: answer_invalid,
}
