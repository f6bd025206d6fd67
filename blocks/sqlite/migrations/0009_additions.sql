-- 0009: which migrations the file has seen that only add to it.

CREATE TABLE additions (
    name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
