"""The page of one campaign: its money over time, what its leads cost, its funnel, and its runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, Stop
from prefect_campaigns.budget import Period
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.driving.budget_view import BudgetView, spent_by_day, view_budget
from prefect_campaigns.deployments.driving.going import Going, read_going
from prefect_campaigns.deployments.driving.standing import (
    CampaignState,
    ask_states,
    describe_state,
    states_by_the_store,
)
from prefect_campaigns.deployments.pages.charts import BarChart, LineChart, line_chart, spend_chart
from prefect_campaigns.deployments.pages.money_page import PREFECT_SECONDS, AskPrefect
from prefect_campaigns.errors import ServerError
from prefect_campaigns.funnel import cost_per_lead, funnel
from prefect_campaigns.results import RunReport, RunStatus

DAYS = 90
RUNS = 50
"""How many runs are shown."""

STAGES = ("found", "verified", "analysed", "composed", "sent")


@dataclass(frozen=True, kw_only=True)
class CampaignPage:
    """A campaign at one moment.

    Attributes:
        why: why it does not run by itself; None where it does.
        runs: its newest runs, newest first, without what engines answered.
        spending: what it spent on each of the last ninety days; the charts are None where there is nothing to draw.
    """

    budget: BudgetView
    why: str | None
    stop: Stop | None
    runs: Sequence[RunReport]
    going: Going | None
    spending: BarChart | None
    lead_costs: LineChart | None
    funnels: LineChart | None
    spent: Mapping[date, Decimal]
    server_problem: str | None
    now: datetime

    @property
    def state(self) -> CampaignState:
        """How it stands."""
        return self.budget.state

    @property
    def record(self) -> CampaignRecord:
        """Its row in the books."""
        return self.state.record


async def look_at_campaign(ask_prefect: AskPrefect, store: CampaignStore, record: CampaignRecord) -> CampaignPage:
    """Gather what the page shows.

    Raises:
        StoreError: the store is not there.
    """
    stop, problem = await store.read_stop(), None
    (state,) = states_by_the_store([record], stop).campaigns
    going: Mapping[str, Going]
    try:
        async with asyncio.timeout(PREFECT_SECONDS), ask_prefect() as client:
            (state,) = await ask_states(client, store, [record])
            going = await read_going(client, store, [record.key])
    except (ServerError, TimeoutError) as error:
        problem = str(error) or f"Prefect's API does not answer within {PREFECT_SECONDS:g} seconds"
        going = await read_going(None, store, [record.key])
    budget = await view_budget(store, state)
    runs = await store.run_outlines(campaign_key=record.key, limit=RUNS)
    spent = await spent_by_day(store, record, days=DAYS, now=budget.status.at)
    limits = {limit.window.period: limit.limit for limit in budget.status.limits if limit.window}
    return CampaignPage(
        budget=budget,
        why=describe_state(state, now=budget.status.at),
        stop=stop,
        runs=runs,
        going=going.get(record.key),
        spending=spend_chart(spent, limits[Period.DAILY]) if any(spent.values()) else None,
        lead_costs=_lead_costs(record, runs),
        funnels=_funnels(record, runs),
        spent=spent,
        server_problem=problem,
        now=current_clock().now(),
    )


def _ended(record: CampaignRecord, runs: Sequence[RunReport]) -> list[tuple[str, RunReport]]:
    """Return the runs that counted something, oldest first, each with when it began."""
    zone = record.campaign.timezone
    ended = [run for run in reversed(runs) if run.status is not RunStatus.RUNNING and run.counts]
    return [(f"{run.started_at.astimezone(zone):%d %b %H:%M}", run) for run in ended]


def _lead_costs(record: CampaignRecord, runs: Sequence[RunReport]) -> LineChart | None:
    rows = [(at, [cost_per_lead(run.total_cost, run.counts)]) for at, run in _ended(record, runs)]
    limit = record.campaign.budget.per_lead
    return line_chart(["cost per lead"], rows, limit=limit, money=True, what="Cost per lead (USD) of each run")


def _funnels(record: CampaignRecord, runs: Sequence[RunReport]) -> LineChart | None:
    rows = []
    for at, run in _ended(record, runs):
        counted = {stage.name: stage.count for stage in funnel(run.counts)}
        rows.append((at, [counted.get(name) for name in STAGES]))
    return line_chart(STAGES, rows, what="Leads at each stage of each run")
