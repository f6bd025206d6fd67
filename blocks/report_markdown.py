"""A run's report as Markdown: the artifact that Prefect's UI shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from prefect_campaigns import report_words
from prefect_campaigns.blocks.report_text import step_remarks
from prefect_campaigns.blocks.visible_text import one_line
from prefect_campaigns.figures import RunFigures
from prefect_campaigns.instants import duration
from prefect_campaigns.money import format_money

_BAR_CELLS = 20
_CHARACTERS = 700

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$:@-])")
_NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")
_ESCAPED = re.compile(r"\\(.)")


def report_markdown(figures: RunFigures) -> str:
    """Return the report. Whatever an engine said in it is text: it makes no link, no picture and no heading."""
    lines = [f"# {_text(report_words.heading(figures))}", "", f"{_text(report_words.span(figures))}.", ""]
    lines.append(f"**Cost** {_text(report_words.cost(figures))}")
    if each := report_words.per_lead(figures):
        lines += ["", f"**Cost per lead** {_text(each)}"]
    for title, section in (
        ("Leads", _leads(figures)),
        ("Steps", _steps(figures)),
        ("What went wrong", _troubles(figures)),
        ("Budget (USD)", _budget(figures)),
        ("Next", (_text(line) for line in report_words.outlook(figures))),
    ):
        content = list(section)
        lines += ["", f"## {title}", "", *content] if content else []
    return "\n".join(lines) + "\n"


def _leads(figures: RunFigures) -> Iterator[str]:
    if figures.stages:
        rows = (
            (
                stage.name,
                f"{stage.count:,}",
                report_words.share(stage.share),
                "█" * round(min(stage.share or 0, 1) * _BAR_CELLS),
                stage.describe_grades(),
            )
            for stage in figures.stages
        )
        yield from _table(("Stage", "Leads", "Of the first", "", "Grades"), rows, right=(1, 2))


def _steps(figures: RunFigures) -> Iterator[str]:
    rows = (
        (
            step.name,
            step.status.value,
            report_words.requests(step),
            "" if step.duration_seconds is None else duration(step.duration_seconds),
            "" if step.cost is None else format_money(step.cost),
        )
        for step in figures.steps
    )
    yield from _table(("Step", "State", "Requests", "Time", "Cost (USD)"), rows, right=(3, 4))


def _troubles(figures: RunFigures) -> Iterator[str]:
    for step in figures.steps:
        if remarks := list(step_remarks(step)):
            yield f"- **{_text(step.name) or '?'}**"
            yield from (f"    - {_text(remark)}" for remark in remarks)


def _budget(figures: RunFigures) -> Iterator[str]:
    rows = (
        (
            limit.name,
            format_money(limit.spent),
            format_money(limit.reserved),
            format_money(limit.left),
            format_money(limit.limit),
            report_words.resets(limit, figures).removeprefix("resets "),
        )
        for limit in figures.limits
    )
    if figures.limits:
        yield from _table(("Limit", "Spent", "Reserved", "Left", "Of", "Resets"), rows, right=(1, 2, 3, 4))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'|'.join('---:' if column in right else '---' for column in range(len(header)))}|"
    for row in rows:
        yield f"| {' | '.join(map(_text, row))} |"


def unescaped(markdown: str) -> str:
    """Return Markdown in which text stands as it was before it was made harmless, to be looked for."""
    return _ESCAPED.sub(r"\1", markdown)


def _text(text: str) -> str:
    """Return text in which Markdown sees nothing but text."""
    return _NUMBERED.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", one_line(text, _CHARACTERS)))
