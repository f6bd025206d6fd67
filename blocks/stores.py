"""Which store the settings name, opened once for all that share it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.sqlite import SqliteStore
from prefect_campaigns.blocks.store import CampaignStore


@dataclass
class _Shared:
    store: SqliteStore
    opened: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_open: bool = False
    users: int = 0


_shared: dict[tuple[asyncio.AbstractEventLoop, Path], _Shared] = {}


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[CampaignStore]:
    """Yield the store that the settings name.

    All users of one event loop share one connection; the last one closes it.

    Raises:
        StoreUnavailable: it cannot be opened.
    """
    key = (asyncio.get_running_loop(), settings.database_path)
    shared = _shared.setdefault(key, _Shared(SqliteStore(settings.database_path)))
    shared.users += 1
    try:
        async with shared.opened:
            if not shared.is_open:
                await shared.store.__aenter__()
                shared.is_open = True
        yield shared.store
    finally:
        shared.users -= 1
        if shared.users == 0:
            # Whoever comes next starts afresh: this one must not be handed out while it closes.
            del _shared[key]
            if shared.is_open:
                await shared.store.__aexit__(None, None, None)
