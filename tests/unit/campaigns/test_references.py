"""References to the results of earlier steps: what they may look like, and what they become."""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_campaigns.errors import MissingReference
from prefect_campaigns.references import (
    Reference,
    check_references,
    pieces,
    preview,
    references_in,
    render,
    secrets_in,
)

RESULTS: dict[str, Any] = {
    "prospecting": {
        "runId": "r-1",
        "found": 20,
        "cost": 0.024,
        "verified": True,
        "website": None,
        "prospects": [{"company": "Café Ü", "email": "a@example.com"}, {"company": "B"}],
        "0": "a key that looks like an index",
    },
    "find shops": {"by.city": {"Paris": 3, 'the "best"': 1}},
    "compose-batch": ["x", "y"],
    "template": {"text": "{{ steps.prospecting.runId }}"},
}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        # a string that is exactly one reference keeps the value's type
        ("{{ steps.prospecting.runId }}", "r-1"),
        ("{{ steps.prospecting.found }}", 20),
        ("{{ steps.prospecting.verified }}", True),
        ("{{ steps.prospecting.website }}", None),
        ("{{ steps.prospecting.prospects }}", RESULTS["prospecting"]["prospects"]),
        # the whole result
        ("{{ steps.compose-batch }}", ["x", "y"]),
        # into lists, and objects in them
        ("{{ steps.prospecting.prospects[0].company }}", "Café Ü"),
        ("{{ steps.compose-batch[1] }}", "y"),
        # whitespace is free
        ("{{steps.prospecting.found}}", 20),
        ("{{\tsteps . prospecting\n. prospects [ 1 ] . company }}", "B"),
        # other names, in either kind of quotes, with a backslash before a quote
        ('{{ steps["find shops"]["by.city"].Paris }}', 3),
        ("{{ steps['find shops']['by.city'][\"Paris\"] }}", 3),
        ('{{ steps["find shops"]["by.city"]["the \\"best\\""] }}', 1),
        # a key of digits is a key
        ("{{ steps.prospecting.0 }}", "a key that looks like an index"),
        # in a longer string a reference becomes text: strings as they are, anything else as JSON
        ("run {{ steps.prospecting.runId }}", "run r-1"),
        (" {{ steps.prospecting.found }}", " 20"),
        ("{{ steps.prospecting.found }}{{ steps.prospecting.cost }}", "200.024"),
        ("{{ steps.prospecting.verified }} {{ steps.prospecting.website }}", "true null"),
        ("{{ steps.prospecting.prospects[1] }}!", '{"company": "B"}!'),
        ("{{ steps.prospecting.prospects[0].company }} & {{ steps.compose-batch }}", 'Café Ü & ["x", "y"]'),
        # what is found is never a template again
        ("{{ steps.template.text }}", "{{ steps.prospecting.runId }}"),
        ("<{{ steps.template.text }}>", "<{{ steps.prospecting.runId }}>"),
        # braces that are no template
        ("a } b }} c { d", "a } b }} c { d"),
        # what is no string
        (5, 5),
        (None, None),
        # everywhere in the params, except in keys
        (
            {"ids": ["{{ steps.prospecting.runId }}", 1], "{{ steps.prospecting.runId }}": "x"},
            {"ids": ["r-1", 1], "{{ steps.prospecting.runId }}": "x"},
        ),
    ],
)
def test_references_become_what_they_refer_to(template: Any, value: Any) -> None:
    assert render(template, RESULTS) == value
    assert type(render(template, RESULTS)) is type(value)


def test_a_decimal_in_a_result_becomes_a_plain_number_in_text() -> None:
    results = {"a": {"cost": Decimal("0.5"), "all": [Decimal("2")]}}
    assert render("{{ steps.a.cost }} of {{ steps.a.all }}", results) == "0.5 of [2]"


def test_neither_params_nor_results_change() -> None:
    params = {"x": {"all": "{{ steps.prospecting }}"}}
    before = deepcopy(params), deepcopy(RESULTS)
    rendered = render(params, RESULTS)
    rendered["x"]["all"]["prospects"].clear()
    assert (params, RESULTS) == before


@pytest.mark.parametrize(
    ("template", "message"),
    [
        # a step that was skipped
        ("{{ steps.sending.sent }}", '{{ steps.sending.sent }}: the step "sending" left no result'),
        # a key that is not there; what is there is named, and never its values
        (
            "{{ steps.find shops }} {{ steps.prospecting.prospects[0].name }}".removeprefix("{{ steps.find shops }} "),
            '{{ steps.prospecting.prospects[0].name }}: the result of step "prospecting" at prospects[0] has no "name";'
            ' it is an object with "company" and "email"',
        ),
        # an index beyond the end
        (
            "{{ steps.prospecting.prospects[2] }}",
            '{{ steps.prospecting.prospects[2] }}: the result of step "prospecting" at prospects has no [2];'
            " it is a list of 2",
        ),
        # a key of a list
        (
            "{{ steps.compose-batch.batchId }}",
            '{{ steps.compose-batch.batchId }}: the result of step "compose-batch" has no "batchId"; it is a list of 2',
        ),
        # an index into an object
        (
            "{{ steps.template[0] }}",
            '{{ steps.template[0] }}: the result of step "template" has no [0]; it is an object with "text"',
        ),
        # through a null, a string and a number
        (
            "{{ steps.prospecting.website.url }}",
            '{{ steps.prospecting.website.url }}: the result of step "prospecting" at website has no "url"; it is null',
        ),
        (
            "{{ steps.prospecting.runId[0] }}",
            '{{ steps.prospecting.runId[0] }}: the result of step "prospecting" at runId has no [0]; it is a string',
        ),
        (
            "at {{ steps.prospecting.found.of }}",
            '{{ steps.prospecting.found.of }}: the result of step "prospecting" at found has no "of"; it is a number',
        ),
        # what validation would have refused
        (
            "{{ runId }}",
            '"{{ runId }}" came; allowed is {{ steps.<name>.<key> }}, with [<index>] into a list and ["…"] or'
            " ['…'] around a name that has other characters than letters, digits, _ and -;"
            " and {{ secret.<name> }}, with a name of letters, digits, _ and -",
        ),
    ],
)
def test_a_reference_that_finds_nothing_says_what_was_there(template: str, message: str) -> None:
    with pytest.raises(MissingReference) as caught:
        render({"x": [template]}, RESULTS)
    assert str(caught.value) == message


def test_all_references_are_listed_in_order() -> None:
    params = {"a": "{{ steps.x.y[0] }}-{{steps['p q']}}", "b": [{"c": "{{ steps.z }}"}], "{{ steps.key.k }}": 1}
    assert list(references_in(params)) == [
        Reference(text="{{ steps.x.y[0] }}", step="x", path=("y", 0)),
        Reference(text="{{steps['p q']}}", step="p q", path=()),
        Reference(text="{{ steps.z }}", step="z", path=()),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "{{ }}",  # nothing
        "{{ steps }}",  # no step
        "{{ steps.a.b",  # no end
        "{{ steps.a.b }",  # half an end
        "{{ step.a.b }}",  # a typo
        "{{ Steps.a.b }}",  # another case
        "{{ stepsX.a }}",  # a longer word
        "{{ steps[0].b }}",  # a step by its number
        "{{ steps.a.b[-1] }}",  # a negative index
        "{{ steps.a.b[x] }}",  # a name without quotes
        "{{ steps.a b }}",  # two words
        "{{ steps.a.b | upper }}",  # a filter
        "{{ steps.a.b + 1 }}",  # arithmetic
        "{{ steps.a.items() }}",  # a call
        "{{ steps.a.b }} {{ 7 * 7 }}",  # a right one before a wrong one
        "{{{ steps.a.b }}}",  # three braces
        "{{ env.SECRET }}",  # another source
        "Hello {{ first_name }}",  # somebody else's template
    ],
)
def test_anything_else_in_double_braces_is_refused(text: str) -> None:
    ((path, message),) = check_references({"x": [text]}, earlier=["a"], all_steps=["a", "b"])
    assert path == ("x", 0)
    assert "allowed is {{ steps.<name>.<key> }}" in message


@pytest.mark.parametrize(
    ("params", "path", "message"),
    [
        # not in the campaign, but nearly
        (
            {"a": {"b": "{{ steps.Prospect.id }}"}},
            ("a", "b"),
            '"{{ steps.Prospect.id }}" came, but no step is named "Prospect"; did you mean "prospecting"?'
            ' the steps before this one are "prospecting" and "analysis"',
        ),
        # nothing like it
        (
            "{{ steps.x.id }}",
            (),
            '"{{ steps.x.id }}" came, but no step is named "x"; the steps before this one are "prospecting" and'
            ' "analysis"',
        ),
        # a later one
        (
            ["{{ steps.sending.id }}"],
            (0,),
            '"{{ steps.sending.id }}" came, but the step "sending" does not run before this one; the steps before'
            ' this one are "prospecting" and "analysis"',
        ),
        # a reference in a key
        (
            {"{{ steps.analysis.id }}": 1},
            ("{{ steps.analysis.id }}",),
            'the key "{{ steps.analysis.id }}" came; references are looked up in values, never in keys',
        ),
    ],
)
def test_references_to_what_has_not_run_are_refused(params: Any, path: tuple[Any, ...], message: str) -> None:
    steps = ["prospecting", "analysis", "outreach", "sending"]
    assert list(check_references(params, earlier=steps[:2], all_steps=steps)) == [(path, message)]


def test_the_first_step_has_nothing_to_refer_to() -> None:
    ((_, message),) = check_references("{{ steps.b.x }}", earlier=[], all_steps=["a", "b"])
    assert message.endswith("no step runs before this one")


def test_right_references_and_other_braces_in_keys_are_fine() -> None:
    params = {"{{ first_name }}": "Ann", "a": ["{{ steps.a.b }}", "}} {"], "n": None}
    assert list(check_references(params, earlier=["a"], all_steps=["a"])) == []


@given(st.text(alphabet="{}[]. steps'\"\\a0\n"))
def test_any_string_is_either_refused_or_rendered(text: str) -> None:
    refused = list(check_references(text, earlier=["a", "s"], all_steps=["a", "s"]))
    try:
        rendered = render(text, {})
    except MissingReference:
        assert "{{" in text
    else:
        assert rendered == text and not refused


def test_a_secret_is_looked_up_by_its_name_as_it_is_written() -> None:
    written = {"Authorization": "Bearer {{ secret.CRM_TOKEN }}", "X-Both": "{{secret.a}}:{{ secret . b }}"}
    assert [(one.name, one.block_name) for one in secrets_in(written)] == [
        ("CRM_TOKEN", "crm-token"),
        ("a", "a"),
        ("b", "b"),
    ]
    rendered = render(written, {}, {"CRM_TOKEN": "t", "a": "{{ secret.b }}", "b": "2"})
    # What a secret holds is no template.
    assert rendered == {"Authorization": "Bearer t", "X-Both": "{{ secret.b }}:2"}


def test_a_secret_that_was_not_looked_up_finds_nothing() -> None:
    with pytest.raises(MissingReference, match="the secret was not looked up"):
        render("{{ secret.a }}", {})


def test_a_preview_shows_no_secret_and_leaves_what_nothing_is_known_of() -> None:
    written = {
        "token": "{{ secret.a }}",
        "auth": ["Bearer {{ secret.a }}"],
        "id": "{{ steps.prospecting.runId }}",
        "later": "{{ steps.analysis.leads }} of {{ steps.prospecting.runId }}",
    }
    assert preview(written, {"prospecting": {"runId": 7}}) == {
        "token": "********",
        "auth": ["Bearer ********"],
        "id": 7,
        "later": "{{ steps.analysis.leads }} of 7",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("plain", ["plain"]),
        ("a{{ secret.x }}b", ["a", "{{ secret.x }}", "b"]),
        ("{{ secret.x }}{{ steps.y.z }}", ["{{ secret.x }}", "{{ steps.y.z }}"]),
        # what is no reference is literal
        ("a {{ x }} b {{ secret.x }}", ["a {{ x }} b ", "{{ secret.x }}"]),
        ("a {{ x", ["a {{ x"]),
    ],
)
def test_a_string_falls_into_literals_and_references(text: str, expected: list[str]) -> None:
    assert [piece if isinstance(piece, str) else piece.text for piece in pieces(text)] == expected
