"""Adding up the SQLite store's ledger, line by line, against what stands beside it."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from datetime import date

from prefect_campaigns.blocks.sqlite.bookings import WINDOWS
from prefect_campaigns.blocks.sqlite.limits import ACCOUNT_KEY
from prefect_campaigns.budget import Period, window_key
from prefect_campaigns.money import format_money, from_micros

_Sums = dict[str, tuple[int, int]]
"""Spent and reserved in millionths of a dollar, by window key."""


def verify_totals(db: sqlite3.Connection, campaign_key: str | None) -> list[str]:
    """Return where totals or reservations differ from the ledger, a sentence each; None is the account."""
    ledger = _sums(db, "ledger", "spent", "reserved", campaign_key)
    reservations = _sums(
        db, "reservations", "coalesce(booked, 0)", "iif(state IN ('held', 'sent'), estimate, 0)", campaign_key
    )
    rows = db.execute(
        "SELECT window_key, spent, reserved FROM totals WHERE campaign_key = ?", (campaign_key or ACCOUNT_KEY,)
    )
    totals = {key: (spent, reserved) for key, spent, reserved in rows}
    differences = []
    for source, sums in (("totals", totals), ("reservations", reservations)):
        for key in sorted(ledger.keys() | sums.keys()):
            have, want = sums.get(key, (0, 0)), ledger.get(key, (0, 0))
            if have != want:
                spent, reserved, line_spent, line_reserved = (
                    format_money(from_micros(sum_)) for sum_ in (*have, *want)
                )
                differences.append(
                    f"{campaign_key or 'account'}, {key}: spent {spent} and reserved {reserved} by the {source},"
                    f" {line_spent} and {line_reserved} by the ledger"
                )
    return differences


def _sums(db: sqlite3.Connection, table: str, spent: str, reserved: str, campaign_key: str | None) -> _Sums:
    """Return what the rows of a table come to; table and expressions are written above, never given."""
    days, condition = ("account_day", "true") if campaign_key is None else (", ".join(WINDOWS), "campaign_key = :key")
    rows = db.execute(
        f"SELECT sum({spent}), sum({reserved}), {days} FROM {table} WHERE {condition} GROUP BY {days}",  # noqa: S608
        {"key": campaign_key},
    )
    sums: defaultdict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for row_spent, row_reserved, *keys in rows:
        if campaign_key is None:
            keys = [window_key(period, date.fromisoformat(keys[0])) for period in Period]
        for key in keys:
            sums[key] = (sums[key][0] + row_spent, sums[key][1] + row_reserved)
    return sums
