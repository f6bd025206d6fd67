"""What ``campaigns report`` does. Its help stands in ``driving_help``."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.markup import escape

from prefect_campaigns.blocks.run_figures import figures_of_period, figures_of_run
from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.budget import Period, window
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.cli.main import EXIT_OK, AsJson, out, print_json, say
from prefect_campaigns.deployments.cli.report_view import period_view, run_view
from prefect_campaigns.deployments.driving.lookup import match_campaign
from prefect_campaigns.deployments.driving.runs import MIN_ID
from prefect_campaigns.deployments.pages.report_pages import period_page, run_page
from prefect_campaigns.deployments.running.interrupts import cancel_on_signals
from prefect_campaigns.errors import CampaignsError, UnknownCampaign, UnknownRun, UsageError
from prefect_campaigns.figures import PeriodFigures, RunFigures
from prefect_campaigns.results import RunReport

_RUNS_LOOKED_THROUGH = 200
"""Among how many of the newest runs of each campaign one is looked for by its name."""


async def report_command(
    name: str | None = None,
    /,
    *,
    week: bool = False,
    month: bool = False,
    last: bool = False,
    out: Path | None = None,
    json: AsJson = False,
) -> int:
    """Report on a run or on a period.

    Parameters
    ----------
    name
        A run's name or id, or a campaign's: then its last run.
    week
        Of this week, from Sunday; without a name of all campaigns.
    month
        Of this month.
    last
        With --week or --month: of the one before.
    out
        Write it to this file, as a page that needs nothing else.
    """
    cancel_on_signals()
    if week and month:
        raise UsageError("--week and --month are two reports; give one of them")
    if last and not (week or month):
        raise UsageError("--last belongs to --week or --month; campaigns report NAME reports the last run as it is")
    if name is None and not (week or month):
        raise UsageError("of what? campaigns report NAME|RUN is about a run, campaigns report --week about all")
    if json and out is not None:
        raise UsageError("--json and --out are two forms of the report; give one of them")
    period = Period.WEEKLY if week else Period.MONTHLY if month else None
    async with open_store(load_settings()) as store:
        figures = await _figures(store, name, period, is_last=last, now=current_clock().now())
    if out is not None:
        _write(out, run_page(figures) if isinstance(figures, RunFigures) else period_page(figures))
        if not json:
            say(f"[green]✓[/] {escape(str(out))}")
    elif json:
        print_json({"success": True, **figures_json(figures)})
    else:
        _print(figures)
    return EXIT_OK


def _print(figures: RunFigures | PeriodFigures) -> None:
    out.print(run_view(figures) if isinstance(figures, RunFigures) else period_view(figures))


async def _figures(
    store: CampaignStore, name: str | None, period: Period | None, *, is_last: bool, now: datetime
) -> RunFigures | PeriodFigures:
    """Return what is reported.

    Raises:
        UnknownCampaign, UnknownRun: there is none of that name.
        StoreError: the store is not there.
    """
    if period is None:
        return await figures_of_run(store, await _find_run(store, name or ""), now=now)
    record = None if name is None else match_campaign(name, await store.list_campaigns())
    zone = ZoneInfo((await store.account_budget()).timezone) if record is None else record.campaign.timezone
    span = window(period, now, zone)
    day = (span.start - timedelta.resolution if is_last else span.start).astimezone(zone).date()
    return await figures_of_period(store, record, period, day=day, now=now)


async def _find_run(store: CampaignStore, name: str) -> RunReport:
    """Return the run that a name or an id means, or the beginning of one; of a campaign its newest."""
    records = await store.list_campaigns()
    try:
        return await _newest_run(store, match_campaign(name, records))
    except UnknownCampaign:
        wanted = name.strip().lower()
        if (report := await store.get_run(wanted)) is not None:
            return report
        latest = await store.latest_runs(limit=_RUNS_LOOKED_THROUGH)
        found = [brief for briefs in latest.values() for brief in briefs if _is_meant(brief.run_id, wanted)]
        found = found or [brief for briefs in latest.values() for brief in briefs if brief.run_name == wanted]
        if len(found) > 1:
            ids = ", ".join(brief.run_id[:MIN_ID] for brief in found[:5])
            raise UnknownRun(
                f"{len(found)} runs are called {name!r}; name one by the beginning of its id: {ids}"
            ) from None
        report = await store.get_run(found[0].run_id) if found else None
        if report is None:
            raise UnknownRun(
                f"there is no campaign and no run {name!r} in the books; campaigns list and campaigns runs NAME list"
                " what there is"
            ) from None
        return report


def _is_meant(run_id: str, wanted: str) -> bool:
    return len(wanted) >= MIN_ID and run_id.startswith(wanted)


async def _newest_run(store: CampaignStore, record: CampaignRecord) -> RunReport:
    newest = (await store.latest_runs(limit=1, campaign_keys=[record.key])).get(record.key, ())
    report = await store.get_run(newest[0].run_id) if newest else None
    if report is None:
        raise UnknownRun(f"{record.key} has not run yet; campaigns run {record.key} starts it")
    return report


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise CampaignsError(f"{path} cannot be written: {error.strerror or error}") from None


def figures_json(figures: RunFigures | PeriodFigures) -> dict[str, Any]:
    """Return a report as programs read it: amounts as texts, with every digit."""
    each = figures.cost_per_lead
    stages = [{"stage": one.name, "count": one.count, "grades": dict(one.grades)} for one in figures.stages]
    return {
        **figures.model_dump(mode="json"),
        "leads": figures.leads,
        "cost_per_lead": None if each is None else f"{each:f}",
        "funnel": stages,
    }
