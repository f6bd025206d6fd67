"""Progress artifacts: each is made once, and tells the end of a step that ended well."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID, uuid4

import pytest

from prefect_campaigns.flows import progress
from prefect_campaigns.flows.exchange import Progress
from prefect_campaigns.flows.progress import reporting

logger = logging.getLogger(__name__)


async def test_a_step_that_ends_while_its_artifact_is_being_made_has_one_and_it_tells_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, may_go_on = asyncio.Event(), asyncio.Event()
    made: dict[UUID, float] = {}

    async def slowly_make(*, progress: float, key: str, description: str | None) -> UUID:
        begun.set()
        await may_go_on.wait()
        made[artifact := uuid4()] = progress
        return artifact

    async def update(artifact: UUID, *, progress: float, description: str | None) -> None:
        made[artifact] = progress

    monkeypatch.setattr(progress, "acreate_progress_artifact", slowly_make)
    monkeypatch.setattr(progress, "aupdate_progress_artifact", update)
    async with reporting(campaign_key="quick", step="Stream", logger=logger) as reporter:
        await reporter.report(Progress(message="one of three", fraction=0.3))
        await begun.wait()
        asyncio.get_running_loop().call_later(0.1, may_go_on.set)
    assert list(made.values()) == [100.0]


async def test_a_step_that_tells_no_progress_has_no_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    async def make(**_: object) -> UUID:
        raise AssertionError("nobody has told anything")

    monkeypatch.setattr(progress, "acreate_progress_artifact", make)
    async with reporting(campaign_key="silent", step="Stream", logger=logger):
        await asyncio.sleep(0)
