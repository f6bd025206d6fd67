"""What all requests share: one Prefect client and one open store, whichever of them is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.context import get_settings_context
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord
from prefect_campaigns.blocks.stores import DEFAULT_API_URL, StoreChoice, choose_store, open_chosen
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.api.answers import Health
from prefect_campaigns.deployments.driving.lookup import match_campaign
from prefect_campaigns.deployments.running.server import configured_api_url, must_answer
from prefect_campaigns.errors import ServerError, StoreUnavailable, UnknownCampaign
from prefect_campaigns.words import hide_login, why_failed

REQUEST_SECONDS = 150.0
"""How long a request may take in all; an apply waits for another one for two minutes."""


class Parts:
    """Keeps what requests share for as long as it is entered. Neither part has to be there at the start.

    Attributes:
        looking: held by whoever looks how everything is.
        health, health_at: what the last look found, and when.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.started_at = current_clock().now()
        self.looking = asyncio.Lock()
        self.health: Health | None = None
        self.health_at = self.started_at
        self._url = configured_api_url() or DEFAULT_API_URL
        self._client: PrefectClient | None = None
        self._choice: StoreChoice | None = None
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._store_stack = AsyncExitStack()
        self._keys: dict[UUID, str] = {}

    async def __aenter__(self) -> Self:
        # Made once: Prefect takes a twentieth of a second to change a setting.
        with temporary_settings({PREFECT_API_URL: self._url}):
            self._usual = get_settings_context()
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                self._impatient = get_settings_context()
            self._client = await self._stack.enter_async_context(get_client())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client = None
        await self._store_stack.aclose()
        await self._stack.aclose()

    @asynccontextmanager
    async def prefect(self) -> AsyncIterator[PrefectClient]:
        """Yield the client, once Prefect's API has answered.

        Raises:
            ServerError: it does not answer, or a request failed on the way.
        """
        client = self._started_client()
        where = f"Prefect's API at {hide_login(self._url)}"
        with self._usual.model_copy():
            # At once: the client would try again for a minute before it says that nobody is there.
            with self._impatient.model_copy():
                await must_answer(client, self._url)
            try:
                yield client
            except (httpx.HTTPError, PrefectException) as error:
                raise ServerError(f"{where} failed: {why_failed(error)}") from error

    def _started_client(self) -> PrefectClient:
        if self._client is None:
            raise ServerError("the API has not started yet, or is ending")
        return self._client

    @asynccontextmanager
    async def store(self) -> AsyncIterator[CampaignStore]:
        """Yield the store that keeps the books now, opened.

        Raises:
            ServerError: the API is not going.
            StoreUnavailable: it cannot be opened, or nobody knows which one it is.
            StoreMisconfigured: it cannot be used as it is set up.
        """
        self._started_client()
        choice = await choose_store(self.settings)
        await self._keep_open(choice)
        async with open_chosen(choice) as store:
            yield store

    async def _keep_open(self, choice: StoreChoice) -> None:
        """Hold a connection between the requests; another one when `campaigns setup` has chosen another store."""
        async with self._opening:
            if self._choice is not None and self._choice.identity == choice.identity:
                return
            await self._store_stack.aclose()
            self._choice = None
            await self._store_stack.enter_async_context(open_chosen(choice))
            self._choice = choice

    @asynccontextmanager
    async def both(self) -> AsyncIterator[tuple[PrefectClient, CampaignStore]]:
        """Yield client and store for one request, which has to be done in time.

        Raises:
            ServerError: Prefect's API is not there, or nothing came of it in time.
            StoreUnavailable, StoreMisconfigured: the store is not there.
        """
        try:
            async with asyncio.timeout(REQUEST_SECONDS), self.store() as store, self.prefect() as client:
                yield client, store
        except TimeoutError as error:
            raise ServerError(f"it was not done within {REQUEST_SECONDS:g} seconds; it may be yet") from error

    @asynccontextmanager
    async def books(self) -> AsyncIterator[CampaignStore]:
        """Yield the store for a request that needs nothing of Prefect, or can do without.

        Raises:
            StoreUnavailable, StoreMisconfigured: the store is not there.
        """
        try:
            async with asyncio.timeout(REQUEST_SECONDS), self.store() as store:
                yield store
        except TimeoutError as error:
            raise StoreUnavailable(f"the books did not answer within {REQUEST_SECONDS:g} seconds") from error

    async def find(self, store: CampaignStore, name: str) -> CampaignRecord:
        """Return the campaign that has this id; a slug or a name serves, too.

        Raises:
            UnknownCampaign: there is none.
        """
        try:
            wanted = UUID(name)
        except ValueError:
            wanted = None
        if wanted is not None and (key := self._keys.get(wanted)) is not None:
            try:
                record = await store.get_campaign(key)
            except UnknownCampaign:
                del self._keys[wanted]
            else:
                if record.id == wanted:
                    return record
        records = await store.list_campaigns()
        self._keys = {record.id: record.key for record in records}
        return match_campaign(name, records)

    async def key_of(self, store: CampaignStore, name: str) -> str:
        """Return the key of a campaign by its id, slug or name; of one that is deleted, by its slug.

        Raises:
            UnknownCampaign: it is an id, and no campaign has it.
        """
        try:
            return (await self.find(store, name)).key
        except UnknownCampaign:
            if not await store.list_audit(campaign_key=name, limit=1):
                raise
            return name
