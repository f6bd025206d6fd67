"""A run's report as plain text: the text part of its mail."""

from __future__ import annotations

from collections.abc import Iterator

from prefect_campaigns import report_words
from prefect_campaigns.blocks.visible_text import one_line
from prefect_campaigns.figures import RunFigures, StepFigures
from prefect_campaigns.funnel import Stage
from prefect_campaigns.instants import duration
from prefect_campaigns.money import format_money

TEXT_CHARACTERS = 500
"""How long what an engine said may be, of each of its errors and warnings."""

WARNINGS_SHOWN = 5


def report_lines(figures: RunFigures) -> Iterator[str]:
    """Yield the report, line by line, below its heading."""
    yield f"Cost: {report_words.cost(figures)}"
    if each := report_words.per_lead(figures):
        yield f"Cost per lead: {each}"
    if figures.stages:
        yield ""
        yield "Leads"
        yield from (f"  {stage_words(stage)}" for stage in figures.stages)
    yield ""
    yield "Steps"
    for step in figures.steps:
        yield f"  {step.name}: {', '.join(step_words(step))}"
        yield from (f"    {line}" for line in step_remarks(step))
    if figures.limits:
        yield ""
        yield "Budget (USD)"
        for limit in figures.limits:
            resets = report_words.resets(limit, figures)
            yield f"  {limit.name}: {report_words.left(limit)}{f', {resets}' if resets else ''}"
    yield ""
    yield from report_words.outlook(figures)


def stage_words(stage: Stage) -> str:
    """Return a stage in words: ``16 analysed (80 %): 6 A, 7 B, 3 C``."""
    grades = stage.describe_grades()
    share = f" ({report_words.share(stage.share)})" if stage.share is not None else ""
    return f"{stage.count:,} {stage.name}{share}{f': {grades}' if grades else ''}"


def step_words(step: StepFigures) -> list[str]:
    """Return how a step ended, how often it was asked for, how long it took, what it cost, in this order."""
    return [
        step.status.value,
        *filter(
            None,
            (
                report_words.requests(step),
                "" if step.duration_seconds is None else duration(step.duration_seconds),
                "" if step.cost is None else f"{format_money(step.cost)} USD",
            ),
        ),
    ]


def step_remarks(step: StepFigures) -> Iterator[str]:
    """Yield what went wrong with a step, and what to do about it; each in one line that is fit to be shown."""
    if step.error is not None:
        yield one_line(step.error, TEXT_CHARACTERS)
    if step.what_to_do is not None:
        yield f"What to do: {one_line(step.what_to_do, TEXT_CHARACTERS)}"
    for warning in step.warnings[:WARNINGS_SHOWN]:
        yield f"Warning: {one_line(warning, TEXT_CHARACTERS)}"
    if (more := len(step.warnings) - WARNINGS_SHOWN) > 0:
        yield f"And {more} more warnings."
