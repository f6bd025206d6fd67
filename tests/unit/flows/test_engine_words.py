from datetime import UTC, datetime

import pytest

from prefect_campaigns.flows.messages import (
    Progress,
    engine_words,
    one_line,
    parse_retry_after,
    progress_from,
    show_url,
)

NOW = datetime(2026, 3, 8, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 2.5 ", 2.5),  # fractions are no standard, and are written
        ("999999", 3600.0),  # an hour is the most
        ("9" * 400, 3600.0),
        ("Sun, 08 Mar 2026 12:00:30 GMT", 30.0),
        ("Sunday, 08-Mar-26 12:00:30 GMT", 30.0),  # the old form
        ("Sun Mar  8 12:00:30 2026", 30.0),  # asctime, which is UTC
        ("Sun, 08 Mar 2026 14:00:30 +0200", 30.0),
        ("Sun, 08 Mar 2026 11:00:00 GMT", 0.0),  # has passed
        ("Mon, 09 Mar 2026 12:00:00 GMT", 3600.0),
        (None, None),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1e3", None),
        ("inf", None),
        ("\u0663", None),  # a digit, of another script
        ("5, 5", None),
        ("Sun, 99 Mar 2026 12:00:30 GMT", None),
    ],
)
def test_a_wish_to_wait_is_read_as_seconds_or_as_a_date(value: str | None, expected: float | None) -> None:
    assert parse_retry_after(value, now=NOW) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"error": "no credit"}, "no credit"),
        ({"message": "no credit"}, "no credit"),
        ({"detail": "no credit"}, "no credit"),
        ({"error": "E42", "message": "longer"}, "E42"),  # error comes first
        ({"error": True, "message": "no credit"}, "no credit"),  # and has to be a word
        ({"error": {"code": 1, "message": "no credit"}}, "no credit"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}, {"msg": "too long"}]}, "field required; too long"),
        ("just text", "just text"),
        ({"error": "a\nb\r\n\x1b[31mred\x00\u202e\u2028end"}, "a b [31mred end"),
        ({"error": "   "}, None),
        ({"found": 1}, None),
        ({"error": {"error": {"error": {"error": {"error": "deep"}}}}}, None),
        (None, None),
        (7, None),
    ],
)
def test_an_engines_own_words_are_found_and_made_one_line(said: object, expected: str | None) -> None:
    assert engine_words(said) == expected


def test_long_words_are_cut_where_a_message_ends() -> None:
    words = one_line("word " * 1_000_000)
    assert len(words) == 500
    assert words.endswith("…")
    assert one_line("x" * 500) == "x" * 500


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"message": "half", "progress": 0.5}, Progress(message="half", fraction=0.5)),
        ({"message": "half", "progress": 50}, Progress(message="half", fraction=0.5)),  # 0 to 100
        ({"step": "verify", "currentStep": 1, "totalSteps": 4}, Progress(message="verify", fraction=0.25)),
        ({"company": "Casa Marisol"}, Progress(message="Casa Marisol", fraction=None)),
        ({"company": {"name": "Casa Marisol"}}, Progress(message="Casa Marisol", fraction=None)),
        ({"status": "queued", "progress": "a bit"}, Progress(message="queued", fraction=None)),
        ({"progress": 1}, Progress(message="working", fraction=1.0)),
        ({"progress": 250}, Progress(message="working", fraction=1.0)),  # never beyond the end
        ({"progress": float("nan")}, Progress(message="working", fraction=None)),
        ({"progress": -1}, Progress(message="working", fraction=None)),
        ({"progress": True}, Progress(message="working", fraction=None)),
        ({"currentStep": 3, "totalSteps": 0}, Progress(message="working", fraction=None)),
        ({"currentStep": 10**400, "totalSteps": 2}, Progress(message="working", fraction=None)),
    ],
)
def test_progress_is_read_as_a_fraction(said: dict[str, object], expected: Progress) -> None:
    assert progress_from(said, fallback="working") == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:3010/api/prospect?key=secret#x", "http://localhost:3010/api/prospect"),
        ("https://user:secret@engine.example/a", "https://engine.example/a"),
        ("http://[::1", "the endpoint"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret_in_it(url: str, expected: str) -> None:
    assert show_url(url) == expected
