"""Which alerts are due, and of which people have been told, in the SQLite store.

Every function runs inside a transaction that its caller began; ``now`` is that transaction's instant.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from prefect_campaigns.blocks.sqlite.limits import ACCOUNT_KEY
from prefect_campaigns.blocks.values import instant_text
from prefect_campaigns.budget import Scope


def claim(db: sqlite3.Connection, now: datetime, campaign_key: str, alert_keys: Sequence[str]) -> Sequence[str]:
    """Insert the alerts that are new, and return those of the given ones that nobody has been told of."""
    untold = []
    for alert_key in alert_keys:
        owner = _owner(campaign_key, alert_key)
        db.execute(
            "INSERT OR IGNORE INTO alerts (campaign_key, alert_key, claimed_at) VALUES (?, ?, ?)",
            (owner, alert_key, instant_text(now)),
        )
        told_at = db.execute(
            "SELECT told_at FROM alerts WHERE campaign_key = ? AND alert_key = ?", (owner, alert_key)
        ).fetchone()[0]
        if told_at is None:
            untold.append(alert_key)
    return untold


def told(db: sqlite3.Connection, now: datetime, campaign_key: str, alert_key: str) -> None:
    """Write down that people have been told; the first time counts."""
    db.execute(
        "INSERT INTO alerts (campaign_key, alert_key, claimed_at, told_at) VALUES (?1, ?2, ?3, ?3)"
        " ON CONFLICT (campaign_key, alert_key) DO UPDATE SET told_at = coalesce(told_at, excluded.told_at)",
        (_owner(campaign_key, alert_key), alert_key, instant_text(now)),
    )


def _owner(campaign_key: str, alert_key: str) -> str:
    """Return under whose key an alert stands: one of the account is one for all campaigns."""
    return ACCOUNT_KEY if alert_key.startswith(Scope.ACCOUNT) else campaign_key
