"""The budget gate: whether a run may start."""

from __future__ import annotations

from contextlib import AsyncExitStack

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.budget import BudgetStatus
from prefect_campaigns.models import Campaign
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunReport

GATE_RETRY_SECONDS = [2.0, 10.0, 30.0]


@task(
    name="reach_store",
    task_run_name="reach_store",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(GATE_RETRY_SECONDS),
    retry_delay_seconds=GATE_RETRY_SECONDS,
)
async def reach_store(stack: AsyncExitStack, settings: Settings, campaign_key: str) -> CampaignStore:
    """Open a store that was away a moment ago, for as long as the stack is, and see that it answers.

    Raises:
        StoreUnavailable: it is still away, after retries. Then the run does not start.
    """
    store = await stack.enter_async_context(open_store(settings))
    await store.get_campaign(campaign_key)
    return store


@task(
    name="check_budget",
    task_run_name="check_budget",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(GATE_RETRY_SECONDS),
    retry_delay_seconds=GATE_RETRY_SECONDS,
)
async def check_budget(store: CampaignStore, campaign_key: str) -> BudgetStatus:
    """Look at what is spent and reserved in the campaign's day, week and month, now.

    Raises:
        StoreUnavailable: the ledger cannot be read, after retries. Then the run does not start: failing open is
            how money is lost.
        UnknownCampaign: the campaign was never applied to this store.
    """
    return await store.budget_status(campaign_key)


def per_lead_excess(campaign: Campaign, report: RunReport) -> str | None:
    """Say why a run costs too much per lead; None while it does not.

    A lead is one of ``prospects_generated``. Before any step has counted them nothing is said.
    """
    limit = campaign.budget.per_lead
    if limit is None or "prospects_generated" not in report.counts:
        return None
    leads = int(report.counts["prospects_generated"])
    if report.total_cost <= limit * leads:
        return None
    spent = f"budget: perLead {format_money(limit)} passed, {format_money(report.total_cost)} spent on"
    if leads == 0:
        return f"{spent} no lead at all"
    return f"{spent} {leads} leads, {format_money(report.total_cost / leads)} each"
