"""The embedded store: one SQLite file that all processes of one machine share."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from prefect_campaigns.blocks.sqlite import (
    alerts,
    approvals,
    audit,
    engines,
    leases,
    ledger,
    limits,
    liveness,
    mails,
    personal_data,
    records,
    reports,
    stopping,
    verify,
)
from prefect_campaigns.blocks.sqlite.bookings import Author
from prefect_campaigns.blocks.sqlite.file import SqliteFile
from prefect_campaigns.blocks.store_personal_data import Mentions, RunWords
from prefect_campaigns.blocks.store_types import (
    ApprovalRecord,
    ApprovalState,
    AuditEntry,
    CampaignFigures,
    CampaignRecord,
    EngineTrouble,
    Lease,
    LeaseHeld,
    MailRecord,
    MailState,
    Pause,
    Reservation,
    RunBrief,
    Stop,
    UnattendedRun,
    WorkerRecord,
)
from prefect_campaigns.budget import AccountBudget, BudgetStatus
from prefect_campaigns.clock import Clock, current_clock
from prefect_campaigns.errors import BudgetRefused
from prefect_campaigns.models import Campaign
from prefect_campaigns.money import from_micros
from prefect_campaigns.results import RunReport, RunStatus, StepResult


class SqliteStore:
    """A CampaignStore in one file; CampaignStore says what each method does.

    Safe for many tasks of one event loop and for many processes. A cancelled call has happened as a whole or
    not at all. One that raises StoreUnavailable has not happened, unless the disk hung for so long that
    nobody waited for its answer any more.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None, timeout_seconds: float = 10.0) -> None:
        """Name the file; entering the context opens it.

        Args:
            path: the file; it (readable by its owner only) and its folder are made where they do not exist.
            clock: says what time it is; by default the one in use here, which is the machine's.
            timeout_seconds: how long a call waits for its turn before it raises StoreUnavailable.
        """
        self._file = SqliteFile(path, clock=clock or current_clock(), timeout_seconds=timeout_seconds)

    @property
    def books(self) -> str:
        return str(self._file.path.resolve())

    async def __aenter__(self) -> Self:
        await self._file.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._file.close()

    # Campaigns

    async def save_campaign(
        self,
        campaign: Campaign,
        *,
        deployment_id: UUID | None = None,
        applied_schedule_active: bool | None = None,
        origin: str | None = None,
    ) -> CampaignRecord:
        return await self._file.write(
            lambda db, now: records.save_campaign(
                db,
                now,
                campaign,
                deployment_id=deployment_id,
                applied_schedule_active=applied_schedule_active,
                origin=origin,
            )
        )

    async def get_campaign(self, key: str) -> CampaignRecord:
        return await self._file.read(lambda db: records.get_campaign(db, key))

    async def list_campaigns(self) -> Sequence[CampaignRecord]:
        return await self._file.read(lambda db: records.list_campaigns(db))

    async def campaign_figures(self) -> Mapping[str, CampaignFigures]:
        return await self._file.read(records.campaign_figures)

    async def delete_campaign(self, key: str) -> None:
        await self._file.write(lambda db, now: records.delete_campaign(db, key))

    async def set_pause(self, key: str, pause: Pause | None, *, replacing: Pause | None) -> bool:
        return await self._file.write(lambda db, now: records.set_pause(db, key, pause, replacing=replacing))

    # The emergency stop

    async def read_stop(self) -> Stop | None:
        return await self._file.read(stopping.read_stop)

    async def set_stop(self, stop: Stop | None) -> Stop | None:
        return await self._file.write(lambda db, now: stopping.set_stop(db, stop))

    # Approvals

    async def ask_approval(self, lease: Lease, *, step: str, timeout_seconds: float) -> ApprovalRecord:
        return await self._file.write(
            lambda db, now: approvals.ask(db, now, lease, step=step, timeout_seconds=timeout_seconds)
        )

    async def decide_approval(self, run_id: str, step: str, state: ApprovalState, *, by: str) -> ApprovalRecord:
        return await self._file.write(lambda db, now: approvals.decide(db, now, run_id, step, state, by=by))

    async def list_approvals(
        self, *, campaign_key: str | None = None, run_id: str | None = None, waiting_only: bool = False
    ) -> Sequence[ApprovalRecord]:
        return await self._file.read(
            lambda db: approvals.listed(db, campaign_key=campaign_key, run_id=run_id, waiting_only=waiting_only)
        )

    # Who did what

    async def record_audit(self, entry: AuditEntry) -> None:
        await self._file.write(lambda db, now: audit.record(db, entry))

    async def list_audit(self, *, campaign_key: str | None = None, limit: int = 50) -> Sequence[AuditEntry]:
        return await self._file.read(lambda db: audit.newest(db, campaign_key=campaign_key, limit=limit))

    # The lease

    async def acquire_lease(
        self,
        campaign_key: str,
        *,
        run_id: str,
        run_name: str,
        holder: str,
        ttl_seconds: float,
        waiting_since: datetime,
    ) -> Lease | LeaseHeld:
        return await self._file.write(
            lambda db, now: leases.acquire(
                db,
                now,
                campaign_key,
                run_id=run_id,
                run_name=run_name,
                holder=holder,
                ttl_seconds=ttl_seconds,
                waiting_since=waiting_since,
            )
        )

    async def leave_queue(self, campaign_key: str, *, run_id: str) -> None:
        await self._file.write(lambda db, now: leases.leave_queue(db, campaign_key, run_id=run_id))

    async def renew_lease(self, lease: Lease, *, ttl_seconds: float) -> Lease:
        return await self._file.write(lambda db, now: leases.renew(db, now, lease, ttl_seconds=ttl_seconds))

    async def release_lease(self, lease: Lease) -> None:
        await self._file.write(lambda db, now: leases.release(db, lease))

    # Who lives

    async def keep_worker(self, id: UUID, *, name: str, pool: str, ttl_seconds: float) -> None:
        await self._file.write(
            lambda db, now: liveness.keep_worker(db, now, id, name=name, pool=pool, ttl_seconds=ttl_seconds)
        )

    async def remove_worker(self, id: UUID) -> None:
        await self._file.write(lambda db, now: liveness.remove_worker(db, id))

    async def list_workers(self) -> Sequence[WorkerRecord]:
        return await self._file.write(liveness.list_workers)

    async def unattended_runs(self, *, within_seconds: float) -> Sequence[UnattendedRun]:
        return await self._file.write(lambda db, now: liveness.unattended_runs(db, now, within_seconds=within_seconds))

    # Who was mailed

    async def record_mails(self, records: Sequence[MailRecord]) -> None:
        await self._file.write(lambda db, now: mails.record(db, records))

    async def mails_about(self, event_ids: Collection[UUID]) -> Sequence[MailRecord]:
        return await self._file.read(lambda db: mails.about(db, event_ids))

    async def list_mails(self, state: MailState, *, limit: int = 200) -> Sequence[MailRecord]:
        return await self._file.read(lambda db: mails.listed(db, state, limit=limit))

    # Engines that do not work

    async def engine_troubles(self) -> Sequence[EngineTrouble]:
        return await self._file.read(engines.troubles)

    async def engine_failed(
        self, endpoint: str, *, run_id: str, error: str, after_runs: int, pause_seconds: float
    ) -> EngineTrouble:
        return await self._file.write(
            lambda db, now: engines.failed(
                db, now, endpoint, run_id=run_id, error=error, after_runs=after_runs, pause_seconds=pause_seconds
            )
        )

    async def engine_answered(self, endpoint: str) -> None:
        await self._file.write(lambda db, now: engines.answered(db, endpoint))

    # Personal data

    async def uncleared_runs(self, *, ended_before: datetime, limit: int = 50) -> Sequence[RunWords]:
        return await self._file.read(
            lambda db: personal_data.uncleared_runs(db, ended_before=ended_before, limit=limit)
        )

    async def runs_mentioning(self, texts: Collection[str], *, after: str = "", limit: int = 200) -> Mentions:
        return await self._file.read(lambda db: personal_data.runs_mentioning(db, texts, after=after, limit=limit))

    async def replace_words(self, old: RunWords, new: RunWords, *, cleared: bool = False) -> bool:
        return await self._file.write(lambda db, now: personal_data.replace_words(db, now, old, new, cleared=cleared))

    async def remove_mails(self, *, before: datetime, to: str | None = None) -> int:
        return await self._file.write(lambda db, now: personal_data.remove_mails(db, before=before, to=to))

    async def overwrite_removed(self) -> bool:
        return await self._file.empty_log()

    # Money

    async def budget_status(self, campaign_key: str) -> BudgetStatus:
        return await self._file.write(lambda db, now: ledger.budget_status(db, now, campaign_key))

    async def account_budget(self) -> AccountBudget:
        return await self._file.read(limits.account_budget)

    async def set_account_budget(self, budget: AccountBudget) -> None:
        await self._file.write(lambda db, now: limits.set_account_budget(db, budget))

    async def account_status(self) -> BudgetStatus:
        return await self._file.write(ledger.account_status)

    async def attempts(self, run_id: str, step: str) -> Sequence[Reservation]:
        return await self._file.read(lambda db: ledger.attempts(db, run_id, step))

    async def last_cost(self, campaign_key: str, step: str) -> Decimal | None:
        micros = await self._file.read(lambda db: ledger.last_cost(db, campaign_key, step))
        return None if micros is None else from_micros(micros)

    async def reserve(
        self,
        lease: Lease,
        *,
        step: str,
        attempt: int,
        estimated_cost: Decimal | None,
        hold_seconds: float,
    ) -> Reservation:
        outcome = await self._file.write(
            lambda db, now: ledger.reserve(
                db,
                now,
                lease,
                step=step,
                attempt=attempt,
                estimated_cost=estimated_cost,
                hold_seconds=hold_seconds,
            )
        )
        if isinstance(outcome, BudgetRefused):
            raise outcome
        return outcome

    async def mark_sent(self, lease: Lease, reservation: Reservation, *, step: StepResult | None = None) -> Reservation:
        def mark(db: sqlite3.Connection, _: datetime) -> Reservation:
            sent = ledger.mark_sent(db, lease, reservation)
            if step is not None:
                records.save_step(db, lease, step)
            return sent

        return await self._file.write(mark)

    async def settle(
        self, lease: Lease, reservation: Reservation, amount: Decimal, *, step: StepResult | None = None
    ) -> Reservation:
        def book(db: sqlite3.Connection, now: datetime) -> Reservation:
            settled = ledger.settle(db, now, lease, reservation, amount, is_result=step is not None)
            if step is not None:
                records.save_step(db, lease, step)
            return settled

        return await self._file.write(book)

    async def book_unconfirmed(self, lease: Lease, reservation: Reservation) -> Reservation:
        return await self._file.write(lambda db, now: ledger.book_unconfirmed(db, now, lease, reservation))

    async def release(self, lease: Lease, reservation: Reservation) -> Reservation:
        return await self._file.write(lambda db, now: ledger.release(db, now, lease, reservation))

    async def settle_late(
        self, reservation: Reservation, amount: Decimal, *, step: StepResult | None = None
    ) -> Reservation:
        def book(db: sqlite3.Connection, now: datetime) -> Reservation:
            booked = ledger.settle_late(db, now, reservation, amount, is_result=step is not None)
            if step is not None and not ledger.was_tried_again(db, booked):
                records.save_late_step(db, booked.run_id, step)
            return booked

        return await self._file.write(book)

    async def unconfirmed(self, campaign_key: str) -> Sequence[Reservation]:
        return await self._file.write(lambda db, now: ledger.unconfirmed(db, now, campaign_key))

    async def correct(
        self, campaign_key: str, *, run_id: str, step: str, attempt: int, amount: Decimal, by: str, note: str
    ) -> Reservation:
        return await self._file.write(
            lambda db, now: ledger.correct(
                db,
                now,
                campaign_key,
                run_id=run_id,
                step=step,
                attempt=attempt,
                amount=amount,
                author=Author(by, note),
            )
        )

    async def verify_totals(self, campaign_key: str | None) -> Sequence[str]:
        return await self._file.read_aside(lambda db: verify.verify_totals(db, campaign_key))

    # Alerts

    async def claim_alerts(self, campaign_key: str, alert_keys: Sequence[str]) -> Sequence[str]:
        return await self._file.write(lambda db, now: alerts.claim(db, now, campaign_key, alert_keys))

    async def alert_told(self, campaign_key: str, alert_key: str) -> None:
        await self._file.write(lambda db, now: alerts.told(db, now, campaign_key, alert_key))

    # Runs

    async def start_run(self, lease: Lease, report: RunReport) -> None:
        await self._file.write(lambda db, now: records.start_run(db, lease, report))

    async def save_step(self, lease: Lease, step: StepResult) -> None:
        await self._file.write(lambda db, now: records.save_step(db, lease, step))

    async def finish_run(self, lease: Lease, report: RunReport) -> None:
        await self._file.write(lambda db, now: records.finish_run(db, now, lease, report))

    async def suspend_run(self, lease: Lease, report: RunReport) -> None:
        await self._file.write(lambda db, now: records.suspend_run(db, lease, report))

    async def record_skipped_run(self, report: RunReport) -> None:
        await self._file.write(lambda db, now: records.record_skipped_run(db, report))

    async def run_cost(self, run_id: str) -> Decimal:
        return await self._file.read(lambda db: ledger.run_cost(db, run_id))

    async def get_run(self, run_id: str) -> RunReport | None:
        return await self._file.read(lambda db: records.get_run(db, run_id))

    async def running_runs(self) -> Mapping[str, str]:
        return await self._file.read(records.running_runs)

    async def list_runs(self, campaign_key: str, *, limit: int = 50) -> Sequence[RunReport]:
        return await self._file.read(lambda db: records.list_runs(db, campaign_key, limit=limit))

    # Reports

    async def latest_runs(
        self, *, limit: int, campaign_keys: Collection[str] | None = None
    ) -> Mapping[str, Sequence[RunBrief]]:
        return await self._file.read(lambda db: reports.latest_runs(db, limit=limit, campaign_keys=campaign_keys))

    async def last_outcomes(self) -> Mapping[str, RunStatus]:
        return await self._file.read(reports.last_outcomes)

    async def run_outlines(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        campaign_key: str | None = None,
        limit: int,
    ) -> Sequence[RunReport]:
        return await self._file.read(
            lambda db: reports.run_outlines(db, since=since, until=until, campaign_key=campaign_key, limit=limit)
        )

    async def spent_by_day(
        self, *, since: date, until: date, campaign_key: str | None = None
    ) -> Mapping[date, Decimal]:
        return await self._file.read(
            lambda db: reports.spent_by_day(db, since=since, until=until, campaign_key=campaign_key)
        )

    async def budget_statuses(self, campaign_keys: Collection[str] | None = None) -> Mapping[str, BudgetStatus]:
        return await self._file.write(lambda db, now: reports.budget_statuses(db, now, campaign_keys))
