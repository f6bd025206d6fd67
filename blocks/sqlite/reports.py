"""What reports and pages read, in the SQLite store.

Every function runs inside a transaction that its caller began; ``now`` is that transaction's instant.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache

from prefect_campaigns.blocks import rows
from prefect_campaigns.blocks.sqlite import limits
from prefect_campaigns.blocks.sqlite.bookings import sweep
from prefect_campaigns.blocks.sqlite.records import COST_OF_RUN, reports
from prefect_campaigns.blocks.store_types import RunBrief
from prefect_campaigns.blocks.values import json_text, optional_instant_text
from prefect_campaigns.budget import BudgetStatus, Period, windows
from prefect_campaigns.errors import StoreError
from prefect_campaigns.money import from_micros
from prefect_campaigns.results import RunReport, RunStatus

_AFTER_ALL_INSTANTS = "~"


def latest_runs(
    db: sqlite3.Connection, *, limit: int, campaign_keys: Collection[str] | None
) -> Mapping[str, Sequence[RunBrief]]:
    """Return the newest runs of each campaign."""
    keys = None if campaign_keys is None else json_text(list(campaign_keys))
    found: dict[str, list[RunBrief]] = {}
    for row in db.execute(
        "SELECT run_id, run_name, campaign_key, status, state_name, started_at, completed_at,"  # noqa: S608 - all ours
        f" {COST_OF_RUN} FROM campaigns CROSS JOIN runs"
        f" WHERE runs.rowid IN (SELECT rowid FROM runs WHERE campaign_key = campaigns.key"
        " ORDER BY started_at DESC, rowid DESC LIMIT :limit)"
        " AND (:keys IS NULL OR campaigns.key IN (SELECT value FROM json_each(:keys)))"
        " ORDER BY started_at DESC, runs.rowid DESC",
        {"limit": max(limit, 0), "keys": keys},
    ):
        found.setdefault(row["campaign_key"], []).append(rows.brief(row, from_micros))
    return found


def last_outcomes(db: sqlite3.Connection) -> Mapping[str, RunStatus]:
    """Return where the newest run of each campaign stands."""
    found = db.execute(
        "SELECT key, (SELECT status FROM runs WHERE campaign_key = campaigns.key"
        " ORDER BY started_at DESC, rowid DESC LIMIT 1) AS status FROM campaigns"
    )
    return {row["key"]: rows.run_status(row["status"]) for row in found if row["status"] is not None}


def run_outlines(
    db: sqlite3.Connection,
    *,
    since: datetime | None,
    until: datetime | None,
    campaign_key: str | None,
    limit: int,
) -> Sequence[RunReport]:
    """Return the newest runs of a span of time, without what engines answered."""
    of_all = "campaigns CROSS JOIN runs ON campaign_key = campaigns.key"
    # What a run cost is added up of those alone that are returned.
    wanted = (
        f"SELECT runs.rowid FROM {of_all if campaign_key is None else 'runs'}"  # noqa: S608 - all of it ours
        f" WHERE {'TRUE' if campaign_key is None else 'campaign_key = :key'}"
        " AND started_at >= :since AND started_at < :until ORDER BY started_at DESC, runs.rowid DESC LIMIT :limit"
    )
    found = db.execute(
        f"SELECT *, {COST_OF_RUN} FROM runs WHERE rowid IN ({wanted}) ORDER BY started_at DESC, rowid DESC",  # noqa: S608
        {
            "key": campaign_key,
            "since": optional_instant_text(since) or "",
            "until": optional_instant_text(until) or _AFTER_ALL_INSTANTS,
            "limit": max(limit, 0),
        },
    )
    return reports(db, found, detail="json_remove(detail, '$.result')")


def spent_by_day(
    db: sqlite3.Connection, *, since: date, until: date, campaign_key: str | None
) -> Mapping[date, Decimal]:
    """Return what was spent on each local day."""
    key = limits.ACCOUNT_KEY if campaign_key is None else campaign_key
    found = db.execute(
        "SELECT window_key, spent FROM totals WHERE campaign_key = ? AND window_key BETWEEN ? AND ?",
        (key, _daily(since), _daily(until)),
    )
    return {date.fromisoformat(row["window_key"].partition(":")[2]): from_micros(row["spent"]) for row in found}


def _daily(day: date) -> str:
    return f"{Period.DAILY}:{day.isoformat()}"


def budget_statuses(
    db: sqlite3.Connection, now: datetime, campaign_keys: Collection[str] | None
) -> Mapping[str, BudgetStatus]:
    """Return the limits that hold for each campaign and what stands against them, expired reservations seen to."""
    sweep(db, now)
    account = limits.account_budget(db)
    account_limits = limits.account_limits(db, account, windows(now, limits.account_zone(account)))
    found = {}
    keys = campaign_keys
    if keys is None:
        keys = [key for (key,) in db.execute("SELECT key FROM campaigns")]
    in_zone = cache(lambda zone: windows(now, zone))
    for key in keys:
        try:
            budget, zone = limits.campaign_budget(db, key)
        except StoreError:
            continue
        own = limits.campaign_limits(db, key, budget, in_zone(zone))
        found[key] = BudgetStatus(at=now, limits=own, account=account_limits)
    return found
