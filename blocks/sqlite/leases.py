"""The lease on a campaign and the queue before it, in the SQLite store.

Every function runs inside a transaction that its caller began; ``now`` is that transaction's instant.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime, timedelta

from prefect_campaigns.blocks.store_types import Lease, LeaseHeld
from prefect_campaigns.blocks.values import instant, instant_text
from prefect_campaigns.errors import LeaseLost

QUEUE_PATIENCE = timedelta(seconds=30)
"""How long a waiting run that does not ask again still keeps its place."""


def acquire(
    db: sqlite3.Connection,
    now: datetime,
    campaign_key: str,
    *,
    run_id: str,
    run_name: str,
    holder: str,
    ttl_seconds: float,
    waiting_since: datetime,
) -> Lease | LeaseHeld:
    """Give the lease (to its holder: a longer one), or queue the run and say who is in the way."""
    expires_at = now + timedelta(seconds=ttl_seconds)
    current = db.execute("SELECT * FROM leases WHERE campaign_key = ?", (campaign_key,)).fetchone()
    is_own = current is not None and (current["run_id"], current["holder"]) == (run_id, holder)
    if not is_own:
        in_the_way = _live_holder(current, now) or _earlier_waiter(db, now, campaign_key, run_id, waiting_since)
        if in_the_way is not None:
            _enqueue(db, now, campaign_key, run_id=run_id, run_name=run_name, waiting_since=waiting_since)
            return in_the_way
    fence = 1 if current is None else current["fence"] + (not is_own)
    db.execute(
        "INSERT INTO leases (campaign_key, fence, run_id, run_name, holder, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (campaign_key) DO UPDATE SET fence = excluded.fence,"
        " run_id = excluded.run_id, run_name = excluded.run_name, holder = excluded.holder,"
        " expires_at = excluded.expires_at",
        (campaign_key, fence, run_id, run_name, holder, instant_text(expires_at)),
    )
    leave_queue(db, campaign_key, run_id=run_id)
    return Lease(
        campaign_key=campaign_key,
        run_id=run_id,
        run_name=run_name,
        holder=holder,
        fence=fence,
        expires_at=expires_at,
    )


def _live_holder(current: sqlite3.Row | None, now: datetime) -> LeaseHeld | None:
    if current is None or current["holder"] is None:
        return None
    expires_at = instant(current["expires_at"])
    if expires_at <= now:
        return None
    return LeaseHeld(run_id=current["run_id"], run_name=current["run_name"], expires_at=expires_at)


def _earlier_waiter(
    db: sqlite3.Connection, now: datetime, campaign_key: str, run_id: str, waiting_since: datetime
) -> LeaseHeld | None:
    """Return the queue's first run before this one; of two that came at once, the smaller id goes first."""
    waiter = db.execute(
        "SELECT * FROM lease_queue WHERE campaign_key = ? AND asked_at >= ?"
        " AND (waiting_since, run_id) < (?, ?)"
        # An entry of this run's own, from an earlier try, is not in its way.
        " AND run_id <> ? ORDER BY waiting_since, run_id LIMIT 1",
        (campaign_key, instant_text(now - QUEUE_PATIENCE), instant_text(waiting_since), run_id, run_id),
    ).fetchone()
    if waiter is None:
        return None
    # It loses its place then, unless it asks again.
    expires_at = instant(waiter["asked_at"]) + QUEUE_PATIENCE
    return LeaseHeld(run_id=waiter["run_id"], run_name=waiter["run_name"], expires_at=expires_at)


def _enqueue(
    db: sqlite3.Connection,
    now: datetime,
    campaign_key: str,
    *,
    run_id: str,
    run_name: str,
    waiting_since: datetime,
) -> None:
    db.execute(
        "DELETE FROM lease_queue WHERE campaign_key = ? AND asked_at < ?",
        (campaign_key, instant_text(now - QUEUE_PATIENCE)),
    )
    db.execute(
        "INSERT INTO lease_queue (campaign_key, run_id, run_name, waiting_since, asked_at)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (campaign_key, run_id) DO UPDATE SET"
        " run_name = excluded.run_name, waiting_since = excluded.waiting_since, asked_at = excluded.asked_at",
        (campaign_key, run_id, run_name, instant_text(waiting_since), instant_text(now)),
    )


def leave_queue(db: sqlite3.Connection, campaign_key: str, *, run_id: str) -> None:
    """Take the run out of the queue, if it is in it."""
    db.execute("DELETE FROM lease_queue WHERE campaign_key = ? AND run_id = ?", (campaign_key, run_id))


def renew(db: sqlite3.Connection, now: datetime, lease: Lease, *, ttl_seconds: float) -> Lease:
    """Push the expiry of a lease that nobody else has taken."""
    require(db, lease)
    expires_at = now + timedelta(seconds=ttl_seconds)
    db.execute(
        "UPDATE leases SET expires_at = ? WHERE campaign_key = ?",
        (instant_text(expires_at), lease.campaign_key),
    )
    return replace(lease, expires_at=expires_at)


def release(db: sqlite3.Connection, lease: Lease) -> None:
    """Give the lease back if it is still this one; the fence stays."""
    db.execute(
        "UPDATE leases SET run_id = NULL, run_name = NULL, holder = NULL, expires_at = NULL"
        " WHERE campaign_key = ? AND fence = ? AND run_id = ? AND holder = ?",
        (lease.campaign_key, lease.fence, lease.run_id, lease.holder),
    )


def require(db: sqlite3.Connection, lease: Lease) -> None:
    """Raise LeaseLost unless this is the campaign's lease; one that ran out is, until somebody takes it."""
    current = db.execute("SELECT * FROM leases WHERE campaign_key = ?", (lease.campaign_key,)).fetchone()
    if current is not None and (current["fence"], current["run_id"], current["holder"]) == (
        lease.fence,
        lease.run_id,
        lease.holder,
    ):
        return
    if current is None or current["holder"] is None:
        fate = "it was given back"
    elif current["run_id"] == lease.run_id:
        fate = "another execution of the same run has it now"
    else:
        fate = f"run {current['run_name']} has it now"
    raise LeaseLost(f"run {lease.run_name} no longer holds the lease of campaign {lease.campaign_key}: {fate}")
