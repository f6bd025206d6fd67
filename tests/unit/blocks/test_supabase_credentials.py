"""The block that says where the books are when they are in Supabase."""

from __future__ import annotations

import base64
import json

import pytest
from prefect.blocks.core import Block
from prefect.plugins import load_prefect_collections
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

from prefect_campaigns.blocks.supabase_credentials import SupabaseCredentials, key_kind

URL = "https://abcdefgh.supabase.co"
KEY = "sb_secret_swordfish-7"


class TestAsEveryBlock(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return SupabaseCredentials

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        # Prefect's own test fetches the picture from its host; ours stays on this machine.
        assert str(block._logo_url).startswith("https://cdn.sanity.io/images/3ugk85nk/production/")


def test_prefect_loads_it_with_the_package() -> None:
    assert load_prefect_collections()["prefect_campaigns"].SupabaseCredentials is SupabaseCredentials


def test_it_holds_a_url_and_a_key_that_it_does_not_show() -> None:
    credentials = SupabaseCredentials(url=f"{URL}/", key=SecretStr(f"{KEY}\n"))
    assert (credentials.url, credentials.key.get_secret_value()) == (URL, KEY)
    assert KEY not in repr(credentials)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        # As a person may type them into the Prefect UI.
        ("abcdefgh.supabase.co", KEY),
        ("http://abcdefgh.supabase.co", KEY),
        (f"{URL}/rest/v1", KEY),
        (KEY, KEY),
        (URL, ""),
        (URL, f"{KEY} {KEY}"),
        (URL, f"{KEY}…"),
    ],
)
def test_what_cannot_be_a_project_is_refused_and_not_repeated(url: str, key: str) -> None:
    with pytest.raises(ValidationError) as error:
        SupabaseCredentials(url=url, key=SecretStr(key))
    assert "allowed" in str(error.value) and "swordfish" not in str(error.value)


def jwt(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{payload}.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (KEY, "secret"),
        ("sb_publishable_xyz", "publishable"),
        # The older kind.
        (jwt({"iss": "supabase", "role": "service_role"}), "service_role"),
        (jwt({"iss": "supabase", "role": "anon"}), "anon"),
        # Whatever else.
        (jwt({"role": "authenticated"}), "unknown"),
        (jwt(["role"]), "unknown"),
        ("a.%%%.c", "unknown"),
        ("a.b", "unknown"),
        ("something-else", "unknown"),
    ],
)
def test_the_kind_of_a_key_can_be_told(key: str, kind: str) -> None:
    assert key_kind(key) == kind
