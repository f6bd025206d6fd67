"""The stores that the contract is tried on. A store joins by an entry in STORES."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from store_cases import (
    KEY,
    SettableClock,
    StoreFactory,
    StoreUnderTest,
    make_campaign,
    take_lease,
)

from prefect_campaigns.blocks.sqlite import SqliteStore
from prefect_campaigns.blocks.store import CampaignStore, Lease


def sqlite_stores(folder: Path, clock: SettableClock) -> StoreFactory:
    return lambda: SqliteStore(folder / "campaigns.db", clock=clock)


STORES: dict[str, Callable[[Path, SettableClock], StoreFactory]] = {"sqlite": sqlite_stores}


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest, tmp_path: Path, clock: SettableClock) -> StoreFactory:
    """Makes stores that keep the same data, as several processes do."""
    return STORES[request.param](tmp_path, clock)


@pytest.fixture
async def store(make_store: StoreFactory) -> AsyncIterator[StoreUnderTest]:
    """An open store with one campaign without limits; its books are added up after every test."""
    async with make_store() as opened:
        await opened.save_campaign(make_campaign())
        yield opened
        assert await opened.verify_totals(KEY) == []


@pytest.fixture
async def lease(store: CampaignStore) -> Lease:
    return await take_lease(store)
