"""What may be spent, and what stands against it, in the SQLite store.

Every function runs inside a transaction that its caller began.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from decimal import Decimal
from zoneinfo import ZoneInfo

from prefect_campaigns.blocks.values import amount_micros
from prefect_campaigns.budget import AccountBudget, LimitStatus, Period, Scope, Window, limits_of
from prefect_campaigns.errors import StoreError, UnknownCampaign
from prefect_campaigns.models import Budget
from prefect_campaigns.money import from_micros

ACCOUNT_KEY = "@account"
"""Under which the totals and alerts of all campaigns together stand; no campaign's key holds an @."""


def campaign_budget(db: sqlite3.Connection, campaign_key: str) -> tuple[Budget, ZoneInfo]:
    """Return limits and timezone from the campaign's row, without reading the rest of a long campaign."""
    row = db.execute(
        "SELECT json_extract(config, '$.budget'),"
        " coalesce(json_extract(config, '$.schedule.timezone'), 'UTC') FROM campaigns WHERE key = ?",
        (campaign_key,),
    ).fetchone()
    if row is None:
        raise UnknownCampaign(f"the store has no campaign {campaign_key!r}; `campaigns apply` puts it there")
    try:
        return Budget.model_validate_json(row[0] or "{}"), ZoneInfo(row[1])
    except (ValueError, KeyError, OSError) as error:
        # No limit that can be read is no reason to spend.
        raise StoreError(f"the row of campaign {campaign_key!r} holds no budget that can be read: {error}") from error


def account_budget(db: sqlite3.Connection) -> AccountBudget:
    """Return the limits for all campaigns together."""
    row = db.execute("SELECT * FROM account_budget").fetchone()
    if row is None:
        raise StoreError("the store has no row with the budget of the account; set it anew, or restore a backup")
    return AccountBudget(
        timezone=row["timezone"],
        **{period: None if row[period] is None else from_micros(row[period]) for period in Period},
    )


def set_account_budget(db: sqlite3.Connection, budget: AccountBudget) -> None:
    """Set the limits for all campaigns together."""
    account_zone(budget)
    db.execute(
        "INSERT OR REPLACE INTO account_budget (one, daily, weekly, monthly, timezone) VALUES (1, ?, ?, ?, ?)",
        (*(None if limit is None else amount_micros(limit) for _, limit in limits_of(budget)), budget.timezone),
    )


def account_zone(budget: AccountBudget) -> ZoneInfo:
    """Return the timezone of the account's windows.

    Raises:
        StoreError: there is none of that name.
    """
    try:
        return ZoneInfo(budget.timezone)
    except (ValueError, KeyError, OSError):
        raise StoreError(
            f"the timezone of the account, {budget.timezone!r}, is not in the time zone database; a name such as"
            " America/New_York is"
        ) from None


def campaign_limits(
    db: sqlite3.Connection, campaign_key: str, budget: Budget, current: Sequence[Window]
) -> tuple[LimitStatus, ...]:
    """Return the campaign's limits for these windows, and what stands against them."""
    return _window_limits(db, Scope.CAMPAIGN, campaign_key, current, dict(limits_of(budget)))


def account_limits(db: sqlite3.Connection, budget: AccountBudget, current: Sequence[Window]) -> tuple[LimitStatus, ...]:
    """Return the limits of all campaigns together for these windows, and what stands against them."""
    return _window_limits(db, Scope.ACCOUNT, ACCOUNT_KEY, current, dict(limits_of(budget)))


def _window_limits(
    db: sqlite3.Connection,
    scope: Scope,
    key: str,
    current: Sequence[Window],
    limits: Mapping[Period, Decimal | None],
) -> tuple[LimitStatus, ...]:
    totals = {
        row["window_key"]: row
        for row in db.execute(
            "SELECT * FROM totals WHERE campaign_key = ? AND window_key IN (?, ?, ?)",
            (key, *(window.key for window in current)),
        )
    }
    return tuple(
        LimitStatus(
            scope=scope,
            window=window,
            limit=limits[window.period],
            spent=from_micros(totals[window.key]["spent"] if window.key in totals else 0),
            reserved=from_micros(totals[window.key]["reserved"] if window.key in totals else 0),
        )
        for window in current
    )


def run_limit(db: sqlite3.Connection, run_id: str, budget: Budget) -> tuple[LimitStatus, ...]:
    """Return what all attempts of the run have been booked at or hold, against ``perRun``; nothing without one."""
    if budget.per_run is None:
        return ()
    spent, reserved = db.execute(
        "SELECT coalesce(sum(booked), 0), coalesce(sum(iif(state IN ('held', 'sent'), estimate, 0)), 0)"
        " FROM reservations WHERE run_id = ?",
        (run_id,),
    ).fetchone()
    return (
        LimitStatus(
            scope=Scope.RUN,
            window=None,
            limit=budget.per_run,
            spent=from_micros(spent),
            reserved=from_micros(reserved),
        ),
    )
