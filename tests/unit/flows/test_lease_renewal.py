"""A lease goes on being renewed, whatever the store answers in between: whoever stops is taken for dead."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

import pytest

from prefect_campaigns.blocks.store_types import Lease
from prefect_campaigns.errors import LeaseLost, StoreError, StoreMisconfigured, StoreUnavailable
from prefect_campaigns.flows import lease as leases

LEASE = Lease(
    campaign_key="one", run_id="1", run_name="azure-fox", holder="here", fence=1, expires_at=datetime.now(UTC)
)
logger = logging.getLogger(__name__)


class Answering:
    """A store that gives these answers, one after the other, and then none any more."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.is_done = asyncio.Event()

    async def renew_lease(self, lease: Lease, *, ttl_seconds: float) -> Lease:
        if not self.answers:
            self.is_done.set()
            await asyncio.Event().wait()
        if (answer := self.answers.pop(0)) is not None:
            raise answer
        return lease

    async def release_lease(self, lease: Lease) -> None:
        pass


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("it is away"),
        StoreMisconfigured("its key is refused, for a moment"),
        StoreError("it answers with a page of HTML"),
        RuntimeError("unforeseen"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_it_is_renewed_again_after_an_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0)
    store = Answering(None, error, None, error, None)
    async with leases.keeping(store, LEASE, logger=logger):  # type: ignore[arg-type]
        await asyncio.wait_for(store.is_done.wait(), 5)


async def test_one_that_is_lost_is_not(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0)
    store = Answering(None, LeaseLost("run violet-elk has it now"), None)
    async with leases.keeping(store, LEASE, logger=logger):  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
    assert len(store.answers) == 1
    assert "run violet-elk has it now" in caplog.text
