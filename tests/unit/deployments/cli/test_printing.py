"""How commands print tables: as wide as a terminal is, in a pipe a line an entry, and never with blanks behind."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from rich.console import Console, RenderableType

from prefect_campaigns.blocks.store_types import RunBrief
from prefect_campaigns.deployments.cli.main import PIPE_WIDTH
from prefect_campaigns.deployments.cli.printing import Entry, Listing, plain_table, sparkline, strip
from prefect_campaigns.results import RunStatus

REASON = "the client is on holiday until the end of August"
ENTRIES = [
    Entry(
        cells=("2026-05-14 13:00:01", "campaign.paused", "weekly-restaurant-outreach", "ada@laptop", REASON),
        beneath=f"by ada@laptop: {REASON}",
    ),
    Entry(cells=("2026-05-14 12:59:00", "all.started", "", "ada@laptop", ""), beneath="by ada@laptop"),
]


def printed(renderable: RenderableType, *, width: int, is_terminal: bool) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=is_terminal, color_system=None, legacy_windows=False
    )
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def audit() -> Listing:
    return Listing("When (UTC)", "What", "Campaign", "Who", "", first=3, entries=ENTRIES)


def test_what_does_not_fit_stands_beneath_its_entry() -> None:
    assert printed(audit(), width=80, is_terminal=True) == [
        "When (UTC)           What             Campaign",
        "2026-05-14 13:00:01  campaign.paused  weekly-restaurant-outreach",
        f"  by ada@laptop: {REASON}",
        "2026-05-14 12:59:00  all.started",
        "  by ada@laptop",
    ]


@pytest.mark.parametrize(("width", "is_terminal"), [(150, True), (PIPE_WIDTH, False)])
def test_what_fits_is_a_line_an_entry_without_blanks_at_its_end(width: int, is_terminal: bool) -> None:
    assert printed(audit(), width=width, is_terminal=is_terminal) == [
        "When (UTC)           What             Campaign                    Who",
        f"2026-05-14 13:00:01  campaign.paused  weekly-restaurant-outreach  ada@laptop  {REASON}",
        "2026-05-14 12:59:00  all.started                                  ada@laptop",
    ]


def test_a_pipe_is_given_all_of_a_long_line_and_a_terminal_too_in_several() -> None:
    table, error = plain_table("Step", "Cost (USD)", "", right=["Cost (USD)"]), "no answer " * 60
    table.add_row("analysis", "0.012", error)
    table.add_row("sending", "1.00", "")
    header, failed, sent = printed(table, width=PIPE_WIDTH, is_terminal=False)
    assert (header, sent) == ("Step      Cost (USD)", "sending         1.00")
    assert failed == f"analysis       0.012  {error}".rstrip()
    lines = printed(table, width=80, is_terminal=True)
    assert max(map(len, lines)) <= 80 and " ".join(" ".join(lines).split()).count("no answer") == 60


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], ""),
        (["0", "0"], "  "),
        (["0", "1", "8"], " ▂█"),
        (["0.000001", "8"], "▁█"),
        (["5", "5"], "██"),
    ],
)
def test_amounts_as_a_row_of_columns_whose_largest_is_full(values: list[str], shown: str) -> None:
    assert sparkline([Decimal(value) for value in values]) == shown


def test_outcomes_are_a_strip_whose_newest_is_the_last() -> None:
    newest_first = [RunStatus.RUNNING, RunStatus.ABORTED, RunStatus.FAILED, RunStatus.PARTIAL, RunStatus.COMPLETED]
    runs = [
        RunBrief(
            run_id=str(place),
            run_name="azure-fox",
            status=status,
            state_name=None,
            started_at=datetime(2026, 5, 13, tzinfo=UTC),
            completed_at=None,
            total_cost=Decimal(0),
        )
        for place, status in enumerate(newest_first)
    ]
    assert strip(runs).plain == "✓!✗-▶"
