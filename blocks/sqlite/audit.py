"""Who did what, in the SQLite store.

Every function runs inside a transaction that its caller began.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from prefect_campaigns.blocks import rows
from prefect_campaigns.blocks.store_types import AuditEntry
from prefect_campaigns.blocks.values import instant_text, json_text, storable_text


def record(db: sqlite3.Connection, entry: AuditEntry) -> None:
    """Append a line."""
    db.execute(
        "INSERT INTO audit (at, actor, action, campaign_key, detail) VALUES (?, ?, ?, ?, ?)",
        (
            *(instant_text(entry.at), storable_text(entry.actor), entry.action),
            *(entry.campaign_key, json_text(dict(entry.detail))),
        ),
    )


def newest(db: sqlite3.Connection, *, campaign_key: str | None, limit: int) -> Sequence[AuditEntry]:
    """Return the newest lines, of one campaign or of all, newest first."""
    wanted = "true" if campaign_key is None else "campaign_key = :campaign_key"
    found = db.execute(
        f"SELECT * FROM audit WHERE {wanted} ORDER BY at DESC, id DESC LIMIT :limit",  # noqa: S608
        # SQLite takes a negative limit for none.
        {"campaign_key": campaign_key, "limit": max(limit, 0)},
    )
    return [rows.audit_entry(row) for row in found]
