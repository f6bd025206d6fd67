"""The way to a Supabase project: one function of its database, called and answered within a time."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import SecretStr

from prefect_campaigns.blocks.supabase import faults
from prefect_campaigns.blocks.supabase_credentials import check_supabase_key, check_supabase_url, key_kind
from prefect_campaigns.errors import LeaseLost, StoreError, StoreMisconfigured, StoreUnavailable, UnknownCampaign

if TYPE_CHECKING:
    from supabase import AsyncClient

MAX_CONNECTIONS = 20
"""More than the API has connections to its database, where everything waits for its turn anyway."""

ONCE = frozenset(
    {
        "campaigns_mark_sent",
        "campaigns_set_pause",
        "campaigns_set_stop",
        "campaigns_correct",
        "campaigns_delete",
        "campaigns_record_audit",
    }
)
"""What is never called a second time by itself when a connection broke: if the first call was heard after all, the
second would be told that somebody else did it, or would write it down twice. All other functions are idempotent: they
read, they set what they are given, or they find by lease, run or request that they have done it already."""

_BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
"""The connection ended; most often one that was kept and that the server had closed meanwhile."""

_ERRORS: dict[str, type[StoreError]] = {
    "StoreError": StoreError,
    "UnknownCampaign": UnknownCampaign,
    "LeaseLost": LeaseLost,
}


class SupabaseApi:
    """Calls the functions of our migrations through the official client."""

    def __init__(self, url: str, key: str, *, timeout_seconds: float) -> None:
        self.url = url.strip().rstrip("/")
        self._key = SecretStr(key)
        self._timeout_seconds = timeout_seconds
        self._http: httpx.AsyncClient | None = None
        self._client: AsyncClient | None = None

    async def open(self) -> None:
        """Make the client; nothing is asked yet.

        Raises:
            StoreMisconfigured: the URL or the key cannot be one that works.
            StoreError: it is open already.
        """
        if self._http is not None:
            raise StoreError(f"the store {self.url} is already open")
        self._check()
        # Importing the client takes more than a second, and reading the certificates of all authorities a while, too.
        tls = await asyncio.to_thread(_prepare, self.url)
        self._http = httpx.AsyncClient(
            verify=tls,
            timeout=httpx.Timeout(self._timeout_seconds),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            # A project does not redirect; a key must not be sent on to whoever does.
            follow_redirects=False,
            event_hooks={"response": [self._refuse]},
        )
        from supabase import AsyncClientOptions, acreate_client

        options = AsyncClientOptions(
            httpx_client=self._http,
            # There is nobody to log in; and repeating is our own business, see ONCE.
            auto_refresh_token=False,
            persist_session=False,
            postgrest_client_retry=False,
        )
        try:
            self._client = await acreate_client(self.url, self._key.get_secret_value(), options)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all connections; closing twice does nothing."""
        http, self._http, self._client = self._http, None, None
        if http is not None:
            await http.aclose()

    async def call(self, function: str, **arguments: Any) -> dict[str, Any]:
        """Call a function of the database and return its answer: ``{"value": …}`` or ``{"refused": …}``.

        Raises:
            StoreError: the function says so; the kind is the function's.
            StoreUnavailable: there was no answer in time. What the function does may have happened all the same.
            StoreMisconfigured: there is an answer, and asking again will not better it.
        """
        client = self._client
        if client is None:
            raise StoreError(f"the store {self.url} is not open")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                try:
                    response = await client.rpc(function, arguments).execute()
                except _BROKEN:
                    if function in ONCE:
                        raise
                    response = await client.rpc(function, arguments).execute()
        except TimeoutError:
            raise StoreUnavailable(
                f"Supabase at {self.url} did not answer within {self._timeout_seconds:g} s"
            ) from None
        except httpx.TransportError as error:
            raise faults.from_transport(self.url, error, seconds=self._timeout_seconds) from error
        return self._understood(response.data)

    def _understood(self, answer: Any) -> dict[str, Any]:
        if isinstance(answer, dict) and answer.keys() in ({"value"}, {"refused"}):
            return answer
        match answer:
            case {"error": {"kind": str(kind), "message": str(message)}}:
                # A newer database may have more kinds.
                raise _ERRORS.get(kind, StoreError)(message)
        raise faults.no_supabase(self.url, "an answer that is not Supabase's came")

    def _check(self) -> None:
        """Refuse what cannot work, before a key is sent anywhere."""
        try:
            self.url = check_supabase_url(self.url)
            key = check_supabase_key(self._key.get_secret_value())
        except ValueError as error:
            raise StoreMisconfigured(f"the Supabase project cannot be used: {error}") from None
        self._key = SecretStr(key)
        if (kind := key_kind(key)) in ("publishable", "anon"):
            raise faults.key_is_for_browsers(self.url, kind)

    async def _refuse(self, response: httpx.Response) -> None:
        # Here, and not from the client's own error: that one has lost the HTTP status.
        content = await _json_of(response)
        if not response.is_success:
            raise faults.from_answer(self.url, response.status_code, content)
        if not content:
            raise faults.no_supabase(self.url, "an answer that is not JSON came")


async def _json_of(response: httpx.Response) -> bytes:
    """Return the answer if it is JSON, else nothing: the client would raise errors of any kind over what it is."""
    try:
        content = await response.aread()
        json.loads(content)
    except (httpx.DecodingError, ValueError, RecursionError):
        return b""
    return content


def _prepare(url: str) -> ssl.SSLContext:
    """Import the client, and return what its connections trust: nobody, where there is no TLS."""
    import supabase  # noqa: F401

    return httpx.create_ssl_context() if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
