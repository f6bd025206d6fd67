import asyncio
import json
import socket
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from raw_http import STREAM_END, STREAM_HEAD, Connection, chunk, http, json_answer, raw_server, saying

from prefect_campaigns.errors import (
    EngineAnswerInvalid,
    EngineAnswerLost,
    EngineRefused,
    EngineReportedFailure,
    EngineUnreachable,
)
from prefect_campaigns.flows import bodies
from prefect_campaigns.flows.exchange import EngineRequest, call_engine, new_client


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with new_client() as client:
        yield client


def request_to(url: str, *, method: str = "POST", timeout_seconds: float = 20, **params: object) -> EngineRequest:
    return EngineRequest(
        method=method, url=url, params=params, idempotency_key="run-1/step-1", timeout_seconds=timeout_seconds
    )


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# What is sent


async def test_a_request_is_json_with_an_idempotency_key_on_a_connection_of_its_own(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(json_answer(b'{"found": 1}'))) as server:
        answer = await call_engine(client, request_to(f"{server.url}/api/prospect", city="Málaga", count=3))
        await call_engine(client, request_to(f"{server.url}/api/prospect"))
    assert (answer.result, answer.warnings, answer.status_code) == ({"found": 1}, (), 200)
    head = server.heads[0].lower()
    assert head.startswith("post /api/prospect http/1.1")
    for line in (
        "content-type: application/json",
        "idempotency-key: run-1/step-1",
        "connection: close",
        "user-agent: prefect-campaigns/",
        "accept: text/event-stream, application/json",
    ):
        assert f"\r\n{line}" in head
    assert json.loads(server.bodies[0]) == {"city": "Málaga", "count": 3}
    assert len(server.heads) == 2


async def test_a_get_sends_its_params_as_a_query_and_keeps_the_one_it_has(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(json_answer(b"{}"))) as server:
        await call_engine(
            client,
            request_to(
                f"{server.url}/api/stats?key=1",
                method="GET",
                city="São Paulo",
                deep=True,
                limit=3,
                tags=["a", "b"],
                options={"projectId": 7},
                absent=None,
            ),
        )
    target = httpx.URL(server.url + server.heads[0].split(" ")[1])
    assert server.heads[0].startswith("GET /api/stats?")
    assert server.bodies == [b""]
    assert dict(target.params) == {
        "key": "1",
        "city": "São Paulo",
        "deep": "true",
        "limit": "3",
        "tags": '["a","b"]',
        "options": '{"projectId":7}',
    }


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_other_methods_send_json_too(client: httpx.AsyncClient, method: str) -> None:
    async with raw_server(saying(json_answer(b"{}"))) as server:
        await call_engine(client, request_to(server.url, method=method, a=1))
    assert server.heads[0].startswith(f"{method} / ")
    assert json.loads(server.bodies[0]) == {"a": 1}


# JSON answers


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (json_answer(b'{"found": 20, "cost": 0.024}'), {"found": 20, "cost": 0.024}),
        (json_answer(b'[{"company": "A"}]'), [{"company": "A"}]),
        (http("200 OK", body=b'{"found": 20}'), {"found": 20}),  # no content type
        (http("200 OK", headers=["Content-Type: text/plain"], body=b'{"found": 20}'), {"found": 20}),
        (json_answer(b'{"id": 5, "status": "created"}', status="201 Created"), {"id": 5, "status": "created"}),
        (json_answer(b'\xef\xbb\xbf{"found": 20}'), {"found": 20}),
        (json_answer(b'{"cost": NaN}'), {"cost": "NaN"}),
        # nothing is an empty result
        (b"HTTP/1.1 204 No Content\r\n\r\n", {}),
        (json_answer(b""), {}),
        (json_answer(b" \n"), {}),
        # a body that ends with the connection, as HTTP/1.0 has it
        (b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"found": 1}', {"found": 1}),
        # composing carries the id of its batch and is done
        (
            json_answer(b'{"batchId": "b", "composed": 20, "cost": 0.04}'),
            {"batchId": "b", "composed": 20, "cost": 0.04},
        ),
    ],
)
async def test_a_json_body_is_the_result(client: httpx.AsyncClient, answer: bytes, expected: object) -> None:
    async with raw_server(saying(answer)) as server:
        assert (await call_engine(client, request_to(server.url))).result == expected


async def test_an_error_beside_a_result_is_a_warning(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(json_answer(b'{"sent": 19, "error": "one bounced"}'))) as server:
        answer = await call_engine(client, request_to(server.url))
    assert (answer.result["sent"], answer.warnings) == (19, ("one bounced",))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"success": false, "error": "no\\ncredit", "cost": 0.01}', "no credit"),
        (b'{"success": false, "message": "no credit"}', "no credit"),
        (b'{"success": false}', "it does not say why"),
        (b'{"error": "no credit"}', "no credit"),
        (b'{"status": "failed", "detail": "no credit"}', "no credit"),
    ],
)
async def test_a_success_that_says_it_is_none_is_a_failure(client: httpx.AsyncClient, body: bytes, words: str) -> None:
    async with raw_server(saying(json_answer(body))) as server:
        with pytest.raises(EngineReportedFailure) as caught:
            await call_engine(client, request_to(f"{server.url}/api/send-batch?key=secret"))
    assert str(caught.value) == f"{server.url}/api/send-batch failed: {words}"
    assert caught.value.payload == json.loads(body)
    assert caught.value.status_code == 200
    assert not caught.value.ambiguous


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (http("200 OK", headers=["Content-Type: text/html"], body=b"<h1>Hello</h1>"), "with text/html that is no"),
        (json_answer(b'{"found": 20, "veri'), "line 1 column"),
        (json_answer(b'{"name": "\xff"}'), "no UTF-8"),
        (json_answer(b"[" * 100_000), "nested deeper than"),
        # a Content-Length that is too short leaves half of the body
        (http("200 OK", headers=["Content-Type: application/json"], body=b'{"found": 20}', length=6), "line 1 column"),
        (http("200 OK", headers=["Content-Encoding: gzip"], body=b"this is no gzip"), "does not decompress"),
    ],
)
async def test_an_answer_that_cannot_be_used_says_why_and_is_not_repeated(
    client: httpx.AsyncClient, answer: bytes, complaint: str
) -> None:
    async with raw_server(saying(answer)) as server:
        with pytest.raises(EngineAnswerInvalid, match=complaint) as caught:
            await call_engine(client, request_to(server.url))
    assert caught.value.status_code == 200
    assert not caught.value.retryable
    # The engine worked, and nobody knows what came of it.
    assert caught.value.ambiguous


async def test_a_body_without_end_is_not_read_to_its_end(client: httpx.AsyncClient) -> None:
    async def flood(connection: Connection) -> None:
        piece = chunk(b" " * 1_000_000)
        await connection.say(STREAM_HEAD.replace(b"text/event-stream", b"application/json"))
        with_margin = bodies.MAX_BODY_BYTES // 1_000_000 + 100
        for _ in range(with_margin):
            try:
                await connection.say(piece)
            except ConnectionError:
                return

    async with raw_server(flood) as server:
        with pytest.raises(EngineAnswerInvalid, match="more than 67,108,864 bytes"):
            await call_engine(client, request_to(server.url))


# Refusals


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        ("400 Bad Request", False),
        ("401 Unauthorized", False),
        ("402 Payment Required", False),
        ("404 Not Found", False),
        ("408 Request Timeout", True),
        ("409 Conflict", False),
        ("422 Unprocessable Entity", False),
        ("425 Too Early", True),
        ("429 Too Many Requests", True),
        ("500 Internal Server Error", True),
        ("501 Not Implemented", True),
        ("503 Service Unavailable", True),
        ("599 Odd", True),
        ("304 Not Modified", False),
    ],
)
async def test_a_refusal_tells_whether_asking_again_may_help(
    client: httpx.AsyncClient, status: str, retryable: bool
) -> None:
    async with raw_server(
        saying(json_answer(b"" if status[0] == "3" else b'{"error": "no"}', status=status))
    ) as server:
        with pytest.raises(EngineRefused) as caught:
            await call_engine(client, request_to(server.url))
    assert caught.value.status_code == int(status[:3])
    assert caught.value.retryable is retryable
    # Whatever has a status is not ambiguous.
    assert not caught.value.ambiguous


@pytest.mark.parametrize(
    ("answer", "payload", "words"),
    [
        # the engine's own words, and what the failure cost
        (
            json_answer(b'{"error": "credit\\u0000 spent", "cost": 0.01}', status="402 Payment Required"),
            {"error": "credit\ufffd spent", "cost": 0.01},
            "answered 402: credit\ufffd spent",
        ),
        (
            json_answer(b'{"detail": [{"msg": "field required"}]}', status="422 Unprocessable Entity"),
            {"detail": [{"msg": "field required"}]},
            "answered 422: field required",
        ),
        # plain text is words, a page of HTML is not
        (http("500 Oh No", headers=["Content-Type: text/plain"], body=b"out\nof disk"), None, "500: out of disk"),
        (http("502 Bad Gateway", headers=["Content-Type: text/html"], body=b"<p>x</p>"), None, "502: Bad Gateway"),
        (http("500 Oh No"), None, "answered 500: Oh No"),
        # an error told as an event
        (
            http(
                "500 Oh No",
                headers=["Content-Type: text/event-stream"],
                body=b'data: {"type": "error", "error": "no credit", "cost": 2}\n\n',
            ),
            {"type": "error", "error": "no credit", "cost": 2},
            "answered 500: no credit",
        ),
        # a body that is cut: the status was read, and it decides
        (http("503 Busy", headers=["Content-Type: application/json"], body=b'{"err', length=999), None, "503: Busy"),
        # and words without end are cut
        (json_answer(b'{"error": "%s"}' % (b"x" * 5_000), status="500 Oh No"), ..., "xxxxx…"),
    ],
)
async def test_a_refusal_keeps_what_the_engine_said(
    client: httpx.AsyncClient, answer: bytes, payload: object, words: str
) -> None:
    async with raw_server(saying(answer)) as server:
        with pytest.raises(EngineRefused) as caught:
            await call_engine(client, request_to(server.url))
    assert words in str(caught.value)
    assert len(str(caught.value)) <= 500
    if payload is not ...:
        assert caught.value.payload == payload


async def test_a_refusal_says_how_long_to_wait(client: httpx.AsyncClient) -> None:
    answer = json_answer(b"{}", status="429 Too Many Requests", headers=["Retry-After: 7"])
    async with raw_server(saying(answer)) as server:
        with pytest.raises(EngineRefused) as caught:
            await call_engine(client, request_to(server.url))
    assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("http://elsewhere.example/api?token=secret", "pointed to http://elsewhere.example/api;"),
        ("/moved", "/moved;"),
    ],
)
async def test_a_redirect_is_refused_and_not_followed(client: httpx.AsyncClient, location: str, shown: str) -> None:
    answer = http("307 Temporary Redirect", headers=[f"Location: {location}"])
    async with raw_server(saying(answer)) as server:
        with pytest.raises(EngineRefused) as caught:
            await call_engine(client, request_to(server.url))
    assert len(server.heads) == 1
    assert shown in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not caught.value.retryable


# Did the request leave?


async def reset(connection: Connection) -> None:
    connection.reset()


@pytest.mark.parametrize(
    "handler",
    [
        saying(),  # closes without an answer
        reset,
        saying(b"HTTP/1.1 200 O"),  # half a status line
        saying(b"HTTP/1.1 200 OK\r\nContent-Ty"),  # half a head
        saying(b"SSH-2.0-OpenSSH_9.2\r\n"),  # not HTTP at all
        saying(http("307 Temporary Redirect", headers=["Location: http://[::1"])),  # nor an address
        saying(http("200 OK", body=b'{"found": 20}', length=999)),  # a Content-Length that is too long
        saying(STREAM_HEAD.replace(b"text/event-stream", b"application/json"), chunk(b'{"a": 1}')),  # no last chunk
        saying(STREAM_HEAD, chunk(b'data: {"type": "started"}\n\n')),  # a stream cut between events
        saying(STREAM_HEAD, b"ff\r\ndata: {"),  # and within one
        # an error about one company, and then the line breaks: nobody knows what happened to the others
        saying(STREAM_HEAD, chunk(b'data: {"type": "error", "error": "one company"}\n\n')),
        # a stream that ends well, but without an end
        saying(STREAM_HEAD, chunk(b'data: {"type": "started"}\n\n'), STREAM_END),
        saying(STREAM_HEAD, STREAM_END),
    ],
)
async def test_a_request_that_left_and_was_not_answered_to_the_end_is_ambiguous(
    client: httpx.AsyncClient, handler: object
) -> None:
    async with raw_server(handler) as server:  # type: ignore[arg-type]
        with pytest.raises(EngineAnswerLost) as caught:
            await call_engine(client, request_to(server.url))
    assert caught.value.ambiguous
    assert caught.value.retryable
    assert caught.value.payload is None
    assert server.url in str(caught.value)


@pytest.mark.parametrize(
    ("url", "retryable"),
    [
        ("http://127.0.0.1:{port}/api", True),  # nobody listens
        ("http://nobody.invalid/api", True),  # nobody has that name
        ("ftp://127.0.0.1/api", False),
        ("http://[::1/api", False),
        ("/api/prospect", False),
    ],
)
async def test_a_request_that_never_left_is_not_ambiguous(client: httpx.AsyncClient, url: str, retryable: bool) -> None:
    with pytest.raises(EngineUnreachable) as caught:
        await call_engine(client, request_to(url.format(port=closed_port())))
    assert not caught.value.ambiguous
    assert caught.value.retryable is retryable
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, "\ud800"])
async def test_params_that_are_no_json_never_leave(client: httpx.AsyncClient, value: object) -> None:
    async with raw_server(saying(json_answer(b"{}"))) as server:
        with pytest.raises(EngineUnreachable) as caught:
            await call_engine(client, request_to(server.url, value=value))
    assert server.heads == []
    assert not caught.value.retryable


async def test_tls_that_fails_never_let_the_request_out(client: httpx.AsyncClient) -> None:
    async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"what?\r\n")
        writer.close()
        answered.set()

    answered = asyncio.Event()

    server = await asyncio.start_server(no_tls, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(EngineUnreachable):
            await call_engine(client, request_to(f"https://127.0.0.1:{port}/"))
        await answered.wait()


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    async with raw_server(saying(json_answer(b'{"found": 1}'))) as server, new_client() as client:
        assert (await call_engine(client, request_to(server.url))).result == {"found": 1}
        with pytest.raises(EngineUnreachable):
            await call_engine(client, request_to("http://engine.example/"))


# Time


async def silent(connection: Connection) -> None:
    await connection.until_client_leaves()


async def silent_stream(connection: Connection) -> None:
    await connection.say(STREAM_HEAD, chunk(b'data: {"type": "started"}\n\n'))
    await connection.until_client_leaves()


async def half_a_body(connection: Connection) -> None:
    await connection.say(http("200 OK", body=b'{"found"', length=999))
    await connection.until_client_leaves()


async def drip(connection: Connection) -> None:
    await connection.say(STREAM_HEAD)
    try:
        async with asyncio.timeout(5):
            while not connection.reader.at_eof():
                await connection.say(chunk(b": still here\n\n"))
                await asyncio.sleep(0)
    except ConnectionError:
        return


@pytest.mark.parametrize("handler", [silent, silent_stream, half_a_body, drip])
@pytest.mark.parametrize("kind", ["asyncio", "anyio"])
async def test_the_callers_limit_ends_everything_and_closes_the_connection(
    client: httpx.AsyncClient, handler: object, kind: str
) -> None:
    # The server itself fails the test when the connection stays open.
    async with raw_server(handler) as server:  # type: ignore[arg-type]
        with pytest.raises(TimeoutError):
            if kind == "asyncio":
                async with asyncio.timeout(0.2):
                    await call_engine(client, request_to(server.url))
            else:
                with anyio.fail_after(0.2):
                    await call_engine(client, request_to(server.url))


async def test_a_caller_without_a_limit_is_limited_all_the_same(client: httpx.AsyncClient) -> None:
    async with raw_server(silent) as server:
        with pytest.raises(EngineAnswerLost, match=r"no whole answer within 0\.1 seconds") as caught:
            await call_engine(client, request_to(server.url, timeout_seconds=0.1), grace_seconds=0.1)
    assert caught.value.ambiguous
