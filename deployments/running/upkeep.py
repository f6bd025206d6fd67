"""What a worker looks after beside its runs.

That others know that it lives, money that is not settled yet, mails that are owed, campaigns that should have resumed,
runs whose end nobody has told the books, and what is so old that it has to go.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient

from prefect_campaigns.blocks.journal import Journal, settle_journal
from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.personal_data.removing import purge, purge_disk
from prefect_campaigns.errors import StoreError, StoreUnavailable
from prefect_campaigns.flows.closing import close_ended, find_ended
from prefect_campaigns.flows.lease import if_alone
from prefect_campaigns.flows.mailing import OwedMails
from prefect_campaigns.flows.resuming import resume_overdue

WorkerLogger = logging.Logger | logging.LoggerAdapter[logging.Logger]

WORKER_SECONDS = 60.0
"""After how long a worker that is not heard of counts as vanished."""

KEEP_SECONDS = 15.0

JOURNAL_SECONDS = 30.0
"""How often a worker looks for what engines charged and the store does not know of."""

MAIL_SECONDS = 30.0
"""How often a worker looks for mails that are owed."""

LOOK_SECONDS = 300.0
"""How often a worker looks for campaigns that should have been resumed, and for runs that have ended."""

CLOSED_AT_ONCE = 100
"""How many runs are closed in the books after one look; of each Prefect is asked once more."""

PURGE_SECONDS = 3600.0
"""How often a worker looks for what is to be removed because it is old."""

ACTOR = "the campaign worker"


async def can_use_books(logger: WorkerLogger) -> bool:
    """Whether runs can begin with the books, or will be able to: those that are away may come back.

    Those of another release, which nobody has migrated, would fail each run.
    """
    try:
        async with open_store(load_settings()):
            return True
    except StoreUnavailable:
        # Said by whoever needs them.
        return True
    except StoreError as error:
        logger.error("%s", error)
        return False


async def keep_worker(id: UUID, name: str, pool: str, logger: WorkerLogger) -> None:
    """Say in the store that the worker lives; where the store is away, it is said later."""
    try:
        async with open_store(load_settings()) as store:
            await store.keep_worker(id, name=name, pool=pool, ttl_seconds=WORKER_SECONDS)
    except Exception as error:
        # Of any kind, as below.
        logger.warning("The store does not know that this worker lives: %s", error)


async def keep_worker_for_ever(id: UUID, name: str, pool: str, logger: WorkerLogger) -> None:
    """Say so every fifteen seconds."""
    while True:
        await asyncio.sleep(KEEP_SECONDS)
        await keep_worker(id, name, pool, logger)


async def remove_worker(id: UUID, logger: WorkerLogger) -> None:
    """Say in the store that the worker has ended well."""
    try:
        async with open_store(load_settings()) as store:
            await store.remove_worker(id)
    except Exception as error:
        # Of any kind: whoever looks finds nothing left of a worker that has ended.
        logger.debug("The store does not know that this worker has ended: %s", error)


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
        await asyncio.sleep(LOOK_SECONDS)
        try:
            async with open_store(load_settings()) as store:
                for key in await resume_overdue(client, store, now=current_clock().now()):
                    logger.warning("%s should have been resumed by now; it is tried again", key)
        except Exception as error:
            # Of any kind, as above.
            logger.warning("Not known which campaigns should have been resumed: %s", error)


async def send_owed_for_ever(client: PrefectClient, id: UUID, logger: WorkerLogger) -> None:
    """Send the mails that Prefect's automations could not; of all workers one does so.

    Args:
        id: the worker's own process.
    """
    owed = OwedMails(client, logger=logger)
    while True:
        await asyncio.sleep(MAIL_SECONDS)
        try:
            async with open_store(load_settings()) as store:
                if id == min((one.id for one in await store.list_workers() if not one.has_expired), default=id):
                    # It may not be the first any more, and another one begin: so that none is mailed twice.
                    async with if_alone(store, "mail", who=str(id), logger=logger) as is_alone:
                        if is_alone:
                            await owed.look(store, now=current_clock().now())
        except Exception as error:
            # Of any kind, as above.
            logger.warning("Not known which mails are owed: %s", error)


async def purge_for_ever(client: PrefectClient, id: UUID, logger: WorkerLogger) -> None:
    """Remove what engines said when it is older than CAMPAIGNS_RETENTION_DAYS: here, and for all of one worker's.

    Args:
        id: the worker's own process.
    """
    pause = PURGE_SECONDS / 12
    while True:
        await asyncio.sleep(pause)
        pause = PURGE_SECONDS
        try:
            settings = load_settings()
            if settings.campaigns_retention_days is not None:
                before = current_clock().now() - timedelta(days=settings.campaigns_retention_days)
                async with open_store(settings) as store, if_alone(store, "purge", who=str(id), logger=logger) as alone:
                    # Of those that are not alone each sees to its own disk.
                    removed = await purge(client, store, settings, before=before) if alone else None
                disk = removed.disk if removed else await purge_disk(settings, before=before)
                if removed:
                    logger.info("Removed what is older than %s: %s", f"{before:%Y-%m-%d}", removed.describe())
                for problem in removed.again if removed is not None else disk.problems:
                    logger.warning("Not removed, though it is old: %s", problem)
        except Exception as error:
            # Of any kind, as above.
            logger.warning("What is older than CAMPAIGNS_RETENTION_DAYS is not removed yet: %s", error)


async def close_ended_for_ever(client: PrefectClient, logger: WorkerLogger) -> None:
    """Close in the books what has ended in Prefect while no worker had it: cancelled as it waited, or deleted."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            async with open_store(load_settings()) as store:
                await close_all_ended(client, store, logger)
        except Exception as error:
            # Of any kind, as above.
            logger.warning("Not known which runs have ended in Prefect alone: %s", error)


async def close_all_ended(client: PrefectClient, store: CampaignStore, logger: WorkerLogger) -> None:
    """Close the runs that have ended in Prefect alone; one whose campaign's lease somebody keeps is left for later.

    Raises:
        StoreUnavailable: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    number = 0
    for run_id in await find_ended(client, store):
        if number >= CLOSED_AT_ONCE:
            return
        try:
            closed = await close_ended(client, store, run_id, actor=ACTOR, turn_seconds=0)
        except StoreUnavailable:
            raise
        except StoreError as error:
            # It must not keep the books open for the others.
            logger.warning("Run %s has ended in Prefect, and cannot be closed in the books: %s", run_id, error)
            continue
        if closed is not None and not closed.is_held:
            number += 1
            logger.info("Run %s has ended in Prefect: %s", run_id, closed.describe())
