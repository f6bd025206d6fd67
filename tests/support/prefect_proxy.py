"""A way to Prefect's API that counts what is written, and that can break off at any one write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from prefect_campaigns.deployments.demo.serving import DROP_CONNECTION

_READING = ("/filter", "/count", "/paginate", "/history", "/events")
"""How the paths end of what is posted and changes nothing of campaigns."""

_HOP_BY_HOP = {"connection", "content-encoding", "content-length", "host", "transfer-encoding"}


class PrefectProxy:
    """An ASGI application that passes everything on to a Prefect server.

    Attributes:
        writes: what has been written, as ``POST /deployments/``, in order.
        meanwhile: what is done once, before the next write whose line begins so reaches the server.
        cut: every connection is cut on which something is asked for whose path has this in it.
    """

    def __init__(self, server: str) -> None:
        self._client = httpx.AsyncClient(base_url=server, timeout=60)
        self.writes: list[str] = []
        self.meanwhile: tuple[str, Callable[[], Awaitable[None]]] | None = None
        self.cut: str | None = None
        self._breaks_at: int | None = None
        self._is_heard = False

    def break_at(self, write: int, *, is_heard: bool) -> None:
        """From the write of that number on, counted from now and from 1, cut every connection.

        Args:
            is_heard: whether that one write reaches the server, and only its answer is lost.
        """
        self.writes = []
        self._breaks_at, self._is_heard = write, is_heard

    def pass_on(self) -> None:
        """Let everything pass, and count anew."""
        self.writes = []
        self._breaks_at = None

    @property
    def is_broken(self) -> bool:
        """Whether it has broken off."""
        return self._breaks_at is not None and len(self.writes) >= self._breaks_at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        if self.cut is not None and self.cut in request.url.path:
            return scope["extensions"][DROP_CONNECTION]()
        body = await request.body()
        was_broken = self.is_broken
        if request.method != "GET" and not request.url.path.endswith(_READING):
            self.writes.append(f"{request.method} {request.url.path}")
            await self._do_meanwhile()
        if self.is_broken and (was_broken or not self._is_heard):
            return scope["extensions"][DROP_CONNECTION]()
        answer = await self._client.request(
            request.method,
            request.url.path,
            params=request.query_params,
            content=body,
            headers={name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP},
        )
        if self.is_broken:
            return scope["extensions"][DROP_CONNECTION]()
        headers = {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}
        await Response(answer.content, answer.status_code, headers)(scope, receive, send)

    async def _do_meanwhile(self) -> None:
        if self.meanwhile is not None and self.writes[-1].startswith(self.meanwhile[0]):
            (_, deed), self.meanwhile = self.meanwhile, None
            await deed()

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._client.aclose()
