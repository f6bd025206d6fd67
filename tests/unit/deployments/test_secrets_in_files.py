"""What is secret in a campaign file is taken out of it, and nothing else is."""

from __future__ import annotations

import pytest
from campaign_files import campaign

from prefect_campaigns.deployments.compile import CompiledCampaign, compile_campaign
from prefect_campaigns.deployments.secrets_in_files import SecretKind
from prefect_campaigns.models import Campaign
from prefect_campaigns.references import secrets_in

URL = "http://127.0.0.1:9"


def with_headers(headers: dict[str, str], *, name: str = "CRM Sync", step: str = "prospecting") -> CompiledCampaign:
    return compile_campaign(campaign(name, URL, only=1, steps={"prospecting": {"headers": headers, "name": step}}))


@pytest.mark.parametrize(
    ("header", "written", "left", "values"),
    [
        ("X-Api-Key", "sk-1234567890", "{}", ["sk-1234567890"]),
        # The scheme is no secret, and an engine that repeats the token without it is caught by it.
        ("Authorization", "Bearer sk-1234567890", "Bearer {}", ["sk-1234567890"]),
        ("authorization", "basic dXNlcjpwYXNz", "basic {}", ["dXNlcjpwYXNz"]),
        ("Cookie", "session=abc; csrf=def", "{}", ["session=abc; csrf=def"]),
        # A literal beside a reference is a secret of its own, unless it is a scheme or a separator.
        ("Authorization", "Bearer {{ secret.crm }}", "Bearer {{ secret.crm }}", []),
        ("Authorization", "Basic {{ secret.user }}:{{ secret.pass }}", "Basic {{ secret.user }}:{{ secret.pass }}", []),
        ("Authorization", 'Token token="{{secret.crm}}"', 'Token token="{{secret.crm}}"', []),
        ("X-Api-Key", "team-42:{{ secret.crm }}", "{}{{{{ secret.crm }}}}", ["team-42:"]),
        ("X-Api-Key", "{{ secret.crm }}-and-more", "{{{{ secret.crm }}}}{}", ["-and-more"]),
        # What is asked for and by whom is no secret.
        ("Accept-Language", "en-US, de;q=0.5", "en-US, de;q=0.5", []),
        ("User-Agent", "example.com outreach 2.0", "example.com outreach 2.0", []),
        # A plain word, hidden wherever it occurs, would spoil results; in a credential's header it is none.
        ("X-Region", "eu-west", "eu-west", []),
        ("X-Tenant", "acme", "acme", []),
        ("X-Tenant", "acme-corporation", "{}", ["acme-corporation"]),
        ("X-Session", "acme", "{}", ["acme"]),
        # Too short to be told from anything.
        ("X-Api-Key", "abc", "abc", []),
        ("X-Empty", "", "", []),
    ],
)
def test_what_is_written_literally_becomes_a_block(header: str, written: str, left: str, values: list[str]) -> None:
    compiled = with_headers({header: written})
    assert [secret.value for secret in compiled.secrets] == values
    references = [f"{{{{ secret.{secret.block_name} }}}}" for secret in compiled.secrets]
    expected = left.format(*references) if values else left
    assert compiled.campaign.steps[0].headers == {header: expected}


def test_a_header_is_in_nothing_that_is_shown() -> None:
    compiled = with_headers({"Authorization": "Bearer sk-1234567890"})
    (secret,) = compiled.secrets
    assert secret.kind is SecretKind.HEADER
    assert "sk-1234567890" not in repr(compiled) + str(compiled.parameters) + compiled.campaign.model_dump_json()
    (reference,) = secrets_in(compiled.parameters["campaign"]["steps"][0]["headers"])
    assert reference.block_name == secret.block_name


def test_a_compiled_campaign_compiles_to_itself() -> None:
    compiled = with_headers({"Authorization": "Bearer sk-1234567890"})
    again = compile_campaign(Campaign.model_validate(compiled.parameters["campaign"]))
    assert again.campaign == compiled.campaign
    assert again.secrets == ()


def test_the_block_is_named_after_the_place_and_not_after_the_value() -> None:
    (one,), (other) = (with_headers({"X-Api-Key": value}).secrets for value in ("sk-1234567890", "sk-0987654321"))
    assert one.block_name == other[0].block_name
    assert one.block_name.startswith("campaigns-header-crm-sync-prospecting-x-api-key-")


def test_no_two_places_share_a_block() -> None:
    value = "sk-1234567890"
    places = [
        with_headers({"X-Api-Key": value}),
        with_headers({"X-Api-Token": value}),
        with_headers({"X-Api-Key": value}, name="CRM"),
        # Slugs cannot tell these apart.
        with_headers({"X_Api_Key": value}),
        with_headers({"X-Api-Key": value}, step="пр"),
        with_headers({"X-Api-Key": value}, step="a b"),
        with_headers({"X-Api-Key": value}, step="a-b"),
        with_headers({"X-Api-Key": value}, name="CRM", step="sync-prospecting"),
    ]
    names = [compiled.secrets[0].block_name for compiled in places]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalnum() and name.islower() and name.isascii() for name in names)


def test_names_of_any_length_make_a_block_that_can_be_referred_to() -> None:
    compiled = with_headers({"X-" + "Key-" * 49: "sk-1234567890"}, name="n" * 200, step="s" * 100)
    (reference,) = secrets_in(compiled.campaign.steps[0].headers)
    assert reference.block_name == compiled.secrets[0].block_name


def test_another_engine_at_the_same_step_is_given_a_block_of_its_own() -> None:
    """A run of the older version, suspended or retried, must not give one engine what is another's."""
    headers = {"prospecting": {"headers": {"X-Api-Key": "sk-1234567890"}}}
    blocks = {
        secret.block_name
        for url in (URL, "http://127.0.0.1:10")
        for secret in compile_campaign(campaign("CRM Sync", url, only=1, steps=headers)).secrets
    }
    assert len(blocks) == 2
