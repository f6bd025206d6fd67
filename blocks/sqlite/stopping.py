"""The emergency stop in the SQLite store.

Every function runs inside a transaction that its caller began.
"""

from __future__ import annotations

import sqlite3

from prefect_campaigns.blocks import rows
from prefect_campaigns.blocks.store_types import Stop
from prefect_campaigns.blocks.values import instant_text, storable_text


def read_stop(db: sqlite3.Connection) -> Stop | None:
    """Return the stop that stands, or None."""
    return rows.stop(db.execute("SELECT * FROM stop").fetchone())


def set_stop(db: sqlite3.Connection, stop: Stop | None) -> Stop | None:
    """Let the stop stand unless one does, or end the one that does; return what stood there before."""
    before = read_stop(db)
    if stop is None and before is not None:
        db.execute("DELETE FROM stop")
    elif stop is not None and before is None:
        db.execute(
            'INSERT INTO stop (one, "by", reason, since) VALUES (1, ?, ?, ?)',
            (storable_text(stop.by), storable_text(stop.reason), instant_text(stop.since)),
        )
    return before
