"""The exchange with an engine: one request, and whatever shape the answer has, its result or an error.

An engine answers with JSON, with a stream of events, or with a job to ask for; the answer itself tells which. What
goes wrong is told apart by what it means for money and mail, in the EngineError family: whether the request left,
whether the engine answered, and whether asking again may help.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import anyio
import httpx

from prefect_campaigns.clock import Clock, SystemClock
from prefect_campaigns.errors import (
    EngineAnswerInvalid,
    EngineAnswerLost,
    EngineError,
    EngineRefused,
    EngineReportedFailure,
    EngineUnreachable,
)
from prefect_campaigns.flows.answers import failure_in, is_job, job_urls, origin_of
from prefect_campaigns.flows.bodies import parse_json, read_body
from prefect_campaigns.flows.jobs import PollPace, await_jobs
from prefect_campaigns.flows.messages import (
    EngineAnswer,
    EngineRequest,
    ExchangeLimits,
    OnProgress,
    Progress,
    encode_headers,
    engine_words,
    one_line,
    parse_retry_after,
    reporter,
    show_url,
)
from prefect_campaigns.flows.redaction import Redactor, hidden, hiding
from prefect_campaigns.flows.streams import last_message, read_stream

__all__ = ["EngineAnswer", "EngineRequest", "ExchangeLimits", "PollPace", "Progress", "call_engine", "new_client"]

CONNECT_TIMEOUT_SECONDS = 30.0
REFUSAL_TIMEOUT_SECONDS = 10.0
"""How long the body of a refusal is waited for: its status has said the most of it."""

GRACE_SECONDS = 5.0

MAX_REDIRECTS = 5

_T = TypeVar("_T")
_LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_SYSTEM_CLOCK = SystemClock()
_DEFAULT_PACE = PollPace()
_DEFAULT_LIMITS = ExchangeLimits()
_KEEPS_METHOD = (httpx.codes.TEMPORARY_REDIRECT, httpx.codes.PERMANENT_REDIRECT)

# Before any of these a byte of the request can have left; anything else that breaks may have broken later.
_NEVER_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


@functools.cache
def _tls_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def new_client(*, verify: ssl.SSLContext | bool = True) -> httpx.AsyncClient:
    """Return a client for call_engine, to be closed by the caller. Cheap: the TLS context is made once (70 ms).

    No connection is used twice. An idle one that the engine closes at the wrong moment would look like a lost answer,
    and a step that sends may not be repeated after that; requests that run for minutes can afford to connect. How
    many run at once is for the work pool to say, so there is no limit here to wait at. Proxies are those of the
    environment, but never for this machine itself.

    Args:
        verify: False trusts every certificate; a context of one's own trusts what it says.
    """
    return httpx.AsyncClient(
        verify=_tls_context() if verify is True else verify,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        timeout=CONNECT_TIMEOUT_SECONDS,
        mounts=dict.fromkeys(_LOOPBACK),
        follow_redirects=False,
        headers={
            "User-Agent": f"prefect-campaigns/{importlib.metadata.version('prefect-campaigns')}",
            "Connection": "close",
            # Compressed, events would wait in buffers on the way until there are enough of them.
            "Accept-Encoding": "identity",
        },
    )


async def call_engine(
    client: httpx.AsyncClient,
    request: EngineRequest,
    *,
    on_progress: OnProgress | None = None,
    pace: PollPace = _DEFAULT_PACE,
    clock: Clock = _SYSTEM_CLOCK,
    limits: ExchangeLimits = _DEFAULT_LIMITS,
    grace_seconds: float = GRACE_SECONDS,
) -> EngineAnswer:
    """Make a request to an engine and see it through to its result: the answer, the stream, every poll.

    No secret of the request is in what comes back: not in the result, nor in a warning, progress or error, wherever the
    engine repeats it.

    The caller bounds the whole by cancelling it after ``timeout_seconds``, which closes the connection at once. Only
    connecting has a limit of its own. The result can always be written as JSON, and is ``{}`` for an empty answer.

    A redirect is followed where the request stays what it is (307 and 308; of a GET any), on the same origin, or to a
    host that ``allowed_hosts`` lists; there the step's headers do not go.

    Args:
        on_progress: told how far the engine is; what it raises is logged and goes no further.
        pace: how often a job is asked for.
        limits: how large the answer may be, and which hosts may be asked.
        grace_seconds: how long after ``timeout_seconds`` the exchange gives up by itself, should the caller not have
            cancelled it.

    Raises:
        EngineUnreachable: the request never left; also because its host may not be asked.
        EngineAnswerLost: it left, and its answer was not read to the end; also a job nobody can ask for any more.
        EngineRefused: the HTTP status is no success.
        EngineReportedFailure: the engine says that the work failed.
        EngineAnswerInvalid: the answer cannot be used.
    """
    redactor = Redactor(request.secrets)
    where = show_url(request.url)
    report = reporter(on_progress)

    async def exchange() -> EngineAnswer:
        answer, answered, retry_after_seconds = await _request(
            client, request, where=where, report=report, clock=clock, limits=limits
        )
        if isinstance(answer, EngineAnswer):
            return answer
        said, status_code = await await_jobs(
            client,
            answer,
            headers=answered.headers,
            retry_after_seconds=retry_after_seconds,
            pace=pace,
            report=report,
            clock=clock,
            max_bytes=limits.max_answer_bytes,
        )
        return _answer(said, status_code)

    with hiding(redactor):
        try:
            with anyio.fail_after(request.timeout_seconds + grace_seconds):
                answer = await _in_own_task(exchange)
        except TimeoutError as error:
            raise EngineAnswerLost(
                f"{where} gave no whole answer within {request.timeout_seconds:g} seconds"
            ) from error
        except Exception as error:
            redactor.clean(error)
            raise
        return replace(answer, result=redactor.value(answer.result), warnings=tuple(map(hidden, answer.warnings)))


async def _in_own_task(work: Callable[[], Awaitable[_T]]) -> _T:
    """Await the work in a task of its own, so that cancelling the caller cancels it the way that httpx can stand.

    httpx shields the closing of a connection from being cancelled by anyio, but not by asyncio itself: that would
    leave the connection open, and its place in the pool taken. A task group turns the one into the other.
    """
    outcome: list[_T] = []
    failure: list[Exception] = []

    async def run() -> None:
        try:
            outcome.append(await work())
        except Exception as error:
            # Kept out of the group, which would wrap it.
            failure.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
    if failure:
        raise failure[0]
    return outcome[0]


async def _request(
    client: httpx.AsyncClient,
    request: EngineRequest,
    *,
    where: str,
    report: OnProgress,
    clock: Clock,
    limits: ExchangeLimits,
) -> tuple[EngineAnswer | tuple[httpx.URL, ...], EngineRequest, float | None]:
    """Return the answer, or the URLs of the jobs that the engine has queued; which request it answers; when to ask."""
    response, request = await _send_on(client, request, where, limits)
    max_bytes = limits.max_answer_bytes
    try:
        retry_after_seconds = parse_retry_after(response.headers.get("Retry-After"), now=clock.now())
        if not response.is_success:
            raise await _refusal(response, where, retry_after_seconds, max_bytes)
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if content_type == "text/event-stream":
            result, warnings = await read_stream(response, where=where, report=report, max_event_bytes=max_bytes)
            return EngineAnswer(result=result, warnings=warnings, status_code=response.status_code), request, None
        said = await _read_json(response, where, content_type, max_bytes)
    finally:
        await response.aclose()
    failure = failure_in(said)
    if failure is not None:
        raise EngineReportedFailure(
            one_line(f"{where} failed: {failure}"),
            payload=said,
            status_code=response.status_code,
            retry_after_seconds=retry_after_seconds,
        )
    if is_job(said, response.status_code):
        location = response.headers.get("Location")
        urls = job_urls(said, location=location, endpoint=httpx.URL(request.url), where=where)
        return urls, request, retry_after_seconds
    return _answer(said, response.status_code), request, None


def _answer(said: Any, status_code: int) -> EngineAnswer:
    # An error beside a result has not spoilt it, and is not lost.
    error = engine_words(said.get("error")) if isinstance(said, Mapping) else None
    return EngineAnswer(result=said, warnings=(error,) if error else (), status_code=status_code)


async def _send_on(
    client: httpx.AsyncClient, request: EngineRequest, where: str, limits: ExchangeLimits
) -> tuple[httpx.Response, EngineRequest]:
    """Send the request, and again where it is redirected; return the answer, and the request that it answers."""
    if not limits.allowed_hosts.allow(request.url):
        raise EngineUnreachable(
            f"{where} may not be asked: its host is none of CAMPAIGNS_ALLOWED_HOSTS ({limits.allowed_hosts})",
            retryable=False,
        )
    for _ in range(MAX_REDIRECTS):
        response = await _send(client, request, where)
        following = _redirected(request, response, limits)
        if following is None:
            return response, request
        await response.aclose()
        request = following
    return await _send(client, request, where), request


def _redirected(request: EngineRequest, response: httpx.Response, limits: ExchangeLimits) -> EngineRequest | None:
    """Return the request that an answer asks for instead; None where it asks for none, or for one we do not make."""
    if response.next_request is None:
        return None
    is_get = request.method.upper() == "GET"
    if response.status_code not in _KEEPS_METHOD and not is_get:
        # It would become another request, without its body.
        return None
    target = response.next_request.url
    # The address that is pointed to has its query already.
    following = replace(request, url=str(target), params={} if is_get else request.params)
    if origin_of(target) == origin_of(response.request.url):
        return following
    return replace(following, headers={}) if limits.allowed_hosts.list(str(target)) else None


async def _send(client: httpx.AsyncClient, request: EngineRequest, where: str) -> httpx.Response:
    """Send the request and read the head of the answer."""
    try:
        outgoing = _build(client, request)
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise EngineUnreachable(one_line(f"the request to {where} cannot be made: {error}"), retryable=False) from error
    try:
        return await client.send(outgoing, stream=True, follow_redirects=False)
    except (*_NEVER_LEFT, httpx.UnsupportedProtocol) as error:
        raise EngineUnreachable(
            one_line(f"no connection to {where}: {_why(error)}"),
            retryable=not isinstance(error, httpx.UnsupportedProtocol),
        ) from error
    except httpx.HTTPError as error:
        raise EngineAnswerLost(one_line(f"the request to {where} left and was not answered: {_why(error)}")) from error


def _why(error: httpx.HTTPError) -> str:
    # Of what is no HTTP the bytes would follow, as Python writes them.
    return str(error).partition(": bytearray(")[0] or type(error).__name__


def _build(client: httpx.AsyncClient, request: EngineRequest) -> httpx.Request:
    url = httpx.URL(request.url)
    ours = {"Idempotency-Key": request.idempotency_key}
    content: bytes | None = None
    if request.method.upper() == "GET":
        # A query that the endpoint already has stays; httpx would replace it.
        query = {key: _query_value(value) for key, value in request.params.items() if value is not None}
        url = url.copy_merge_params(query) if query else url
    else:
        content = json.dumps(request.params, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        ours["Content-Type"] = "application/json"
    headers = encode_headers({"Accept": "text/event-stream, application/json"}, request.headers, ours)
    limit = min(CONNECT_TIMEOUT_SECONDS, request.timeout_seconds)
    timeout = httpx.Timeout(connect=limit, pool=limit, read=None, write=None)
    return client.build_request(request.method, url, content=content, headers=headers, timeout=timeout)


def _query_value(value: Any) -> str:
    if isinstance(value, str):
        return value
    # JSON writes true, false and numbers as queries do, and keeps lists and objects whole.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


async def _read_json(response: httpx.Response, where: str, content_type: str, max_bytes: int) -> Any:
    body = await read_body(response, where, max_bytes=max_bytes)
    if not body.strip():
        return {}
    try:
        return parse_json(body)
    except ValueError as error:
        raise EngineAnswerInvalid(
            one_line(
                f"{where} answered {response.status_code} with {content_type or 'an unknown type'} that is no usable"
                f" JSON: {error}"
            ),
            status_code=response.status_code,
        ) from None


async def _refusal(
    response: httpx.Response, where: str, retry_after_seconds: float | None, max_bytes: int
) -> EngineError:
    """Return the error of an answer that is no success, with as much of its body as there is."""
    body = b""
    try:
        with anyio.fail_after(REFUSAL_TIMEOUT_SECONDS):
            body = await read_body(response, where, max_bytes=max_bytes)
    except (EngineError, TimeoutError):
        # The status was read, and it decides; the body would only have said why.
        body = b""
    payload, words = _refusal_words(response, body)
    message = f"{where} answered {response.status_code}: {words}"
    if response.next_request is not None:
        message = (
            f"{where} answered {response.status_code} and pointed to {show_url(response.next_request.url)}, which is"
            " not followed: the step's endpoint must be the final address, save for a 307 or 308 to the same origin, or"
            " to a host of CAMPAIGNS_ALLOWED_HOSTS"
        )
    return EngineRefused(
        one_line(message),
        payload=payload,
        status_code=response.status_code,
        retry_after_seconds=retry_after_seconds,
    )


def _refusal_words(response: httpx.Response, body: bytes) -> tuple[Any, str]:
    """Return what a refusal says, and why in one line; a page of HTML says less than its status does."""
    phrase = one_line(response.reason_phrase) or "without a word"
    content_type = response.headers.get("Content-Type", "").lower()
    try:
        payload = last_message(body) if content_type.startswith("text/event-stream") else parse_json(body)
    except ValueError:
        text = body.decode(errors="replace") if content_type.startswith("text/plain") else ""
        return None, one_line(text) or phrase
    return payload, engine_words(payload) or phrase
