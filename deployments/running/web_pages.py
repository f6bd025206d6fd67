"""What web pages send to servers on this machine, in the browsers of those who work here, who may do everything.

A browser reaches loopback for any page: by a name that leads here (DNS rebinding), which shows in ``Host``, or by plain
requests and websockets, whose ``Origin`` is the page's.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from prefect_campaigns.blocks.supabase_credentials import is_loopback

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

POLICY_VIOLATION = 1008
"""What a websocket is closed with (RFC 6455, section 7.4.1)."""


def names_another_machine(headers: Headers, *, known: Collection[str] = ()) -> bool:
    """Whether ``Host`` names neither this machine nor one of the known names."""
    host = headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return True
    return bool(host) and not is_loopback(name) and name not in known


def is_sent_by_a_page(method: str, headers: Headers, *, origins: Collection[str] = ()) -> bool:
    """Whether a page of another origin than the server's own, and than those given, wants something done or tried."""
    origin = headers.get("origin")
    is_foreign = origin is not None and origin not in origins and urlsplit(origin).netloc != headers.get("host", "")
    is_preflight = method == "OPTIONS" and "access-control-request-method" in headers
    return is_foreign and (method not in SAFE_METHODS or is_preflight)


class PageGate:
    """Keeps pages away from a server that asks nobody who they are, and listens on loopback alone."""

    def __init__(self, app: ASGIApp, known: Collection[str] = ()) -> None:
        """Wrap the server's application.

        Args:
            known: the names, beside those of loopback, by which people know the server: that of a proxy before it.
        """
        self._app = app
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # A page can do with a websocket what it likes, and is never asked by its browser.
        method = "CONNECT" if scope["type"] == "websocket" else scope["method"]
        if names_another_machine(headers, known=self._known):
            why = "the Host header names another machine than this one; PREFECT_UI_URL says which other name it has"
        elif is_sent_by_a_page(method, headers):
            why = "the request comes from a web page of another origin"
        else:
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await WebSocketClose(POLICY_VIOLATION, why)(scope, receive, send)
        else:
            await JSONResponse({"exception_message": why}, status_code=403)(scope, receive, send)
