"""Every cent in the SQLite store: reservations, the ledger, and the totals beside it.

Every function runs inside a transaction that its caller began; ``now`` is that transaction's instant. What
changes an amount writes reservation, ledger line and totals together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from prefect_campaigns.blocks import sqlite_leases as leases
from prefect_campaigns.blocks.sqlite_values import amount_micros, instant, instant_text
from prefect_campaigns.blocks.store import AttemptState, Lease, Reservation
from prefect_campaigns.budget import BudgetStatus, LimitStatus, limits_of, windows
from prefect_campaigns.errors import BudgetRefused, StoreError, UnknownCampaign
from prefect_campaigns.models import Budget
from prefect_campaigns.money import format_money, from_micros

_HELD, _SENT = AttemptState.HELD, AttemptState.SENT
_SETTLED, _RELEASED = AttemptState.SETTLED, AttemptState.RELEASED
_UNCONFIRMED, _CORRECTED = AttemptState.UNCONFIRMED, AttemptState.CORRECTED
_OPEN = frozenset({_HELD, _SENT})

_WINDOWS = ("daily_window", "weekly_window", "monthly_window")

_LINE_KINDS = {
    _SETTLED: "settle",
    _RELEASED: "release",
    _UNCONFIRMED: "unconfirmed",
    _CORRECTED: "correct",
}
"""What a ledger line is called, by the state it brings a reservation to; ``sent`` moves no money."""


def budget_status(db: sqlite3.Connection, now: datetime, campaign_key: str) -> BudgetStatus:
    """Return the campaign's limits and what stands against them, expired reservations seen to."""
    budget, zone = _budget_row(db, campaign_key)
    _sweep(db, now, campaign_key)
    return BudgetStatus(at=now, limits=_limits(db, now, campaign_key, budget, zone))


def _budget_row(db: sqlite3.Connection, campaign_key: str) -> tuple[Budget, ZoneInfo]:
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
    except (ValueError, KeyError) as error:
        # No limit that can be read is no reason to spend.
        raise StoreError(f"the row of campaign {campaign_key!r} holds no budget that can be read: {error}") from error


def _limits(
    db: sqlite3.Connection, now: datetime, campaign_key: str, budget: Budget, zone: ZoneInfo
) -> tuple[LimitStatus, ...]:
    current = windows(now, zone)
    totals = {
        row["window_key"]: row
        for row in db.execute(
            "SELECT * FROM totals WHERE campaign_key = ? AND window_key IN (?, ?, ?)",
            (campaign_key, *(window.key for window in current)),
        )
    }
    limits = dict(limits_of(budget))
    return tuple(
        LimitStatus(
            window=window,
            limit=limits[window.period],
            spent=from_micros(totals[window.key]["spent"] if window.key in totals else 0),
            reserved=from_micros(totals[window.key]["reserved"] if window.key in totals else 0),
        )
        for window in current
    )


def _sweep(db: sqlite3.Connection, now: datetime, campaign_key: str) -> None:
    """Release what was held, and book what was sent, whose time has passed."""
    expired = db.execute(
        "SELECT * FROM reservations WHERE campaign_key = ? AND state IN ('held', 'sent') AND expires_at <= ?"
        " ORDER BY id",
        (campaign_key, instant_text(now)),
    ).fetchall()
    for row in expired:
        if row["state"] == _HELD:
            _book(db, now, row, _RELEASED, booked=None)
        else:
            _book(db, now, row, _UNCONFIRMED, booked=row["estimate"])


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
    budget, zone = _budget_row(db, lease.campaign_key)
    _sweep(db, now, lease.campaign_key)
    existing = _find(db, lease.run_id, step, attempt)
    if existing is not None:
        return _reservation(existing)
    known = _last_cost(db, lease.campaign_key, step) if estimated_cost is None else amount_micros(estimated_cost)
    estimate = known or 0
    limits = _limits(db, now, lease.campaign_key, budget, zone)
    for limit in limits:
        if limit.would_pass(from_micros(estimate)) or (known is None and limit.reached):
            return BudgetRefused(limit, None if known is None else from_micros(estimate))
    keys = [limit.window.key for limit in limits]
    db.execute(
        "INSERT INTO reservations (campaign_key, run_id, step, attempt, state, estimate, daily_window,"
        " weekly_window, monthly_window, reserved_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(lease.campaign_key, lease.run_id, step, attempt, _HELD, estimate),
            *(*keys, instant_text(now), instant_text(now + timedelta(seconds=hold_seconds))),
        ),
    )
    db.executemany(
        "INSERT OR IGNORE INTO totals (campaign_key, window_key, spent, reserved) VALUES (?, ?, 0, 0)",
        [(lease.campaign_key, key) for key in keys],
    )
    row = _required(db, lease.run_id, step, attempt)
    _write_line(db, now, row, "reserve", spent=0, reserved=estimate)
    return _reservation(row)


def _last_cost(db: sqlite3.Connection, campaign_key: str, step: str) -> int | None:
    """Return the largest of the step's last costs; None where it has never been answered."""
    # Requests that failed for nothing, or that a later answer spoke for, say nothing about what the step costs.
    row = db.execute(
        "SELECT max(booked) FROM (SELECT booked FROM reservations WHERE campaign_key = ? AND step = ?"
        " AND booked > 0 ORDER BY id DESC LIMIT 5)",
        (campaign_key, step),
    ).fetchone()
    if row[0] is not None:
        return int(row[0])
    answered = "SELECT 1 FROM reservations WHERE campaign_key = ? AND step = ? AND state = 'settled' LIMIT 1"
    return None if db.execute(answered, (campaign_key, step)).fetchone() is None else 0


def mark_sent(db: sqlite3.Connection, lease: Lease, reservation: Reservation) -> Reservation:
    """Bring a held reservation to ``sent``, once: a request must not leave twice."""
    row = _own(db, lease, reservation)
    if row["state"] != _HELD:
        raise _illegal(row, "be marked as sent", "held")
    db.execute("UPDATE reservations SET state = ? WHERE id = ?", (_SENT, row["id"]))
    return _reservation(_required(db, row["run_id"], row["step"], row["attempt"]))


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
    if row["state"] in (_SETTLED, _CORRECTED):
        if row["booked"] != micros:
            booked = format_money(from_micros(row["booked"]))
            raise StoreError(f"{_name(row)} is already {row['state']} at {booked}, not {format_money(amount)}")
        return _reservation(row)
    if row["state"] not in (_SENT, _UNCONFIRMED):
        raise _illegal(row, "be settled", "sent or unconfirmed")
    if is_result:
        _correct_earlier(db, now, row)
    state = _SETTLED if row["state"] == _SENT else _CORRECTED
    return _reservation(_book(db, now, row, state, booked=micros))


def _correct_earlier(db: sqlite3.Connection, now: datetime, row: sqlite3.Row) -> None:
    earlier = db.execute(
        "SELECT * FROM reservations WHERE run_id = ? AND step = ? AND attempt < ?"
        " AND state IN ('sent', 'unconfirmed') ORDER BY attempt",
        (row["run_id"], row["step"], row["attempt"]),
    ).fetchall()
    for unanswered in earlier:
        if unanswered["state"] == _SENT:
            unanswered = _book(db, now, unanswered, _UNCONFIRMED, booked=unanswered["estimate"])
        _book(db, now, unanswered, _CORRECTED, booked=0)


def book_unconfirmed(db: sqlite3.Connection, now: datetime, lease: Lease, reservation: Reservation) -> Reservation:
    """Book a sent reservation at its estimate."""
    row = _own(db, lease, reservation)
    if row["state"] == _UNCONFIRMED:
        return _reservation(row)
    if row["state"] != _SENT:
        raise _illegal(row, "be booked as unconfirmed", "sent")
    return _reservation(_book(db, now, row, _UNCONFIRMED, booked=row["estimate"]))


def release(db: sqlite3.Connection, now: datetime, lease: Lease, reservation: Reservation) -> Reservation:
    """Give back a reservation whose request never left."""
    row = _own(db, lease, reservation)
    if row["state"] == _RELEASED:
        return _reservation(row)
    if row["state"] not in _OPEN:
        raise _illegal(row, "be released", "held or sent")
    return _reservation(_book(db, now, row, _RELEASED, booked=None))


def attempts(db: sqlite3.Connection, run_id: str, step: str) -> Sequence[Reservation]:
    """Return the step's requests, oldest first."""
    rows = db.execute("SELECT * FROM reservations WHERE run_id = ? AND step = ? ORDER BY attempt", (run_id, step))
    return [_reservation(row) for row in rows]


def run_cost(db: sqlite3.Connection, run_id: str) -> Decimal:
    """Return the sum of what the run's ledger lines booked."""
    row = db.execute("SELECT coalesce(sum(spent), 0) FROM ledger WHERE run_id = ?", (run_id,)).fetchone()
    return from_micros(row[0])


def verify_totals(db: sqlite3.Connection, campaign_key: str) -> list[str]:
    """Return where totals or reservations differ from the ledger, a sentence each."""
    ledger = _sums(db, "ledger", "spent", "reserved", campaign_key)
    reservations = _sums(
        db, "reservations", "coalesce(booked, 0)", "iif(state IN ('held', 'sent'), estimate, 0)", campaign_key
    )
    rows = db.execute("SELECT window_key, spent, reserved FROM totals WHERE campaign_key = ?", (campaign_key,))
    totals = {key: (spent, reserved) for key, spent, reserved in rows}
    differences = []
    for source, sums in (("totals", totals), ("reservations", reservations)):
        for key in sorted(ledger.keys() | sums.keys()):
            have, want = sums.get(key, (0, 0)), ledger.get(key, (0, 0))
            if have != want:
                differences.append(
                    f"{campaign_key}, {key}: spent {from_micros(have[0])} and reserved {from_micros(have[1])}"
                    f" by the {source}, {from_micros(want[0])} and {from_micros(want[1])} by the ledger"
                )
    return differences


def _sums(
    db: sqlite3.Connection, table: str, spent: str, reserved: str, campaign_key: str
) -> dict[str, tuple[int, int]]:
    """Return spent and reserved by window key; table and expressions are written above, never given."""
    lines = " UNION ALL ".join(
        f"SELECT {window}, {spent} AS spent, {reserved} AS reserved FROM {table} WHERE campaign_key = :key"  # noqa: S608
        for window in _WINDOWS
    )
    query = f"SELECT {_WINDOWS[0]}, sum(spent), sum(reserved) FROM ({lines}) GROUP BY 1"  # noqa: S608
    return {key: (sums[0], sums[1]) for key, *sums in db.execute(query, {"key": campaign_key})}


def _book(
    db: sqlite3.Connection, now: datetime, row: sqlite3.Row, state: AttemptState, *, booked: int | None
) -> sqlite3.Row:
    """Bring a reservation to a state and an amount; the difference goes to the ledger and the totals."""
    db.execute("UPDATE reservations SET state = ?, booked = ? WHERE id = ?", (state, booked, row["id"]))
    _write_line(
        db,
        now,
        row,
        _LINE_KINDS[state],
        spent=(booked or 0) - (row["booked"] or 0),
        # Whatever is booked or released is open no more.
        reserved=-row["estimate"] if row["state"] in _OPEN else 0,
    )
    return _required(db, row["run_id"], row["step"], row["attempt"])


def _write_line(
    db: sqlite3.Connection, now: datetime, row: sqlite3.Row, kind: str, *, spent: int, reserved: int
) -> None:
    keys = tuple(row[window] for window in _WINDOWS)
    db.execute(
        "INSERT INTO ledger (at, campaign_key, run_id, step, attempt, kind, spent, reserved, daily_window,"
        " weekly_window, monthly_window) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(instant_text(now), row["campaign_key"], row["run_id"], row["step"], row["attempt"], kind),
            *(spent, reserved, *keys),
        ),
    )
    changed = db.execute(
        "UPDATE totals SET spent = spent + ?, reserved = reserved + ? WHERE campaign_key = ?"
        " AND window_key IN (?, ?, ?)",
        (spent, reserved, row["campaign_key"], *keys),
    ).rowcount
    if changed != len(keys):
        raise StoreError(f"the totals of campaign {row['campaign_key']!r} lack a window of {', '.join(keys)}")


def _own(db: sqlite3.Connection, lease: Lease, reservation: Reservation) -> sqlite3.Row:
    """Return the reservation as the store has it, which is what counts, for the run that holds the lease."""
    leases.require(db, lease)
    row = _required(db, reservation.run_id, reservation.step, reservation.attempt)
    if (row["campaign_key"], row["run_id"]) != (lease.campaign_key, lease.run_id):
        raise StoreError(f"{_name(row)} is not the business of run {lease.run_id}, which brought its lease")
    return row


def _find(db: sqlite3.Connection, run_id: str, step: str, attempt: int) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM reservations WHERE run_id = ? AND step = ? AND attempt = ?", (run_id, step, attempt)
    ).fetchone()
    return row


def _required(db: sqlite3.Connection, run_id: str, step: str, attempt: int) -> sqlite3.Row:
    row = _find(db, run_id, step, attempt)
    if row is None:
        raise StoreError(f"nothing is reserved for attempt {attempt} of step {step!r} of run {run_id}")
    return row


def _reservation(row: sqlite3.Row) -> Reservation:
    return Reservation(
        campaign_key=row["campaign_key"],
        run_id=row["run_id"],
        step=row["step"],
        attempt=row["attempt"],
        state=AttemptState(row["state"]),
        estimate=from_micros(row["estimate"]),
        booked=None if row["booked"] is None else from_micros(row["booked"]),
        expires_at=instant(row["expires_at"]),
    )


def _name(row: sqlite3.Row) -> str:
    return f"attempt {row['attempt']} of step {row['step']!r} of run {row['run_id']}"


def _illegal(row: sqlite3.Row, deed: str, allowed: str) -> StoreError:
    return StoreError(f"{_name(row)} is {row['state']} and cannot {deed}; only one that is {allowed} can")
