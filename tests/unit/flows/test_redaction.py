"""Secrets are found in whatever shape an engine gives them back, and nothing else is taken for one."""

from __future__ import annotations

import base64
import html
import json
import re
import traceback
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from prefect_campaigns.errors import EngineReportedFailure
from prefect_campaigns.flows.messages import one_line
from prefect_campaigns.flows.redaction import Redactor, hiding

PLAIN = "sk-4f9a1c77e2"
NASTY = 'p&ss "wörd"/\\+ 100% <é>'
SECRETS = [PLAIN, NASTY, "äöüß-key", "a+b/c==", "back\\\\slash\\\\", "😀 over \ttwo units"]


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "write",
    [
        str,
        json.dumps,
        lambda text: json.dumps(text, ensure_ascii=False),
        lambda text: json.dumps(json.dumps({"error": text})),
        quote,
        quote_plus,
        lambda text: quote(text, safe=""),
        lambda text: quote(text, safe="").replace("%C3", "%c3").replace("%2F", "%2f"),
        html.escape,
        repr,
        base64_of,
        lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    ],
)
def test_every_way_to_write_a_secret_is_hidden(secret: str, write: Any) -> None:
    hidden = Redactor([secret]).text(f"invalid {write(secret)}, sorry")
    # What is left is quotes and braces around it, or the padding of its base64.
    assert re.fullmatch(r"""invalid [\\"'{}: eor]*\*{8}[\\"'{}=]*, sorry""", hidden), hidden


def test_a_short_secret_is_hidden_as_it_is_and_whole_in_base64() -> None:
    redactor = Redactor(["ab9Z"])
    assert redactor.text(f"ab9Z {base64_of('ab9Z')}") == "******** ********"
    # Four characters of base64 are in every picture.
    assert redactor.text("iVBORYWI5mGgo") == "iVBORYWI5mGgo"


@pytest.mark.parametrize("before", ["", "u", "us", "use", "Bearer ", "user:"])
@pytest.mark.parametrize("after", ["", "x", "xy", ":z"])
def test_a_secret_within_base64_is_hidden_wherever_it_begins(before: str, after: str) -> None:
    hidden = Redactor([PLAIN]).text(base64_of(before + PLAIN + after))
    left, right = hidden.rstrip("=").split("********")
    # One character at each end may hold some bits of its first and last letter.
    assert len(left) <= -(-len(before) * 8 // 6)
    assert len(right) <= -(-len(after) * 8 // 6) + 1


@pytest.mark.parametrize(
    ("secret", "part"),
    [
        (f"Bearer {PLAIN}", PLAIN),
        (f"session={PLAIN}; csrf=0123456789", PLAIN),
        (f"session={PLAIN}; csrf=0123456789", "0123456789"),
        (f"Basic {base64_of('ada:correct horse battery')}", "correct horse battery"),
        (base64_of("ada:correct horse battery"), "ada:correct horse battery"),
    ],
)
def test_the_part_of_a_secret_that_counts_is_hidden_alone_too(secret: str, part: str) -> None:
    assert Redactor([secret]).text(f"bad token {part}!") == "bad token ********!"


def test_the_keys_of_a_secret_that_is_json_are_no_secrets() -> None:
    redactor = Redactor(['{"client_email": "a@example.com", "private_key": "xyz"}'])
    assert redactor.value({"private_key": 1, "client_email": 2}) == {"private_key": 1, "client_email": 2}


def test_results_are_searched_in_keys_and_values_and_keep_all_else() -> None:
    result = {
        "found": 3,
        "cost": 0.024,
        "ok": True,
        "none": None,
        PLAIN: {"headers": [f"Bearer {PLAIN}", "text/html"]},
        "nested": [[{"url": f"https://x/?key={quote(NASTY)}"}]],
    }
    assert Redactor([PLAIN, NASTY]).value(result) == {
        "found": 3,
        "cost": 0.024,
        "ok": True,
        "none": None,
        "********": {"headers": ["Bearer ********", "text/html"]},
        "nested": [[{"url": "https://x/?key=********"}]],
    }


def test_a_secret_that_an_engine_makes_a_number_of_is_hidden() -> None:
    assert Redactor(["1234567890"]).value([1234567890, 123, True]) == ["********", 123, True]


def test_of_two_secrets_the_longer_is_hidden_whole() -> None:
    assert Redactor(["token-1", "token-1-and-more"]).text("token-1-and-more") == "********"


def test_without_secrets_nothing_changes() -> None:
    value = {"a": ["********", 1]}
    assert Redactor().value(value) is value
    assert not Redactor()


def test_an_error_and_all_it_came_from_are_cleaned() -> None:
    class Stubborn(Exception):
        """One that makes its text of something else than its arguments."""

        def __str__(self) -> str:
            return f"I say {PLAIN}"

    for first in (ValueError(f"no {PLAIN}", 3), Stubborn()):
        try:
            try:
                raise first
            except Exception as error:
                error.add_note(f"with {PLAIN}")
                raise EngineReportedFailure(f"said {PLAIN}", payload={"token": [PLAIN], "cost": 1}) from error
        except EngineReportedFailure as error:
            Redactor([PLAIN]).clean(error)
            assert PLAIN not in "".join(traceback.format_exception(error))
            assert str(error) == "said ********"
            assert error.payload == {"token": ["********"], "cost": 1}


def test_the_repr_of_a_redactor_shows_no_secret() -> None:
    assert PLAIN not in repr(Redactor([PLAIN]))


def test_a_line_that_is_cut_leaves_no_half_of_a_secret() -> None:
    long = "x" * 490 + PLAIN
    with hiding(Redactor([PLAIN])):
        assert "sk-4" not in one_line(long)
        # Spaces are joined, and the secret is found before.
        with hiding(Redactor(["two  spaces"])):
            assert one_line("see two  spaces") == "see ********"
    assert one_line(PLAIN) == PLAIN
