"""Which store keeps the books, and that store opened once for all that share it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import ValidationError

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.supabase_credentials import STORE_BLOCK_NAME, SupabaseCredentials
from prefect_campaigns.errors import StoreMisconfigured, StoreUnavailable
from prefect_campaigns.words import hide_login

DEFAULT_API_URL = "http://127.0.0.1:4200/api"
"""Where a Prefect server of this machine answers unless told otherwise."""

LOOK_UP_SECONDS = 30.0
REMEMBERED_SECONDS = 60.0
"""How long a process goes by what Prefect's API said of the block."""


@dataclass(frozen=True, kw_only=True)
class SqliteChoice:
    """The books are kept in a file.

    Attributes:
        chosen_by: what says so, for people: ``CAMPAIGNS_DATABASE``, ``default``.
    """

    path: Path
    chosen_by: str

    def __str__(self) -> str:
        return f"SQLite file {self.path} ({self.chosen_by})"

    @property
    def identity(self) -> Hashable:
        """Equal for choices that mean the same store."""
        return self.path

    def store(self) -> CampaignStore:
        """Return the store, not yet opened."""
        return SqliteStore(self.path)


@dataclass(frozen=True, kw_only=True)
class SupabaseChoice:
    """The books are kept in a Supabase project.

    Attributes:
        chosen_by: what says so, for people: ``SUPABASE_URL``, ``block campaigns-supabase``.
    """

    credentials: SupabaseCredentials
    chosen_by: str

    def __str__(self) -> str:
        return f"Supabase project {self.credentials.url} ({self.chosen_by})"

    @property
    def identity(self) -> Hashable:
        """Equal for choices that mean the same store, opened with the same key."""
        return self.credentials.url, self.credentials.key.get_secret_value()

    def store(self) -> CampaignStore:
        """Return the store, not yet opened; takes more than a second the first time in a process."""
        return self.credentials.store()


StoreChoice = SqliteChoice | SupabaseChoice


async def choose_store(settings: Settings) -> StoreChoice:
    """Say which store keeps the books.

    The first of these that is there: SUPABASE_URL; CAMPAIGNS_DATABASE; the block ``campaigns-supabase`` on the Prefect
    server; the default SQLite file in Prefect's home.

    The server is the one that PREFECT_API_URL names, or else the one on this machine's port 4200. If it cannot be
    asked, nobody knows whether a block names other books, and none are opened: to spend by the wrong books is to
    overspend. There is one exception. Where PREFECT_API_URL is not set and nothing at all listens on port 4200, there
    is no server that could have a block: this is one machine with the embedded server stopped, and its books are the
    default file.

    Raises:
        StoreUnavailable: the server cannot be asked.
        StoreMisconfigured: its block cannot be used.
    """
    if settings.supabase is not None:
        return SupabaseChoice(credentials=settings.supabase, chosen_by="SUPABASE_URL")
    if settings.database_is_named:
        return SqliteChoice(path=settings.database_path, chosen_by="CAMPAIGNS_DATABASE")
    credentials = await _saved_credentials()
    if credentials is not None:
        return SupabaseChoice(credentials=credentials, chosen_by=f"block {STORE_BLOCK_NAME}")
    return SqliteChoice(path=settings.database_path, chosen_by="default")


@dataclass(frozen=True)
class _Remembered:
    credentials: SupabaseCredentials | None
    until: float


_remembered: dict[str, _Remembered] = {}


def forget_saved_store() -> None:
    """Ask Prefect's API again the next time, because its block may have changed."""
    _remembered.clear()


async def _saved_credentials() -> SupabaseCredentials | None:
    configured = PREFECT_API_URL.value()
    url = configured or DEFAULT_API_URL
    known = _remembered.get(url)
    if known is not None and monotonic() < known.until:
        return known.credentials
    try:
        async with asyncio.timeout(LOOK_UP_SECONDS):
            found = await _read_block(url)
    except httpx.ConnectError as error:
        if not configured:
            return None
        raise _unknown_books(url, error) from error
    except (httpx.HTTPError, httpx.InvalidURL, PrefectException, TimeoutError, ValueError) as error:
        raise _unknown_books(url, error) from error
    _remembered[url] = _Remembered(found, monotonic() + REMEMBERED_SECONDS)
    return found


async def _read_block(url: str) -> SupabaseCredentials | None:
    # By a filter, whose empty answer says that there is none; a 404 is also what a server says that is no Prefect.
    wanted = {
        "block_documents": {"name": {"any_": [STORE_BLOCK_NAME]}},
        "block_types": {"slug": {"any_": [SupabaseCredentials.get_block_type_slug()]}},
        "include_secrets": True,
    }
    with temporary_settings({PREFECT_API_URL: url}):
        async with get_client() as client:
            documents = (await client.request("POST", "/block_documents/filter", json=wanted)).json()
    if not isinstance(documents, list):
        raise ValueError("the answer is not that of a Prefect API")
    if not documents:
        return None
    try:
        return SupabaseCredentials.model_validate(documents[0]["data"])
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors(include_input=False))
        raise StoreMisconfigured(
            f"block {STORE_BLOCK_NAME} on {hide_login(url)} cannot be used ({faults}); save it again with"
            " `campaigns setup`"
        ) from None


def wants_password(error: BaseException) -> str | None:
    """Return what is the matter with a Prefect API that wants a password, or another one; None for other errors."""
    if not isinstance(error, httpx.HTTPStatusError) or error.response.status_code != httpx.codes.UNAUTHORIZED:
        return None
    return (
        "it answers 401, since it wants a password, or another one: set PREFECT_API_AUTH_STRING (of a server by"
        " `campaigns up` it lies in the file campaigns-api-password in Prefect's home there)"
    )


def _unknown_books(url: str, error: BaseException) -> StoreUnavailable:
    why = f"no answer within {LOOK_UP_SECONDS:g} seconds" if isinstance(error, TimeoutError) else str(error)
    what = wants_password(error) or hide_login(" ".join(why.split())[:300]) or type(error).__name__
    return StoreUnavailable(
        f"which books to open is not known: Prefect's API at {hide_login(url)} cannot be asked for block"
        f" {STORE_BLOCK_NAME}: {what}. Start it, or correct PREFECT_API_URL,"
        " or name the books by SUPABASE_URL or CAMPAIGNS_DATABASE."
    )


@dataclass
class _Shared:
    store: CampaignStore | None = None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


_shared: dict[tuple[asyncio.AbstractEventLoop, Hashable], _Shared] = {}


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[CampaignStore]:
    """Yield the store that keeps the books (see ``choose_store``), opened.

    All users of one event loop share one connection; the last one closes it.

    Raises:
        StoreUnavailable: it cannot be opened, or nobody knows which one it is.
        StoreMisconfigured: it cannot be used as it is set up.
    """
    async with open_chosen(await choose_store(settings)) as store:
        yield store


@asynccontextmanager
async def open_chosen(choice: StoreChoice) -> AsyncIterator[CampaignStore]:
    """Yield a store that has been chosen already, opened and shared as by ``open_store``."""
    key = (asyncio.get_running_loop(), choice.identity)
    shared = _shared.setdefault(key, _Shared())
    shared.users += 1
    try:
        async with shared.opening:
            if shared.store is None:
                # In a thread: what it imports would hold up everybody else's runs for more than a second.
                store = await asyncio.to_thread(choice.store)
                shared.store = await store.__aenter__()
        yield shared.store
    finally:
        shared.users -= 1
        if shared.users == 0:
            # Whoever comes next starts afresh: this one must not be handed out while it closes.
            del _shared[key]
            if shared.store is not None:
                await shared.store.__aexit__(None, None, None)
