"""Reports at a terminal, for eighty columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from prefect_campaigns import report_words
from prefect_campaigns.blocks.report_text import step_remarks, step_words
from prefect_campaigns.deployments.cli.printing import RUN_STYLES, plain_table, sparkline
from prefect_campaigns.figures import PeriodFigures, RunFigures, StepFigures
from prefect_campaigns.funnel import Stage
from prefect_campaigns.money import format_money
from prefect_campaigns.results import StepStatus

_BAR_CELLS = 30
_INDENT = (0, 0, 0, 2)
_STEP_STYLES = {StepStatus.COMPLETED: "green", StepStatus.FAILED: "red", StepStatus.RUNNING: "cyan"}


def run_view(figures: RunFigures) -> RenderableType:
    """Return the report of a run."""
    style = RUN_STYLES[figures.status]
    parts: list[RenderableType] = [
        Text.assemble((figures.campaign_name, "bold"), "  ", (figures.state_name, style), f"  {figures.run_name}"),
        Text(f"{report_words.span(figures)} ({figures.timezone})", style="dim"),
        Text.assemble(("Cost      ", "bold"), report_words.cost(figures)),
    ]
    if each := report_words.per_lead(figures):
        parts.append(Text.assemble(("Per lead  ", "bold"), (each, "red" if figures.is_too_dear else "")))
    parts += _section("Leads", _funnel(figures.stages))
    parts += _section("Steps", _steps(figures.steps))
    parts += _section("Budget (USD)", _limits(figures))
    parts += _section("Next", (Text(line) for line in report_words.outlook(figures)))
    return Group(*parts)


def period_view(figures: PeriodFigures) -> RenderableType:
    """Return the report of a week or a month."""
    parts: list[RenderableType] = [
        Text.assemble((figures.name, "bold"), f"  {figures.since} to {figures.until}"),
        Text(f"{figures.timezone}, US dollars", style="dim"),
        Text.assemble(("Spent     ", "bold"), report_words.spent_of(figures)),
        Text.assemble(("Runs      ", "bold"), report_words.outcomes(figures)),
    ]
    if figures.is_cut:
        parts.append(Text("          There were more; those are left out.", style="yellow"))
    if each := report_words.per_lead(figures):
        parts.append(Text.assemble(("Per lead  ", "bold"), (each, "red" if figures.is_too_dear else "")))
    parts.append(Text.assemble(("Days      ", "bold"), sparkline([day.spent for day in figures.days])))
    parts += _section("Leads", _funnel(figures.stages))
    parts += _section("Spent per day", _days(figures))
    parts += _section("Done again, and not", (Text(line) for line in report_words.second_tries(figures)))
    return Group(*parts)


def _section(title: str, lines: Iterable[RenderableType]) -> list[RenderableType]:
    shown = list(lines)
    if not shown:
        return []
    return [Text(), Text(title, style="bold"), *(Padding(line, _INDENT, expand=False) for line in shown)]


def _funnel(stages: Iterable[Stage]) -> Iterator[RenderableType]:
    for stage in stages:
        full = round(min(stage.share or Decimal(0), Decimal(1)) * _BAR_CELLS)
        bar = Text.assemble(("█" * full, "cyan"), ("░" * (_BAR_CELLS - full), "dim"))
        grades = stage.describe_grades()
        share = f"{report_words.share(stage.share):>5}"
        yield Text.assemble(f"{stage.name:<9}{stage.count:>7,}  ", bar, share, f"  {grades}" if grades else "")


def _steps(steps: Iterable[StepFigures]) -> Iterator[RenderableType]:
    for step in steps:
        state, *others = step_words(step)
        style = _STEP_STYLES.get(step.status, "dim")
        yield Text.assemble(f"{step.name}  ", (state, style), f"  {', '.join(others)}" if others else "")
        for remark in step_remarks(step):
            yield Padding(Text(remark, style="dim"), _INDENT, expand=False)


def _limits(figures: RunFigures) -> Iterator[RenderableType]:
    for limit in figures.limits:
        resets = report_words.resets(limit, figures)
        yield Text(f"{limit.name:<16}{report_words.left(limit)}{f', {resets}' if resets else ''}")


def _days(figures: PeriodFigures) -> Iterator[RenderableType]:
    if not any(day.spent for day in figures.days):
        return
    most = max(day.spent for day in figures.days)
    table = plain_table("Day", "", "USD", "Of", right=("USD", "Of"))
    for day in figures.days:
        cells = max(round(day.spent / most * _BAR_CELLS), 1) if day.spent else 0
        is_over = day.limit is not None and day.spent > day.limit
        table.add_row(
            f"{day.day:%a} {day.day}",
            Text("█" * cells, style="red" if is_over else "cyan"),
            format_money(day.spent),
            "" if day.limit is None else format_money(day.limit),
        )
    yield table
