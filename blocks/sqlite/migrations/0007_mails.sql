-- 0007: which mails are owed, and which were sent.

CREATE TABLE mails (
    event_id     TEXT NOT NULL,
    recipient    TEXT NOT NULL,
    campaign_key TEXT,
    run_id       TEXT,
    subject      TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('owed', 'sent', 'given up')),
    attempts     INTEGER NOT NULL CHECK (attempts >= 0),
    owed_since   TEXT NOT NULL,
    next_try_at  TEXT,
    sent_at      TEXT,
    error        TEXT,
    PRIMARY KEY (event_id, recipient),
    CHECK ((sent_at IS NOT NULL) = (state = 'sent'))
) STRICT, WITHOUT ROWID;

CREATE INDEX mails_by_state ON mails (state, owed_since);
