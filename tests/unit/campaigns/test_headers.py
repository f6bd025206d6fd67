"""The headers of a step: what they may be, what they may refer to, and that no complaint repeats one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from prefect_campaigns.errors import InvalidCampaign
from prefect_campaigns.loader import load_text, validate_object

SECRET = "hunter2-of-the-crm"


def complaints(text: str) -> str:
    with pytest.raises(InvalidCampaign) as caught:
        load_text(text, source="a.json")
    return str(caught.value)


def file_with(headers: Any, **step: Any) -> str:
    first = {"name": "find", "engine": "x", "endpoint": "http://localhost:1/x"}
    return json.dumps({"name": "A", "steps": [first, {**first, "name": "sync", "headers": headers, **step}]}, indent=1)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer {{ secret.crm-token }}"},
        {"X-A": "{{secret.CRM_TOKEN}}:{{ secret . other }}", "x-b": "", "X.!#$%&'*+^_`|~": "Größe ÿ"},
        {"Accept": "text/event-stream", "User-Agent": "me 2.0"},
        {f"X-{number}": "value" for number in range(50)},
        {"X-Long": "x" * 8192},
    ],
)
def test_headers_that_a_request_can_carry_are_taken(headers: dict[str, str]) -> None:
    assert load_text(file_with(headers), source="a").steps[1].headers == headers


@pytest.mark.parametrize(
    ("headers", "pointer", "said"),
    [
        # names
        ({"": "x"}, "/", "a header's name is letters, digits and any of"),
        ({"X Y": "x"}, "/X…", 'the name "X…" came; a header\'s name is letters'),
        ({"X-Ä": "x"}, "/X-…", "a header's name is letters"),
        ({"X:": "x"}, "/X…", "a header's name is letters"),
        # … with what belongs into the value behind them
        ({f"Authorization: {SECRET}": "x"}, "/Authorization…", 'the name "Authorization…" came; a header\'s name'),
        ({f"Authorization={SECRET}": 5}, "/Authorization…", "a number came; a string is allowed"),
        ({f"X: {SECRET}": "x", f"x: {SECRET}": "x"}, "/x…", 'the name "x…" came; "X…" is there already'),
        ({f"X: {SECRET}\0": "x"}, "/X…", "a string came; the character U+0000 is not allowed"),
        # those that are not the step's to set, and why
        ({"idempotency-KEY": "x"}, "/idempotency-KEY", "so that an engine does nothing twice"),
        ({"Content-Type": "text/plain"}, "/Content-Type", "the body of a request is always JSON"),
        ({"Host": "x"}, "/Host", "for the HTTP client to say"),
        ({"Content-Length": "5"}, "/Content-Length", "for the HTTP client to say"),
        ({"Transfer-Encoding": "chunked"}, "/Transfer-Encoding", "for the HTTP client to say"),
        ({"Accept-Encoding": "gzip"}, "/Accept-Encoding", "for the HTTP client to say"),
        ({"Connection": "close"}, "/Connection", "for the HTTP client to say"),
        ({"Proxy-Authorization": SECRET}, "/Proxy-Authorization", "for the HTTP client to say"),
        ({"X-A": "1", "x-a": "2"}, "/x-a", 'the name "x-a" came; "X-A" is there already, and case does not count'),
        ({f"X-{number}": "value" for number in range(51)}, "", "at most 50 are allowed"),
        # values
        ({"X-A": f"{SECRET}\r\nX-B: y"}, "/X-A", "a string came; a header's value is printable characters of Latin-1"),
        ({"X-A": f"{SECRET}€"}, "/X-A", "a string came; a header's value is printable"),
        ({"X-A": f" {SECRET}"}, "/X-A", "no space at its beginning or end"),
        ({"X-A": SECRET * 1000}, "/X-A", "a header's value has at most 8,192 characters"),
        ({"X-A": SECRET + "\0"}, "/X-A", "a string came; the character U+0000 is not allowed"),
        ({"X-A": 1234567890}, "/X-A", "a number came; a string is allowed"),
        ({"X-A": 12345678901234567890123}, "/X-A", "a number came; a whole number has at most 64 bits"),
        ({"X-A": None}, "/X-A", "null came; a string is allowed"),
        ({"X-A": [SECRET]}, "/X-A", "a list of 1 came; a string is allowed"),
        (f"Authorization: Bearer {SECRET}", "", "a string came; an object is allowed"),
        ([SECRET], "", "a list of 1 came; an object is allowed"),
        # references
        ({"X-A": "{{ steps.find.token }}"}, "/X-A", "results of steps are looked up in params only"),
        ({"X-A": "{{ secrets.crm }}"}, "/X-A", "did you mean {{ secret.crm }}? allowed is {{ secret.<name> }}"),
        ({"X-A": "{{ env.CRM_TOKEN }}"}, "/X-A", "did you mean {{ secret.CRM_TOKEN }}? "),
        ({"X-A": "{{ prefect.blocks.secret.crm }}"}, "/X-A", "did you mean {{ secret.crm }}? "),
        ({"X-A": "{{ secret['crm'] }}"}, "/X-A", "did you mean {{ secret.crm }}? "),
        ({"X-A": "{{ secret.crm | upper }}"}, "/X-A", "did you mean {{ secret.crm }}? "),
        ({"X-A": "{{ secret.crm token }}"}, "/X-A", "did you mean {{ secret.crm-token }}? "),
        ({"X-A": "{{ secret }}"}, "/X-A", "something else in double braces came; allowed is"),
        ({"X-A": "Bearer {{ secret.crm"}, "/X-A", "and no }} closes it"),
        (
            {"X-A": f"{{{{ {SECRET} }}}}"},
            "/X-A",
            "something else in double braces came; allowed is {{ secret.<name> }}",
        ),
    ],
)
def test_what_is_wrong_is_told_at_its_place_and_never_repeated(headers: Any, pointer: str, said: str) -> None:
    told = complaints(file_with(headers))
    assert f"/steps/1/headers{pointer}: " in told
    assert said in told
    assert SECRET not in told
    assert "1234567890" not in told
    with pytest.raises(InvalidCampaign) as caught:
        validate_object(json.loads(file_with(headers)), source="body")
    assert f"body: /steps/1/headers{pointer}: " in str(caught.value)


@pytest.mark.parametrize(
    "written",
    [
        f'{{"Authorization": "Bearer {SECRET}",}}',  # a trailing comma
        f'{{"Authorization": {SECRET}}}',  # no quotes
        f'{{"Authorization": Bearer {SECRET}}}',
        f"{{Authorization: Bearer {SECRET}}}",
        f"{{'Authorization': '{SECRET}'}}",
        f'{{"Authorization": "{SECRET}}}',  # not closed
        f'{{"Authorization": "a\\{SECRET}"}}',  # an escape that is none
        f'"Authorization: {SECRET}"',
        f"Authorization: {SECRET}",
        f'["Authorization", {SECRET}]',
        '{"Authorization": ..hunter2-of-the-crm}',
        f'{{"Authorization: {SECRET}": "x", "Authorization: {SECRET}": "x"}}',  # twice
    ],
)
def test_a_header_in_a_file_that_is_no_json_is_not_repeated_either(written: str) -> None:
    text = file_with("HERE").replace('"HERE"', written)
    assert SECRET not in complaints(text)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"token": "{{ secrets.crm }}"}, '"{{ secrets.crm }}" came; did you mean {{ secret.crm }}? allowed is'),
        ({"token": "{{ $secret.crm }}"}, "did you mean {{ secret.crm }}? "),
        ({"a": [{"token": "{{ secret.crm.value }}"}]}, '"{{ secret.crm.value }}" came; did you mean'),
        ({"{{ secret.crm }}": 1}, "references are looked up in values, never in keys"),
    ],
)
def test_near_misses_in_params_are_told(params: dict[str, Any], said: str) -> None:
    assert said in complaints(file_with({}, params=params))


def test_a_secret_in_an_endpoint_is_refused() -> None:
    told = complaints(file_with({}, endpoint="http://localhost:1/x?key={{ secret.crm }}"))
    assert "an endpoint holds no references" in told
