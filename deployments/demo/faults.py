"""What can go wrong at an engine, to be ordered in advance, path by path."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from prefect_campaigns.deployments.demo.serving import DROP_CONNECTION


def drop_connection(scope: Scope) -> None:
    """Cut the client's connection without another byte.

    Raises:
        RuntimeError: the server is not the one in serving.py.
    """
    extension = scope.get("extensions", {}).get(DROP_CONNECTION)
    if extension is None:
        raise RuntimeError("only prefect_campaigns.deployments.demo.serving can cut a connection")
    extension()


class Silence(Response):
    """An answer that never comes; with ``drop``, a connection that ends instead."""

    def __init__(self, *, drop: bool) -> None:
        super().__init__()
        self._drop = drop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait until the client is gone."""
        if self._drop:
            drop_connection(scope)
        while (await receive())["type"] != "http.disconnect":
            continue


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong once.

    Attributes:
        after_work: whether the engine works, and charges, before it goes wrong.
        response: what is answered instead; None lets the engine answer, cut short.
        events_before_cut: after how many events a stream is cut; None cuts nothing.
    """

    after_work: bool
    response: Response | None = None
    events_before_cut: int | None = None


@dataclass
class FaultScript:
    """Faults in the order in which they will happen, by the path they happen at."""

    _by_path: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))

    def add(self, path: str, fault: Fault, *, times: int) -> None:
        """Order a fault for the next requests to the path, behind those ordered before."""
        self._by_path[path].extend([fault] * times)

    def take(self, path: str) -> Fault | None:
        """Return the fault of this request, if there is one."""
        faults = self._by_path.get(path)
        return faults.popleft() if faults else None


class Scriptable:
    """What can be ordered from engines. Paths are those of the routes: ``/api/prospect``, ``/api/analyze/{jobId}``."""

    def __init__(self) -> None:
        self._faults = FaultScript()

    def answer_next(
        self,
        path: str,
        body: Any,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        times: int = 1,
        after_work: bool = False,
    ) -> None:
        """Answer the next requests with this JSON, doing no work for it unless told to."""
        response = JSONResponse(body, status_code=status, headers=headers)
        self._faults.add(path, Fault(after_work=after_work, response=response), times=times)

    def fail_next(
        self,
        path: str,
        *,
        status: int = 503,
        error: str = "the engine is out of order",
        cost: float | None = None,
        retry_after: str | int | None = None,
        times: int = 1,
    ) -> None:
        """Refuse the next requests with an HTTP status; ``cost`` is what the body says the failure cost."""
        body = {"error": error} if cost is None else {"error": error, "cost": cost}
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self.answer_next(path, body, status=status, headers=headers, times=times)

    def hang_next(self, path: str, *, times: int = 1, after_work: bool = True) -> None:
        """Accept the next requests, and say nothing at all until the client leaves."""
        self._faults.add(path, Fault(after_work=after_work, response=Silence(drop=False)), times=times)

    def lose_next(self, path: str, *, times: int = 1) -> None:
        """Do the work of the next requests, and cut the connection instead of answering."""
        self._faults.add(path, Fault(after_work=True, response=Silence(drop=True)), times=times)

    def cut_next(self, path: str, *, after_events: int = 2, times: int = 1) -> None:
        """Do the work of the next requests, and cut the stream after so many of its events."""
        self._faults.add(path, Fault(after_work=True, events_before_cut=after_events), times=times)

    def garble_next(self, path: str, *, times: int = 1) -> None:
        """Do the work of the next requests, and answer with half of a JSON object."""
        response = Response('{"found": 20, "veri', media_type="application/json")
        self._faults.add(path, Fault(after_work=True, response=response), times=times)

    def stream_next(self, path: str, events: Iterable[str], *, times: int = 1) -> None:
        """Do the work of the next requests, and answer with a stream of these events' data and nothing more."""
        body = "".join(f"data: {event}\n\n" for event in events)
        self._faults.add(
            path, Fault(after_work=True, response=Response(body, media_type="text/event-stream")), times=times
        )

    def _fault_at(self, request: Request) -> Fault | None:
        route = request.scope["route"]
        return self._faults.take(route.path)
