"""Which steps wait, or waited, for a person to say yes, in the SQLite store.

Every function runs inside a transaction that its caller began; ``now`` is that transaction's instant.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta

from prefect_campaigns.blocks import rows
from prefect_campaigns.blocks.sqlite import leases
from prefect_campaigns.blocks.store_types import ApprovalRecord, ApprovalState, Lease
from prefect_campaigns.blocks.values import instant_text, storable_text
from prefect_campaigns.errors import StoreError


def ask(db: sqlite3.Connection, now: datetime, lease: Lease, *, step: str, timeout_seconds: float) -> ApprovalRecord:
    """Let a step of the lease's run wait for approval from now on, whatever was decided of it before."""
    leases.require(db, lease)
    db.execute(
        "INSERT INTO approvals (campaign_key, run_id, step, state, asked_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (run_id, step) DO UPDATE SET state = excluded.state, asked_at = excluded.asked_at,"
        " expires_at = excluded.expires_at, decided_at = NULL, decided_by = NULL",
        (
            *(lease.campaign_key, lease.run_id, step, ApprovalState.WAITING),
            *(instant_text(now), instant_text(now + timedelta(seconds=timeout_seconds))),
        ),
    )
    return _required(db, lease.run_id, step)


def decide(
    db: sqlite3.Connection, now: datetime, run_id: str, step: str, state: ApprovalState, *, by: str
) -> ApprovalRecord:
    """Decide the approval if it waits, and return it; what was decided first stays."""
    if state is ApprovalState.WAITING:
        raise StoreError("an approval is decided as approved, expired or withdrawn, not as waiting")
    db.execute(
        "UPDATE approvals SET state = ?, decided_at = ?, decided_by = ?"
        " WHERE run_id = ? AND step = ? AND state = 'waiting'",
        (state, instant_text(now), storable_text(by), run_id, step),
    )
    return _required(db, run_id, step)


def listed(
    db: sqlite3.Connection, *, campaign_key: str | None, run_id: str | None, waiting_only: bool
) -> Sequence[ApprovalRecord]:
    """Return the approvals that are asked for, oldest first."""
    conditions = {
        "campaign_key = :campaign_key": campaign_key is not None,
        "run_id = :run_id": run_id is not None,
        "state = 'waiting'": waiting_only,
    }
    wanted = " AND ".join(condition for condition, is_asked in conditions.items() if is_asked) or "true"
    # The conditions are written above, never given.
    found = db.execute(
        f"SELECT * FROM approvals WHERE {wanted} ORDER BY asked_at, id",  # noqa: S608
        {"campaign_key": campaign_key, "run_id": run_id},
    )
    return [rows.approval(row) for row in found]


def _required(db: sqlite3.Connection, run_id: str, step: str) -> ApprovalRecord:
    row = db.execute("SELECT * FROM approvals WHERE run_id = ? AND step = ?", (run_id, step)).fetchone()
    if row is None:
        raise StoreError(f"nobody has asked for an approval of step {step!r} of run {run_id}")
    return rows.approval(row)
