"""A process of its own that writes to a SQLite store: ``python store_process.py <database> <deed> <name>``."""

from __future__ import annotations

import asyncio
import itertools
import sys
from decimal import Decimal
from pathlib import Path

from store_cases import KEY, RUN_1, reserve, send

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import Lease
from prefect_campaigns.errors import BudgetRefused


async def reserve_fifty(store: SqliteStore, lease: Lease, name: str) -> None:
    """Try to reserve 1.00 fifty times at once; say how often it worked."""
    answers = await asyncio.gather(
        *(reserve(store, lease, "1.00", step=name, attempt=attempt) for attempt in range(1, 51)),
        return_exceptions=True,
    )
    unexpected = [
        answer for answer in answers if isinstance(answer, BaseException) and type(answer) is not BudgetRefused
    ]
    assert not unexpected, unexpected
    print(sum(not isinstance(answer, BaseException) for answer in answers), flush=True)


async def spend_for_ever(store: SqliteStore, lease: Lease, name: str) -> None:
    """Spend a tenth of a cent after the other; say so each time it is on the disk."""
    for attempt in itertools.count(1):
        sent = await send(store, lease, "0.002", step=name, attempt=attempt)
        await store.settle(lease, sent, Decimal("0.001"))
        print(attempt, flush=True)


DEEDS = {"reserve": reserve_fifty, "spend": spend_for_ever}


async def main(database: str, deed: str, name: str) -> None:
    async with SqliteStore(Path(database)) as store:
        lease = await store.acquire_lease(
            KEY,
            run_id=RUN_1,
            run_name="run-1",
            # All processes of a test act for one execution: what is tried here is the books, not the lease.
            holder="everybody",
            ttl_seconds=600,
            waiting_since=(await store.get_campaign(KEY)).created_at,
        )
        assert isinstance(lease, Lease)
        # All begin when the test says so, not when their imports are done.
        print("ready", flush=True)
        sys.stdin.readline()
        await DEEDS[deed](store, lease, name)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
