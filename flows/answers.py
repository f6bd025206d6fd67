"""What a whole answer means: a result, a failure, or a job that is still going.

An answer is a job when its status is 202; when it carries ``jobId``, ``job_id`` or ``job_ids``; when ``batchId`` or
``id`` stands beside a ``status`` that says the work is going on; and when there is a ``batchId``, no ``status``, and
nothing that looks like a result. An answer whose ``status`` says that the work is done is no job, whatever it
carries: composing answers with the ``batchId`` of what it composed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from prefect_campaigns.costs import COST_KEYS
from prefect_campaigns.counts import COUNT_KEYS
from prefect_campaigns.errors import EngineAnswerInvalid
from prefect_campaigns.flows.messages import engine_words, one_line, show_url

_GOING = frozenset(
    {
        "queued",
        "pending",
        "running",
        "processing",
        "accepted",
        "scheduled",
        "submitted",
        "waiting",
        "starting",
        "started",
        "in_progress",
    }
)
_DONE = frozenset({"completed", "complete", "succeeded", "finished", "done"})
_FAILED = frozenset({"failed", "failure", "error"})
_STOPPED = frozenset({"errored", "cancelled", "canceled", "aborted", "expired", "timed_out"})
MAX_JOBS = 1_000
"""How many jobs of one request are asked for, one after the other."""

_JOB_KEYS = ("jobId", "job_id", "job_ids")
_RESULT_KEYS = COUNT_KEYS | {*COST_KEYS, "costs", "results", "result"}
_NO_RESULT_KEYS = frozenset({"error", "errors", "detail", "details", "message", "links", "_links", "meta", "metadata"})


def failure_in(said: Any, *, of_job: bool = False) -> str | None:
    """Return why an answer is a failure although its HTTP status is none, in one line; None when it is not.

    It is one when it says ``success: false`` or a ``status`` of failure, or when it has an ``error`` and nothing
    that looks like a result. A job that was cancelled, or ended in any way but well, has failed too.
    """
    if not isinstance(said, Mapping):
        return None
    status = status_of(said)
    failed = said.get("success") is False or status in _FAILED or (of_job and status in _STOPPED)
    lone_error = bool(said.get("error")) and said.get("success") is not True and not looks_like_result(said)
    if not failed and not (lone_error and status not in _GOING | _DONE):
        return None
    return engine_words(said) or (f"its status is {one_line(status)}" if status else "it does not say why")


def status_of(said: Any) -> str:
    """Return an answer's ``status`` in lower case with underscores; empty when it has none."""
    status = said.get("status") if isinstance(said, Mapping) else None
    return status.strip().lower().replace("-", "_").replace(" ", "_") if isinstance(status, str) else ""


def looks_like_result(said: Mapping[str, Any]) -> bool:
    """Whether an answer holds a count, a cost, a result, or any list or object that is not empty and no complaint."""
    return any(
        value is not None and (key in _RESULT_KEYS or (isinstance(value, (list, dict)) and bool(value)))
        for key, value in said.items()
        if key not in _NO_RESULT_KEYS
    )


def is_job(said: Any, status_code: int) -> bool:
    """Whether the first answer to a request is a job that is still going."""
    status = status_of(said)
    if status in _DONE:
        return False
    if status_code == httpx.codes.ACCEPTED:
        return True
    if not isinstance(said, Mapping):
        return False
    if any(said.get(key) not in (None, "", []) for key in _JOB_KEYS):
        return True
    if said.get("batchId") and "status" not in said and not looks_like_result(said):
        return True
    return status in _GOING and any(said.get(key) not in (None, "") for key in ("batchId", "id"))


def is_going(said: Any, status_code: int) -> bool:
    """Whether a successful answer to a poll says that the job is still going.

    A status that nobody knows is not an end: the step's timeout is. Without a status, an answer that looks like a
    result, or carries no job id, is the result; an answer with nothing in it is none.
    """
    status = status_of(said)
    if said == {}:
        return True
    if status in _DONE or status == "success":
        return False
    if status_code == httpx.codes.ACCEPTED or status:
        return True
    if not isinstance(said, Mapping):
        return False
    has_id = any(said.get(key) is not None for key in (*_JOB_KEYS, "batchId", "id", "progress"))
    return has_id and not looks_like_result(said)


def job_urls(said: Any, *, location: str | None, endpoint: httpx.URL, where: str) -> tuple[httpx.URL, ...]:
    """Return where to ask for a job: ``Location``, else ``statusUrl``, else ``{endpoint}/{jobId}`` of every job id.

    Raises:
        EngineAnswerInvalid: the answer names no place, or one on another origin than the endpoint, which is not
            asked: it was never part of the campaign.
    """
    fields: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
    named = location or fields.get("statusUrl") or fields.get("status_url")
    if isinstance(named, str) and named.strip():
        try:
            url = endpoint.join(named.strip())
        except httpx.InvalidURL:
            raise EngineAnswerInvalid(
                one_line(f"{where} took a job, and the place to ask for it is no URL: {named!r}"), payload=said
            ) from None
        if origin_of(url) != origin_of(endpoint):
            raise EngineAnswerInvalid(
                f"{where} took a job and wants to be asked for it at {show_url(url)}; only the endpoint's own origin"
                " (scheme, host and port) is asked",
                payload=said,
            )
        return (url,)
    ids = _job_ids(fields)
    if len(ids) > MAX_JOBS:
        raise EngineAnswerInvalid(
            f"{where} took {len(ids):,} jobs at once; at most {MAX_JOBS:,} are asked for", payload={}
        )
    if not ids:
        raise EngineAnswerInvalid(
            f"{where} took a job and does not say where to ask for it: there is no Location, statusUrl or job id",
            payload=said,
        )
    return tuple(_below(endpoint, job_id) for job_id in ids)


def _job_ids(fields: Mapping[str, Any]) -> list[str]:
    for key in (*_JOB_KEYS, "batchId", "id"):
        value = fields.get(key)
        values = value if key == "job_ids" and isinstance(value, list) else [value]
        # One id that cannot be read is one job whose end nobody would see: then none of them counts.
        if values and all(isinstance(item, (str, int)) and not isinstance(item, bool) for item in values):
            ids = [str(item).strip() for item in values]
            if all(ids):
                return list(dict.fromkeys(ids))
    return []


def _below(endpoint: httpx.URL, job_id: str) -> httpx.URL:
    # Percent-encoded by hand: a job id is one segment of the path, whatever is in it.
    segment = "".join(f"%{byte:02X}" if chr(byte) not in _UNRESERVED else chr(byte) for byte in job_id.encode())
    path, _, query = endpoint.raw_path.partition(b"?")
    raw_path = path.rstrip(b"/") + b"/" + segment.encode()
    return endpoint.copy_with(raw_path=raw_path + (b"?" + query if query else b""))


_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port."""
    return url.scheme, url.host, url.port or _DEFAULT_PORTS.get(url.scheme)
