-- 0008: by which engines runs fail, one after the other.

CREATE TABLE engines (
    endpoint           TEXT PRIMARY KEY,
    runs             INTEGER NOT NULL CHECK (runs > 0),
    last_run_id      TEXT NOT NULL,
    since            TEXT NOT NULL,
    left_alone_since TEXT,
    left_alone_until TEXT,
    error            TEXT NOT NULL,
    CHECK ((left_alone_since IS NULL) = (left_alone_until IS NULL))
) STRICT, WITHOUT ROWID;
