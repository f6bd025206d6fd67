"""Reports as pages that need nothing else: one file each, to be opened, printed and sent as it is."""

from __future__ import annotations

from prefect_campaigns.deployments.pages.charts import spend_chart
from prefect_campaigns.deployments.pages.rendering import render
from prefect_campaigns.figures import PeriodFigures, RunFigures


def run_page(figures: RunFigures, *, back: str | None = None) -> str:
    """Return the report of a run.

    Args:
        back: the address of its campaign's page, where the report is looked at beside it.
    """
    return render("run_report.html", figures=figures, back=back)


def period_page(figures: PeriodFigures) -> str:
    """Return the report of a week or a month."""
    spent = {day.day: day.spent for day in figures.days}
    limits = {day.limit for day in figures.days}
    chart = spend_chart(spent, limits.pop() if len(limits) == 1 else None) if any(spent.values()) else None
    return render("period_report.html", figures=figures, chart=chart)
