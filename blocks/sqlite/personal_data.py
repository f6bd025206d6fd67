"""Forgetting what engines said, in the SQLite store.

Every function runs inside a transaction that its caller began; ``now`` is that transaction's instant.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime

from prefect_campaigns.blocks.store_personal_data import Mentions, RunWords
from prefect_campaigns.blocks.store_types import MailState
from prefect_campaigns.blocks.values import instant_text, json_text, storable_text
from prefect_campaigns.results import RunStatus

_MENTIONS = "EXISTS (SELECT 1 FROM json_each(:texts) WHERE instr(lower({}), value) > 0)"


def uncleared_runs(db: sqlite3.Connection, *, ended_before: datetime, limit: int) -> Sequence[RunWords]:
    """Return what runs say that ended before then and are not cleared."""
    found = db.execute(
        "SELECT run_id, message FROM runs WHERE cleared_at IS NULL AND completed_at < ? AND status <> ?"
        " ORDER BY completed_at, run_id LIMIT ?",
        (instant_text(ended_before), RunStatus.RUNNING, limit),
    )
    return [_words(db, row) for row in found.fetchall()]


def runs_mentioning(db: sqlite3.Connection, texts: Collection[str], *, after: str, limit: int) -> Mentions:
    """Look through the next runs for one of the texts."""
    place = db.execute(
        "SELECT max(run_id) AS last, count(*) AS number FROM"
        " (SELECT run_id FROM runs WHERE run_id > ? ORDER BY run_id LIMIT ?)",
        (after, limit),
    ).fetchone()
    if not place["number"]:
        return Mentions(found=(), after=None)
    found = db.execute(
        "SELECT run_id, message FROM runs WHERE run_id > :after AND run_id <= :last"  # noqa: S608 - all of it ours
        f" AND ({_MENTIONS.format('coalesce(message, char(0))')} OR EXISTS (SELECT 1 FROM run_steps"
        f" WHERE run_steps.run_id = runs.run_id AND {_MENTIONS.format('detail')})) ORDER BY run_id",
        {"texts": json_text(list(texts)), "after": after, "last": place["last"]},
    ).fetchall()
    return Mentions(
        found=tuple(_words(db, row) for row in found), after=place["last"] if place["number"] == limit else None
    )


def _words(db: sqlite3.Connection, run: sqlite3.Row) -> RunWords:
    steps = db.execute("SELECT name, detail FROM run_steps WHERE run_id = ?", (run["run_id"],))
    return RunWords(
        run_id=run["run_id"], message=run["message"], steps={step["name"]: step["detail"] for step in steps}
    )


def replace_words(db: sqlite3.Connection, now: datetime, old: RunWords, new: RunWords, *, cleared: bool) -> bool:
    """Write the new words where the old ones stand."""
    row = db.execute("SELECT run_id, message, status FROM runs WHERE run_id = ?", (old.run_id,)).fetchone()
    if row is None or _words(db, row) != old or (cleared and row["status"] == RunStatus.RUNNING):
        return False
    db.execute(
        "UPDATE runs SET message = ?, cleared_at = coalesce(?, cleared_at) WHERE run_id = ?",
        (
            None if new.message is None else storable_text(new.message),
            instant_text(now) if cleared else None,
            old.run_id,
        ),
    )
    for name, detail in new.steps.items():
        db.execute("UPDATE run_steps SET detail = ? WHERE run_id = ? AND name = ?", (detail, old.run_id, name))
    return True


def remove_mails(db: sqlite3.Connection, *, before: datetime, to: str | None) -> int:
    """Delete the records of mails that are not owed any more; return how many."""
    return db.execute(
        "DELETE FROM mails WHERE state <> ? AND owed_since < ? AND (?3 IS NULL OR lower(recipient) = lower(?3))",
        (MailState.OWED, instant_text(before), None if to is None else storable_text(to)),
    ).rowcount
