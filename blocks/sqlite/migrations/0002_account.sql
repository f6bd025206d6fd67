-- Version 2: limits for all campaigns together, pauses, alerts, and corrections that say whose they are.
--
-- Reservations and ledger are written anew instead of altered, so that account_day can be NOT NULL without a default:
-- a process of the older version that still has the file open is refused, and cannot book past the account.
-- An old line's day of the account is its campaign's own day; no other was known when it was written.

CREATE TABLE new_reservations (
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
    -- The same moment's local day (2026-05-13) in the timezone of the account; its week and month follow from it.
    account_day    TEXT NOT NULL CHECK (account_day IS date(account_day)),
    reserved_at    TEXT NOT NULL,
    expires_at     TEXT NOT NULL,
    UNIQUE (run_id, step, attempt),
    CHECK ((booked IS NULL) = (state IN ('held', 'sent', 'released')))
) STRICT;

INSERT INTO new_reservations
SELECT id, campaign_key, run_id, step, attempt, state, estimate, booked, daily_window, weekly_window, monthly_window,
       substr(daily_window, length('daily:') + 1), reserved_at, expires_at
FROM reservations;

DROP TABLE reservations;
ALTER TABLE new_reservations RENAME TO reservations;

-- What has expired, of whatever campaign; what a person is asked about; what a step has cost; whether it was ever
-- answered for nothing. Each is read by one of these, however many reservations there are.
CREATE INDEX open_reservations ON reservations (expires_at) WHERE state IN ('held', 'sent');
CREATE INDEX unconfirmed_reservations ON reservations (campaign_key, id) WHERE state = 'unconfirmed';
CREATE INDEX paid_reservations ON reservations (campaign_key, step, id, booked) WHERE booked > 0;
CREATE INDEX free_reservations ON reservations (campaign_key, step) WHERE state = 'settled' AND booked = 0;

-- spent and reserved are changes: their sums over a window are its row in totals.
CREATE TABLE new_ledger (
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
    monthly_window TEXT NOT NULL,
    account_day    TEXT NOT NULL CHECK (account_day IS date(account_day)),
    -- Who corrected it, and why; NULL where an engine said so.
    "by"           TEXT,
    note           TEXT,
    CHECK (("by" IS NULL) = (note IS NULL) AND ("by" IS NULL OR kind = 'correct'))
) STRICT;

INSERT INTO new_ledger
SELECT id, at, campaign_key, run_id, step, attempt, kind, spent, reserved, daily_window, weekly_window,
       monthly_window, substr(daily_window, length('daily:') + 1), NULL, NULL
FROM ledger;

-- Its triggers go with it, and are made again below.
DROP TABLE ledger;
ALTER TABLE new_ledger RENAME TO ledger;

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

-- The totals of the account stand among those of the campaigns; no slug holds an @.
WITH days AS MATERIALIZED (
    SELECT account_day AS day, sum(spent) AS spent, sum(reserved) AS reserved FROM ledger GROUP BY account_day
), windows (window_key, spent, reserved) AS (
    SELECT 'daily:' || day, spent, reserved FROM days
    UNION ALL
    -- 'weekday 6' is the Saturday on or after the day: its week began six days before.
    SELECT 'weekly:' || date(day, 'weekday 6', '-6 days'), spent, reserved FROM days
    UNION ALL
    SELECT 'monthly:' || date(day, 'start of month'), spent, reserved FROM days
)
INSERT INTO totals (campaign_key, window_key, spent, reserved)
SELECT '@account', window_key, sum(spent), sum(reserved) FROM windows GROUP BY window_key;

CREATE TABLE account_budget (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    daily    INTEGER CHECK (daily >= 0),
    weekly   INTEGER CHECK (weekly >= 0),
    monthly  INTEGER CHECK (monthly >= 0),
    timezone TEXT NOT NULL
) STRICT;

INSERT INTO account_budget (one, timezone) VALUES (1, 'UTC');

ALTER TABLE campaigns ADD COLUMN paused_by TEXT CHECK (paused_by IN ('budget', 'person'));
ALTER TABLE campaigns ADD COLUMN pause_reason TEXT CHECK ((pause_reason IS NULL) = (paused_by IS NULL));
ALTER TABLE campaigns ADD COLUMN paused_since TEXT CHECK ((paused_since IS NULL) = (paused_by IS NULL));
ALTER TABLE campaigns ADD COLUMN paused_until TEXT CHECK (paused_until IS NULL OR paused_by IS NOT NULL);
ALTER TABLE campaigns ADD COLUMN awaited_run_id TEXT CHECK (awaited_run_id IS NULL OR paused_by IS NOT NULL);

-- Of the account ('@account') once, whichever campaign came upon it.
CREATE TABLE alerts (
    campaign_key TEXT NOT NULL,
    alert_key    TEXT NOT NULL,
    claimed_at   TEXT NOT NULL,
    told_at      TEXT,
    PRIMARY KEY (campaign_key, alert_key)
) STRICT, WITHOUT ROWID;
