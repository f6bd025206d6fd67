"""What a worker looks after goes on being looked after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

import pytest
from prefect.client.orchestration import PrefectClient

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.deployments.running import upkeep

Looking = Coroutine[None, None, None]
logger = logging.getLogger(__name__)


def settle_journal() -> Looking:
    return upkeep.settle_journal_for_ever(logger)


def resume_overdue() -> Looking:
    return upkeep.resume_overdue_for_ever(PrefectClient("http://nobody.invalid/api"), logger)


def close_ended() -> Looking:
    return upkeep.close_ended_for_ever(PrefectClient("http://nobody.invalid/api"), logger)


@pytest.mark.parametrize(
    ("look_for_ever", "said"),
    [
        (settle_journal, "What engines charged is not settled yet: unforeseen"),
        (resume_overdue, "Not known which campaigns should have been resumed: unforeseen"),
        (close_ended, "Not known which runs have ended in Prefect alone: unforeseen"),
    ],
)
async def test_an_error_that_nobody_foresaw_does_not_end_the_looking(
    look_for_ever: Callable[[], Looking],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    has_looked_again = asyncio.Event()

    def load_settings() -> Settings:
        if caplog.records:
            has_looked_again.set()
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(upkeep, "load_settings", load_settings)
    monkeypatch.setattr(upkeep, "JOURNAL_SECONDS", 0)
    monkeypatch.setattr(upkeep, "LOOK_SECONDS", 0)
    looking = asyncio.create_task(look_for_ever())
    seeing = asyncio.create_task(has_looked_again.wait())
    await asyncio.wait((looking, seeing), return_when=asyncio.FIRST_COMPLETED, timeout=10)
    assert has_looked_again.is_set(), looking
    assert (caplog.records[0].levelname, caplog.records[0].message) == ("WARNING", said)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
