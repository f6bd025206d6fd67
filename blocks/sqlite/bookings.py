"""How an amount changes in the SQLite store: reservation, ledger line and totals, always together.

Every function runs inside a transaction that its caller began; ``now`` is that transaction's instant.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

from prefect_campaigns.blocks import rows
from prefect_campaigns.blocks.sqlite.limits import ACCOUNT_KEY
from prefect_campaigns.blocks.store_types import AttemptState, Reservation
from prefect_campaigns.blocks.values import instant_text, storable_text
from prefect_campaigns.budget import Period, window_key
from prefect_campaigns.errors import StoreError
from prefect_campaigns.money import from_micros

OPEN = frozenset({AttemptState.HELD, AttemptState.SENT})
"""The states in which a reservation holds its estimate."""

WINDOWS = ("daily_window", "weekly_window", "monthly_window")
"""The columns with the keys of the campaign's windows; those of the account follow from account_day."""

_LINE_KINDS = {
    AttemptState.SETTLED: "settle",
    AttemptState.RELEASED: "release",
    AttemptState.UNCONFIRMED: "unconfirmed",
    AttemptState.CORRECTED: "correct",
}
"""What a ledger line is called, by the state it brings a reservation to; ``sent`` moves no money."""


class Author(NamedTuple):
    """The person whose word a correction is, and what they say about it."""

    by: str
    note: str


def open_reservation(
    db: sqlite3.Connection,
    now: datetime,
    *,
    campaign_key: str,
    run_id: str,
    step: str,
    attempt: int,
    estimate: int,
    windows: Sequence[str],
    account_day: date,
    expires_at: datetime,
) -> sqlite3.Row:
    """Insert a held reservation; the totals of its windows are made where they do not exist."""
    row: sqlite3.Row = db.execute(
        "INSERT INTO reservations (campaign_key, run_id, step, attempt, state, estimate, daily_window, weekly_window,"
        " monthly_window, account_day, reserved_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " RETURNING *",
        (
            *(campaign_key, run_id, step, attempt, AttemptState.HELD, estimate, *windows),
            *(account_day.isoformat(), instant_text(now), instant_text(expires_at)),
        ),
    ).fetchone()
    _write_line(db, now, row, "reserve", spent=0, reserved=estimate)
    db.executemany(
        "INSERT INTO totals (campaign_key, window_key, spent, reserved) VALUES (?, ?, 0, ?)"
        " ON CONFLICT (campaign_key, window_key) DO UPDATE SET reserved = reserved + excluded.reserved",
        [(*total, estimate) for total in _totals_of(row)],
    )
    return row


def book(
    db: sqlite3.Connection,
    now: datetime,
    row: sqlite3.Row,
    state: AttemptState,
    *,
    booked: int | None,
    author: Author | None = None,
) -> sqlite3.Row:
    """Bring a reservation to a state and an amount; the difference goes to the ledger and the totals."""
    changed: sqlite3.Row = db.execute(
        "UPDATE reservations SET state = ?, booked = ? WHERE id = ? RETURNING *", (state, booked, row["id"])
    ).fetchone()
    spent = (booked or 0) - (row["booked"] or 0)
    # Whatever is booked or released is open no more.
    reserved = -row["estimate"] if row["state"] in OPEN else 0
    _write_line(db, now, row, _LINE_KINDS[state], spent=spent, reserved=reserved, author=author)
    totals = _totals_of(row)
    found = db.executemany(
        "UPDATE totals SET spent = spent + ?, reserved = reserved + ? WHERE campaign_key = ? AND window_key = ?",
        [(spent, reserved, *total) for total in totals],
    ).rowcount
    if found != len(totals):
        raise StoreError(f"the totals lack a window of {', '.join(' '.join(total) for total in totals)}")
    return changed


def _write_line(
    db: sqlite3.Connection,
    now: datetime,
    row: sqlite3.Row,
    kind: str,
    *,
    spent: int,
    reserved: int,
    author: Author | None = None,
) -> None:
    by, note = (None, None) if author is None else map(storable_text, author)
    db.execute(
        "INSERT INTO ledger (at, campaign_key, run_id, step, attempt, kind, spent, reserved, daily_window,"
        ' weekly_window, monthly_window, account_day, "by", note) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
        (
            *(instant_text(now), row["campaign_key"], row["run_id"], row["step"], row["attempt"], kind),
            *(spent, reserved, *(row[window] for window in WINDOWS), row["account_day"], by, note),
        ),
    )


def _totals_of(row: sqlite3.Row) -> list[tuple[str, str]]:
    """Return the keys of the six totals that the reservation counts in."""
    day = date.fromisoformat(row["account_day"])
    return [
        *((row["campaign_key"], row[window]) for window in WINDOWS),
        *((ACCOUNT_KEY, window_key(period, day)) for period in Period),
    ]


def sweep(db: sqlite3.Connection, now: datetime) -> None:
    """Release what was held, and book what was sent, whose time has passed, of all campaigns."""
    expired = db.execute(
        "SELECT * FROM reservations WHERE state IN ('held', 'sent') AND expires_at <= ? ORDER BY expires_at, id",
        (instant_text(now),),
    ).fetchall()
    for row in expired:
        if row["state"] == AttemptState.HELD:
            book(db, now, row, AttemptState.RELEASED, booked=None)
        else:
            book(db, now, row, AttemptState.UNCONFIRMED, booked=row["estimate"])


def find(db: sqlite3.Connection, run_id: str, step: str, attempt: int) -> sqlite3.Row | None:
    """Return the reservation's row as it is now, or None."""
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM reservations WHERE run_id = ? AND step = ? AND attempt = ?", (run_id, step, attempt)
    ).fetchone()
    return row


def required(db: sqlite3.Connection, run_id: str, step: str, attempt: int) -> sqlite3.Row:
    """Return the reservation's row as it is now, or raise StoreError."""
    row = find(db, run_id, step, attempt)
    if row is None:
        raise StoreError(f"nothing is reserved for attempt {attempt} of step {step!r} of run {run_id}")
    return row


def name(row: sqlite3.Row) -> str:
    """Return what messages call the reservation."""
    return f"attempt {row['attempt']} of step {row['step']!r} of run {row['run_id']}"


def as_reservation(row: sqlite3.Row) -> Reservation:
    """Return the row as what the store's callers know."""
    return rows.reservation(row, from_micros)
