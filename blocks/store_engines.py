"""What is known of engines that do not work: the part of the Protocol of all stores that is about engines.

What ``store`` says holds here: instants are aware and in UTC, and every method may raise StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prefect_campaigns.blocks.store_types import EngineTrouble


class EngineStore(Protocol):
    """Keeps by which engines runs fail, one after the other."""

    async def engine_troubles(self) -> Sequence[EngineTrouble]:
        """Return the engines by which runs have failed since they worked last, by their endpoints."""
        ...

    async def engine_failed(
        self, endpoint: str, *, run_id: str, error: str, after_runs: int, pause_seconds: float
    ) -> EngineTrouble:
        """Write down that a run has failed by an engine; once for each run, however often it is retried.

        From the ``after_runs``-th on the engine is left alone, for ``pause_seconds`` from now.
        """
        ...

    async def engine_answered(self, endpoint: str) -> None:
        """Write down that an engine works."""
        ...
