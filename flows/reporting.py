"""What each run leaves for people to look at: its report as an artifact, and its figures for the mail about its end.

Both are there before the run is in its final state: what Prefect's automations mail then is rendered of its labels.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.exceptions import PrefectException

from prefect_campaigns.blocks.email_composing import REPORT_LABEL
from prefect_campaigns.blocks.report_markdown import report_markdown
from prefect_campaigns.blocks.run_figures import figures_of_run
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.clock import current_clock
from prefect_campaigns.errors import StoreError
from prefect_campaigns.flows.run import RunLogger
from prefect_campaigns.flows.shielding import stay_alive
from prefect_campaigns.results import RunReport

REPORT_KEY = "report-"
"""How the key of a report's artifact begins; the campaign's key follows."""

LEAVE_SECONDS, BRIEFLY_SECONDS = 10.0, 1.5
"""How long a run's end waits for its report, and how long where the run was cut off and little time is left."""


async def leave_report_of(client: PrefectClient, store: CampaignStore, run_id: str, *, logger: RunLogger) -> None:
    """Leave the report of a run as the books have it, who never began it or was cut off; as ``leave_report``."""
    try:
        report = await store.get_run(run_id)
    except StoreError as error:
        logger.warning("The report of run %s could not be made: %s", run_id, error)
        return
    if report is not None:
        await leave_report(client, store, report, now=current_clock().now(), logger=logger)


async def leave_own_report(
    store: CampaignStore, report: RunReport, *, now: datetime, logger: RunLogger, seconds: float = LEAVE_SECONDS
) -> None:
    """Leave the report of the run that is executed here, whose end is in the books: nothing may change that any more.

    Who cancels the run does not wait for its report, and comes too late for anything else.
    """
    try:
        async with get_client() as client:
            await leave_report(client, store, report, now=now, logger=logger, seconds=seconds)
    except asyncio.CancelledError:
        stay_alive()
        logger.warning("The run was cancelled when it had ended; its report is not left in Prefect")
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("The run's report could not be left in Prefect: %s", error)


async def leave_report(
    client: PrefectClient,
    store: CampaignStore,
    report: RunReport,
    *,
    now: datetime,
    logger: RunLogger,
    seconds: float = LEAVE_SECONDS,
) -> None:
    """Leave the report of a run that has ended, or is about to be said to have; where that fails, the log says so.

    Args:
        report: the run as it is in the books, with the message of its end.
    """
    try:
        async with asyncio.timeout(seconds):
            figures = await figures_of_run(store, report, now=now)
            flow_run_id = UUID(report.run_id)
            # First what is mailed: the mail is sent at once when the run has ended.
            await client.update_flow_run_labels(flow_run_id, {REPORT_LABEL: figures.model_dump_json()})
            await client.create_artifact(
                ArtifactCreate(
                    key=f"{REPORT_KEY}{report.campaign_key}",
                    type="markdown",
                    description=report.summary(),
                    data=report_markdown(figures),
                    flow_run_id=flow_run_id,
                )
            )
    except Exception as error:
        # Whatever it is, a run that has ended well must not fail by what is said of it.
        logger.warning("The run's report could not be left in Prefect: %s", str(error) or type(error).__name__)
