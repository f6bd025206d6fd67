import json
from collections.abc import AsyncIterator

import httpx
import pytest
from raw_http import STREAM_END, STREAM_HEAD, Connection, chunk, raw_server, saying

from prefect_campaigns.costs import read_cost
from prefect_campaigns.errors import EngineAnswerInvalid, EngineAnswerLost, EngineReportedFailure
from prefect_campaigns.flows.exchange import EngineRequest, ExchangeLimits, Progress, call_engine, new_client


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with new_client() as client:
        yield client


def request_to(url: str) -> EngineRequest:
    return EngineRequest(method="POST", url=f"{url}/api/prospect", params={}, idempotency_key="key", timeout_seconds=20)


def event(**said: object) -> bytes:
    return f"data: {json.dumps(said, ensure_ascii=False)}\n\n".encode()


def stream(*events: bytes) -> list[bytes]:
    return [STREAM_HEAD, *(chunk(piece) for piece in events), STREAM_END]


FANCY = (
    "\ufeff: welcome\r\n\r\n"
    'event: started\r\nid: 1\r\ndata: {"type": "started", "message": "Café 🍕"}\r\n\r\n'
    ": ping\r\r"
    'data: {"type": "company_processed",\rdata:  "company": "Zürich\u2028Grill", "currentStep": 1, "totalSteps": 2}\r\r'
    'data: {"type": "error", "company": "Old Mill", "error": "no\\nmail address"}\n\n'
    "data: [DONE]\n\n"
    'data: {"type": "nobody-knows"}\n\n'
    "retry: 5\n"
    'data: {"type": "progress", "message": "saving", "progress": 75}\n\n'
    'event: complete\ndata: {"results":\ndata: {"found": 2, "cost": "0.0048", "city": "饭店"}}\r\n\r\n'
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
async def test_a_stream_cut_anywhere_reads_like_the_whole(client: httpx.AsyncClient, size: int) -> None:
    whole = FANCY.encode()
    pieces = [whole[index : index + size] for index in range(0, len(whole), size)]
    shown: list[Progress] = []

    async def show(progress: Progress) -> None:
        shown.append(progress)

    async with raw_server(saying(*stream(*pieces))) as server:
        answer = await call_engine(client, request_to(server.url), on_progress=show)
    assert answer.result == {"found": 2, "cost": "0.0048", "city": "饭店"}
    assert answer.warnings == ("Old Mill: no mail address",)
    assert shown == [
        Progress(message="Café 🍕", fraction=None),
        Progress(message="Zürich Grill", fraction=0.5),
        Progress(message="saving", fraction=0.75),
    ]


@pytest.mark.parametrize(
    ("complete", "result", "cost"),
    [
        # the result is under results, or beside the type
        ({"results": {"found": 1, "cost": 0.1}}, {"found": 1, "cost": 0.1}, "0.1"),
        ({"found": 1, "cost": 0.1}, {"found": 1, "cost": 0.1}, "0.1"),
        ({"results": None, "found": 1}, {"results": None, "found": 1}, None),
        ({}, {}, None),
        ({"results": {}}, {}, None),
        ({"message": "bye", "results": {"found": 1}}, {"found": 1}, None),
        # a cost beside results is part of the result, and overrules one within it
        ({"cost": 0.2, "results": {"found": 1}}, {"found": 1, "cost": 0.2}, "0.2"),
        ({"totalCost": 0.2, "results": {"cost": 0.1}}, {"totalCost": 0.2}, "0.2"),
        # results that are a list
        ({"results": [{"company": "A"}]}, [{"company": "A"}], None),
        ({"results": ["A"], "cost": 1}, {"results": ["A"], "cost": 1}, "1"),
    ],
)
async def test_the_complete_event_holds_the_result(
    client: httpx.AsyncClient, complete: dict[str, object], result: object, cost: str | None
) -> None:
    async with raw_server(saying(*stream(event(type="complete", **complete)))) as server:
        answer = await call_engine(client, request_to(server.url))
    assert answer.result == result
    found = read_cost(answer.result, cost_path=None)
    assert (None if found is None else str(found)) == cost


async def test_nothing_behind_complete_is_waited_for(client: httpx.AsyncClient) -> None:
    async def keeps_talking(connection: Connection) -> None:
        await connection.say(STREAM_HEAD, chunk(event(type="complete", found=1)))
        # Were the client to wait for the end, both would wait for ever.
        await connection.until_client_leaves()

    async with raw_server(keeps_talking) as server:
        assert (await call_engine(client, request_to(server.url))).result == {"found": 1}


@pytest.mark.parametrize("ending", ["\n", ""])
async def test_a_last_event_without_its_blank_line_counts_if_it_is_whole(
    client: httpx.AsyncClient, ending: str
) -> None:
    last = f'data: {{"type": "complete", "found": 1}}{ending}'.encode()
    async with raw_server(saying(*stream(last))) as server:
        assert (await call_engine(client, request_to(server.url))).result == {"found": 1}


@pytest.mark.parametrize(
    ("events", "words", "cost"),
    [
        # errors and no complete: the last one says why
        ([event(type="error", error="first"), event(type="error", message="second")], "second", None),
        # and what it cost is not lost
        ([event(type="error", error="no credit", cost=0.5)], "no credit", "0.5"),
        ([event(type="error", error="a", cost=0.5), event(type="error", error="b")], "b", "0.5"),
        ([event(type="error")], "an error without a word", None),
        # a complete that says it is none
        ([event(type="complete", success=False, error="no credit", cost=0.5)], "no credit", "0.5"),
        ([event(type="complete", results={"success": False, "error": "no credit", "cost": 2})], "no credit", "2"),
        ([event(type="complete", success=False)], "it does not say why", None),
    ],
)
async def test_a_stream_that_tells_of_failure_is_one(
    client: httpx.AsyncClient, events: list[bytes], words: str, cost: str | None
) -> None:
    async with raw_server(saying(*stream(*events))) as server:
        with pytest.raises(EngineReportedFailure) as caught:
            await call_engine(client, request_to(server.url))
    assert str(caught.value) == f"{server.url}/api/prospect failed: {words}"
    # Without a complete event nobody knows what had been done by then.
    assert caught.value.ambiguous is not any(b'"complete"' in one for one in events)
    found = read_cost(caught.value.payload, cost_path=None)
    assert (None if found is None else str(found)) == cost


@pytest.mark.parametrize(
    "last",
    [
        b'data: {"type": "complete", "found": 1, }\n\n',
        b'data: {"type": "complete", "deep": ' + b"[" * 500 + b"]" * 500 + b"}\n\n",
    ],
)
async def test_a_last_event_that_is_whole_and_no_json_is_not_taken_for_a_cut(
    client: httpx.AsyncClient, last: bytes
) -> None:
    warning = event(type="error", error="one company")
    async with raw_server(saying(*stream(b"data: {broken\n\n", warning, last))) as server:
        with pytest.raises(EngineAnswerInvalid, match="with an event that is no usable JSON") as caught:
            await call_engine(client, request_to(server.url))
    assert not caught.value.retryable


async def test_an_event_that_is_cut_where_the_stream_ends_is_lost(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(*stream(event(type="started"), b'data: {"type": "comp'))) as server:
        with pytest.raises(EngineAnswerLost, match="without a complete event"):
            await call_engine(client, request_to(server.url))


async def test_warnings_are_kept_up_to_a_limit(client: httpx.AsyncClient) -> None:
    errors = [event(type="error", error=f"no {number}") for number in range(150)]
    async with raw_server(saying(*stream(*errors, event(type="complete", found=1)))) as server:
        answer = await call_engine(client, request_to(server.url))
    assert len(answer.warnings) == 101
    assert answer.warnings[-1] == "and 50 more warnings"


async def test_progress_that_cannot_be_shown_spoils_nothing(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(progress: Progress) -> None:
        raise RuntimeError("the screen is dark")

    async with raw_server(saying(*stream(event(type="started"), event(type="complete", found=1)))) as server:
        answer = await call_engine(client, request_to(server.url), on_progress=broken)
    assert answer.result == {"found": 1}
    assert "progress could not be shown: started" in caplog.text


async def test_an_event_without_end_is_refused(client: httpx.AsyncClient) -> None:
    async def flood(connection: Connection) -> None:
        await connection.say(STREAM_HEAD, chunk(b"data: "))
        piece = chunk(b"x" * 1_000_000)
        for _ in range(100):
            try:
                await connection.say(piece)
            except ConnectionError:
                return

    async with raw_server(flood) as server:
        with pytest.raises(EngineAnswerInvalid, match="an event of more than 3,000,000 bytes"):
            await call_engine(client, request_to(server.url), limits=ExchangeLimits(max_answer_bytes=3_000_000))


async def test_the_charset_of_the_header_changes_nothing(client: httpx.AsyncClient) -> None:
    head = STREAM_HEAD.replace(b"charset=utf-8", b"charset=iso-8859-1").replace(b"text/event", b"Text/Event")
    async with raw_server(saying(head, chunk(event(type="complete", city="Málaga")), STREAM_END)) as server:
        assert (await call_engine(client, request_to(server.url))).result == {"city": "Málaga"}
