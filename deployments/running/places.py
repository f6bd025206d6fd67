"""Places for what many want to do at once and a few may, in the order in which they come."""

from __future__ import annotations

import asyncio
from uuid import UUID


class Places:
    """Some places, each of which is taken by one run."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)
        self._taken: set[UUID] = set()

    async def take(self, run: UUID) -> None:
        """Wait for a free place, and take it."""
        await self._free.acquire()
        self._taken.add(run)

    def leave(self, run: UUID, *, after_seconds: float = 0) -> None:
        """Leave the place, now or in a while; a run that has none has left it already."""
        if after_seconds:
            asyncio.get_running_loop().call_later(after_seconds, self.leave, run)
        elif run in self._taken:
            self._taken.remove(run)
            self._free.release()
