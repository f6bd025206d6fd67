"""One at a time: what changes deployments, blocks and automations on the Prefect server, and what is approved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import anyio
from prefect.logging import get_logger

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease
from prefect_campaigns.clock import current_clock
from prefect_campaigns.errors import ServerError
from prefect_campaigns.flows.lease import LEASE_SECONDS, keeping

ALONE_SECONDS = 120.0
"""How long is waited for another one; one that died is in the way for a minute."""

APPLYING, APPROVING = "@apply", "@approve"
"""What one is alone at."""

_logger = get_logger("campaigns.alone")


@asynccontextmanager
async def alone(store: CampaignStore, *, doing: str, at: str = APPLYING) -> AsyncIterator[None]:
    """Let nobody else apply or delete meanwhile: two at once would both create the same automation, and mail twice.

    Args:
        at: what nobody else does meanwhile; ``APPROVING``, so that an approval is written down by one alone.

    Raises:
        ServerError: another one has been at it for two minutes.
        StoreError: the store is not there.
    """
    began, clock = anyio.current_time(), current_clock()
    run_id, since = f"{doing}-{uuid4().hex}", clock.now()
    while anyio.current_time() - began < ALONE_SECONDS:
        lease = await store.acquire_lease(
            at, run_id=run_id, run_name=doing, holder=run_id, ttl_seconds=LEASE_SECONDS, waiting_since=since
        )
        if isinstance(lease, Lease):
            async with keeping(store, lease, logger=_logger):
                yield
            return
        await anyio.sleep(0.5)
    await store.leave_queue(at, run_id=run_id)
    another = "another apply or delete" if at == APPLYING else "another approval"
    raise ServerError(f"{another} has been going on for {ALONE_SECONDS:g} seconds; try again when it has ended")
