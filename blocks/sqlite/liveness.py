"""Which workers live, and which runs nobody attends to, in the SQLite store.

Every function runs inside a transaction that its caller began; ``now`` is that transaction's instant.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from prefect_campaigns.blocks import rows
from prefect_campaigns.blocks.sqlite.leases import QUEUE_PATIENCE
from prefect_campaigns.blocks.store_types import UnattendedRun, WorkerRecord
from prefect_campaigns.blocks.values import instant_text, storable_text


def keep_worker(db: sqlite3.Connection, now: datetime, id: UUID, *, name: str, pool: str, ttl_seconds: float) -> None:
    """Insert the worker, or push its expiry."""
    db.execute(
        "INSERT INTO workers (id, name, pool, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
        " SET name = excluded.name, pool = excluded.pool, expires_at = excluded.expires_at",
        (str(id), storable_text(name), storable_text(pool), instant_text(now + timedelta(seconds=ttl_seconds))),
    )


def remove_worker(db: sqlite3.Connection, id: UUID) -> None:
    """Delete the worker, if it is there."""
    db.execute("DELETE FROM workers WHERE id = ?", (str(id),))


def list_workers(db: sqlite3.Connection, now: datetime) -> Sequence[WorkerRecord]:
    """Return all workers, by name."""
    found = db.execute(
        "SELECT *, expires_at <= ? AS has_expired FROM workers ORDER BY name COLLATE NOCASE, id", (instant_text(now),)
    )
    return [rows.worker(row) for row in found]


def unattended_runs(db: sqlite3.Connection, now: datetime, *, within_seconds: float) -> Sequence[UnattendedRun]:
    """Return the runs that nobody attends to, or soon nobody may."""
    found = db.execute(
        "SELECT runs.run_id, runs.campaign_key, leases.expires_at AS lease_expires_at,"
        " coalesce(leases.expires_at <= :now, true) AS has_expired"
        " FROM runs LEFT JOIN leases ON leases.campaign_key = runs.campaign_key AND leases.run_id = runs.run_id"
        # The status as its index has it; a name of a state has what is suspended.
        " WHERE runs.status = 'running' AND runs.state_name IS NULL"
        " AND (leases.expires_at IS NULL OR leases.expires_at < :soon)"
        " AND NOT EXISTS (SELECT 1 FROM lease_queue WHERE lease_queue.campaign_key = runs.campaign_key"
        " AND lease_queue.run_id = runs.run_id AND lease_queue.asked_at >= :asked)"
        " ORDER BY runs.started_at, runs.rowid",
        {
            "now": instant_text(now),
            "soon": instant_text(now + timedelta(seconds=within_seconds)),
            "asked": instant_text(now - QUEUE_PATIENCE),
        },
    )
    return [rows.unattended(row) for row in found]
