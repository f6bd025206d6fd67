"""Gathering what reports show, from the books: of a run, and of a period."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from prefect_campaigns.advice import what_to_do
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, Pause, PausedBy
from prefect_campaigns.budget import BudgetStatus, Period, window_from
from prefect_campaigns.figures import DayFigures, LimitFigures, PeriodFigures, RunFigures, StepFigures
from prefect_campaigns.forecast import fire_times, likely_cost
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus

RUNS_READ = 25
"""How many runs are looked at to say what the next one will cost."""

MAX_RUNS = 5_000
"""How many runs of a period are looked at, at the most."""


async def figures_of_run(store: CampaignStore, report: RunReport, *, now: datetime) -> RunFigures:
    """Return the figures of a run, and of its campaign's limits as they stand now.

    Raises:
        StoreError: the store is not there, or the campaign has no row any more.
    """
    record = await store.get_campaign(report.campaign_key)
    campaign, unconfirmed = record.campaign, await store.unconfirmed(report.campaign_key)
    ours = [one for one in unconfirmed if one.run_id == report.run_id]
    status = await store.budget_status(report.campaign_key)
    briefs = await store.latest_runs(limit=RUNS_READ, campaign_keys=[report.campaign_key])
    return RunFigures(
        campaign_key=report.campaign_key,
        campaign_name=report.campaign_name,
        timezone=str(campaign.timezone),
        run_id=report.run_id,
        run_name=report.run_name,
        trigger_type=report.trigger_type,
        status=report.status,
        state_name=report.state_name or report.status.value.capitalize(),
        message=report.message,
        started_at=report.started_at,
        completed_at=report.completed_at,
        cost=report.total_cost,
        counts=report.counts,
        per_lead=campaign.budget.per_lead,
        unconfirmed=sum((one.booked or Decimal(0) for one in ours), Decimal(0)),
        unconfirmed_requests=len(ours),
        steps=tuple([_step(step, report, await _booked(store, report, step)) for step in report.steps]),
        limits=tuple(_limits(campaign, report, status)),
        likely=likely_cost(campaign, briefs.get(report.campaign_key, ())),
        next_run=next_run_by_the_books(record, now=now),
        made_at=now,
    )


async def _booked(store: CampaignStore, report: RunReport, step: StepResult) -> Decimal | None:
    """Return what the ledger has booked for a step by now, which a person may have corrected since."""
    attempts = await store.attempts(report.run_id, step.name) if step.attempts else ()
    booked = [one.booked for one in attempts if one.booked is not None]
    return sum(booked, Decimal(0)) if booked else step.cost


def _step(step: StepResult, report: RunReport, cost: Decimal | None) -> StepFigures:
    advice = None
    if step.error is not None:
        advice = what_to_do(step.error, campaign_key=report.campaign_key, run=report.run_name, step=step.name)
    return StepFigures(
        name=step.name,
        engine=step.engine,
        status=step.status,
        attempts=step.attempts,
        duration_seconds=step.duration_seconds,
        cost=cost,
        counts=step.counts,
        warnings=step.warnings,
        error=step.error,
        what_to_do=advice,
        is_taken_over=step.taken_from is not None,
    )


def _limits(campaign: Campaign, report: RunReport, status: BudgetStatus) -> Iterator[LimitFigures]:
    """Yield the campaign's own limits: what others spend is not for its client to read."""
    per_run = campaign.budget.per_run
    if per_run is not None:
        yield LimitFigures(name="perRun", limit=per_run, spent=report.total_cost)
    for limit in status.limits:
        if limit.limit is not None:
            yield LimitFigures(
                name=limit.name,
                limit=limit.limit,
                spent=limit.spent,
                reserved=limit.reserved,
                resets_at=limit.window.end if limit.window else None,
                timezone=str(campaign.timezone),
            )


def next_run_by_the_books(record: CampaignRecord, *, now: datetime) -> datetime | None:
    """Return when a campaign is next due by itself; None where it is not, as far as the books know.

    What a person has paused or switched off in Prefect the books do not know.
    """
    schedule = record.campaign.schedule
    if schedule is None or not schedule.enabled or record.deployment_id is None:
        return None
    since = _goes_on(record.pause, now)
    return None if since is None else next(fire_times(schedule, after=since))


def _goes_on(pause: Pause | None, now: datetime) -> datetime | None:
    """Return after which instant runs begin again; None where a person has to see to that."""
    if pause is None:
        return now
    if pause.by is PausedBy.BUDGET and pause.until is not None:
        # A run that is due at the very moment of the reset happens.
        return max(now, pause.until) - timedelta.resolution
    return None


async def figures_of_period(
    store: CampaignStore, record: CampaignRecord | None, period: Period, *, day: date, now: datetime
) -> PeriodFigures:
    """Return the figures of the day, week or month that a local day falls into.

    Args:
        record: the campaign; None for all together, by the clocks of the account.

    Raises:
        StoreError: the store is not there.
    """
    account = await store.account_budget()
    budget = account if record is None else record.campaign.budget
    zone = ZoneInfo(account.timezone) if record is None else record.campaign.timezone
    span = window_from(period, day, zone)
    first, last = span.start.astimezone(zone).date(), (span.end - timedelta.resolution).astimezone(zone).date()
    key = None if record is None else record.key
    runs = await store.run_outlines(since=span.start, until=span.end, campaign_key=key, limit=MAX_RUNS + 1)
    is_cut, runs = len(runs) > MAX_RUNS, runs[:MAX_RUNS]
    spent = await store.spent_by_day(since=first, until=last, campaign_key=key)
    taken = list(_taken_over(runs))
    return PeriodFigures(
        campaign_key=key,
        name="All campaigns" if record is None else record.campaign.name,
        timezone=str(zone),
        since=first,
        until=last,
        limit={Period.DAILY: budget.daily, Period.WEEKLY: budget.weekly, Period.MONTHLY: budget.monthly}[period],
        runs=len(runs),
        outcomes=dict(Counter(_outcome(run) for run in runs).most_common()),
        cost=sum(spent.values(), Decimal(0)),
        cost_of_runs=sum((run.total_cost for run in runs), Decimal(0)),
        counts=_sum_of_counts(runs),
        per_lead=None if record is None else record.campaign.budget.per_lead,
        days=tuple(
            DayFigures(day=one, spent=spent.get(one, Decimal(0)), limit=budget.daily) for one in _days(first, last)
        ),
        repeated_requests=sum(max(step.attempts - 1, 0) for run in runs for step in run.steps),
        rescued_runs=sum(_was_rescued(run) for run in runs),
        steps_taken_over=len(taken),
        saved=await _saved(store, taken, runs),
        is_cut=is_cut,
        made_at=now,
    )


def _days(first: date, last: date) -> Iterator[date]:
    day = first
    while day <= last:
        yield day
        day += timedelta(days=1)


def _outcome(run: RunReport) -> str:
    return "Running" if run.status is RunStatus.RUNNING else run.state_name or run.status.value.capitalize()


def _was_rescued(run: RunReport) -> bool:
    return run.status is RunStatus.COMPLETED and any(
        step.status is StepStatus.COMPLETED and step.attempts > 1 for step in run.steps
    )


def _sum_of_counts(runs: Iterable[RunReport]) -> dict[str, float]:
    """Return the counts of all runs; an average has no sum, and is left out."""
    totals: dict[str, float] = {}
    for run in runs:
        for name, count in run.counts.items():
            if not name.startswith("avg_"):
                totals[name] = totals.get(name, 0) + count
    return totals


def _taken_over(runs: Iterable[RunReport]) -> Iterator[tuple[str, str]]:
    """Yield each step whose result a run has from an earlier one: its name, and that run's id."""
    for run in runs:
        for step in run.steps:
            if step.taken_from is not None:
                yield step.name, step.taken_from


async def _saved(store: CampaignStore, taken: Sequence[tuple[str, str]], runs: Sequence[RunReport]) -> Decimal:
    """Return what the steps had cost in the runs that did them."""
    known: dict[str, RunReport | None] = {run.run_id: run for run in runs}
    return sum([await _cost_of(store, name, run_id, known) for name, run_id in taken], Decimal(0))


async def _cost_of(store: CampaignStore, step_name: str, run_id: str, known: dict[str, RunReport | None]) -> Decimal:
    wanted: str | None = run_id
    seen: set[str] = set()
    # That run may have the step from a still earlier one.
    while wanted is not None and wanted not in seen:
        seen.add(wanted)
        if wanted not in known:
            known[wanted] = await store.get_run(wanted)
        step = _find(known, wanted, step_name)
        if step is None or step.taken_from is None:
            return (step and step.cost) or Decimal(0)
        wanted = step.taken_from
    return Decimal(0)


def _find(known: Mapping[str, RunReport | None], run_id: str, step_name: str) -> StepResult | None:
    report = known[run_id]
    return next((step for step in report.steps if step.name == step_name), None) if report else None
