import json

import pytest

from prefect_campaigns.flows.sse import SseDecoder, SseEvent, SseEventTooLarge


def decode(*chunks: bytes, max_event_bytes: int = 10_000) -> list[SseEvent]:
    decoder = SseDecoder(max_event_bytes=max_event_bytes)
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    last = decoder.end()
    return events if last is None else [*events, last]


def single_bytes(stream: bytes) -> list[bytes]:
    return [stream[index : index + 1] for index in range(len(stream))]


STREAMS = [
    # plain
    ("data: a\n\ndata: b\n\n", ["a", "b"]),
    # the three line ends, and all of them mixed
    ("data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
    ("data: a\r\rdata: b\r\r", ["a", "b"]),
    ("data: a\r\n\ndata: b\n\rdata: c\r\r\n", ["a", "b", "c"]),
    # several data lines are one text
    ("data: {\ndata: }\n\n", ["{\n}"]),
    # comments, ids, retries and unknown fields say nothing
    (": ping\n\nid: 7\nretry: 10\nnonsense\ndata: a\n: in between\n\n", ["a"]),
    # one blank after the colon is no part of the value; the second is
    ("data:a\n\ndata:  b\n\n", ["a", " b"]),
    # empty data is data
    ("data\n\ndata:\n\n", ["", ""]),
    # a byte order mark at the start, and only there
    ("\ufeffdata: a\n\n\ufeffdata: lost\n\ndata: b\n\n", ["a", "b"]),
    # characters of two, three and four bytes, and separators that end no line
    ("data: Café \u2028\u2029\x85\x0b\x0c 饭店 🍕\n\n", ["Café \u2028\u2029\x85\x0b\x0c 饭店 🍕"]),
    # the last event lacks its blank line, or its line end
    ("data: a\n\ndata: b\n", ["a", "b"]),
    ("data: a\n\ndata: b", ["a", "b"]),
    # nothing at all
    ("", []),
    ("\n\r\n\r: nothing\n", []),
]


@pytest.mark.parametrize(("stream", "expected"), STREAMS)
def test_a_stream_cut_into_single_bytes_reads_like_the_whole(stream: str, expected: list[str]) -> None:
    whole = stream.encode()
    assert [event.data for event in decode(whole)] == expected
    assert [event.data for event in decode(*single_bytes(whole))] == expected


@pytest.mark.parametrize("size", [2, 3, 5, 7])
def test_a_stream_reads_the_same_wherever_it_is_cut(size: int) -> None:
    whole = "".join(stream for stream, _ in STREAMS[1:6]).encode() + "data: é🍕\r\n\r\n".encode()
    pieces = [whole[index : index + size] for index in range(0, len(whole), size)]
    assert decode(*pieces) == decode(whole)


def test_an_event_is_there_as_soon_as_its_blank_line_has_begun() -> None:
    decoder = SseDecoder(max_event_bytes=100)
    # A lone carriage return ends the line; whether a line feed follows is not waited for.
    assert [event.data for event in decoder.feed(b"data: a\r\r")] == ["a"]
    assert [event.data for event in decoder.feed(b"\ndata: b\n\n")] == ["b"]


def test_the_event_field_is_kept_for_its_event_only() -> None:
    assert decode(b"event: complete\ndata: 1\n\ndata: 2\n\n") == [
        SseEvent(event="complete", data="1"),
        SseEvent(data="2"),
    ]


def test_bytes_that_are_no_utf8_spoil_no_other_event() -> None:
    assert [event.data for event in decode(b"data: \xff\xfe\n\ndata: ok\n\n")] == ["\ufffd\ufffd", "ok"]


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 200,  # a line that never ends
        b": " + b"x" * 200,  # even a comment
        b"data: xxxxxxxxxxxxxxxxxxxx\n" * 20,  # an event that never ends
    ],
)
def test_an_event_without_end_is_not_kept_for_ever(stream: bytes) -> None:
    for chunks in ([stream], single_bytes(stream)):
        with pytest.raises(SseEventTooLarge, match="more than 100 bytes"):
            decode(*chunks, max_event_bytes=100)


def test_many_events_are_not_one_large_event() -> None:
    event = b"data: " + json.dumps({"type": "progress"}).encode() + b"\n\n"
    assert len(decode(event * 1_000, max_event_bytes=100)) == 1_000
