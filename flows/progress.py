"""Showing how far a step is: in the run's log, and as a progress artifact in the Prefect UI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import anyio
import httpx
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.exceptions import PrefectException
from slugify import slugify

from prefect_campaigns.flows.exchange import Progress
from prefect_campaigns.flows.run import RunLogger

UPDATE_SECONDS = 1.0
"""The artifact is written at most this often; an engine may report far oftener."""

FINISH_SECONDS = 5.0


class ProgressReporter:
    """Shows the latest progress, without ever making the engine's stream wait for Prefect's API."""

    def __init__(self, *, campaign_key: str, step: str, logger: RunLogger) -> None:
        self._key = f"progress-{campaign_key}-{slugify(step) or 'step'}"
        self._step = step
        self._logger = logger
        self._latest: Progress | None = None
        self._changed = asyncio.Event()
        self._showing = asyncio.Lock()
        self._was_told = False
        self._artifact_id: UUID | None = None
        self._fraction = 0.0
        self._logged = ""

    async def report(self, progress: Progress) -> None:
        """Take note of progress; returns at once."""
        self._was_told = True
        self._latest = progress
        self._changed.set()

    async def _show(self) -> None:
        # One after the other: whoever tells the end waits for an artifact that is just being made.
        async with self._showing:
            await self._show_latest()

    async def _show_latest(self) -> None:
        progress, self._latest = self._latest, None
        self._changed.clear()
        if progress is None:
            return
        if progress.fraction is not None:
            self._fraction = min(max(progress.fraction, 0.0), 1.0)
        if progress.message and progress.message != self._logged:
            self._logged = progress.message
            share = "" if progress.fraction is None else f" ({self._fraction:.0%})"
            self._logger.info("%s: %s%s", self._step, progress.message, share)
        try:
            if self._artifact_id is None:
                self._artifact_id = await acreate_progress_artifact(
                    progress=self._fraction * 100, key=self._key, description=progress.message
                )
            else:
                await aupdate_progress_artifact(
                    self._artifact_id, progress=self._fraction * 100, description=progress.message
                )
        except (httpx.HTTPError, PrefectException) as error:
            # Progress is a courtesy: what it shows is in the log, and the step does not depend on it.
            self._logger.debug("progress is not shown: %s", error)

    async def _show_for_ever(self) -> None:
        while True:
            await self._changed.wait()
            await self._show()
            await asyncio.sleep(UPDATE_SECONDS)

    async def _finish(self) -> None:
        if self._was_told:
            await self.report(Progress(message="done", fraction=1.0))
            await self._show()


@asynccontextmanager
async def reporting(*, campaign_key: str, step: str, logger: RunLogger) -> AsyncIterator[ProgressReporter]:
    """Yield a reporter that shows what it is told until the block ends; ending well shows the end."""
    reporter = ProgressReporter(campaign_key=campaign_key, step=step, logger=logger)
    showing = asyncio.create_task(reporter._show_for_ever())
    try:
        yield reporter
        with anyio.move_on_after(FINISH_SECONDS):
            await reporter._finish()
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
