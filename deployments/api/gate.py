"""What every request passes before it comes to a route, and every answer on its way out."""

from __future__ import annotations

import asyncio
import json
import logging

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_campaigns.deployments.api.auth import Denial, Policy, is_page
from prefect_campaigns.deployments.api.errors import UNEXPECTED, error_answer, logger
from prefect_campaigns.deployments.api.page_answers import problem, to_login
from prefect_campaigns.deployments.running.web_pages import SAFE_METHODS

MAX_BODY_BYTES = 1024 * 1024
BODY_SECONDS = 30.0
"""How long a body may take to come in."""

NOT_LET_IN = (401, 403, 408, 413)
"""What is answered to who may not, or sends what is not taken: a warning in the log."""

MAX_PATH, MAX_ERROR = 200, 300
"""How much of a path, and of what is wrong, is logged."""

_DRAINED_BYTES = 16 * MAX_BODY_BYTES
_DRAIN_SECONDS = 3.0


class OuterGate:
    """Refuses what web pages send, and answers what nobody has answered: an error that nobody foresaw."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # What the inner parts write down of the request, who sends it, is read here.
        scope.setdefault("state", {})
        denial = self._policy.from_elsewhere(scope["method"], Headers(scope=scope))
        if denial is not None:
            denied = problem(denial.status_code, denial.message) if is_page(scope["path"]) else _deny(denial)
            await denied(scope, receive, _telling(scope, send))
            return
        # As the orchestrators did that callers were written for: /api/campaigns/ is /api/campaigns.
        path = scope["path"].rstrip("/") or "/"
        begun, telling = False, _telling(scope, send)

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await telling(message)

        try:
            await self._app({**scope, "path": path, "raw_path": path.encode()}, receive, sending)
        except Exception:
            logger.exception("%s %r failed", scope["method"], path)
            if begun:
                # Half an answer is out: the connection is cut, so that nobody takes it for a whole one.
                raise
            failed = problem(500, UNEXPECTED) if is_page(path) else error_answer(500, UNEXPECTED)
            await failed(scope, receive, send)


def _telling(scope: Scope, send: Send) -> Send:
    """Return a send that logs whom what was refused: of what changes something all, of what looks who may not."""
    changes, status = scope["method"] not in SAFE_METHODS, 0

    async def sending(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif status in NOT_LET_IN or (changes and 400 <= status < 500):
            level = logging.WARNING if status in NOT_LET_IN else logging.INFO
            who = scope["state"].get("actor") or (scope.get("client") or ["nobody known"])[0]
            path, why = scope["path"][:MAX_PATH], _error_in(message.get("body", b""))
            logger.log(level, "%s %r by %s: refused with %d%s", scope["method"], path, who, status, why)
        await send(message)

    return sending


def _error_in(body: bytes) -> str:
    """Return the first line of what an answer says is wrong; what others than this package answer is not repeated."""
    try:
        return f": {json.loads(body)['error'].splitlines()[0][:MAX_ERROR]}"
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""


class InnerGate:
    """Asks for a key, and takes no more of a body than is allowed."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        caller = self._policy.identify(scope["method"], scope["path"], headers)
        if isinstance(caller, Denial):
            scope["state"]["actor"] = caller.actor
            await _answer_denied(caller, scope)(scope, receive, send)
            return
        scope["state"]["actor"], scope["state"]["caller"] = caller.name, caller
        if not headers.get("transfer-encoding") and headers.get("content-length", "0") == "0":
            await self._app(scope, receive, send)
            return
        body = await _take_body(headers, receive)
        if body is None:
            return
        if isinstance(body, Response):
            await body(scope, receive, send)
            return
        await self._app(scope, _again(body, receive), send)


def _deny(denial: Denial) -> Response:
    return error_answer(denial.status_code, denial.message, headers=denial.headers)


def _answer_denied(denial: Denial, scope: Scope) -> Response:
    """Return why a request is not let in; who looks at a page and is not known is asked for a key."""
    if not is_page(scope["path"]):
        return _deny(denial)
    if denial.status_code == 401:
        query = scope.get("query_string", b"").decode("latin-1")
        return to_login(f"{scope['path']}{f'?{query}' if query else ''}" if scope["method"] in SAFE_METHODS else "/")
    return problem(denial.status_code, denial.message)


async def _take_body(headers: Headers, receive: Receive) -> bytes | Response | None:
    """Return the body, or what is answered to one that is not taken; None when whoever sends it has gone."""
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        if "expect" not in headers:
            await _drain(receive)
        return _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    if message.get("more_body"):
                        await _drain(receive)
                    return _too_large()
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        message_text = f"the body did not come within {BODY_SECONDS:g} seconds"
        return error_answer(408, message_text, headers={"Connection": "close"})


def _too_large() -> Response:
    message = f"the body has more than {MAX_BODY_BYTES:,} bytes, and at most that many are taken"
    return error_answer(413, message, headers={"Connection": "close"})


async def _drain(receive: Receive) -> None:
    """Take some of what still comes: a client that is cut off while it sends does not read the answer."""
    drained = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while drained < _DRAINED_BYTES:
                message = await receive()
                drained += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
    except TimeoutError:
        return


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a receive that gives the whole body, and then what comes."""
    given = False

    async def receiving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving
