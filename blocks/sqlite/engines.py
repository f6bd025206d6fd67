"""By which engines runs fail, one after the other, in the SQLite store.

Every function runs inside a transaction that its caller began; ``now`` is that transaction's instant.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta

from prefect_campaigns.blocks import rows
from prefect_campaigns.blocks.store_types import EngineTrouble
from prefect_campaigns.blocks.values import instant_text, storable_text


def troubles(db: sqlite3.Connection) -> Sequence[EngineTrouble]:
    """Return all engines by which runs fail."""
    return [rows.engine_trouble(row) for row in db.execute("SELECT * FROM engines ORDER BY endpoint")]


def failed(
    db: sqlite3.Connection,
    now: datetime,
    endpoint: str,
    *,
    run_id: str,
    error: str,
    after_runs: int,
    pause_seconds: float,
) -> EngineTrouble:
    """Count the run, unless it was the last one that was counted, and leave the engine alone after enough of them."""
    row = db.execute(
        "INSERT INTO engines (endpoint, runs, last_run_id, since, error) VALUES (:endpoint, 1, :run_id, :now, :error)"
        " ON CONFLICT (endpoint) DO UPDATE SET runs = runs + (last_run_id <> excluded.last_run_id),"
        " last_run_id = excluded.last_run_id, error = excluded.error RETURNING *",
        {"endpoint": endpoint, "run_id": run_id, "now": instant_text(now), "error": storable_text(error)},
    ).fetchone()
    if row["runs"] >= after_runs:
        row = db.execute(
            "UPDATE engines SET left_alone_since = coalesce(left_alone_since, :now), left_alone_until = :until"
            " WHERE endpoint = :endpoint RETURNING *",
            {
                "endpoint": endpoint,
                "now": instant_text(now),
                "until": instant_text(now + timedelta(seconds=pause_seconds)),
            },
        ).fetchone()
    return rows.engine_trouble(row)


def answered(db: sqlite3.Connection, endpoint: str) -> None:
    """Forget what was the matter with the engine."""
    db.execute("DELETE FROM engines WHERE endpoint = ?", (endpoint,))
