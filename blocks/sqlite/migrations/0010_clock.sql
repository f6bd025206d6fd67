-- 0010: by how much the machine's clock is ahead of the one that nobody sets, which began when it was booted.

CREATE TABLE clock (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    boot     TEXT NOT NULL,
    ahead    REAL NOT NULL
) STRICT;
