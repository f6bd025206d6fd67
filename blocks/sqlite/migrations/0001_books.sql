-- Version 1. Forward only: a change is a new file, run after this one.
--
-- Money is an INTEGER of millionths of a dollar: exact, and SQLite can add it. Instants are UTC text of one fixed
-- width (2026-03-08T05:00:00.000000+00:00): they sort as they follow one another, and a person can read the books.

CREATE TABLE campaigns (
    key                     TEXT PRIMARY KEY CHECK (key <> ''),
    id                      TEXT NOT NULL UNIQUE,
    name                    TEXT NOT NULL,
    config                  TEXT NOT NULL CHECK (json_valid(config)),
    deployment_id           TEXT,
    applied_schedule_active INTEGER CHECK (applied_schedule_active IN (0, 1)),
    created_at              TEXT NOT NULL,
    updated_at              TEXT NOT NULL
) STRICT;

-- One row per campaign that was ever run, for ever: the fence must go on growing after a lease is given back.
CREATE TABLE leases (
    campaign_key TEXT PRIMARY KEY,
    fence        INTEGER NOT NULL CHECK (fence > 0),
    run_id       TEXT,
    run_name     TEXT,
    holder       TEXT,
    expires_at   TEXT,
    CHECK ((holder IS NULL) = (run_id IS NULL) AND (holder IS NULL) = (expires_at IS NULL))
) STRICT;

CREATE TABLE lease_queue (
    campaign_key  TEXT NOT NULL,
    run_id        TEXT NOT NULL,
    run_name      TEXT NOT NULL,
    waiting_since TEXT NOT NULL,
    asked_at      TEXT NOT NULL,
    PRIMARY KEY (campaign_key, run_id)
) STRICT, WITHOUT ROWID;

-- Kept by campaign key, like the ledger and the totals, and bound to no row of campaigns: what was spent stays spent
-- when a campaign is deleted and created again.
CREATE TABLE reservations (
    id             INTEGER PRIMARY KEY,
    campaign_key   TEXT NOT NULL,
    run_id         TEXT NOT NULL,
    step           TEXT NOT NULL,
    attempt        INTEGER NOT NULL CHECK (attempt >= 1),
    state          TEXT NOT NULL
                   CHECK (state IN ('held', 'sent', 'settled', 'released', 'unconfirmed', 'corrected')),
    estimate       INTEGER NOT NULL CHECK (estimate >= 0),
    booked         INTEGER CHECK (booked >= 0),
    -- The windows at the moment of the reservation; whatever is booked later is booked into these.
    daily_window   TEXT NOT NULL,
    weekly_window  TEXT NOT NULL,
    monthly_window TEXT NOT NULL,
    reserved_at    TEXT NOT NULL,
    expires_at     TEXT NOT NULL,
    UNIQUE (run_id, step, attempt),
    CHECK ((booked IS NULL) = (state IN ('held', 'sent', 'released')))
) STRICT;

CREATE INDEX open_reservations ON reservations (campaign_key, expires_at) WHERE state IN ('held', 'sent');
CREATE INDEX booked_reservations ON reservations (campaign_key, step, id) WHERE booked IS NOT NULL;

-- spent and reserved are changes: their sums over a window are its row in totals.
CREATE TABLE ledger (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    at             TEXT NOT NULL,
    campaign_key   TEXT NOT NULL,
    run_id         TEXT NOT NULL,
    step           TEXT NOT NULL,
    attempt        INTEGER NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('reserve', 'settle', 'release', 'unconfirmed', 'correct')),
    spent          INTEGER NOT NULL,
    reserved       INTEGER NOT NULL,
    daily_window   TEXT NOT NULL,
    weekly_window  TEXT NOT NULL,
    monthly_window TEXT NOT NULL
) STRICT;

CREATE INDEX ledger_of_run ON ledger (run_id, spent);
CREATE INDEX ledger_of_campaign ON ledger (campaign_key);

CREATE TRIGGER ledger_is_never_updated BEFORE UPDATE ON ledger
BEGIN
    SELECT RAISE (ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER ledger_is_never_deleted_from BEFORE DELETE ON ledger
BEGIN
    SELECT RAISE (ABORT, 'the ledger is append-only');
END;

-- INSERT OR REPLACE deletes without asking the trigger above.
CREATE TRIGGER ledger_is_never_replaced BEFORE INSERT ON ledger
WHEN EXISTS (SELECT 1 FROM ledger WHERE id = NEW.id)
BEGIN
    SELECT RAISE (ABORT, 'the ledger is append-only');
END;

CREATE TABLE totals (
    campaign_key TEXT NOT NULL,
    window_key   TEXT NOT NULL,
    spent        INTEGER NOT NULL CHECK (spent >= 0),
    reserved     INTEGER NOT NULL CHECK (reserved >= 0),
    PRIMARY KEY (campaign_key, window_key)
) STRICT, WITHOUT ROWID;

-- What a run cost is not written here: it is the sum of its ledger lines, and stays right when one is corrected.
CREATE TABLE runs (
    run_id        TEXT PRIMARY KEY,
    run_name      TEXT NOT NULL,
    campaign_key  TEXT NOT NULL,
    campaign_name TEXT NOT NULL,
    status        TEXT NOT NULL,
    state_name    TEXT,
    message       TEXT,
    trigger_type  TEXT NOT NULL,
    started_at    TEXT NOT NULL,
    completed_at  TEXT
) STRICT;

CREATE INDEX runs_of_campaign ON runs (campaign_key, started_at);

-- detail is JSON: what the engine said (counts, result, warnings, error).
CREATE TABLE run_steps (
    run_id       TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    name         TEXT NOT NULL,
    position     INTEGER NOT NULL,
    engine       TEXT NOT NULL,
    status       TEXT NOT NULL,
    attempts     INTEGER NOT NULL,
    started_at   TEXT,
    completed_at TEXT,
    cost         INTEGER,
    detail       TEXT NOT NULL CHECK (json_valid(detail)),
    PRIMARY KEY (run_id, name)
) STRICT, WITHOUT ROWID;
