-- 0011: which runs have nothing left of what engines said.

ALTER TABLE runs ADD COLUMN cleared_at TEXT;

CREATE INDEX uncleared_runs ON runs (completed_at) WHERE cleared_at IS NULL;
