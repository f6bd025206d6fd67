"""Which mails are owed, and which were sent, in the SQLite store.

Every function runs inside a transaction that its caller began.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from uuid import UUID

from prefect_campaigns.blocks import rows
from prefect_campaigns.blocks.store_types import MailRecord, MailState
from prefect_campaigns.blocks.values import instant_text, json_text, optional_instant_text, storable_text


def record(db: sqlite3.Connection, mails: Sequence[MailRecord]) -> None:
    """Insert or replace the mails."""
    db.executemany(
        "INSERT OR REPLACE INTO mails (event_id, recipient, campaign_key, run_id, subject, state, attempts, owed_since,"
        " next_try_at, sent_at, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(str(mail.event_id), storable_text(mail.recipient), mail.campaign_key, mail.run_id),
                *(storable_text(mail.subject), mail.state, mail.attempts, instant_text(mail.owed_since)),
                *(optional_instant_text(mail.next_try_at), optional_instant_text(mail.sent_at)),
                None if mail.error is None else storable_text(mail.error),
            )
            for mail in mails
        ],
    )


def about(db: sqlite3.Connection, event_ids: Collection[UUID]) -> Sequence[MailRecord]:
    """Return the mails about these events."""
    ids = json_text([str(event_id) for event_id in event_ids])
    found = db.execute("SELECT * FROM mails WHERE event_id IN (SELECT value FROM json_each(?))", (ids,))
    return [rows.mail(row) for row in found]


def listed(db: sqlite3.Connection, state: MailState, *, limit: int) -> Sequence[MailRecord]:
    """Return the mails that stand so, newest first."""
    found = db.execute(
        "SELECT * FROM mails WHERE state = ? ORDER BY owed_since DESC, event_id, recipient LIMIT ?",
        (state, max(limit, 0)),
    )
    return [rows.mail(row) for row in found]
