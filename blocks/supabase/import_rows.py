"""The rows of a SQLite file's books as those of the database that they are carried over to."""

from __future__ import annotations

import sqlite3
from datetime import date
from typing import Any

from prefect_campaigns.blocks.supabase.values import optional_storable_text, storable_text
from prefect_campaigns.blocks.values import instant, optional_instant
from prefect_campaigns.money import from_micros

RESERVATION = (
    *("id", "campaign_key", "run_id", "step", "attempt", "state", "estimate", "booked"),
    *("campaign_day", "account_day", "reserved_at", "expires_at"),
)
LINE = (
    *("at", "campaign_key", "run_id", "step", "attempt", "kind", "spent", "reserved"),
    *("campaign_day", "account_day", "by", "note"),
)
APPROVAL = ("campaign_key", "run_id", "step", "state", "asked_at", "expires_at", "decided_at", "decided_by")
AUDIT = ("at", "actor", "action", "campaign_key", "detail")


def reservation(row: sqlite3.Row, base: int) -> tuple[Any, ...]:
    """Return the values of RESERVATION; its id is so much higher than in the file."""
    return (
        *(base + row["id"], row["campaign_key"], row["run_id"], storable_text(row["step"]), row["attempt"]),
        *(row["state"], from_micros(row["estimate"]), None if row["booked"] is None else from_micros(row["booked"])),
        *(_campaign_day(row), date.fromisoformat(row["account_day"])),
        *(instant(row["reserved_at"]), instant(row["expires_at"])),
    )


def line(row: sqlite3.Row) -> tuple[Any, ...]:
    """Return the values of LINE."""
    return (
        *(instant(row["at"]), row["campaign_key"], row["run_id"], storable_text(row["step"]), row["attempt"]),
        *(row["kind"], from_micros(row["spent"]), from_micros(row["reserved"])),
        *(_campaign_day(row), date.fromisoformat(row["account_day"])),
        *(optional_storable_text(row["by"]), optional_storable_text(row["note"])),
    )


def approval(row: sqlite3.Row) -> tuple[Any, ...]:
    """Return the values of APPROVAL."""
    return (
        *(row["campaign_key"], row["run_id"], storable_text(row["step"]), row["state"]),
        *(instant(row["asked_at"]), instant(row["expires_at"]), optional_instant(row["decided_at"])),
        optional_storable_text(row["decided_by"]),
    )


def audit_line(row: sqlite3.Row) -> tuple[Any, ...]:
    """Return the values of AUDIT."""
    return (
        *(instant(row["at"]), storable_text(row["actor"]), row["action"]),
        *(optional_storable_text(row["campaign_key"]), row["detail"]),
    )


def _campaign_day(row: sqlite3.Row) -> date:
    return date.fromisoformat(row["daily_window"].removeprefix("daily:"))
