"""Steps of the machine's clock, in the SQLite store: what expires soon moves with it.

A lease is renewed every few seconds; when somebody sets the clock an hour forward, or a machine wakes up, all of them
would have expired at once, though whoever holds them lives. Set back, the lease of a run that has died would be held
for an hour more. All processes that have the file open are on one machine, and share the clock that nobody sets.
Whoever writes first after a step sees it there, and moves what was to expire by as much, before anything is done.

What people were told of, as until when to approve, and the days of budgets and schedules go by the clock as it is.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta

from prefect_campaigns.blocks.values import instant, instant_text
from prefect_campaigns.clock import Clock

STEP = timedelta(seconds=5)
"""What is less is no step: a lease is renewed long before it expires."""

READING_SECONDS = 1.0
"""How long it may take to read both clocks; a process that stood still in between knows nothing."""

READINGS = 3
"""How often both are read before such a process gives up."""

SOON = timedelta(days=1)
"""How far ahead lies what moves: the rest was written before the clock had ever been set."""

_MOVING = (
    "UPDATE leases SET expires_at = moved(expires_at) WHERE expires_at < :soon",
    "UPDATE lease_queue SET asked_at = moved(asked_at) WHERE asked_at < :soon",
    "UPDATE workers SET expires_at = moved(expires_at) WHERE expires_at < :soon",
    "UPDATE reservations SET expires_at = moved(expires_at) WHERE state IN ('held', 'sent') AND expires_at < :soon",
    "UPDATE engines SET left_alone_until = moved(left_alone_until) WHERE left_alone_until < :soon",
    "UPDATE mails SET next_try_at = moved(next_try_at) WHERE state = 'owed' AND next_try_at < :soon",
)


def follow(db: sqlite3.Connection, clock: Clock) -> None:
    """Move what expires soon if the clock has been set since the last write, inside a transaction of the caller's.

    After another boot of the machine nothing is known of what lies between, and nothing moves.
    """
    for _ in range(READINGS):
        before, now, after = clock.uptime(), clock.now(), clock.uptime()
        if before is None or after is None:
            return
        if after.seconds - before.seconds <= READING_SECONDS:
            break
    else:
        return
    ahead = timedelta(seconds=now.timestamp() - before.seconds)
    known = db.execute("SELECT boot, ahead FROM clock").fetchone()
    is_same_boot = known is not None and known["boot"] == before.boot
    step = ahead - timedelta(seconds=known["ahead"]) if is_same_boot else timedelta()
    if is_same_boot and abs(step) < STEP:
        return
    if step:
        _move(db, step, now)
    db.execute(
        "INSERT OR REPLACE INTO clock (only_row, boot, ahead) VALUES (1, ?, ?)", (before.boot, ahead.total_seconds())
    )


def _move(db: sqlite3.Connection, step: timedelta, now: datetime) -> None:
    db.create_function("moved", 1, lambda text: instant_text(instant(text) + step), deterministic=True)
    for statement in _MOVING:
        db.execute(statement, {"soon": instant_text(now - step + SOON)})
