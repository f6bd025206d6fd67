"""What a worker looks after beside its runs: money that is not settled yet, and campaigns that should have resumed."""

from __future__ import annotations

import asyncio
import logging

from prefect.client.orchestration import PrefectClient

from prefect_campaigns.blocks.journal import Journal, settle_journal
from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.clock import current_clock
from prefect_campaigns.flows.resuming import resume_overdue

WorkerLogger = logging.Logger | logging.LoggerAdapter[logging.Logger]

JOURNAL_SECONDS = 30.0
"""How often a worker looks for what engines charged and the store does not know of."""

OVERDUE_LOOK_SECONDS = 300.0
"""How often a worker looks for campaigns that should have been resumed."""


async def settle_journal_for_ever(logger: WorkerLogger) -> None:
    """Settle what runs on this machine could not, because the store was away or they died."""
    while True:
        try:
            settings = load_settings()
            journal = Journal(settings.journal_folder)
            if not await journal.is_empty():
                async with open_store(settings) as store:
                    if settled := await settle_journal(journal, store):
                        logger.info("Settled %d answers from %s", settled, journal.folder)
        except Exception as error:
            # Of any kind: nobody else would notice that this task has ended.
            logger.warning("What engines charged is not settled yet: %s", error)
        await asyncio.sleep(JOURNAL_SECONDS)


async def resume_overdue_for_ever(client: PrefectClient, logger: WorkerLogger) -> None:
    """See to campaigns that the budget paused and that nothing has resumed: their run gave up, or was deleted."""
    while True:
        # First, so that after an outage the run that was scheduled comes first.
        await asyncio.sleep(OVERDUE_LOOK_SECONDS)
        try:
            async with open_store(load_settings()) as store:
                for key in await resume_overdue(client, store, now=current_clock().now()):
                    logger.warning("%s should have been resumed by now; it is tried again", key)
        except Exception as error:
            # Of any kind, as above.
            logger.warning("Not known which campaigns should have been resumed: %s", error)
