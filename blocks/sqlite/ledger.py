"""Every cent in the SQLite store: who may reserve it, and what becomes of it.

Every function runs inside a transaction that its caller began; ``now`` is that transaction's instant. Amounts
change by ``bookings`` only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from prefect_campaigns.blocks.sqlite import leases, limits
from prefect_campaigns.blocks.sqlite.bookings import (
    OPEN,
    Author,
    as_reservation,
    book,
    find,
    name,
    open_reservation,
    required,
    sweep,
)
from prefect_campaigns.blocks.store_types import AttemptState, Lease, Reservation
from prefect_campaigns.blocks.values import amount_micros
from prefect_campaigns.budget import BudgetStatus, windows
from prefect_campaigns.errors import BudgetRefused, StoreError
from prefect_campaigns.money import format_money, from_micros

_HELD, _SENT = AttemptState.HELD, AttemptState.SENT
_SETTLED, _RELEASED = AttemptState.SETTLED, AttemptState.RELEASED
_UNCONFIRMED, _CORRECTED = AttemptState.UNCONFIRMED, AttemptState.CORRECTED


def budget_status(db: sqlite3.Connection, now: datetime, campaign_key: str) -> BudgetStatus:
    """Return the limits that hold for the campaign and what stands against them, expired reservations seen to."""
    budget, zone = limits.campaign_budget(db, campaign_key)
    account = limits.account_budget(db)
    sweep(db, now)
    return BudgetStatus(
        at=now,
        limits=limits.campaign_limits(db, campaign_key, budget, windows(now, zone)),
        account=limits.account_limits(db, account, windows(now, limits.account_zone(account))),
    )


def account_status(db: sqlite3.Connection, now: datetime) -> BudgetStatus:
    """Return the limits of the account and what stands against them, expired reservations seen to."""
    account = limits.account_budget(db)
    sweep(db, now)
    current = windows(now, limits.account_zone(account))
    return BudgetStatus(at=now, limits=(), account=limits.account_limits(db, account, current))


def reserve(
    db: sqlite3.Connection,
    now: datetime,
    lease: Lease,
    *,
    step: str,
    attempt: int,
    estimated_cost: Decimal | None,
    hold_seconds: float,
) -> Reservation | BudgetRefused:
    """Reserve the estimate, or return why not: what expired before stays booked when nothing is reserved."""
    leases.require(db, lease)
    budget, zone = limits.campaign_budget(db, lease.campaign_key)
    account = limits.account_budget(db)
    own_windows, account_windows = windows(now, zone), windows(now, limits.account_zone(account))
    sweep(db, now)
    existing = find(db, lease.run_id, step, attempt)
    if existing is not None:
        return as_reservation(existing)
    estimate = last_cost(db, lease.campaign_key, step) if estimated_cost is None else amount_micros(estimated_cost)
    amount = None if estimate is None else from_micros(estimate)
    refusing = [
        limit
        for limit in (
            *limits.campaign_limits(db, lease.campaign_key, budget, own_windows),
            *limits.account_limits(db, account, account_windows),
            *limits.run_limit(db, lease.run_id, budget),
        )
        if limit.refuses(amount)
    ]
    if refusing:
        return BudgetRefused(refusing, amount)
    row = open_reservation(
        db,
        now,
        campaign_key=lease.campaign_key,
        run_id=lease.run_id,
        step=step,
        attempt=attempt,
        estimate=estimate or 0,
        windows=[window.key for window in own_windows],
        account_day=now.astimezone(limits.account_zone(account)).date(),
        expires_at=now + timedelta(seconds=hold_seconds),
    )
    return as_reservation(row)


def last_cost(db: sqlite3.Connection, campaign_key: str, step: str) -> int | None:
    """Return the largest of the step's last costs; None where it has never been answered."""
    # Requests that failed for nothing, or that a later answer spoke for, say nothing about what the step costs.
    row = db.execute(
        "SELECT max(booked) FROM (SELECT booked FROM reservations WHERE campaign_key = ? AND step = ?"
        " AND booked > 0 ORDER BY id DESC LIMIT 5)",
        (campaign_key, step),
    ).fetchone()
    if row[0] is not None:
        return int(row[0])
    free = "SELECT 1 FROM reservations WHERE campaign_key = ? AND step = ? AND state = 'settled' AND booked = 0 LIMIT 1"
    return None if db.execute(free, (campaign_key, step)).fetchone() is None else 0


def mark_sent(db: sqlite3.Connection, lease: Lease, reservation: Reservation) -> Reservation:
    """Bring a held reservation to ``sent``, once: a request must not leave twice."""
    row = _own(db, lease, reservation)
    if row["state"] != _HELD:
        raise _illegal(row, "be marked as sent", "held")
    marked = db.execute("UPDATE reservations SET state = ? WHERE id = ? RETURNING *", (_SENT, row["id"]))
    return as_reservation(marked.fetchone())


def settle(
    db: sqlite3.Connection,
    now: datetime,
    lease: Lease,
    reservation: Reservation,
    amount: Decimal,
    *,
    is_result: bool,
) -> Reservation:
    """Book what the engine said; a result takes back what earlier attempts were booked at for want of it."""
    micros = amount_micros(amount)
    row = _own(db, lease, reservation)
    if row["state"] in (_SETTLED, _CORRECTED) and row["booked"] != micros:
        booked = format_money(from_micros(row["booked"]))
        raise StoreError(f"{name(row)} is already {row['state']} at {booked}, not {format_money(amount)}")
    return _book_answer(db, now, row, micros, is_result=is_result)


def settle_late(
    db: sqlite3.Connection, now: datetime, reservation: Reservation, amount: Decimal, *, is_result: bool
) -> Reservation:
    """Book what the engine said without a lease, unless it is too late or too early for that."""
    micros = amount_micros(amount)
    row = required(db, reservation.run_id, reservation.step, reservation.attempt)
    if row["state"] in (_SENT, _UNCONFIRMED) and _has_later(db, reservation, "state IN ('held', 'sent')"):
        return as_reservation(row)
    return _book_answer(db, now, row, micros, is_result=is_result)


def _book_answer(
    db: sqlite3.Connection, now: datetime, row: sqlite3.Row, micros: int, *, is_result: bool
) -> Reservation:
    """Book an answer that is heard for the first time; do nothing for one that was heard before."""
    if row["state"] in (_SETTLED, _CORRECTED):
        return as_reservation(row)
    if row["state"] not in (_SENT, _UNCONFIRMED):
        raise _illegal(row, "be settled", "sent or unconfirmed")
    if is_result:
        _correct_earlier(db, now, row)
    state = _SETTLED if row["state"] == _SENT else _CORRECTED
    return as_reservation(book(db, now, row, state, booked=micros))


def _correct_earlier(db: sqlite3.Connection, now: datetime, row: sqlite3.Row) -> None:
    earlier = db.execute(
        "SELECT * FROM reservations WHERE run_id = ? AND step = ? AND attempt < ?"
        " AND state IN ('sent', 'unconfirmed') ORDER BY attempt",
        (row["run_id"], row["step"], row["attempt"]),
    ).fetchall()
    for unanswered in earlier:
        if unanswered["state"] == _SENT:
            unanswered = book(db, now, unanswered, _UNCONFIRMED, booked=unanswered["estimate"])
        book(db, now, unanswered, _CORRECTED, booked=0)


def was_tried_again(db: sqlite3.Connection, reservation: Reservation) -> bool:
    """Return whether a later attempt of the step has begun."""
    return _has_later(db, reservation, "true")


def _has_later(db: sqlite3.Connection, reservation: Reservation, condition: str) -> bool:
    """Return whether the step has a later attempt of that condition, which is written above, never given."""
    later = db.execute(
        f"SELECT 1 FROM reservations WHERE run_id = ? AND step = ? AND attempt > ? AND {condition} LIMIT 1",  # noqa: S608
        (reservation.run_id, reservation.step, reservation.attempt),
    )
    return later.fetchone() is not None


def book_unconfirmed(db: sqlite3.Connection, now: datetime, lease: Lease, reservation: Reservation) -> Reservation:
    """Book a sent reservation at its estimate."""
    row = _own(db, lease, reservation)
    if row["state"] == _UNCONFIRMED:
        return as_reservation(row)
    if row["state"] != _SENT:
        raise _illegal(row, "be booked as unconfirmed", "sent")
    return as_reservation(book(db, now, row, _UNCONFIRMED, booked=row["estimate"]))


def release(db: sqlite3.Connection, now: datetime, lease: Lease, reservation: Reservation) -> Reservation:
    """Give back a reservation whose request never left."""
    row = _own(db, lease, reservation)
    if row["state"] == _RELEASED:
        return as_reservation(row)
    if row["state"] not in OPEN:
        raise _illegal(row, "be released", "held or sent")
    return as_reservation(book(db, now, row, _RELEASED, booked=None))


def unconfirmed(db: sqlite3.Connection, now: datetime, campaign_key: str) -> Sequence[Reservation]:
    """Return what is booked at its estimate, oldest first, expired reservations seen to."""
    sweep(db, now)
    rows = db.execute(
        "SELECT * FROM reservations WHERE campaign_key = ? AND state = 'unconfirmed' ORDER BY id", (campaign_key,)
    )
    return [as_reservation(row) for row in rows]


def correct(
    db: sqlite3.Connection,
    now: datetime,
    campaign_key: str,
    *,
    run_id: str,
    step: str,
    attempt: int,
    amount: Decimal,
    author: Author,
) -> Reservation:
    """Book what a person found out, and that it was theirs to say."""
    micros = amount_micros(amount)
    row = required(db, run_id, step, attempt)
    if row["campaign_key"] != campaign_key:
        raise StoreError(f"{name(row)} is of campaign {row['campaign_key']!r}, not of {campaign_key!r}")
    if row["state"] != _UNCONFIRMED:
        raise _illegal(row, "be corrected", "unconfirmed")
    return as_reservation(book(db, now, row, _CORRECTED, booked=micros, author=author))


def attempts(db: sqlite3.Connection, run_id: str, step: str) -> Sequence[Reservation]:
    """Return the step's requests, oldest first."""
    rows = db.execute("SELECT * FROM reservations WHERE run_id = ? AND step = ? ORDER BY attempt", (run_id, step))
    return [as_reservation(row) for row in rows]


def run_cost(db: sqlite3.Connection, run_id: str) -> Decimal:
    """Return the sum of what the run's ledger lines booked."""
    row = db.execute("SELECT coalesce(sum(spent), 0) FROM ledger WHERE run_id = ?", (run_id,)).fetchone()
    return from_micros(row[0])


def _own(db: sqlite3.Connection, lease: Lease, reservation: Reservation) -> sqlite3.Row:
    """Return the reservation as the store has it, which is what counts, for the run that holds the lease."""
    leases.require(db, lease)
    row = required(db, reservation.run_id, reservation.step, reservation.attempt)
    if (row["campaign_key"], row["run_id"]) != (lease.campaign_key, lease.run_id):
        raise StoreError(f"{name(row)} is not the business of run {lease.run_id}, which brought its lease")
    return row


def _illegal(row: sqlite3.Row, deed: str, allowed: str) -> StoreError:
    return StoreError(f"{name(row)} is {row['state']} and cannot {deed}; only one that is {allowed} can")
