"""The three engines, to try campaigns with: the real contract, made-up companies, and nothing leaves this machine.

Prospecting and composing answer with a stream of events, analysis with a job to ask for, sending with JSON. A request
whose Idempotency-Key is known is answered like the first one, without new work and without new cost. What they were
asked, what they charged and whom they mailed can be read from them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from slugify import slugify
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from prefect_campaigns.deployments.demo.faults import Fault, Scriptable, drop_connection

PROSPECT, ANALYZE, COMPOSE, SEND = "/api/prospect", "/api/analyze", "/api/compose-batch", "/api/send-batch"
ANALYZE_JOB = "/api/analyze/{jobId}"
HEALTH = "/api/health"

ENGINE_PATHS: Mapping[str, tuple[str, ...]] = {
    "prospecting": (PROSPECT,),
    "analysis": (ANALYZE, ANALYZE_JOB),
    "outreach": (COMPOSE, SEND),
}
"""Which engine answers where."""

_COMPANIES = (
    "Blue Door Bistro",
    "Harbor Light Diner",
    "Casa Marisol",
    "The Copper Ladle",
    "Green Fork Kitchen",
    "Old Mill Bakery",
    "Saffron House",
    "Pier 9 Oysters",
)
_MAX_COUNT = 1_000
_POLLS_UNTIL_DONE = 3


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What the engines charge, in US dollars apiece. Sending is free."""

    prospect: Decimal = Decimal("0.0024")
    lead: Decimal = Decimal("0.003")
    mail: Decimal = Decimal("0.002")


@dataclass(frozen=True, kw_only=True)
class ReceivedRequest:
    """One request that reached an engine; headers in lower case."""

    method: str
    path: str
    params: dict[str, Any]
    idempotency_key: str | None
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What an engine charged for one piece of work."""

    path: str
    idempotency_key: str | None
    cost: Decimal


@dataclass
class _Work:
    """What was done: the result, and the companies that the stream tells of; ``polls`` counts the polls of a job."""

    result: dict[str, Any]
    companies: tuple[str, ...] = ()
    job_id: str = ""
    polls: int = field(default=0)


class DemoEngines(Scriptable):
    """An ASGI application with all three engines, to be served by serving.serve.

    Args:
        pace: seconds before each event, each poll's answer, and the answer to a send.
        prices: what they charge; by default cents and less.
        honours_idempotency_key: False works and charges again for a key that is known.
        default_count: how many companies a request is about that does not say.

    Attributes:
        url: where they are served, for whoever serves them to say.
        requests: every request that came in, in order, polls and refused ones too.
        charges: what was charged, a piece of work at a time.
        mails: the address of every mail that was sent; one that is there twice was mailed twice.
    """

    def __init__(
        self,
        *,
        pace: float = 0.0,
        prices: Prices | None = None,
        honours_idempotency_key: bool = True,
        default_count: int = 20,
    ) -> None:
        super().__init__()
        self.url = ""
        self.pace = pace
        self.requests: list[ReceivedRequest] = []
        self.charges: list[Charge] = []
        self.mails: list[str] = []
        self._prices = prices or Prices()
        self._honours_idempotency_key = honours_idempotency_key
        self._default_count = default_count
        self._works: dict[tuple[str, str], _Work] = {}
        self._jobs: dict[str, _Work] = {}
        self._counts: dict[str, int] = {}
        self._last_id = 0
        self._arrival = asyncio.Condition()
        self._app = self.app()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to any of the engines."""
        await self._app(scope, receive, send)

    def app(self, *engines: str) -> Starlette:
        """Return an application with these engines only (``prospecting``, ``analysis``, ``outreach``; default: all).

        What it does is kept with everything else here, so the engines still know of each other's work.
        """
        names = engines or tuple(ENGINE_PATHS)

        async def health(request: Request) -> Response:
            return JSONResponse({"status": "healthy", "service": " ".join(names)})

        routes = [Route(HEALTH, health)]
        for path in (path for name in names for path in ENGINE_PATHS[name]):
            method = "GET" if path == ANALYZE_JOB else "POST"
            routes.append(Route(path, self._poll if path == ANALYZE_JOB else self._step, methods=[method]))
        return Starlette(routes=routes)

    @property
    def charged(self) -> Decimal:
        """All that was charged, in US dollars."""
        return sum((charge.cost for charge in self.charges), Decimal(0))

    @property
    def _when_to_ask(self) -> dict[str, str]:
        """When a job is to be asked for: at once where the engines take no time; else whoever asks may choose."""
        return {} if self.pace else {"Retry-After": "0"}

    def requests_to(self, path: str) -> list[ReceivedRequest]:
        """Return the requests to one path, in order."""
        return [request for request in self.requests if request.path == path]

    async def nth_request(self, number: int) -> ReceivedRequest:
        """Wait until so many requests have come in, and return the last of these; it may be being answered."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.requests) >= number)
        return self.requests[number - 1]

    async def _step(self, request: Request) -> Response:
        path = request.url.path
        received = await self._receive(request)
        fault = self._fault_at(request)
        if fault is not None and fault.response is not None and not fault.after_work:
            return fault.response
        work = self._work_for(path, received)
        if fault is not None and fault.response is not None:
            return fault.response
        return await _ANSWERS[path](self, request, work, fault)

    async def _poll(self, request: Request) -> Response:
        await self._receive(request)
        fault = self._fault_at(request)
        if fault is not None and fault.response is not None:
            return fault.response
        job_id = request.path_params["jobId"]
        work = self._jobs.get(job_id)
        if work is None:
            return JSONResponse({"error": f"there is no job {job_id}"}, status_code=404)
        await self._pause(request)
        work.polls += 1
        if work.polls < _POLLS_UNTIL_DONE:
            progress = round(work.polls / _POLLS_UNTIL_DONE, 2)
            going = {"jobId": job_id, "status": "running", "progress": progress, "message": "grading"}
            return JSONResponse(going, headers=self._when_to_ask)
        return JSONResponse({"jobId": job_id, "status": "completed", **work.result})

    async def _receive(self, request: Request) -> ReceivedRequest:
        body = await request.body()
        try:
            params = json.loads(body) if body else {}
        except ValueError:
            params = {}
        received = ReceivedRequest(
            method=request.method,
            path=request.url.path,
            params=params if isinstance(params, dict) else {},
            idempotency_key=request.headers.get("Idempotency-Key"),
            headers=dict(request.headers),
        )
        self.requests.append(received)
        async with self._arrival:
            self._arrival.notify_all()
        return received

    def _work_for(self, path: str, received: ReceivedRequest) -> _Work:
        """Do the work, or find what was done for the same key; nothing is awaited, so nothing is done twice."""
        key = (path, received.idempotency_key or "")
        known = self._works.get(key) if received.idempotency_key and self._honours_idempotency_key else None
        if known is not None:
            return known
        work, cost = _WORKS[path](self, received.params)
        self._works[key] = work
        self.charges.append(Charge(path=path, idempotency_key=received.idempotency_key, cost=cost))
        return work

    # The work itself

    def _prospect(self, params: dict[str, Any]) -> tuple[_Work, Decimal]:
        found = self._count_in(params)
        run_id, cost = self._new_id("run", counting=found), self._prices.prospect * found
        prospects = [_company(number) for number in range(found)]
        verified = found * 4 // 5
        for number, prospect in enumerate(prospects):
            prospect["verified"] = number < verified
        result = {"runId": run_id, "found": found, "verified": verified, "cost": float(cost), "prospects": prospects}
        return _Work(result=result, companies=_names(prospects)), cost

    def _analyze(self, params: dict[str, Any]) -> tuple[_Work, Decimal]:
        analyzed = self._count_in(params)
        run_id, cost = self._new_id("analysis", counting=analyzed), self._prices.lead * analyzed
        grade_a, grade_b = analyzed * 3 // 10, analyzed // 2
        grades = "A" * grade_a + "B" * grade_b + "C" * (analyzed - grade_a - grade_b)
        result = {
            "runId": run_id,
            "analyzed": analyzed,
            "gradeA": grades.count("A"),
            "gradeB": grades.count("B"),
            "gradeC": grades.count("C"),
            "cost": float(cost),
            "leads": [{**_company(number), "grade": grade} for number, grade in enumerate(grades)],
        }
        work = _Work(result=result, job_id=self._new_id("job", counting=analyzed))
        self._jobs[work.job_id] = work
        return work, cost

    def _compose(self, params: dict[str, Any]) -> tuple[_Work, Decimal]:
        composed = self._count_in(params)
        ready = composed - composed // 10
        batch_id, cost = self._new_id("batch", counting=ready), self._prices.mail * composed
        result = {"batchId": batch_id, "composed": composed, "ready": ready, "avgQuality": 87.5, "cost": float(cost)}
        return _Work(result=result, companies=_names(_company(number) for number in range(composed))), cost

    def _send(self, params: dict[str, Any]) -> tuple[_Work, Decimal]:
        sent = self._count_in(params)
        self.mails += [_company(number)["email"] for number in range(sent)]
        return _Work(result={"sent": sent, "failed": 0, "queued": 0, "cost": 0}), Decimal(0)

    def _count_in(self, params: dict[str, Any]) -> int:
        """Return how many companies a request is about: a list, the id of earlier work, a number, or the default."""
        options = params.get("options")
        both = {**(options if isinstance(options, dict) else {}), **params}
        for key in ("prospects", "leads", "companies", "emails"):
            if isinstance(both.get(key), list):
                return len(both[key])
        for key in ("runId", "batchId"):
            if isinstance(both.get(key), str) and both[key] in self._counts:
                return self._counts[both[key]]
        for key in ("count", "limit"):
            if isinstance(both.get(key), int) and 0 <= both[key] <= _MAX_COUNT:
                return int(both[key])
        return self._default_count

    def _new_id(self, kind: str, *, counting: int) -> str:
        self._last_id += 1
        new_id = f"{kind}-{self._last_id:04}"
        self._counts[new_id] = counting
        return new_id

    # The shapes of the answers

    async def _as_stream(self, request: Request, work: _Work, fault: Fault | None) -> Response:
        cut = fault.events_before_cut if fault is not None else None

        async def events() -> AsyncIterator[bytes]:
            yield b": connected\n\n"
            for number, event in enumerate(_events(work)):
                if number == cut:
                    drop_connection(request.scope)
                    return
                await asyncio.sleep(self.pace)
                yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()

        return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    async def _as_job(self, request: Request, work: _Work, fault: Fault | None) -> Response:
        return JSONResponse({"jobId": work.job_id, "status": "queued"}, status_code=202, headers=self._when_to_ask)

    async def _as_json(self, request: Request, work: _Work, fault: Fault | None) -> Response:
        await self._pause(request)
        return JSONResponse(work.result)

    async def _pause(self, request: Request) -> None:
        """Take the time that work takes, or less if the client does not wait for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.pace):
                while (await request.receive())["type"] != "http.disconnect":
                    continue


_WORKS: Mapping[str, Callable[[DemoEngines, dict[str, Any]], tuple[_Work, Decimal]]] = {
    PROSPECT: DemoEngines._prospect,
    ANALYZE: DemoEngines._analyze,
    COMPOSE: DemoEngines._compose,
    SEND: DemoEngines._send,
}
_ANSWERS = {
    PROSPECT: DemoEngines._as_stream,
    ANALYZE: DemoEngines._as_job,
    COMPOSE: DemoEngines._as_stream,
    SEND: DemoEngines._as_json,
}


def _events(work: _Work) -> Iterable[dict[str, Any]]:
    total = len(work.companies)
    yield {"type": "started", "message": f"{total} companies"}
    yield {"type": "step_start", "step": "companies", "currentStep": 0, "totalSteps": total}
    for number, company in enumerate(work.companies, start=1):
        yield {"type": "company_processed", "company": company, "currentStep": number, "totalSteps": total}
    yield {"type": "progress", "message": "saving", "progress": 100}
    yield {"type": "step_complete", "step": "companies"}
    yield {"type": "complete", "results": work.result}


def _company(number: int) -> dict[str, Any]:
    name = _COMPANIES[number % len(_COMPANIES)]
    if number >= len(_COMPANIES):
        name = f"{name} {number // len(_COMPANIES) + 1}"
    # RFC 2606: nobody will ever own a name under .example.
    return {"company": name, "email": f"hello@{slugify(name)}.example"}


def _names(companies: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(company["company"] for company in companies)
