import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import httpx
import pytest

from prefect_campaigns.costs import read_cost
from prefect_campaigns.counts import read_counts
from prefect_campaigns.deployments.demo.engines import (
    ANALYZE,
    ANALYZE_JOB,
    COMPOSE,
    HEALTH,
    PROSPECT,
    SEND,
    DemoEngines,
    Prices,
)
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.errors import (
    EngineAnswerInvalid,
    EngineAnswerLost,
    EngineError,
    EngineRefused,
    EngineReportedFailure,
    EngineUnreachable,
)
from prefect_campaigns.flows.exchange import EngineAnswer, EngineRequest, PollPace, Progress, call_engine, new_client

FAST = PollPace(first_seconds=0.001, longest_seconds=0.005, shortest_seconds=0.001)


class Caller:
    """Calls demo engines as a step does."""

    def __init__(self, engines: DemoEngines, client: httpx.AsyncClient, url: str) -> None:
        self.engines = engines
        self.url = url
        self.shown: list[Progress] = []
        self._client = client

    async def __call__(self, path: str, *, key: str = "key", **params: object) -> EngineAnswer:
        request = EngineRequest(
            method="POST", url=f"{self.url}{path}", params=params, idempotency_key=key, timeout_seconds=20
        )

        async def show(progress: Progress) -> None:
            self.shown.append(progress)

        return await call_engine(self._client, request, on_progress=show, pace=FAST)


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    engines = DemoEngines()
    async with serve(engines) as url, new_client() as client:
        yield Caller(engines, client, url)


async def test_a_whole_campaign_goes_through_all_engines_and_every_shape_of_answer(caller: Caller) -> None:
    prospects = (await caller(PROSPECT, count=10)).result
    leads = (await caller(ANALYZE, runId=prospects["runId"])).result
    batch = (await caller(COMPOSE, leads=leads["leads"])).result
    sent = (await caller(SEND, batchId=batch["batchId"])).result

    assert read_counts("prospecting", False, prospects) == {"prospects_generated": 10, "prospects_verified": 8}
    assert read_counts("analysis", False, leads) == {"leads_analyzed": 10, "grade_a": 3, "grade_b": 5, "grade_c": 2}
    assert read_counts("outreach", False, batch) == {"emails_composed": 10, "emails_ready": 9, "avg_quality": 87.5}
    assert read_counts("sender", True, sent) == {"emails_sent": 9, "emails_failed": 0, "emails_queued": 0}
    costs = [read_cost(result, cost_path=None) for result in (prospects, leads, batch, sent)]
    assert costs == [Decimal("0.024"), Decimal("0.03"), Decimal("0.02"), Decimal(0)]
    assert caller.engines.charged == Decimal("0.074")
    assert len(caller.engines.mails) == len(set(caller.engines.mails)) == 9
    assert prospects["prospects"][0] == {
        "company": "Blue Door Bistro",
        "email": "hello@blue-door-bistro.example",
        "verified": True,
    }
    fractions = [progress.fraction for progress in caller.shown if progress.fraction is not None]
    assert fractions
    assert all(0 <= fraction <= 1 for fraction in fractions)


@pytest.mark.parametrize("path", [PROSPECT, ANALYZE, COMPOSE, SEND])
async def test_a_known_key_gets_the_same_answer_without_new_work(caller: Caller, path: str) -> None:
    first = await caller(path, key="a", count=3)
    again = await caller(path, key="a", count=3)
    other = await caller(path, key="b", count=3)
    assert first.result == again.result
    assert [charge.idempotency_key for charge in caller.engines.charges] == ["a", "b"]
    assert len(caller.engines.requests_to(path)) == 3
    assert len(caller.engines.mails) == (6 if path == SEND else 0)
    assert (other.result == first.result) is (path == SEND)


async def test_engines_may_ignore_the_key_and_set_their_prices() -> None:
    engines = DemoEngines(honours_idempotency_key=False, prices=Prices(prospect=Decimal(1)), default_count=2)
    async with serve(engines) as url, new_client() as client:
        caller = Caller(engines, client, url)
        await caller(PROSPECT, key="a")
        await caller(PROSPECT, key="a")
    assert engines.charged == 4


async def test_failures_come_as_ordered_and_then_no_more(caller: Caller) -> None:
    caller.engines.fail_next(PROSPECT, status=503, times=2)
    caller.engines.fail_next(PROSPECT, status=429, retry_after=7, cost=0.01)
    for status in (503, 503, 429):
        with pytest.raises(EngineRefused) as caught:
            await caller(PROSPECT)
        assert caught.value.status_code == status
    assert caught.value.retry_after_seconds == 7
    assert read_cost(caught.value.payload, cost_path=None) == Decimal("0.01")
    assert caller.engines.charges == []
    assert (await caller(PROSPECT)).result["found"] == 20


@pytest.mark.parametrize(
    ("path", "order", "error"),
    [
        (PROSPECT, "lose_next", EngineAnswerLost),
        (ANALYZE, "lose_next", EngineAnswerLost),
        (COMPOSE, "lose_next", EngineAnswerLost),
        (SEND, "lose_next", EngineAnswerLost),
        (PROSPECT, "cut_next", EngineAnswerLost),
        (COMPOSE, "cut_next", EngineAnswerLost),
        (PROSPECT, "garble_next", EngineAnswerInvalid),
        (SEND, "garble_next", EngineAnswerInvalid),
    ],
)
async def test_work_whose_answer_is_lost_is_done_once_and_told_on_asking_again(
    caller: Caller, path: str, order: str, error: type[EngineError]
) -> None:
    getattr(caller.engines, order)(path)
    with pytest.raises(error) as caught:
        await caller(path, count=5)
    assert caught.value.ambiguous
    assert len(caller.engines.charges) == 1
    await caller(path, count=5)
    assert len(caller.engines.charges) == 1
    assert len(caller.engines.mails) == (5 if path == SEND else 0)


@pytest.mark.parametrize("after_work", [True, False])
async def test_an_engine_that_hangs_is_left_by_its_client(caller: Caller, after_work: bool) -> None:
    caller.engines.hang_next(SEND, after_work=after_work)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await caller(SEND, count=2)
    assert len(caller.engines.mails) == (2 if after_work else 0)


async def test_a_job_survives_polls_that_fail(caller: Caller) -> None:
    caller.engines.fail_next(ANALYZE_JOB, status=503, times=2)
    caller.engines.lose_next(ANALYZE_JOB)
    assert (await caller(ANALYZE, count=4)).result["analyzed"] == 4
    assert len(caller.engines.requests_to(ANALYZE)) == 1
    assert len(caller.engines.charges) == 1


async def test_any_answer_can_be_ordered(caller: Caller) -> None:
    caller.engines.answer_next(SEND, {"sent": 1, "cost": -1})
    assert (await caller(SEND)).result == {"sent": 1, "cost": -1}
    caller.engines.answer_next(ANALYZE_JOB, {"status": "failed", "error": "no credit"})
    with pytest.raises(EngineReportedFailure, match="no credit"):
        await caller(ANALYZE)


async def test_each_engine_can_have_a_port_of_its_own() -> None:
    engines = DemoEngines()
    async with (
        serve(engines.app("prospecting")) as prospecting,
        serve(engines.app("outreach")) as outreach,
        httpx.AsyncClient() as client,
    ):
        for url, name in ((prospecting, "prospecting"), (outreach, "outreach")):
            answer = await client.get(f"{url}{HEALTH}")
            assert answer.json() == {"status": "healthy", "service": name}
        assert (await client.post(f"{outreach}{PROSPECT}")).status_code == 404
        assert (await client.post(f"{prospecting}{PROSPECT}", json={"count": 1})).status_code == 200
    assert [request.path for request in engines.requests] == [PROSPECT]


async def test_serving_ends_at_once_even_while_a_client_waits() -> None:
    engines = DemoEngines(pace=60)
    async with new_client() as client:
        async with serve(engines) as url:
            waiting = asyncio.create_task(Caller(engines, client, url)(SEND))
            assert (await engines.nth_request(1)).path == SEND
        with pytest.raises(EngineAnswerLost):
            await waiting
        with pytest.raises(EngineUnreachable):
            await Caller(engines, client, url)(SEND)


async def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    engines = DemoEngines()
    async with serve(engines) as url:
        with pytest.raises(OSError, match="in use"):
            async with serve(engines, port=int(url.rsplit(":", 1)[1])):
                raise AssertionError("two servers on one port")
