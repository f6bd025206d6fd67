"""The request of a step: what it is made of, and how it is shown to people."""

from __future__ import annotations

from typing import Any

import pytest
from campaign_files import campaign

from prefect_campaigns.errors import MissingReference, MissingSecret
from prefect_campaigns.flows.messages import EngineRequest
from prefect_campaigns.flows.requests import make_request, secrets_of, show_request
from prefect_campaigns.models import Campaign, Step

URL = "http://127.0.0.1:9"
TOKEN = "sk-4f9a1c77e2"


def one_step(**step: Any) -> tuple[Campaign, Step]:
    whole = campaign("One", URL, only=1, steps={"prospecting": step}, metadata={"project_id": "p1"})
    return whole, whole.steps[0]


def request(
    *, results: dict[str, Any] | None = None, secrets: dict[str, str] | None = None, **step: Any
) -> EngineRequest:
    return make_request(*one_step(**step), results=results or {}, secrets=secrets or {}, idempotency_key="k")


def test_headers_and_params_are_rendered_with_secrets_and_results() -> None:
    made = request(
        headers={"Authorization": "Bearer {{ secret.crm }}", "Accept": "application/json"},
        params={"auth": {"key": "{{ secret.CRM }}"}, "run": "{{ steps.before.id }}"},
        results={"before": {"id": 7}},
        secrets={"crm": TOKEN, "CRM": "other"},
    )
    assert made.headers == {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
    assert made.params == {"auth": {"key": "other"}, "run": 7, "options": {"projectId": "p1"}}
    assert set(made.secrets) == {TOKEN, "other"}


def test_a_request_shows_nothing_secret_in_its_repr() -> None:
    made = request(headers={"X-Key": "{{ secret.crm }}"}, params={"key": "{{ secret.crm }}"}, secrets={"crm": TOKEN})
    assert TOKEN not in repr(made)


def test_the_secrets_of_a_step_are_named_once_each() -> None:
    _, step = one_step(
        headers={"A": "{{ secret.a }}{{ secret.b }}"}, params={"x": ["{{ secret.a }}", {"y": "{{ secret.c }}"}]}
    )
    assert [reference.name for reference in secrets_of(step)] == ["a", "b", "c"]


@pytest.mark.parametrize("value", [f"{TOKEN}\n", f"{TOKEN}\r\nX-Evil: 1", f"{TOKEN}€", f"{TOKEN}\0", TOKEN * 1000])
def test_a_secret_that_a_header_cannot_carry_is_told_and_not_repeated(value: str) -> None:
    with pytest.raises(MissingSecret) as caught:
        request(headers={"X-Key": "key={{ secret.crm }}"}, secrets={"crm": value})
    assert 'header "X-Key" cannot be sent with what {{ secret.crm }} holds: a header\'s value' in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_result_never_gets_into_a_header() -> None:
    # The loader refuses this; a run's parameters can be edited by hand.
    step = Step.model_validate({"name": "a", "engine": "x", "endpoint": URL, "headers": {"X": "{{ steps.b.c }}"}})
    with pytest.raises(MissingReference, match="results of steps are looked up in params only"):
        make_request(one_step()[0], step, results={"b": {"c": "x"}}, secrets={}, idempotency_key="k")


def test_a_dry_run_shows_no_secret_and_leaves_what_is_not_known() -> None:
    shown = show_request(
        *one_step(
            headers={"Authorization": "Bearer {{ secret.crm }}", "Accept": "application/json"},
            params={"key": "{{ secret.crm }}", "id": "{{ steps.before.id }}", "new": "{{ steps.later.id }}"},
        ),
        results={"before": {"id": 7}},
    )
    assert (shown.method, shown.url) == ("POST", f"{URL}/api/prospect")
    assert shown.headers == {"Authorization": "Bearer ********", "Accept": "application/json"}
    assert shown.params == {
        "key": "********",
        "id": 7,
        "new": "{{ steps.later.id }}",
        "options": {"projectId": "p1"},
    }
