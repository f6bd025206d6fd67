"""The shared store: a Supabase project that all machines write to."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from prefect_campaigns.blocks import rows
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
    Stop,
    UnattendedRun,
    WorkerRecord,
)
from prefect_campaigns.blocks.supabase import records, values
from prefect_campaigns.blocks.supabase.client import SupabaseApi
from prefect_campaigns.blocks.supabase.migrate import check_schema
from prefect_campaigns.blocks.supabase.reports import ReportReading
from prefect_campaigns.blocks.values import instant, instant_text
from prefect_campaigns.budget import AccountBudget, BudgetStatus, limits_of
from prefect_campaigns.clock import Clock, set_clock
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, StepResult


class SupabaseStore(ReportReading):
    """A CampaignStore in a Supabase project; CampaignStore says what each method does.

    Every method is one function of the project's database, and that function one transaction: what they mean stands
    in the SQL files under ``migrations``. One that raises StoreUnavailable may have happened all the same; calling it
    again is safe.
    """

    def __init__(self, url: str, key: str, *, clock: Clock | None = None, timeout_seconds: float = 10.0) -> None:
        """Name the project; entering the context opens it.

        Args:
            url: the project's URL.
            key: its secret key (``sb_secret_…``), or the older ``service_role`` key.
            clock: says what time it is; by default the database's, which all machines share.
            timeout_seconds: how long a call may take before it raises StoreUnavailable.
        """
        self._api = SupabaseApi(url, key, timeout_seconds=timeout_seconds)
        self._clock = clock or set_clock()
        self._records = records.Records()

    @property
    def books(self) -> str:
        return self._api.url

    async def __aenter__(self) -> Self:
        await self._api.open()
        try:
            opening = await self._value("campaigns_opening")
            # A database that has no word for additions lacks the migration that brings it.
            check_schema(self._api.url, opening["migrations"], opening.get("additions", ()))
            if opening["without_key"] or opening["has_old_runs"]:
                slugs = records.slugs_of(opening["without_key"])
                await self._value("campaigns_adopt", p_slugs=json.dumps(slugs), p_now=self._now())
        except BaseException:
            await self._api.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._api.close()

    async def _value(self, function: str, **arguments: Any) -> Any:
        return (await self._api.call(function, **arguments))["value"]

    def _now(self) -> str | None:
        """Return what the clock says; None where there is none, for the database to look at its own."""
        return None if self._clock is None else instant_text(self._clock.now())

    async def was_imported(self, id: UUID) -> bool:
        """Whether a carrying over of books of this id has arrived."""
        return bool(await self._value("campaigns_was_imported", p_id=str(id)))

    # Campaigns

    async def save_campaign(
        self,
        campaign: Campaign,
        *,
        deployment_id: UUID | None = None,
        applied_schedule_active: bool | None = None,
        origin: str | None = None,
    ) -> CampaignRecord:
        row = await self._value(
            "campaigns_save",
            p_key=campaign.slug,
            p_name=campaign.name,
            p_config=records.config_text(campaign),
            p_deployment_id=None if deployment_id is None else str(deployment_id),
            p_applied_schedule_active=applied_schedule_active,
            p_origin=values.optional_storable_text(origin),
            p_now=self._now(),
        )
        return records.record(row)

    async def get_campaign(self, key: str) -> CampaignRecord:
        return records.record(await self._value("campaigns_get", p_key=values.storable_text(key)))

    async def list_campaigns(self) -> Sequence[CampaignRecord]:
        return self._records.readable(await self._value("campaigns_list"))

    async def campaign_figures(self) -> Mapping[str, CampaignFigures]:
        found = await self._value("campaigns_figures")
        return {key: rows.figures(row, Decimal) for key, row in found.items()}

    async def delete_campaign(self, key: str) -> None:
        await self._value("campaigns_delete", p_key=values.storable_text(key))

    async def set_pause(self, key: str, pause: Pause | None, *, replacing: Pause | None) -> bool:
        return bool(
            await self._value(
                "campaigns_set_pause",
                p_key=values.storable_text(key),
                p_pause=values.pause_text(pause),
                p_replacing=values.pause_text(replacing),
            )
        )

    # The emergency stop

    async def read_stop(self) -> Stop | None:
        return rows.stop(await self._value("campaigns_read_stop"))

    async def set_stop(self, stop: Stop | None) -> Stop | None:
        return rows.stop(await self._value("campaigns_set_stop", p_stop=values.stop_text(stop)))

    # Approvals

    async def ask_approval(self, lease: Lease, *, step: str, timeout_seconds: float) -> ApprovalRecord:
        row = await self._value(
            "campaigns_ask_approval",
            p_lease=values.lease_text(lease),
            p_step=values.storable_text(step),
            p_timeout_seconds=timeout_seconds,
            p_now=self._now(),
        )
        return rows.approval(row)

    async def decide_approval(self, run_id: str, step: str, state: ApprovalState, *, by: str) -> ApprovalRecord:
        row = await self._value(
            "campaigns_decide_approval",
            p_run_id=values.storable_text(run_id),
            p_step=values.storable_text(step),
            p_state=state,
            p_by=values.storable_text(by),
            p_now=self._now(),
        )
        return rows.approval(row)

    async def list_approvals(
        self, *, campaign_key: str | None = None, run_id: str | None = None, waiting_only: bool = False
    ) -> Sequence[ApprovalRecord]:
        found = await self._value(
            "campaigns_list_approvals",
            p_campaign_key=values.optional_storable_text(campaign_key),
            p_run_id=values.optional_storable_text(run_id),
            p_waiting_only=waiting_only,
        )
        return [rows.approval(row) for row in found]

    # Who did what

    async def record_audit(self, entry: AuditEntry) -> None:
        await self._value("campaigns_record_audit", p_entry=values.audit_text(entry))

    async def list_audit(self, *, campaign_key: str | None = None, limit: int = 50) -> Sequence[AuditEntry]:
        found = await self._value(
            "campaigns_list_audit",
            p_campaign_key=values.optional_storable_text(campaign_key),
            p_limit=max(limit, 0),
        )
        return [rows.audit_entry(row) for row in found]

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
        answer = await self._value(
            "campaigns_acquire_lease",
            p_campaign_key=campaign_key,
            p_run_id=run_id,
            p_run_name=values.storable_text(run_name),
            p_holder=holder,
            p_ttl_seconds=ttl_seconds,
            p_waiting_since=instant_text(waiting_since),
            p_now=self._now(),
        )
        if held := answer.get("held"):
            return LeaseHeld(**{**held, "expires_at": instant(held["expires_at"])})
        return Lease(
            campaign_key=campaign_key,
            run_id=run_id,
            run_name=run_name,
            holder=holder,
            fence=answer["lease"]["fence"],
            expires_at=instant(answer["lease"]["expires_at"]),
        )

    async def leave_queue(self, campaign_key: str, *, run_id: str) -> None:
        await self._value("campaigns_leave_queue", p_campaign_key=campaign_key, p_run_id=run_id)

    async def renew_lease(self, lease: Lease, *, ttl_seconds: float) -> Lease:
        expires_at = await self._value(
            "campaigns_renew_lease", p_lease=values.lease_text(lease), p_ttl_seconds=ttl_seconds, p_now=self._now()
        )
        return replace(lease, expires_at=instant(expires_at))

    async def release_lease(self, lease: Lease) -> None:
        await self._value("campaigns_release_lease", p_lease=values.lease_text(lease))

    # Who lives

    async def keep_worker(self, id: UUID, *, name: str, pool: str, ttl_seconds: float) -> None:
        await self._value(
            "campaigns_keep_worker",
            p_id=str(id),
            p_name=values.storable_text(name),
            p_pool=values.storable_text(pool),
            p_ttl_seconds=ttl_seconds,
            p_now=self._now(),
        )

    async def remove_worker(self, id: UUID) -> None:
        await self._value("campaigns_remove_worker", p_id=str(id))

    async def list_workers(self) -> Sequence[WorkerRecord]:
        return [rows.worker(row) for row in await self._value("campaigns_list_workers", p_now=self._now())]

    async def unattended_runs(self, *, within_seconds: float) -> Sequence[UnattendedRun]:
        found = await self._value("campaigns_unattended_runs", p_within_seconds=within_seconds, p_now=self._now())
        return [rows.unattended(row) for row in found]

    # Who was mailed

    async def record_mails(self, records: Sequence[MailRecord]) -> None:
        await self._value("campaigns_record_mails", p_mails=values.mails_text(records))

    async def mails_about(self, event_ids: Collection[UUID]) -> Sequence[MailRecord]:
        found = await self._value("campaigns_mails_about", p_event_ids=json.dumps(list(map(str, event_ids))))
        return [rows.mail(row) for row in found]

    async def list_mails(self, state: MailState, *, limit: int = 200) -> Sequence[MailRecord]:
        found = await self._value("campaigns_list_mails", p_state=state, p_limit=max(limit, 0))
        return [rows.mail(row) for row in found]

    # Engines that do not work

    async def engine_troubles(self) -> Sequence[EngineTrouble]:
        return [rows.engine_trouble(row) for row in await self._value("campaigns_engine_troubles")]

    async def engine_failed(
        self, endpoint: str, *, run_id: str, error: str, after_runs: int, pause_seconds: float
    ) -> EngineTrouble:
        row = await self._value(
            "campaigns_engine_failed",
            p_endpoint=values.storable_text(endpoint),
            p_run_id=run_id,
            p_error=values.storable_text(error),
            p_after_runs=after_runs,
            p_pause_seconds=pause_seconds,
            p_now=self._now(),
        )
        return rows.engine_trouble(row)

    async def engine_answered(self, endpoint: str) -> None:
        await self._value("campaigns_engine_answered", p_endpoint=values.storable_text(endpoint))

    # Personal data

    async def uncleared_runs(self, *, ended_before: datetime, limit: int = 50) -> Sequence[RunWords]:
        found = await self._value("campaigns_uncleared_runs", p_ended_before=instant_text(ended_before), p_limit=limit)
        return [RunWords(**row) for row in found]

    async def runs_mentioning(self, texts: Collection[str], *, after: str = "", limit: int = 200) -> Mentions:
        answer = await self._value(
            "campaigns_runs_mentioning", p_texts=json.dumps(list(texts)), p_after=after, p_limit=limit
        )
        return Mentions(found=tuple(RunWords(**row) for row in answer["found"]), after=answer["after"])

    async def replace_words(self, old: RunWords, new: RunWords, *, cleared: bool = False) -> bool:
        return bool(
            await self._value(
                "campaigns_replace_words",
                p_old=values.words_text(old),
                p_new=values.new_words_text(new),
                p_cleared=cleared,
                p_now=self._now(),
            )
        )

    async def remove_mails(self, *, before: datetime, to: str | None = None) -> int:
        return int(
            await self._value(
                "campaigns_remove_mails", p_before=instant_text(before), p_to=values.optional_storable_text(to)
            )
        )

    async def overwrite_removed(self) -> bool:
        # PostgreSQL's vacuum does, by itself.
        return True

    # Money

    async def budget_status(self, campaign_key: str) -> BudgetStatus:
        return values.budget_status(
            await self._value("campaigns_budget_status", p_campaign_key=campaign_key, p_now=self._now())
        )

    async def account_budget(self) -> AccountBudget:
        return values.account_budget(await self._value("campaigns_account_budget"))

    async def set_account_budget(self, budget: AccountBudget) -> None:
        limits = {f"p_{period}": values.optional_amount_text(limit) for period, limit in limits_of(budget)}
        await self._value("campaigns_set_account_budget", **limits, p_timezone=values.storable_text(budget.timezone))

    async def account_status(self) -> BudgetStatus:
        return values.budget_status(
            await self._value("campaigns_budget_status", p_campaign_key=None, p_now=self._now())
        )

    async def attempts(self, run_id: str, step: str) -> Sequence[Reservation]:
        found = await self._value("campaigns_attempts", p_run_id=run_id, p_step=values.storable_text(step))
        return [rows.reservation(row, Decimal) for row in found]

    async def last_cost(self, campaign_key: str, step: str) -> Decimal | None:
        name = values.storable_text(step)
        found = await self._value("campaigns_step_cost", p_campaign_key=campaign_key, p_step=name)
        return values.optional_amount(found)

    async def reserve(
        self,
        lease: Lease,
        *,
        step: str,
        attempt: int,
        estimated_cost: Decimal | None,
        hold_seconds: float,
    ) -> Reservation:
        answer = await self._api.call(
            "campaigns_reserve",
            p_lease=values.lease_text(lease),
            p_step=values.storable_text(step),
            p_attempt=attempt,
            p_estimate=values.optional_amount_text(estimated_cost),
            p_hold_seconds=hold_seconds,
            p_now=self._now(),
        )
        if "refused" in answer:
            raise values.refusal(answer["refused"])
        return rows.reservation(answer["value"], Decimal)

    async def _change(self, function: str, reservation: Reservation, **arguments: Any) -> Reservation:
        """Call a function that takes a reservation and returns it as it is then."""
        found_by = values.reservation_text(reservation.run_id, reservation.step, reservation.attempt)
        return rows.reservation(await self._value(function, p_reservation=found_by, **arguments), Decimal)

    async def mark_sent(self, lease: Lease, reservation: Reservation, *, step: StepResult | None = None) -> Reservation:
        return await self._change(
            "campaigns_mark_sent", reservation, p_lease=values.lease_text(lease), p_step=values.step_text(step)
        )

    async def settle(
        self, lease: Lease, reservation: Reservation, amount: Decimal, *, step: StepResult | None = None
    ) -> Reservation:
        return await self._change(
            "campaigns_settle",
            reservation,
            p_lease=values.lease_text(lease),
            p_amount=values.amount_text(amount),
            p_result=values.step_text(step),
            p_now=self._now(),
        )

    async def book_unconfirmed(self, lease: Lease, reservation: Reservation) -> Reservation:
        return await self._change(
            "campaigns_book_unconfirmed", reservation, p_lease=values.lease_text(lease), p_now=self._now()
        )

    async def release(self, lease: Lease, reservation: Reservation) -> Reservation:
        return await self._change("campaigns_release", reservation, p_lease=values.lease_text(lease), p_now=self._now())

    async def settle_late(
        self, reservation: Reservation, amount: Decimal, *, step: StepResult | None = None
    ) -> Reservation:
        return await self._change(
            "campaigns_settle_late",
            reservation,
            p_amount=values.amount_text(amount),
            p_result=values.step_text(step),
            p_now=self._now(),
        )

    async def unconfirmed(self, campaign_key: str) -> Sequence[Reservation]:
        found = await self._value("campaigns_unconfirmed", p_campaign_key=campaign_key, p_now=self._now())
        return [rows.reservation(row, Decimal) for row in found]

    async def correct(
        self, campaign_key: str, *, run_id: str, step: str, attempt: int, amount: Decimal, by: str, note: str
    ) -> Reservation:
        row = await self._value(
            "campaigns_correct",
            p_campaign_key=campaign_key,
            p_reservation=values.reservation_text(run_id, step, attempt),
            p_amount=values.amount_text(amount),
            p_by=values.storable_text(by),
            p_note=values.storable_text(note),
            p_now=self._now(),
        )
        return rows.reservation(row, Decimal)

    async def verify_totals(self, campaign_key: str | None) -> Sequence[str]:
        found = await self._value("campaigns_verify_totals", p_campaign_key=campaign_key)
        return [values.difference(campaign_key, row) for row in found]

    # Alerts

    async def claim_alerts(self, campaign_key: str, alert_keys: Sequence[str]) -> Sequence[str]:
        untold: list[str] = await self._value(
            "campaigns_claim_alerts",
            p_campaign_key=campaign_key,
            p_alert_keys=json.dumps(list(alert_keys)),
            p_now=self._now(),
        )
        return untold

    async def alert_told(self, campaign_key: str, alert_key: str) -> None:
        await self._value("campaigns_alert_told", p_campaign_key=campaign_key, p_alert_key=alert_key, p_now=self._now())

    # Runs

    async def start_run(self, lease: Lease, report: RunReport) -> None:
        await self._value("campaigns_start_run", p_lease=values.lease_text(lease), p_report=values.report_text(report))

    async def save_step(self, lease: Lease, step: StepResult) -> None:
        await self._value("campaigns_save_step", p_lease=values.lease_text(lease), p_step=values.step_text(step))

    async def finish_run(self, lease: Lease, report: RunReport) -> None:
        await self._value(
            "campaigns_finish_run",
            p_lease=values.lease_text(lease),
            p_report=values.report_text(report),
            p_now=self._now(),
        )

    async def suspend_run(self, lease: Lease, report: RunReport) -> None:
        await self._value(
            "campaigns_suspend_run", p_lease=values.lease_text(lease), p_report=values.report_text(report)
        )

    async def record_skipped_run(self, report: RunReport) -> None:
        await self._value("campaigns_record_skipped_run", p_report=values.report_text(report))

    async def run_cost(self, run_id: str) -> Decimal:
        return Decimal(await self._value("campaigns_run_cost", p_run_id=run_id))

    async def get_run(self, run_id: str) -> RunReport | None:
        row = await self._value("campaigns_get_run", p_run_id=run_id)
        return None if row is None else rows.report(row, Decimal, steps=row["steps"])

    async def running_runs(self) -> Mapping[str, str]:
        return dict(await self._value("campaigns_running_runs"))

    async def list_runs(self, campaign_key: str, *, limit: int = 50) -> Sequence[RunReport]:
        found = await self._value("campaigns_list_runs", p_campaign_key=campaign_key, p_limit=max(limit, 0))
        return [rows.report(row, Decimal, steps=row["steps"]) for row in found]
