"""Pages as answers: what a browser may do with them, and how what goes wrong is shown to people."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

from starlette.responses import HTMLResponse, RedirectResponse, Response

from prefect_campaigns.deployments.api.auth import LOGIN
from prefect_campaigns.deployments.pages.rendering import render, stylesheet_hash

_TITLES: Mapping[int, str] = {
    400: "That cannot be used",
    403: "That may not be done",
    404: "There is nothing here",
    409: "Not as things stand",
    500: "Something went wrong",
    503: "A part does not answer",
}


def html(content: str, status_code: int = 200) -> Response:
    """Return a page that takes nothing from anywhere else, and that no other page can hold."""
    policy = (
        "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self';"
        f" frame-ancestors 'none'; style-src 'self' {stylesheet_hash()}"
    )
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(content, status_code=status_code, headers=headers)


def problem(status_code: int, text: str) -> Response:
    """Return a page that says what is wrong."""
    title = _TITLES.get(status_code) or HTTPStatus(status_code).phrase
    return html(render("problem.html", title=title, text=text), status_code)


def to_login(path: str) -> Response:
    """Ask for a key, and go on to a page then."""
    return RedirectResponse(f"{LOGIN}?next={quote(path)}", status_code=303, headers={"Cache-Control": "no-store"})
