-- Version 4: the emergency stop, approvals, who did what, and where a campaign came from.
--
-- campaigns is written anew, because SQLite can change no CHECK: paused_by may be 'stop', too. Nothing refers to it, and
-- dropping a table asks no trigger, so that books that are closed are upgraded like all others.

CREATE TABLE new_campaigns (
    key                     TEXT PRIMARY KEY CHECK (key <> ''),
    id                      TEXT NOT NULL UNIQUE,
    name                    TEXT NOT NULL,
    config                  TEXT NOT NULL CHECK (json_valid(config)),
    -- The folder of its file, or 'api'; NULL where nobody wrote that down.
    origin                  TEXT,
    deployment_id           TEXT,
    applied_schedule_active INTEGER CHECK (applied_schedule_active IN (0, 1)),
    paused_by               TEXT CHECK (paused_by IN ('budget', 'person', 'stop')),
    pause_reason            TEXT CHECK ((pause_reason IS NULL) = (paused_by IS NULL)),
    paused_since            TEXT CHECK ((paused_since IS NULL) = (paused_by IS NULL)),
    paused_until            TEXT CHECK (paused_until IS NULL OR paused_by IS NOT NULL),
    awaited_run_id          TEXT CHECK (awaited_run_id IS NULL OR paused_by IS NOT NULL),
    created_at              TEXT NOT NULL,
    updated_at              TEXT NOT NULL
) STRICT;

INSERT INTO new_campaigns
SELECT key, id, name, config, NULL, deployment_id, applied_schedule_active, paused_by, pause_reason, paused_since,
       paused_until, awaited_run_id, created_at, updated_at
FROM campaigns;

-- Its triggers go with it, and are made again.
DROP TABLE campaigns;
ALTER TABLE new_campaigns RENAME TO campaigns;

CREATE TRIGGER closed_books_take_no_campaign BEFORE INSERT ON campaigns
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;

CREATE TRIGGER closed_campaigns_stay BEFORE UPDATE ON campaigns
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;

CREATE TRIGGER closed_campaigns_are_not_deleted BEFORE DELETE ON campaigns
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;

-- Runs that have begun are counted by this, however many there are; one that was skipped has not.
CREATE INDEX begun_runs ON runs (campaign_key, started_at, state_name) WHERE state_name IS NOT 'Skipped';

-- One row while the stop stands, none otherwise.
CREATE TABLE stop (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    "by"   TEXT NOT NULL,
    reason TEXT NOT NULL,
    since  TEXT NOT NULL
) STRICT;

CREATE TRIGGER closed_books_take_no_stop BEFORE INSERT ON stop
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;

CREATE TRIGGER closed_books_end_no_stop BEFORE DELETE ON stop
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;

CREATE TABLE approvals (
    id           INTEGER PRIMARY KEY,
    campaign_key TEXT NOT NULL,
    run_id       TEXT NOT NULL,
    step         TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('waiting', 'approved', 'expired', 'withdrawn')),
    asked_at     TEXT NOT NULL,
    expires_at   TEXT NOT NULL,
    decided_at   TEXT,
    decided_by   TEXT,
    UNIQUE (run_id, step),
    CHECK ((decided_at IS NULL) = (state = 'waiting') AND (decided_by IS NULL) = (state = 'waiting'))
) STRICT;

CREATE INDEX approvals_of_campaign ON approvals (campaign_key, asked_at);
CREATE INDEX waiting_approvals ON approvals (asked_at) WHERE state = 'waiting';

CREATE TRIGGER what_is_approved_stays BEFORE UPDATE ON approvals
WHEN OLD.state = 'approved' AND NEW.state <> 'waiting'
BEGIN
    SELECT RAISE (ABORT, 'what is approved stays approved, until it is asked for anew');
END;

CREATE TRIGGER closed_books_ask_nobody BEFORE INSERT ON approvals
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;

CREATE TRIGGER closed_approvals_stay BEFORE UPDATE ON approvals
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;

-- Bound to no row of campaigns: what was done to a campaign is known when it is deleted, too. detail is JSON.
CREATE TABLE audit (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    at           TEXT NOT NULL,
    actor        TEXT NOT NULL,
    action       TEXT NOT NULL,
    campaign_key TEXT,
    detail       TEXT NOT NULL CHECK (json_valid(detail))
) STRICT;

CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_of_campaign ON audit (campaign_key, at);

CREATE TRIGGER audit_is_never_updated BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE (ABORT, 'the audit is append-only');
END;

CREATE TRIGGER audit_is_never_deleted_from BEFORE DELETE ON audit
BEGIN
    SELECT RAISE (ABORT, 'the audit is append-only');
END;

-- INSERT OR REPLACE deletes without asking the trigger above.
CREATE TRIGGER audit_is_never_replaced BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
BEGIN
    SELECT RAISE (ABORT, 'the audit is append-only');
END;

CREATE TRIGGER closed_audit_takes_no_line BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM successor)
BEGIN
    SELECT RAISE (ABORT, 'these books are closed: they were carried over to another store');
END;
