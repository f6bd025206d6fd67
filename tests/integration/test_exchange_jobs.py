import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise

import httpx
import pytest
from raw_http import Connection, Handler, http, json_answer, raw_server, saying

from prefect_campaigns.costs import read_cost
from prefect_campaigns.errors import EngineAnswerInvalid, EngineAnswerLost, EngineReportedFailure
from prefect_campaigns.flows.exchange import EngineAnswer, EngineRequest, PollPace, Progress, call_engine, new_client

FAST = PollPace(first_seconds=0.001, longest_seconds=0.005, shortest_seconds=0.001)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with new_client() as client:
        yield client


def said(body: object, *, status: str = "200 OK", headers: list[str] | None = None) -> Handler:
    return saying(json_answer(json.dumps(body).encode(), status=status, headers=headers or []))


async def call(client: httpx.AsyncClient, url: str, shown: list[Progress] | None = None) -> EngineAnswer:
    async def show(progress: Progress) -> None:
        if shown is not None:
            shown.append(progress)

    request = EngineRequest(
        method="POST", url=f"{url}/api/analyze", params={"a": 1}, idempotency_key="key", timeout_seconds=20
    )
    return await call_engine(client, request, on_progress=show, pace=FAST)


def targets(heads: list[str]) -> list[str]:
    return [" ".join(head.split(" ")[:2]) for head in heads]


@pytest.mark.parametrize(
    ("body", "status", "headers", "polled"),
    [
        ({"jobId": "j1"}, "202 Accepted", [], "/api/analyze/j1"),
        ({"jobId": "j1", "status": "queued"}, "200 OK", [], "/api/analyze/j1"),
        ({"job_id": 7}, "200 OK", [], "/api/analyze/7"),
        ({"job_ids": ["j1"]}, "200 OK", [], "/api/analyze/j1"),
        ({"batchId": "b1", "status": "processing"}, "200 OK", [], "/api/analyze/b1"),
        ({"batchId": "b1"}, "200 OK", [], "/api/analyze/b1"),
        ({"id": "i1", "status": "pending"}, "201 Created", [], "/api/analyze/i1"),
        ({"jobId": "j1", "statusUrl": "/api/jobs/1?full=1"}, "202 Accepted", [], "/api/jobs/1?full=1"),
        ({"jobId": "j1", "status_url": "jobs/1"}, "202 Accepted", [], "/api/jobs/1"),
        ({"jobId": "j1", "statusUrl": "/b"}, "202 Accepted", ["Location: /a"], "/a"),
        ({}, "202 Accepted", ["Location: /a"], "/a"),
    ],
)
async def test_a_job_is_polled_until_its_body_is_the_result(
    client: httpx.AsyncClient, body: object, status: str, headers: list[str], polled: str
) -> None:
    shown: list[Progress] = []
    async with raw_server(
        said(body, status=status, headers=headers),
        said({"status": "queued"}),
        said({"status": "running", "progress": 0.25, "message": "grading"}),
        said({"status": "processing", "progress": 50}),
        said({"status": "completed", "analyzed": 20, "cost": 0.06}),
    ) as server:
        answer = await call(client, server.url, shown)
    assert answer.result == {"status": "completed", "analyzed": 20, "cost": 0.06}
    assert answer.status_code == 200
    assert targets(server.heads) == ["POST /api/analyze", *[f"GET {polled}"] * 4]
    # Polls repeat no work and carry none.
    assert server.bodies[1:] == [b""] * 4
    assert shown == [
        Progress(message="queued", fraction=None),
        Progress(message="grading", fraction=0.25),
        Progress(message="processing", fraction=0.5),
    ]


async def reset(connection: Connection) -> None:
    connection.reset()


async def test_polls_that_fail_in_passing_are_made_again_and_the_work_is_not(client: httpx.AsyncClient) -> None:
    async with raw_server(
        said({"jobId": "j"}, status="202 Accepted"),
        reset,
        saying(),
        said({"error": "busy"}, status="503 Service Unavailable"),
        said({"status": "failed"}, status="500 Internal Server Error"),  # the poll failed, not the job
        said({}, status="429 Too Many Requests"),
        said({}, status="408 Request Timeout"),
        said({}, status="425 Too Early"),
        saying(http("200 OK", headers=["Content-Type: application/json"], body=b'{"sta', length=999)),
        saying(http("204 No Content")),
        said({"status": "completed", "analyzed": 1}),
    ) as server:
        answer = await call(client, server.url)
    assert answer.result == {"status": "completed", "analyzed": 1}
    assert targets(server.heads) == ["POST /api/analyze", *["GET /api/analyze/j"] * 10]


@pytest.mark.parametrize(
    ("poll", "words"),
    [
        ({"status": "failed", "error": "no credit", "cost": 0.5}, "no credit"),
        ({"status": "cancelled", "message": "by hand", "cost": 0.5}, "by hand"),
        ({"status": "completed", "success": False, "error": "no credit", "cost": 0.5}, "no credit"),
        ({"status": "FAILED", "cost": 0.5}, "its status is failed"),
    ],
)
async def test_a_job_that_failed_says_why_and_what_it_cost(
    client: httpx.AsyncClient, poll: dict[str, object], words: str
) -> None:
    async with raw_server(said({"jobId": "j"}), said(poll)) as server:
        with pytest.raises(EngineReportedFailure) as caught:
            await call(client, server.url)
    assert str(caught.value) == f"the job at {server.url}/api/analyze/j failed: {words}"
    assert str(read_cost(caught.value.payload, cost_path=None)) == "0.5"


@pytest.mark.parametrize("status", ["404 Not Found", "403 Forbidden", "410 Gone", "303 See Other"])
async def test_a_job_nobody_can_ask_for_may_be_going_on_and_is_not_started_again(
    client: httpx.AsyncClient, status: str
) -> None:
    async with raw_server(said({"jobId": "j"}), said({}, status=status)) as server:
        with pytest.raises(EngineAnswerLost, match=f"took a job and answered {status[:3]}") as caught:
            await call(client, server.url)
    assert caught.value.ambiguous
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("first", "complaint"),
    [
        (said({}, status="202 Accepted", headers=["Location: http://evil.example/x?key=1"]), "http://evil.example/x;"),
        (said({"jobId": "j", "statusUrl": "https://evil.example/x"}), "only the endpoint's own origin"),
        (said({"message": "thanks"}, status="202 Accepted"), "does not say where to ask"),
        (saying(http("202 Accepted")), "does not say where to ask"),
    ],
)
async def test_a_job_that_may_not_be_asked_for_is_not(
    client: httpx.AsyncClient, first: Handler, complaint: str
) -> None:
    async with raw_server(first) as server:
        with pytest.raises(EngineAnswerInvalid, match=complaint) as caught:
            await call(client, server.url)
    assert len(server.heads) == 1
    assert caught.value.ambiguous


async def test_a_poll_that_is_no_json_is_told_at_once(client: httpx.AsyncClient) -> None:
    page = saying(http("200 OK", headers=["Content-Type: text/html"], body=b"<p>log in</p>"))
    async with raw_server(said({"jobId": "j"}), page) as server:
        with pytest.raises(EngineAnswerInvalid, match="answered a poll with what is no JSON"):
            await call(client, server.url)


async def test_the_engine_sets_the_next_poll(client: httpx.AsyncClient) -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    def noting(handler: Handler) -> Handler:
        async def handle(connection: Connection) -> None:
            times.append(loop.time())
            await handler(connection)

        return handle

    async with raw_server(
        noting(said({"jobId": "j"}, headers=["Retry-After: 0.2"])),
        noting(said({"status": "running"}, headers=["Retry-After: 0.3"])),
        noting(said({"status": "running"}, headers=["Retry-After: 0"])),
        noting(said({"status": "completed"})),
    ) as server:
        await call(client, server.url)
    first, second, third = (later - earlier for earlier, later in pairwise(times))
    assert first >= 0.2
    assert second >= 0.3
    assert third < 0.2


async def test_several_jobs_are_all_waited_for_and_add_up(client: httpx.AsyncClient) -> None:
    shown: list[Progress] = []
    async with raw_server(
        said({"job_ids": ["a", "b"]}),
        said({"status": "completed", "analyzed": 8, "cost": 0.1, "leads": [1]}),
        said({"status": "running", "progress": 50}),
        said({"status": "completed", "analyzed": 2, "cost": 0.2, "leads": [2]}),
    ) as server:
        answer = await call(client, server.url, shown)
    assert targets(server.heads) == [
        "POST /api/analyze",
        "GET /api/analyze/a",
        "GET /api/analyze/b",
        "GET /api/analyze/b",
    ]
    assert (answer.result["analyzed"], answer.result["cost"], answer.result["leads"]) == (10, 0.3, [1, 2])
    assert shown == [Progress(message="1 of 2 jobs done", fraction=0.75)]


async def test_a_failed_job_is_told_when_the_others_have_ended_and_with_what_all_cost(
    client: httpx.AsyncClient,
) -> None:
    async with raw_server(
        said({"job_ids": ["a", "b"]}),
        said({"status": "failed", "error": "no credit", "cost": 0.1}),
        said({"status": "running"}),
        said({"status": "completed", "cost": 0.2}),
    ) as server:
        with pytest.raises(EngineReportedFailure, match="/api/analyze/a failed: no credit") as caught:
            await call(client, server.url)
    assert str(read_cost(caught.value.payload, cost_path=None)) == "0.3"


async def test_a_job_that_never_ends_is_given_up_at_the_callers_limit(client: httpx.AsyncClient) -> None:
    async with raw_server(said({"jobId": "j"}), said({"status": "running"})) as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await call(client, server.url)
    assert len(server.heads) > 2
    assert targets(server.heads).count("POST /api/analyze") == 1


async def test_a_call_cancelled_at_any_moment_leaves_no_connection_open(client: httpx.AsyncClient) -> None:
    async def endless_job(connection: Connection) -> None:
        started = connection.head.startswith("POST")
        await said({"jobId": "j"} if started else {"status": "running"})(connection)

    # The server itself fails the test when one stays open.
    async with raw_server(endless_job) as server:
        for turns in range(200):
            calling = asyncio.create_task(call(client, server.url))
            for _ in range(turns % 100):
                await asyncio.sleep(0)
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling


async def test_more_jobs_than_anybody_would_ask_for_are_refused(client: httpx.AsyncClient) -> None:
    async with raw_server(said({"job_ids": list(range(1_001))})) as server:
        with pytest.raises(EngineAnswerInvalid, match="took 1,001 jobs at once; at most 1,000 are asked for"):
            await call(client, server.url)
    assert len(server.heads) == 1


async def test_costs_and_counts_too_large_to_add_are_still_json(client: httpx.AsyncClient) -> None:
    large = {"status": "completed", "found": 1.7e308, "avgQuality": 1.7e308}
    async with raw_server(said({"job_ids": ["a", "b"]}), said(large), said(large)) as server:
        answer = await call(client, server.url)
    assert json.dumps(answer.result, allow_nan=False)
