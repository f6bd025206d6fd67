"""The flow that resumes a campaign when the window ends in which its budget was spent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
from prefect import State, flow, get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.states import Completed, Failed

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.clock import current_clock
from prefect_campaigns.errors import CampaignsError, StoreUnavailable, TooEarly, UnknownCampaign
from prefect_campaigns.flows.paused_deployment import RESUME_FLOW_NAME
from prefect_campaigns.flows.resuming import MOMENT, Resumption, resume_after_budget

RETRIES = 20
RETRY_SECONDS = 60.0
TOO_EARLY = timedelta(minutes=10)
"""How far clocks may differ without a campaign staying paused."""


async def _resume(client: PrefectClient, store: CampaignStore, campaign: str) -> Resumption:
    clock = current_clock()
    resumption = await resume_after_budget(client, store, campaign, now=clock.now())
    if resumption.until is not None and resumption.until - clock.now() <= MOMENT:
        await anyio.sleep(max((resumption.until - clock.now()).total_seconds(), 0))
        resumption = await resume_after_budget(client, store, campaign, now=clock.now())
    if resumption.until is not None and resumption.until - clock.now() <= TOO_EARLY:
        # There may be no other run that resumes it then: this one comes again.
        raise TooEarly(f"{resumption.message}; the clocks of this machine, of Prefect and of the store differ")
    return resumption


@flow(name=RESUME_FLOW_NAME, persist_result=False, retries=RETRIES, retry_delay_seconds=RETRY_SECONDS)
async def resume_campaign(campaign: str) -> State[Any]:
    """Resume a campaign that the budget paused, unless a limit still holds or a person has paused it.

    It is safe to run at any time, and twice: what is not due stays as it is. Its state says what came of it.

    Args:
        campaign: the campaign's key, the slug of its name.
    """
    try:
        async with open_store(load_settings()) as store, get_client() as client:
            resumption = await _resume(client, store, campaign)
    except UnknownCampaign:
        return Completed(message=f"{campaign} has been deleted")
    except (StoreUnavailable, TooEarly):
        # Tried again by Prefect, every minute.
        raise
    except CampaignsError as error:
        get_run_logger().error("%s", error)
        return Failed(message=f"{type(error).__name__}: {error}")
    get_run_logger().info(resumption.message)
    return Completed(message=resumption.message)
