import json

import pytest

from prefect_campaigns.flows.bodies import MAX_JSON_DEPTH, parse_json


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),  # a byte order mark
        ('{"a": "Café"}'.encode(), {"a": "Café"}),
        (b'{"cost": NaN}', {"cost": "NaN"}),  # no JSON, but written
        (b"[Infinity, -Infinity, 1e999]", ["Infinity", "-Infinity", "1e999"]),
        (rb'"\ud83c\udf55"', "🍕"),  # a pair of surrogates is a character
        (rb'{"\ud83c": ["\udf55x", "a\u0000b"]}', {"\ufffd": ["\ufffdx", "a\ufffdb"]}),  # halves and NULs are not
    ],
)
def test_what_is_read_can_be_written_again(text: bytes, expected: object) -> None:
    value = parse_json(text)
    assert value == expected
    assert json.loads(json.dumps(value, allow_nan=False).encode()) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"<html>", "Expecting value, line 1 column 1"),
        (b'{"a": 1', "line 1 column 8"),
        (b'{"a": 1} x', "Extra data"),
        (b'"\xff"', "no UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "no UTF-8"),
        (b"[" * 100_000, "nested deeper"),
        (b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1), "nested deeper"),
        (b"1" * 5_000, "digits"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(text: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_json(text)


def test_a_result_may_be_nested_deeply() -> None:
    assert parse_json(b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH)
