"""What to expect of campaigns that are planned: when they run, what that costs a week, and what looks wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise, takewhile
from statistics import median

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.budget import Period, limits_of
from prefect_campaigns.deployments.applying.plan import CampaignPlan, Plan
from prefect_campaigns.deployments.checking.engine_health import Answering, EngineHealth, engine_origin
from prefect_campaigns.forecast import MAX_RUNS_AHEAD, RUNS_LOOKED_AT, LikelyCost, fire_times, likely_cost
from prefect_campaigns.models import Campaign
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunReport

WEEK = timedelta(days=7)
FIRE_TIMES_SHOWN = 3
ASKED_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What to expect of one campaign.

    Attributes:
        fire_times: its next three; none where it has no schedule, or one that is switched off.
        runs_per_week: how many runs are due in the next seven days.
        weekly_cost: what those will likely cost, in US dollars; None where nothing is known of its cost.
        warnings: what looks wrong, one sentence each.
    """

    fire_times: tuple[datetime, ...]
    runs_per_week: int
    weekly_cost: Decimal | None
    warnings: tuple[str, ...]


async def look_ahead(
    store: CampaignStore, plan: Plan, *, now: datetime, engines: Sequence[EngineHealth]
) -> dict[str, Outlook]:
    """Return what to expect of each planned campaign, by key.

    Args:
        engines: what the engines of these campaigns have answered.

    Raises:
        StoreError: the store is not there.
    """
    silent = {one.origin: one.said for one in engines if one.answering is Answering.SILENT}
    turns = asyncio.Semaphore(ASKED_AT_ONCE)

    async def look(one: CampaignPlan) -> Outlook:
        key = one.compiled.slug
        async with turns:
            runs = await store.list_runs(key, limit=RUNS_LOOKED_AT * 2) if one.row else ()
        return _outlook(one, runs, now=now, silent=silent)

    found = await asyncio.gather(*map(look, plan.campaigns))
    return {one.compiled.slug: outlook for one, outlook in zip(plan.campaigns, found, strict=True)}


def _outlook(plan: CampaignPlan, runs: Sequence[RunReport], *, now: datetime, silent: Mapping[str, str]) -> Outlook:
    campaign = plan.compiled.campaign
    schedule = campaign.schedule
    times: tuple[datetime, ...] = ()
    if schedule is not None and schedule.enabled and not plan.switched_off:
        due = takewhile(lambda at: at < now + WEEK, fire_times(schedule, after=now))
        in_week = tuple(islice(due, MAX_RUNS_AHEAD))
        times = tuple(islice(fire_times(schedule, after=now), FIRE_TIMES_SHOWN))
    else:
        in_week = ()
    likely = likely_cost(campaign, runs)
    return Outlook(
        fire_times=times,
        runs_per_week=len(in_week),
        weekly_cost=None if likely is None else likely.amount * len(in_week),
        warnings=tuple(_warnings(campaign, runs, likely, times, in_week, silent)),
    )


def _warnings(
    campaign: Campaign,
    runs: Sequence[RunReport],
    likely: LikelyCost | None,
    times: Sequence[datetime],
    in_week: Sequence[datetime],
    silent: Mapping[str, str],
) -> Iterator[str]:
    yield from _of_limits(campaign, likely)
    yield from _of_pace(runs, times, in_week)
    told = campaign.notifications
    if told is None or told.on_failure is None or not (told.on_failure.email or told.on_failure.slack):
        yield "nobody is told when it fails: notifications.onFailure names nobody"
    for origin in dict.fromkeys(engine_origin(step.endpoint) for step in campaign.steps):
        if origin in silent:
            steps = ", ".join(step.name for step in campaign.steps if engine_origin(step.endpoint) == origin)
            yield f"the engine at {origin} does not answer ({steps}): {silent[origin]}"


def _of_limits(campaign: Campaign, likely: LikelyCost | None) -> Iterator[str]:
    limits = [(period, limit) for period, limit in limits_of(campaign.budget) if limit is not None]
    for (shorter, low), (longer, high) in ((a, b) for i, a in enumerate(limits) for b in limits[i + 1 :]):
        if low > high:
            yield (
                f"the {shorter} limit of {format_money(low)} is above the {longer} limit of {format_money(high)},"
                " which holds first"
            )
    if likely is None:
        if limits and all(step.estimated_cost is None for step in campaign.steps):
            yield "no step says what it costs (estimatedCost), so that the first run is made on trust"
        return
    per_run: list[tuple[Period | str, Decimal]] = [*limits]
    if campaign.budget.per_run is not None:
        per_run.append(("perRun", campaign.budget.per_run))
    for name, limit in per_run:
        if likely.amount > limit:
            cost = format_money(likely.amount)
            yield f"a usual run costs {cost}, which passes the {name} limit of {format_money(limit)}"


def _of_pace(runs: Sequence[RunReport], times: Sequence[datetime], in_week: Sequence[datetime]) -> Iterator[str]:
    lasted = [
        (run.completed_at - run.started_at).total_seconds()
        for run in runs
        if run.completed_at is not None and run.steps_completed
    ][:RUNS_LOOKED_AT]
    gaps = [(after - before).total_seconds() for before, after in pairwise(in_week or times)]
    if lasted and gaps and median(lasted) > min(gaps):
        yield (
            f"a usual run lasts {_duration(median(lasted))}, and it is due every {_duration(min(gaps))}: runs will wait"
            " for one another"
        )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
