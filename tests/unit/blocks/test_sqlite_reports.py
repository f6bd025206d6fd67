"""What pages read of SQLite costs no more because more was done long ago."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from history import fill, made_up
from store_cases import assert_books_are_whole

from prefect_campaigns.blocks.sqlite import limits, records, reports
from prefect_campaigns.blocks.sqlite.store import SqliteStore

NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)
CAMPAIGNS = [made_up(number) for number in range(3)]
KEY = CAMPAIGNS[0].slug
DAY = {"since": (NOW - timedelta(days=90)).date(), "until": NOW.date()}

READINGS: dict[str, Callable[[sqlite3.Connection], Any]] = {
    "latest runs": lambda db: reports.latest_runs(db, limit=14, campaign_keys=None),
    "latest runs of some": lambda db: reports.latest_runs(db, limit=14, campaign_keys=[KEY]),
    "how the last runs ended": reports.last_outcomes,
    "outlines of one": lambda db: reports.run_outlines(db, since=None, until=None, campaign_key=KEY, limit=14),
    "outlines of two days": lambda db: reports.run_outlines(
        db, since=NOW - timedelta(days=2), until=NOW, campaign_key=None, limit=1_000
    ),
    "spent by day": lambda db: reports.spent_by_day(db, **DAY, campaign_key=KEY),
    "spent by day, all together": lambda db: reports.spent_by_day(db, **DAY, campaign_key=None),
    "budgets": lambda db: reports.budget_statuses(db, NOW, None),
    "what goes on": records.running_runs,
    "campaigns": records.list_campaigns,
    "account": lambda db: limits.account_budget(db),
}


async def books(path: Path, runs: int) -> Path:
    await fill(path, CAMPAIGNS, runs=runs, now=NOW)
    return path


def steps(path: Path, reading: Callable[[sqlite3.Connection], Any]) -> int:
    """Return how many instructions SQLite needs for it, to the next ten."""
    count = 0

    def one_more() -> None:
        nonlocal count
        count += 1

    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        db.set_progress_handler(one_more, 10)
        assert reading(db) is not None
    return count


async def test_made_up_books_are_whole(tmp_path: Path) -> None:
    async with SqliteStore(await books(tmp_path / "c.db", 5)) as store:
        await assert_books_are_whole(store)
        found = await store.latest_runs(limit=9)
        assert {len(runs) for runs in found.values()} == {5}
        spent = await store.spent_by_day(**DAY, campaign_key=KEY)
        assert sum(spent.values()) == sum(run.total_cost for run in found[KEY]) > 0


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Books of which one has five times the past; the other is longer, too, than any span that is read."""
    folder = tmp_path_factory.mktemp("histories")
    few, many = [asyncio.run(books(folder / f"{runs}.db", runs)) for runs in (320, 1_600)]
    return few, many


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_five_times_the_history_costs_hardly_more(
    histories: tuple[Path, Path], reading: Callable[[sqlite3.Connection], Any]
) -> None:
    few, many = histories
    assert steps(many, reading) <= steps(few, reading) * 1.1 + 20
