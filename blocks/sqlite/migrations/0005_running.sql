-- Version 5: which runs count as running is found without a look at all runs.

CREATE INDEX running_runs ON runs (started_at) WHERE status = 'running';
