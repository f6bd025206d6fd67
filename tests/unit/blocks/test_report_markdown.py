"""The artifact of a run: whatever engines and people wrote, it is text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from prefect_campaigns.blocks.report_markdown import report_markdown, unescaped
from prefect_campaigns.figures import RunFigures, StepFigures
from prefect_campaigns.results import RunStatus, StepStatus

AT = datetime(2026, 5, 13, 12, tzinfo=UTC)

BLOCKS = {"heading", "paragraph", "table", "thead", "tbody", "tr", "th", "td", "bullet_list", "list_item", "inline"}
INLINE = {"text", "strong", "softbreak"}


def figures(said: str) -> RunFigures:
    step: dict[str, Any] = {"engine": "any", "status": StepStatus.FAILED, "attempts": 1}
    return RunFigures(
        campaign_key="spring",
        campaign_name=said,
        timezone="UTC",
        run_id="id",
        run_name="azure-fox",
        trigger_type="manual",
        status=RunStatus.FAILED,
        state_name="Failed",
        started_at=AT,
        cost="0.25",
        counts={"prospects_generated": 20.0},
        steps=(StepFigures(name=said or "x", error=said, what_to_do=said, warnings=(said,), **step),),
        made_at=AT,
    )


def kinds(markdown: str) -> tuple[set[str], set[str], str]:
    """Return what kinds of blocks and of inline parts a Markdown reader sees, and the text that it shows."""
    blocks, inline, text = set(), set(), ""
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(markdown):
        blocks.add(token.type.removesuffix("_open").removesuffix("_close"))
        for child in token.children or ():
            inline.add(child.type.removesuffix("_open").removesuffix("_close"))
            text += child.content
    return blocks, inline, text


HOSTILE = [
    "![x](http://evil.example/p.png)",
    "[click](javascript:alert(1))",
    "<img src=x onerror=alert(1)>",
    "<http://evil.example>",
    "| a | b |",
    "`code` **bold** ~~struck~~ __under__",
    "# heading",
    "- item",
    "1. item",
    "&lt;b&gt; &#33;",
    "ends in a backslash \\",
]


@pytest.mark.parametrize("said", HOSTILE)
def test_nothing_that_was_said_is_more_than_text(said: str) -> None:
    blocks, inline, text = kinds(report_markdown(figures(said)))
    assert (blocks - BLOCKS, inline - INLINE) == (set(), set())
    assert said in text


@given(st.text(max_size=80))
def test_of_any_text_at_all(said: str) -> None:
    blocks, inline, _ = kinds(report_markdown(figures(said)))
    assert (blocks - BLOCKS, inline - INLINE) == (set(), set())


def test_an_address_in_it_can_be_looked_for() -> None:
    report = report_markdown(figures("bob_b-c@example.net is unknown"))
    assert "bob_b-c@example.net" not in report
    assert "bob_b-c@example.net" in unescaped(report)
