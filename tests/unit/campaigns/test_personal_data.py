"""One person's address, found wherever it is written, and what goes with it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_campaigns.personal_data import ERASED, Address

BOB = Address("bob@example.com")
OTHER = {"name": "Alma", "email": "alma@example.com", "phone": "2"}


@pytest.mark.parametrize(
    "text",
    [
        "bob@example.com",
        "Bob@Example.COM",
        "mailto:bob@example.com",
        "Bob Miller <bob@example.com>",
        "to bob@example.com.",
        "(bob@example.com)",
        "https://example.com/unsubscribe?to=bob%40example.com&x=1",
        "https://example.com/?next=%2Fout%3Fto%3Dbob%40example.com",
        '{"to": "bob@example.com"}',
        r'{"result": "email\nbob@example.com\n"}',
        r'{"result": "{\"csv\": \"email\\nbob@example.com\"}"}',
        r'{"html": "\u003cbob@example.com\u003e"}',
    ],
)
def test_it_is_found_however_it_is_written(text: str) -> None:
    assert BOB.is_in(text)
    assert BOB.is_in({"a": [{"b": text}]})
    assert BOB.is_in({text: 1})


@pytest.mark.parametrize(
    "text",
    [
        "jim-bob@example.com",
        "jim.bob@example.com",
        "bob+x@example.com",
        "bob@example.com.au",
        "bob@example.community",
        "",
    ],
)
def test_another_address_is_another_person(text: str) -> None:
    assert not BOB.is_in(text)
    assert BOB.without({"leads": [{"email": text}]}) == {"leads": [{"email": text}]}


def test_it_is_found_in_json_inside_of_a_text() -> None:
    address = Address("jürgen@bücher.example")
    for ascii_only in (True, False):
        assert address.is_in(json.dumps({"email": "Jürgen@bücher.example"}, ensure_ascii=ascii_only))
    assert address.is_in("?to=j%C3%BCrgen%40b%C3%BCcher.example")


@pytest.mark.parametrize("text", ["", "bob", "bob@", "@example.com", "bob@example", "bob@example.com, al@example.com"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no e-mail address"):
        Address(text)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        # A lead goes whole, and the others stay.
        (
            {"leads": [{"name": "Bob", "contact": {"email": "bob@example.com"}, "phone": "1"}, OTHER], "found": 2},
            {"leads": [OTHER], "found": 2},
        ),
        # The smallest object of a list: not the batch that it is in.
        (
            {"batches": [{"number": 1, "leads": [{"email": "bob@example.com"}, OTHER]}]},
            {"batches": [{"number": 1, "leads": [OTHER]}]},
        ),
        # One that speaks of nobody else goes whole, however deep the address is in it.
        ({"leads": [{"name": "Bob", "phone": 1, "emails": [{"value": "bob@example.com"}]}, OTHER]}, {"leads": [OTHER]}),
        ({"rows": [["Bob", "bob@example.com"], ["Al", "al@example.com"]]}, {"rows": [["Al", "al@example.com"]]}),
        ({"to": ["bob@example.com", "alma@example.com"]}, {"to": ["alma@example.com"]}),
        ({"by": {"bob@example.com": {"grade": "A"}, "alma@example.com": {}}}, {"by": {"alma@example.com": {}}}),
        # In no list: the texts beside it go, and what was counted stays.
        (
            {"lead": {"name": "Bob", "email": "bob@example.com", "score": 7, "tags": ["tall"], "at": {"city": "Bern"}}},
            {"lead": {"name": ERASED, "email": ERASED, "score": 7, "tags": [], "at": {"city": ERASED}}},
        ),
        ({"lead": {"to": "Bob <bob@example.com>", "name": "Bob"}}, {"lead": {"to": ERASED, "name": ERASED}}),
        # A sentence goes, and what stands beside it stays.
        (
            {"status": "completed", "summary": "Dear Bob Miller, write to bob@example.com", "sent": 1},
            {"status": "completed", "summary": ERASED, "sent": 1},
        ),
        ([{"email": "bob@example.com"}], []),
        ("to bob@example.com", ERASED),
        (None, None),
    ],
)
def test_what_goes_with_it(value: object, left: object) -> None:
    before = json.dumps(value)
    assert BOB.without(value) == left
    assert json.dumps(value) == before


WORDS = st.sampled_from(
    ["bob@example.com", "Bob <BOB@example.com>", "x bob%40example.com y", "alma@example.com", "", "A"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=30,
)


@given(JSON)
def test_nothing_of_it_is_left_and_nothing_else_is_touched(value: object) -> None:
    left = BOB.without(value)
    assert not BOB.is_in(left)
    assert BOB.without(left) == left
    if not BOB.is_in(value):
        assert left == value
