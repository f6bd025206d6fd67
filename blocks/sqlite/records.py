"""Campaigns and runs in the SQLite store.

Every function runs inside a transaction that its caller began; ``now`` is that transaction's instant.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from uuid import UUID, uuid4

from prefect_campaigns.blocks import rows
from prefect_campaigns.blocks.sqlite import leases
from prefect_campaigns.blocks.store_types import CampaignFigures, CampaignRecord, Lease, Pause
from prefect_campaigns.blocks.values import (
    amount_micros,
    instant_text,
    json_text,
    optional_instant_text,
    storable_text,
)
from prefect_campaigns.errors import StoreError, UnknownCampaign
from prefect_campaigns.models import Campaign
from prefect_campaigns.money import from_micros
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus, step_detail

COST_OF_RUN = "(SELECT coalesce(sum(spent), 0) FROM ledger WHERE ledger.run_id = runs.run_id) AS total_cost"
"""A column of a row of runs."""

_RUNS = f"SELECT runs.*, {COST_OF_RUN} FROM runs"  # noqa: S608 - all of it ours

_PAUSE = {
    "by": "paused_by",
    "reason": "pause_reason",
    "since": "paused_since",
    "until": "paused_until",
    "awaited_run_id": "awaited_run_id",
}
"""What the columns of a pause are called elsewhere, and in the table of campaigns."""


def save_campaign(
    db: sqlite3.Connection,
    now: datetime,
    campaign: Campaign,
    *,
    deployment_id: UUID | None,
    applied_schedule_active: bool | None,
    origin: str | None,
) -> CampaignRecord:
    """Insert or update the campaign's row."""
    row = db.execute(
        "INSERT INTO campaigns (key, id, name, config, origin, deployment_id, applied_schedule_active, created_at,"
        " updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
        " name = excluded.name, config = excluded.config, updated_at = excluded.updated_at,"
        " origin = coalesce(excluded.origin, origin),"
        " deployment_id = coalesce(excluded.deployment_id, deployment_id),"
        " applied_schedule_active = coalesce(excluded.applied_schedule_active, applied_schedule_active)"
        " RETURNING *",
        (
            *(campaign.slug, str(uuid4()), campaign.name, campaign.model_dump_json(by_alias=True)),
            None if origin is None else storable_text(origin),
            *(None if deployment_id is None else str(deployment_id), applied_schedule_active),
            *(instant_text(now), instant_text(now)),
        ),
    ).fetchone()
    return _campaign_record(row)


def get_campaign(db: sqlite3.Connection, key: str) -> CampaignRecord:
    """Return the campaign's row, or raise UnknownCampaign."""
    row = db.execute("SELECT * FROM campaigns WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise _unknown(key)
    return _campaign_record(row)


def list_campaigns(db: sqlite3.Connection) -> Sequence[CampaignRecord]:
    """Return all rows, by name."""
    found = db.execute("SELECT * FROM campaigns ORDER BY name COLLATE NOCASE, key")
    columns = tuple(column for column, *_ in found.description)
    return [_remembered_record(columns, tuple(row)) for row in found]


@lru_cache(maxsize=2_000)
def _remembered_record(columns: tuple[str, ...], values: tuple[object, ...]) -> CampaignRecord:
    """Return what a row says; of many rows hardly any changes between two looks."""
    return _campaign_record(dict(zip(columns, values, strict=True)))


def campaign_figures(db: sqlite3.Connection) -> Mapping[str, CampaignFigures]:
    """Return what the runs of every campaign come to: those that have begun, and the cents, each of one month."""
    begun = "FROM runs WHERE campaign_key = campaigns.key AND state_name IS NOT 'Skipped'"
    found = db.execute(
        f"SELECT key, (SELECT count(*) {begun}) AS runs, (SELECT max(started_at) {begun}) AS last_run_at,"  # noqa: S608
        " (SELECT coalesce(sum(spent), 0) FROM totals WHERE campaign_key = campaigns.key"
        " AND window_key > 'monthly:' AND window_key < 'monthly;') AS cost FROM campaigns"
    )
    return {row["key"]: rows.figures(row, from_micros) for row in found}


def delete_campaign(db: sqlite3.Connection, key: str) -> None:
    """Delete the campaign's row, and its runs with their steps and approvals; the books stay."""
    if not db.execute("DELETE FROM campaigns WHERE key = ?", (key,)).rowcount:
        raise _unknown(key)
    db.execute("DELETE FROM runs WHERE campaign_key = ?", (key,))
    db.execute("DELETE FROM approvals WHERE campaign_key = ?", (key,))


def set_pause(db: sqlite3.Connection, key: str, pause: Pause | None, *, replacing: Pause | None) -> bool:
    """Write the pause if the other one stands there, and return whether it did."""
    changed = db.execute(
        "UPDATE campaigns SET (paused_by, pause_reason, paused_since, paused_until, awaited_run_id) = (?, ?, ?, ?, ?)"
        " WHERE key = ? AND paused_by IS ? AND pause_reason IS ? AND paused_since IS ? AND paused_until IS ?"
        " AND awaited_run_id IS ?",
        (*_pause_values(pause), key, *_pause_values(replacing)),
    ).rowcount
    if not changed and db.execute("SELECT 1 FROM campaigns WHERE key = ?", (key,)).fetchone() is None:
        raise _unknown(key)
    return bool(changed)


def _pause_values(pause: Pause | None) -> tuple[str | None, ...]:
    if pause is None:
        return (None,) * 5
    return (
        *(pause.by, storable_text(pause.reason), instant_text(pause.since), optional_instant_text(pause.until)),
        None if pause.awaited_run_id is None else str(pause.awaited_run_id),
    )


def _unknown(key: str) -> UnknownCampaign:
    return UnknownCampaign(f"the store has no campaign {key!r}; `campaigns apply` puts it there")


def _campaign_record(row: rows.Row) -> CampaignRecord:
    pause = None if row["paused_by"] is None else rows.pause({name: row[column] for name, column in _PAUSE.items()})
    return rows.campaign_record(row, pause=pause)


def start_run(db: sqlite3.Connection, lease: Lease, report: RunReport) -> None:
    """Insert the run, or set one that is resumed running again."""
    _require_own(db, lease, report)
    if not _insert_run(db, report):
        db.execute(
            "UPDATE runs SET status = ?, state_name = NULL, message = NULL, completed_at = NULL WHERE run_id = ?",
            (RunStatus.RUNNING, report.run_id),
        )


def record_skipped_run(db: sqlite3.Connection, report: RunReport) -> None:
    """Insert the run unless there is one."""
    _insert_run(db, report)


def _insert_run(db: sqlite3.Connection, report: RunReport) -> bool:
    """Insert the run with the steps its report has; return whether there was none before."""
    inserted = db.execute(
        "INSERT INTO runs (run_id, run_name, campaign_key, campaign_name, status, state_name, message,"
        " trigger_type, started_at, completed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (run_id) DO NOTHING",
        (
            *(report.run_id, report.run_name, report.campaign_key, report.campaign_name, report.status),
            *(report.state_name, _message(report), report.trigger_type),
            *(instant_text(report.started_at), optional_instant_text(report.completed_at)),
        ),
    ).rowcount
    if inserted:
        for step in report.steps:
            _write_step(db, report.run_id, step)
    return bool(inserted)


def save_step(db: sqlite3.Connection, lease: Lease, step: StepResult) -> None:
    """Insert or replace a step of the lease's run."""
    leases.require(db, lease)
    if db.execute("SELECT 1 FROM runs WHERE run_id = ?", (lease.run_id,)).fetchone() is None:
        raise _never_started(lease.run_id)
    _write_step(db, lease.run_id, step)


def save_late_step(db: sqlite3.Connection, run_id: str, step: StepResult) -> None:
    """Insert or replace a step unless it is completed, or its run's record was deleted with its campaign."""
    wanted = "SELECT 1 FROM runs WHERE run_id = ? AND NOT EXISTS (SELECT 1 FROM run_steps WHERE run_steps.run_id"
    wanted += " = runs.run_id AND name = ? AND run_steps.status = ?)"
    if db.execute(wanted, (run_id, step.name, StepStatus.COMPLETED)).fetchone() is not None:
        _write_step(db, run_id, step)


def _write_step(db: sqlite3.Connection, run_id: str, step: StepResult) -> None:
    db.execute(
        # No row refers to a step, so that replacing one is as good as updating it.
        "INSERT OR REPLACE INTO run_steps (run_id, name, position, engine, status, attempts, started_at,"
        " completed_at, cost, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(run_id, step.name, step.position, step.engine, step.status, step.attempts),
            *(optional_instant_text(step.started_at), optional_instant_text(step.completed_at)),
            *(None if step.cost is None else amount_micros(step.cost), json_text(step_detail(step))),
        ),
    )


def finish_run(db: sqlite3.Connection, now: datetime, lease: Lease, report: RunReport) -> None:
    """Write how and when the run ended; what it cost stands in the ledger."""
    _write_state(db, lease, report, report.status, completed_at=report.completed_at or now)


def suspend_run(db: sqlite3.Connection, lease: Lease, report: RunReport) -> None:
    """Write what the run waits for; it goes on counting as running."""
    _write_state(db, lease, report, RunStatus.RUNNING, completed_at=None)


def _write_state(
    db: sqlite3.Connection, lease: Lease, report: RunReport, status: RunStatus, *, completed_at: datetime | None
) -> None:
    _require_own(db, lease, report)
    changed = db.execute(
        "UPDATE runs SET status = ?, state_name = ?, message = ?, completed_at = ? WHERE run_id = ?",
        (status, report.state_name, _message(report), optional_instant_text(completed_at), report.run_id),
    ).rowcount
    if not changed:
        raise _never_started(report.run_id)


def _require_own(db: sqlite3.Connection, lease: Lease, report: RunReport) -> None:
    leases.require(db, lease)
    if (report.run_id, report.campaign_key) != (lease.run_id, lease.campaign_key):
        raise StoreError(
            f"the lease is for run {lease.run_id} of {lease.campaign_key}, and the report is about run"
            f" {report.run_id} of {report.campaign_key}"
        )


def _never_started(run_id: str) -> StoreError:
    return StoreError(f"the store has no run {run_id}; start_run comes first")


def _message(report: RunReport) -> str | None:
    return None if report.message is None else storable_text(report.message)


def get_run(db: sqlite3.Connection, run_id: str) -> RunReport | None:
    """Return the run with its steps, or None."""
    found = reports(db, db.execute(f"{_RUNS} WHERE run_id = ?", (run_id,)))
    return found[0] if found else None


def running_runs(db: sqlite3.Connection) -> Mapping[str, str]:
    """Return the runs that count as running, oldest first, with their campaigns' keys."""
    # The status as its index has it.
    found = db.execute("SELECT run_id, campaign_key FROM runs WHERE status = 'running' ORDER BY started_at, rowid")
    return {row["run_id"]: row["campaign_key"] for row in found}


def list_runs(db: sqlite3.Connection, campaign_key: str, *, limit: int) -> Sequence[RunReport]:
    """Return the campaign's runs with their steps, newest first."""
    return reports(
        db,
        db.execute(
            f"{_RUNS} WHERE campaign_key = ? ORDER BY started_at DESC, rowid DESC LIMIT ?",
            # SQLite takes a negative limit for none.
            (campaign_key, max(limit, 0)),
        ),
    )


def runs_after(db: sqlite3.Connection, rowid: int, *, limit: int) -> tuple[list[RunReport], int]:
    """Return the next runs that were written after a row, and the row of the last of them; their cost is left at 0."""
    found = db.execute(
        "SELECT runs.*, rowid AS place, 0 AS total_cost FROM runs WHERE rowid > ? ORDER BY rowid LIMIT ?",
        (rowid, limit),
    ).fetchall()
    return reports(db, found), found[-1]["place"] if found else rowid


def reports(db: sqlite3.Connection, found: Iterable[sqlite3.Row], *, detail: str = "detail") -> list[RunReport]:
    """Return the rows as reports, all their steps fetched at once.

    Args:
        detail: what is read of each step's, as SQL.
    """
    runs = list(found)
    steps: dict[str, list[sqlite3.Row]] = {run["run_id"]: [] for run in runs}
    for row in db.execute(
        "SELECT run_id, name, position, engine, status, attempts, started_at, completed_at, cost,"  # noqa: S608 - ours
        f" {detail} AS detail FROM run_steps WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY position, name",
        (json_text(list(steps)),),
    ):
        steps[row["run_id"]].append(row)
    return [rows.report(run, from_micros, steps=steps[run["run_id"]]) for run in runs]
