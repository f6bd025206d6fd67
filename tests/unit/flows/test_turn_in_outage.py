"""Waiting for a turn while the store is away: whoever holds the lease keeps it, and whoever waits may be cut off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from campaign_files import campaign

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import Lease
from prefect_campaigns.clock import SystemClock
from prefect_campaigns.errors import StoreUnavailable
from prefect_campaigns.flows import lease as leases
from prefect_campaigns.flows import run as runs
from prefect_campaigns.flows.lease import Turn, keeping, take_turn

logger = logging.getLogger(__name__)
CAMPAIGN = campaign("In Turn", "http://127.0.0.1:9", only=1)
LEASE_SECONDS = 1.0


class Away:
    """A store that may be away."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.is_away = False

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)

        async def answer(*args: Any, **kwargs: Any) -> Any:
            if self.is_away:
                raise StoreUnavailable("it is away")
            return await call(*args, **kwargs)

        return answer


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Away]:
    """A store, and times that are a sixtieth of what they are."""
    monkeypatch.setattr(leases, "LEASE_SECONDS", LEASE_SECONDS)
    monkeypatch.setattr(leases, "RENEW_SECONDS", LEASE_SECONDS / 4)
    monkeypatch.setattr(leases, "RENEW_AGAIN_SECONDS", LEASE_SECONDS / 20)
    monkeypatch.setattr(leases, "POLL_SECONDS", LEASE_SECONDS / 50)
    monkeypatch.setattr(runs, "OUTAGE_RETRY_SECONDS", LEASE_SECONDS / 50)

    async def show_nothing(*_: Any) -> None:
        """There is no Prefect."""

    monkeypatch.setattr(leases, "_show", show_nothing)
    async with SqliteStore(tmp_path / "campaigns.db") as store:
        await store.save_campaign(CAMPAIGN)
        yield Away(store)


def waiting(store: Away) -> asyncio.Task[Any]:
    """Let another run wait for its turn."""
    flow_run: Any = SimpleNamespace(id="two", name="azure-fox", expected_start_time=datetime.now(UTC))
    return asyncio.create_task(take_turn(store, CAMPAIGN, flow_run, clock=SystemClock(), logger=logger))


async def hold(store: Away) -> Lease:
    lease = await store.acquire_lease(
        CAMPAIGN.slug,
        run_id="one",
        run_name="teal-owl",
        holder="here",
        ttl_seconds=LEASE_SECONDS,
        waiting_since=datetime.now(UTC),
    )
    assert isinstance(lease, Lease)
    return lease


async def test_a_lease_that_ran_out_in_an_outage_stays_with_the_run_that_lives(store: Away) -> None:
    lease = await hold(store)
    async with keeping(store, lease, logger=logger):
        turn = waiting(store)
        await asyncio.sleep(LEASE_SECONDS / 5)
        store.is_away = True
        await asyncio.sleep(LEASE_SECONDS * 2)
        store.is_away = False
        await asyncio.sleep(LEASE_SECONDS * 2)
        assert not turn.done()
        # It may write.
        await store.renew_lease(lease, ttl_seconds=LEASE_SECONDS)
    assert isinstance(await asyncio.wait_for(turn, LEASE_SECONDS * 5), Turn)


async def test_of_a_run_that_has_died_in_an_outage_the_next_takes_the_lease(store: Away) -> None:
    await hold(store)
    turn = waiting(store)
    store.is_away = True
    await asyncio.sleep(LEASE_SECONDS * 2)
    store.is_away = False
    assert isinstance(await asyncio.wait_for(turn, LEASE_SECONDS * 5), Turn)


async def test_a_run_that_is_cut_off_while_it_waits_and_the_store_is_away_is_cancelled(store: Away) -> None:
    await hold(store)
    turn = waiting(store)
    await asyncio.sleep(LEASE_SECONDS / 5)
    store.is_away = True
    await asyncio.sleep(LEASE_SECONDS / 5)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
