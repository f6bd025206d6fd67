"""Waiting for jobs that an engine has queued, by asking for them until they are done."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anyio
import httpx

from prefect_campaigns.clock import Clock
from prefect_campaigns.costs import COST_KEYS, read_amount
from prefect_campaigns.errors import (
    EngineAnswerInvalid,
    EngineAnswerLost,
    EngineRefused,
    EngineReportedFailure,
    InvalidCost,
)
from prefect_campaigns.flows.answers import failure_in, is_going
from prefect_campaigns.flows.bodies import parse_json, read_body
from prefect_campaigns.flows.messages import (
    MAX_ANSWER_BYTES,
    OnProgress,
    Progress,
    encode_headers,
    one_line,
    parse_retry_after,
    progress_from,
    show_url,
)

POLL_TIMEOUT_SECONDS = 60.0
"""How long one poll may take; a poll that takes longer is asked again."""


@dataclass(frozen=True, kw_only=True)
class PollPace:
    """How often jobs are asked for where the engine does not say: 0.5, 0.75, 1.1 … 5 seconds.

    Attributes:
        shortest_seconds: what a ``Retry-After`` of 0 comes to.
    """

    first_seconds: float = 0.5
    growth: float = 1.5
    longest_seconds: float = 5.0
    shortest_seconds: float = 0.1

    def following(self, delay_seconds: float) -> float:
        """Return the delay after this one."""
        return min(delay_seconds * self.growth, self.longest_seconds)


@dataclass
class _Job:
    url: httpx.URL
    going: bool = True
    said: Any = None
    status_code: int = 0
    failure: str | None = None


async def await_jobs(
    client: httpx.AsyncClient,
    urls: Sequence[httpx.URL],
    *,
    headers: Mapping[str, str] | None = None,
    retry_after_seconds: float | None,
    pace: PollPace,
    report: OnProgress,
    clock: Clock,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> tuple[Any, int]:
    """Poll the jobs until all have ended; return the result, and the status code of the last poll.

    A poll that fails in passing (no connection, a cut, 408, 425, 429, any 5xx) is made again and repeats no work; only
    the caller's time limit ends that. Of several jobs all are waited for, also when one has failed: what the others
    cost is part of what the step cost. Their results are merged; see merge_results.

    Args:
        urls: where to ask, on the endpoint's own origin (job_urls takes no other): what the headers carry is for it.
        headers: the step's headers, which the polls have too, except for what kind of answer is wanted.
        retry_after_seconds: what the engine asked to wait before the first poll.
        max_bytes: how large the answer to a poll may be.

    Raises:
        EngineReportedFailure: a job has failed or was cancelled; the payload has what all jobs said.
        EngineAnswerLost: a poll was refused, so that nobody learns how the job ends. Not retryable.
        EngineAnswerInvalid: a poll was answered with something that cannot be used.
    """
    jobs = [_Job(url=url) for url in urls]
    unasked = pace.first_seconds
    asked = retry_after_seconds
    while True:
        await anyio.sleep(unasked if asked is None else max(asked, pace.shortest_seconds))
        unasked = pace.following(unasked)
        waits = [
            await _poll(client, job, headers=headers or {}, clock=clock, max_bytes=max_bytes)
            for job in jobs
            if job.going
        ]
        if not any(job.going for job in jobs):
            break
        asked = max((wait for wait in waits if wait is not None), default=None)
        await report(_progress(jobs))
    said = jobs[0].said if len(jobs) == 1 else merge_results([job.said for job in jobs])
    failed = next((job for job in jobs if job.failure is not None), None)
    if failed is not None:
        raise EngineReportedFailure(
            one_line(f"the job at {show_url(failed.url)} failed: {failed.failure}"),
            payload=said,
            status_code=failed.status_code,
        )
    return said, jobs[-1].status_code


async def _poll(
    client: httpx.AsyncClient, job: _Job, *, headers: Mapping[str, str], clock: Clock, max_bytes: int
) -> float | None:
    """Ask for a job once and write down what it says; return how many seconds to wait, if it says so."""
    where = show_url(job.url)
    outgoing = encode_headers(headers, {"Accept": "application/json"})
    request = client.build_request("GET", job.url, headers=outgoing, timeout=POLL_TIMEOUT_SECONDS)
    try:
        with anyio.fail_after(POLL_TIMEOUT_SECONDS):
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                retry_after = parse_retry_after(response.headers.get("Retry-After"), now=clock.now())
                if not response.is_success:
                    _refuse_unless_passing(response.status_code, where)
                    return retry_after
                body = await read_body(response, where, max_bytes=max_bytes)
            finally:
                await response.aclose()
    except (httpx.TransportError, EngineAnswerLost, TimeoutError) as error:
        if isinstance(error, EngineAnswerLost) and not error.retryable:
            raise
        return None
    job.status_code = response.status_code
    try:
        job.said = parse_json(body) if body.strip() else {}
    except ValueError as error:
        raise EngineAnswerInvalid(
            one_line(f"{where} answered a poll with what is no JSON: {error}"), status_code=response.status_code
        ) from None
    job.failure = failure_in(job.said, of_job=True)
    job.going = job.failure is None and is_going(job.said, response.status_code)
    return retry_after


def _refuse_unless_passing(status_code: int, where: str) -> None:
    if status_code in EngineRefused.RETRYABLE_STATUS_CODES or status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        return
    raise EngineAnswerLost(
        f"the engine took a job and answered {status_code} when asked for it at {where}; the job may be going on",
        status_code=status_code,
        retryable=False,
    )


def _progress(jobs: Sequence[_Job]) -> Progress:
    each = [
        Progress(message="done", fraction=1.0)
        if not job.going
        else progress_from(job.said if isinstance(job.said, Mapping) else {}, fallback="queued")
        for job in jobs
    ]
    if len(each) == 1:
        return each[0]
    fractions = [progress.fraction or 0.0 for progress in each]
    done = sum(not job.going for job in jobs)
    return Progress(message=f"{done} of {len(jobs)} jobs done", fraction=sum(fractions) / len(jobs))


def merge_results(results: Sequence[Any]) -> dict[str, Any]:
    """Return the results of several jobs as one, with each of them under ``jobs``.

    Amounts and counts are added (exactly, as decimals), averages averaged, lists joined, objects merged by the same
    rules; of anything else the first stands. A cost that is no amount is kept, so that it is seen::

        {"analyzed": 8, "cost": 0.1, "leads": [a]} and {"analyzed": 2, "cost": 0.2, "leads": [b]}
        → {"analyzed": 10, "cost": 0.3, "leads": [a, b], "jobs": […]}
    """
    return {**_merge_objects([result for result in results if isinstance(result, dict)]), "jobs": list(results)}


def _merge_objects(objects: Sequence[dict[str, Any]], *, amounts: bool = False) -> dict[str, Any]:
    keys = dict.fromkeys(key for each in objects for key in each)
    return {
        key: _merge_values(key, [each[key] for each in objects if each.get(key) is not None], amounts=amounts)
        for key in keys
    }


def _merge_values(key: str, values: Sequence[Any], *, amounts: bool) -> Any:
    if not values:
        return None
    if all(isinstance(value, dict) for value in values):
        return _merge_objects(values, amounts=key == "costs")
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in value]
    if amounts or key in COST_KEYS:
        return _add_amounts(values)
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        total = sum((Decimal(str(value)) for value in values), Decimal(0))
        if key.lower().startswith(("avg", "average")):
            return _finite(total / len(values))
        return int(total) if all(isinstance(value, int) for value in values) else _finite(total)
    return values[0]


def _add_amounts(values: Sequence[Any]) -> Any:
    total = Decimal(0)
    for value in values:
        try:
            total += read_amount(value)
        except InvalidCost:
            return value
    return float(total)


def _finite(total: Decimal) -> float | str:
    """Return a number that JSON can write: what is too large for a float is left as text, as where it is read."""
    number = float(total)
    return number if math.isfinite(number) else str(total)
