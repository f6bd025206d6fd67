"""Places for what many want to do at once and a few may, in the order in which they come."""

from __future__ import annotations

import asyncio
from uuid import UUID


class Places:
    """Some places, each of which is taken by one run.

    Args:
        count: how many there are.
        keep_seconds: after how long a place is free for the next, though nobody has left it.
    """

    def __init__(self, count: int, *, keep_seconds: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._keep_seconds = keep_seconds
        self._taken: dict[UUID, asyncio.TimerHandle] = {}

    async def take(self, run: UUID) -> None:
        """Wait for a free place, and take it; a run that has one keeps it."""
        if run in self._taken:
            return
        await self._free.acquire()
        self._taken[run] = asyncio.get_running_loop().call_later(self._keep_seconds, self.leave, run)

    def leave(self, run: UUID) -> None:
        """Leave the place; a run that has none has left it already."""
        if (timer := self._taken.pop(run, None)) is not None:
            timer.cancel()
            self._free.release()
