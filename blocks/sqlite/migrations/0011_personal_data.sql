-- 0011: which runs have nothing left of what engines said.

ALTER TABLE runs ADD COLUMN cleared_at TEXT;

CREATE INDEX uncleared_runs ON runs (completed_at) WHERE cleared_at IS NULL;

-- A run that begins anew says something again, and so does a step that is written: also by a process of 0.1.0.
CREATE TRIGGER begun_runs_are_not_cleared AFTER UPDATE OF status ON runs
WHEN NEW.status = 'running' AND NEW.cleared_at IS NOT NULL
BEGIN
    UPDATE runs SET cleared_at = NULL WHERE run_id = NEW.run_id;
END;

CREATE TRIGGER runs_of_new_steps_are_not_cleared AFTER INSERT ON run_steps
WHEN EXISTS (SELECT 1 FROM runs WHERE run_id = NEW.run_id AND cleared_at IS NOT NULL)
BEGIN
    UPDATE runs SET cleared_at = NULL WHERE run_id = NEW.run_id;
END;
