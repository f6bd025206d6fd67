"""Where campaigns, runs and the ledger are kept when that is a Supabase project."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, field_validator

if TYPE_CHECKING:
    from prefect_campaigns.blocks.supabase.store import SupabaseStore

STORE_BLOCK_NAME = "campaigns-supabase"
"""The block that names the store where neither the environment nor ``.env`` does."""

_URL_ALLOWED = "allowed is the project's URL, such as https://abcdefgh.supabase.co, with nothing behind it"
_KEY_ALLOWED = "allowed is a key of the project, such as sb_secret_…, without spaces"


def is_loopback(host: str) -> bool:
    """Whether the name or address means this very machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_supabase_url(value: str) -> str:
    """Return the URL of a Supabase project, without the slash at its end.

    Raises:
        ValueError: it is none; says what is allowed and repeats nothing.
    """
    try:
        url = urlsplit(value.strip())
        port = url.port
    except ValueError:
        raise ValueError(_URL_ALLOWED) from None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0:
        raise ValueError(_URL_ALLOWED)
    if any(c.isspace() or not c.isprintable() for c in value.strip()):
        raise ValueError(_URL_ALLOWED)
    if url.username is not None or url.password is not None:
        raise ValueError("allowed is a URL without user name and password; the key is SUPABASE_KEY")
    if url.path.strip("/") or url.query or url.fragment:
        raise ValueError(_URL_ALLOWED)
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise ValueError("http is allowed on this very machine only; anywhere else the key needs https")
    return f"{url.scheme}://{url.netloc}"


def check_supabase_key(value: str) -> str:
    """Return a key as it can stand in a header.

    Raises:
        ValueError: it cannot; says what is allowed and repeats nothing.
    """
    key = value.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(_KEY_ALLOWED)
    return key


def key_kind(key: str) -> str:
    """Say what kind of key it looks like: ``secret``, ``publishable``, ``service_role``, ``anon`` or ``unknown``."""
    for kind in ("secret", "publishable"):
        if key.startswith(f"sb_{kind}_"):
            return kind
    _, _, rest = key.partition(".")
    payload = rest.partition(".")[0]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, binascii.Error):
        return "unknown"
    role = claims.get("role") if isinstance(claims, dict) else None
    return role if role in ("service_role", "anon") else "unknown"


class SupabaseCredentials(Block):
    """
    Says which Supabase project keeps campaigns, runs and the ledger, and with what key.

    Saved as `campaigns-supabase` it is what every campaign command and every worker of the Prefect server uses, so
    that none of them needs a `.env` file.

    Attributes:
        url: The URL of the Supabase project.
        key: A secret key of the project.

    Example:
        Load a saved block and read a budget:
        ```python
        from prefect_campaigns.blocks.supabase_credentials import SupabaseCredentials

        supabase_credentials = SupabaseCredentials.load("BLOCK_NAME")
        async with supabase_credentials.store() as store:
            print(await store.budget_status("weekly-restaurant-outreach"))
        ```
    """

    # A rejected value may be a key.
    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    _block_type_name = "Supabase Credentials"
    _block_type_slug = "supabase-credentials"
    _logo_url = HttpUrl(
        "https://cdn.sanity.io/images/3ugk85nk/production/3c7dff04f70aaf4528e184a3b028f9e40b98d68c-250x250.png"
    )
    _documentation_url = HttpUrl("https://supabase.com/docs/guides/api/api-keys")

    url: str = Field(
        default=..., description="The URL of the Supabase project.", examples=["https://abcdefgh.supabase.co"]
    )
    key: SecretStr = Field(default=..., description="A secret key of the project (sb_secret_… or service_role).")

    @field_validator("url")
    @classmethod
    def _is_a_project(cls, value: str) -> str:
        return check_supabase_url(value)

    @field_validator("key")
    @classmethod
    def _is_a_key(cls, value: SecretStr) -> SecretStr:
        return SecretStr(check_supabase_key(value.get_secret_value()))

    def store(self) -> SupabaseStore:
        """Return the store, not yet opened."""
        # Only here: the Supabase client takes more than a second to import, and who keeps SQLite never needs it.
        from prefect_campaigns.blocks.supabase.store import SupabaseStore

        return SupabaseStore(self.url, self.key.get_secret_value())
