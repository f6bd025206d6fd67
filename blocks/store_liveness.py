"""What is known of who lives: the part of the Protocol of all stores that is about workers, and runs left alone.

What ``store`` says holds here: instants are aware and in UTC, and every method may raise StoreUnavailable. Whether
something has expired is said by the clock that the leases go by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from prefect_campaigns.blocks.store_types import UnattendedRun, WorkerRecord


class LivenessStore(Protocol):
    """Keeps which workers live, and knows which runs nobody attends to."""

    async def keep_worker(self, id: UUID, *, name: str, pool: str, ttl_seconds: float) -> None:
        """Write down that a worker's process lives, for ``ttl_seconds`` from now on.

        Args:
            id: names the process: a worker that is started again under its name is another one.
            pool: the work pool whose runs it takes up.
        """
        ...

    async def remove_worker(self, id: UUID) -> None:
        """Forget a worker that has ended, and whose runs are seen to; does nothing when it is not known."""
        ...

    async def list_workers(self) -> Sequence[WorkerRecord]:
        """Return the workers that live, and those that vanished and whose runs nobody has seen to; by name."""
        ...

    async def unattended_runs(self, *, within_seconds: float) -> Sequence[UnattendedRun]:
        """Return the runs that count as running and that nobody attends to, or soon nobody may; oldest first.

        Those are the runs that do not hold their campaign's lease, or whose lease expires ``within_seconds``; but none
        that has asked for the lease within the last 30 seconds, and none that is suspended.
        """
        ...
