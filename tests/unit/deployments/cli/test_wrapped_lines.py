"""How lines look at a terminal of eighty columns, and in a pipe."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from prefect_campaigns.blocks.store_types import PausedBy
from prefect_campaigns.deployments.cli.main import say
from prefect_campaigns.deployments.cli.printing import PAUSERS
from prefect_campaigns.deployments.driving.standing import Standing

WORDS = "one two three four five six seven eight nine ten"


def said(text: str | Text, *, is_terminal: bool = True, width: int = 30) -> list[str]:
    to = Console(file=StringIO(), force_terminal=is_terminal, color_system=None, width=width)
    say(text, to=to)
    assert isinstance(to.file, StringIO)
    return [line.rstrip() for line in to.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        # a sentence
        (WORDS, ["one two three four five six", "seven eight nine ten"]),
        # a field of a plan
        (Text(f"    {WORDS}"), ["    one two three four five", "    six seven eight nine ten"]),
        # a note
        (f"[yellow]![/] {WORDS}", ["! one two three four five six", "  seven eight nine ten"]),
        # a warning about a campaign
        (Text(f"    ! {WORDS}", style="yellow"), ["    ! one two three four five", "      six seven eight nine ten"]),
        # what fits
        (Text("~ spring-outreach"), ["~ spring-outreach"]),
    ],
)
def test_what_does_not_fit_goes_on_under_its_own_words(text: str | Text, lines: list[str]) -> None:
    assert said(text) == lines
    (whole,) = said(text, is_terminal=False)
    assert whole == (text if isinstance(text, Text) else Text.from_markup(text)).plain


def test_of_a_word_that_is_wider_than_the_terminal_nothing_is_lost() -> None:
    address = "https://engines.example.com/api/prospecting"
    first, *others = said(f"[red]✗[/] {address}")
    assert first.removeprefix("✗ ") + "".join(line.removeprefix("  ") for line in others) == address


def test_whoever_has_paused_a_campaign_is_called_the_same_everywhere() -> None:
    assert Standing.PAUSED.words == f"paused by {PAUSERS[PausedBy.BUDGET]}"
    assert Standing.PAUSED_BY_PERSON.words == f"paused by {PAUSERS[PausedBy.PERSON]}"
    assert Standing.PAUSED.value == "paused", "programs read it so"
