"""What can be wrong between us and a Supabase project, said so that a person knows what to do.

None of these messages repeats a key, and none repeats an answer that is not Supabase's own.
"""

from __future__ import annotations

import json
import socket
import ssl
from http import HTTPStatus
from typing import Any

import httpx

from prefect_campaigns.errors import StoreError, StoreMisconfigured, StoreUnavailable

WHICH_KEY = (
    "the secret key (sb_secret_…), or the older service_role key, which the Supabase dashboard shows under"
    " Project Settings, API Keys"
)
MIGRATE = (
    "run `campaigns db migrate`, or paste what `campaigns db migrate --sql` prints into the SQL editor of the"
    " Supabase dashboard"
)

_MISSING = frozenset({"PGRST202", "PGRST203", "PGRST204", "PGRST205", "42P01", "42703", "42883", "3F000"})
"""A table, column or function that is not there, or not as we know it."""

_REFUSED_STATEMENTS = ("22", "23", "P0", "PT", "XX")
"""Classes of SQLSTATE that are about what was told to the database, whatever HTTP status they come with."""

_PAUSED_STATUS = 540
"""What Supabase answers for a project that is paused."""


def key_is_for_browsers(url: str, kind: str) -> StoreMisconfigured:
    """Return the error for a key that everybody may know."""
    return StoreMisconfigured(
        f"the key for Supabase at {url} is the {kind} key, which is made for browsers and may not touch campaigns;"
        f" use {WHICH_KEY}"
    )


def from_answer(url: str, status: int, content: bytes) -> StoreError:
    """Return the error for an answer that is no success."""
    said = _parsed(content)
    code = str(said.get("code") or "")
    if code in _MISSING:
        return StoreMisconfigured(
            f"the Supabase project at {url} has no campaign tables, or older ones ({code}); {MIGRATE}"
        )
    if code == "42501":
        return StoreMisconfigured(f"the key for Supabase at {url} may not use the campaign tables; use {WHICH_KEY}")
    if status == HTTPStatus.UNAUTHORIZED or code in ("PGRST301", "PGRST302", "PGRST303"):
        return StoreMisconfigured(f"Supabase at {url} does not accept the key; use {WHICH_KEY}")
    if status == _PAUSED_STATUS:
        return StoreMisconfigured(f"the Supabase project at {url} is paused; restore it in the Supabase dashboard")
    if code[:2] in _REFUSED_STATEMENTS:
        return StoreError(f"Supabase at {url} refused what it was told: {said.get('message')} ({code})")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in (
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
    ):
        reason = f": {said['message']}" if said.get("message") else ""
        return StoreUnavailable(f"Supabase at {url} did not answer: HTTP {status}{reason}")
    if code:
        return StoreMisconfigured(f"Supabase at {url} answered HTTP {status}: {said.get('message')} ({code})")
    return no_supabase(url, f"HTTP {status} came")


def no_supabase(url: str, why: str) -> StoreMisconfigured:
    """Return the error for a place where nothing answers as Supabase does."""
    return StoreMisconfigured(
        f"there is no Supabase project at {url} ({why}); use the project's URL, such as"
        " https://abcdefgh.supabase.co, which the Supabase dashboard shows under Project Settings, Data API"
    )


def from_transport(url: str, error: httpx.TransportError, *, seconds: float) -> StoreError:
    """Return the error for a request that was not answered at all."""
    if isinstance(error, httpx.TimeoutException):
        return StoreUnavailable(f"Supabase at {url} did not answer within {seconds:g} s")
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror) and cause.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
            return no_supabase(url, "no such host")
        if isinstance(cause, ssl.SSLError):
            return StoreMisconfigured(
                f"Supabase at {url} cannot be trusted: {cause.reason or 'its TLS is broken'}; check the URL, and"
                " SSL_CERT_FILE if the project has a certificate of your own"
            )
    return StoreUnavailable(f"Supabase at {url} did not answer: {error or type(error).__name__}")


def _causes(error: BaseException | None) -> list[BaseException]:
    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def _parsed(content: bytes) -> dict[str, Any]:
    """Return the JSON object of an answer; an empty one for what is none."""
    try:
        said = json.loads(content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
