import asyncio
import gzip
import json
import re
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace

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
from prefect_campaigns.flows.exchange import EngineRequest, ExchangeLimits, call_engine, new_client
from prefect_campaigns.hosts import AllowedHosts


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


async def test_what_is_no_http_is_said_to_be_none_without_its_bytes(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(b"\x00\x01 no http at all\r\n\r\n")) as server:
        with pytest.raises(EngineAnswerLost) as caught:
            await call_engine(client, request_to(server.url))
    assert str(caught.value).endswith("left and was not answered: illegal status line")


async def test_a_body_without_end_is_not_read_to_its_end(client: httpx.AsyncClient) -> None:
    async def flood(connection: Connection) -> None:
        piece = chunk(b" " * 1_000_000)
        await connection.say(STREAM_HEAD.replace(b"text/event-stream", b"application/json"))
        for _ in range(100):
            try:
                await connection.say(piece)
            except ConnectionError:
                return

    async with raw_server(flood) as server:
        with pytest.raises(EngineAnswerInvalid, match="more than 3,000,000 bytes"):
            await call_engine(client, request_to(server.url), limits=ExchangeLimits(max_answer_bytes=3_000_000))


def test_an_answer_may_have_sixteen_megabytes_unless_told_otherwise() -> None:
    assert ExchangeLimits().max_answer_bytes == 16 * 1024 * 1024


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "bare deflate"])
async def test_what_comes_compressed_unasked_is_read(client: httpx.AsyncClient, encoding: str) -> None:
    body = json.dumps({"found": list(range(50_000))}).encode()
    window = {"deflate": zlib.MAX_WBITS, "bare deflate": -zlib.MAX_WBITS}.get(encoding, zlib.MAX_WBITS | 16)
    compressor = zlib.compressobj(wbits=window)
    compressed = compressor.compress(body) + compressor.flush()
    headers = [f"Content-Encoding: {encoding.split()[-1]}", "Content-Type: application/json"]
    async with raw_server(saying(http("200 OK", headers=headers, body=compressed))) as server:
        answer = await call_engine(client, request_to(server.url))
    assert answer.result == {"found": list(range(50_000))}


async def test_compressed_data_may_come_in_several_members(client: httpx.AsyncClient) -> None:
    body = gzip.compress(b'{"found":') + gzip.compress(b" 20}")
    headers = ["Content-Encoding: gzip", "Content-Type: application/json"]
    async with raw_server(saying(http("200 OK", headers=headers, body=body))) as server:
        assert (await call_engine(client, request_to(server.url))).result == {"found": 20}


@pytest.mark.parametrize(
    ("encoding", "layers", "said"),
    [
        ("gzip", 1, "answered with more than 3,000,000 bytes"),
        # Each layer makes a thousand times as much of it.
        ("gzip, gzip", 2, "does not decompress: it is encoded as 'gzip, gzip'"),
        ("br", 0, "does not decompress: it is encoded as 'br', and gzip and deflate are understood"),
    ],
)
async def test_a_bomb_of_a_few_kilobytes_takes_no_more_memory_than_an_answer_may(
    client: httpx.AsyncClient, encoding: str, layers: int, said: str
) -> None:
    bomb = b" " * 200_000_000
    for _ in range(layers):
        bomb = gzip.compress(bomb)
    headers = [f"Content-Encoding: {encoding}", "Content-Type: application/json"]
    async with raw_server(saying(http("200 OK", headers=headers, body=bomb[:1_000_000]))) as server:
        del bomb
        tracemalloc.start()
        with pytest.raises(EngineAnswerInvalid, match=re.escape(said)):
            await call_engine(client, request_to(server.url), limits=ExchangeLimits(max_answer_bytes=3_000_000))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 10_000_000


async def test_compressed_data_that_is_cut_does_not_count(client: httpx.AsyncClient) -> None:
    cut = gzip.compress(b'{"found": 20}          ')[:-12]
    headers = ["Content-Encoding: gzip", "Content-Type: application/json"]
    async with raw_server(saying(http("200 OK", headers=headers, body=cut))) as server:
        with pytest.raises(EngineAnswerInvalid, match="does not decompress: it ends too early"):
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


def redirect(to: str, *, status: str = "307 Temporary Redirect") -> bytes:
    return http(status, headers=[f"Location: {to}"])


ANSWER = json_answer(b'{"found": 1}')
ELSEWHERE = "http://elsewhere.example/api?token=sesame"


@pytest.mark.parametrize(
    ("method", "status", "location", "shown"),
    [
        # Another origin, which was never part of the campaign.
        ("POST", "307 Temporary Redirect", ELSEWHERE, "pointed to http://elsewhere.example/api,"),
        ("GET", "302 Found", ELSEWHERE, "pointed to http://elsewhere.example/api,"),
        # A request that would become another one, without its body.
        ("POST", "301 Moved Permanently", "/moved", "/moved,"),
        ("POST", "302 Found", "/moved", "/moved,"),
        ("POST", "303 See Other", "/moved", "/moved,"),
    ],
)
async def test_a_redirect_that_leads_astray_is_refused_and_not_followed(
    client: httpx.AsyncClient, method: str, status: str, location: str, shown: str
) -> None:
    async with raw_server(saying(redirect(location, status=status))) as server:
        with pytest.raises(EngineRefused) as caught:
            await call_engine(client, request_to(server.url, method=method))
    assert len(server.heads) == 1
    assert shown in str(caught.value)
    assert "sesame" not in str(caught.value)
    assert not caught.value.retryable
    assert not caught.value.ambiguous


@pytest.mark.parametrize(
    ("method", "status"),
    [("POST", "307 Temporary Redirect"), ("PUT", "308 Permanent Redirect"), ("GET", "301 Moved Permanently")],
)
async def test_a_redirect_on_the_same_origin_is_followed_with_all_that_the_request_has(
    client: httpx.AsyncClient, method: str, status: str
) -> None:
    async with raw_server(saying(redirect("/moved?q=2", status=status)), saying(ANSWER)) as server:
        request = replace(request_to(server.url, method=method, count=3), headers={"Authorization": "Bearer 1"})
        answer = await call_engine(client, request)
    assert answer.result == {"found": 1}
    assert server.heads[1].startswith(f"{method} /moved?q=2 HTTP/1.1")
    for line in ("\r\nidempotency-key: run-1/step-1", "\r\nauthorization: bearer 1"):
        assert line in server.heads[1].lower()
    assert server.bodies[1] == server.bodies[0]


async def test_a_redirect_to_a_host_that_is_listed_is_followed_without_the_steps_headers(
    client: httpx.AsyncClient,
) -> None:
    async with raw_server(saying(ANSWER)) as other, raw_server(saying(redirect(f"{other.url}/api"))) as server:
        ports = (url.rpartition(":")[2] for url in (server.url, other.url))
        limits = ExchangeLimits(allowed_hosts=AllowedHosts(tuple(f"127.0.0.1:{port}" for port in ports)))
        request = replace(request_to(server.url, count=3), headers={"Authorization": "Bearer sesame"})
        assert (await call_engine(client, request, limits=limits)).result == {"found": 1}
    assert "sesame" in server.heads[0]
    assert "sesame" not in other.heads[0]
    assert "idempotency-key: run-1/step-1" in other.heads[0].lower()
    assert other.bodies == server.bodies


async def test_a_job_at_a_redirects_host_is_asked_for_without_the_steps_headers(client: httpx.AsyncClient) -> None:
    job, done = json_answer(b'{"jobId": "j1"}', headers=["Retry-After: 0"]), json_answer(b'{"status": "completed"}')
    async with (
        raw_server(saying(job), saying(done)) as other,
        raw_server(saying(redirect(f"{other.url}/api"))) as server,
    ):
        limits = ExchangeLimits(allowed_hosts=AllowedHosts(("127.0.0.1",)))
        request = replace(request_to(server.url), headers={"Authorization": "Bearer sesame"})
        await call_engine(client, request, limits=limits)
    assert len(other.heads) == 2
    assert not any("sesame" in head for head in other.heads)


async def test_redirects_in_a_circle_end(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(redirect("/round"))) as server:
        with pytest.raises(EngineRefused, match="answered 307 and pointed to"):
            await call_engine(client, request_to(server.url))
    assert len(server.heads) == 6


async def test_a_host_that_may_not_be_asked_is_not(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(ANSWER)) as server:
        limits = ExchangeLimits(allowed_hosts=AllowedHosts(("api.example.com", "*.example.org")))
        with pytest.raises(EngineUnreachable) as caught:
            await call_engine(client, request_to(server.url), limits=limits)
        assert server.heads == []
    assert not caught.value.retryable
    said = "may not be asked: its host is none of CAMPAIGNS_ALLOWED_HOSTS (api.example.com,*.example.org)"
    assert said in str(caught.value)


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
