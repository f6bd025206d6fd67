"""What keeps campaigns, runs, every cent, and who did what: the one Protocol that all stores follow.

Amounts are US dollars as Decimal; instants are aware and in UTC. Every method may raise StoreUnavailable.
Every write of a run takes its Lease and raises LeaseLost, changing nothing, when another run (or another
execution of the same run) holds the campaign now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from prefect_campaigns.blocks.store_engines import EngineStore
from prefect_campaigns.blocks.store_liveness import LivenessStore
from prefect_campaigns.blocks.store_mails import MailStore
from prefect_campaigns.blocks.store_money import MoneyStore
from prefect_campaigns.blocks.store_personal_data import PersonalDataStore
from prefect_campaigns.blocks.store_reports import ReportStore
from prefect_campaigns.blocks.store_types import (
    ApprovalRecord,
    ApprovalState,
    AuditEntry,
    CampaignFigures,
    CampaignRecord,
    Lease,
    LeaseHeld,
    Pause,
    Stop,
)
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, StepResult


class CampaignStore(MoneyStore, ReportStore, LivenessStore, MailStore, EngineStore, PersonalDataStore, Protocol):
    """Keeps campaigns, runs and leases.

    What is about the ledger stands with MoneyStore, what reports read with ReportStore, what is about workers with
    LivenessStore, about mails with MailStore, about engines with EngineStore, and what makes personal data go with
    PersonalDataStore.

    Attributes:
        books: names what it writes to, the same from every process: a file's path, a project's URL.
    """

    @property
    def books(self) -> str: ...

    async def __aenter__(self) -> Self:
        """Open the store, making or upgrading what it keeps."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        ...

    # Campaigns

    async def save_campaign(
        self,
        campaign: Campaign,
        *,
        deployment_id: UUID | None = None,
        applied_schedule_active: bool | None = None,
        origin: str | None = None,
    ) -> CampaignRecord:
        """Insert the campaign, or update the row with its key; None leaves what the row has."""
        ...

    async def get_campaign(self, key: str) -> CampaignRecord:
        """Return a campaign's row.

        Raises:
            UnknownCampaign: there is none with that key.
        """
        ...

    async def list_campaigns(self) -> Sequence[CampaignRecord]:
        """Return all rows, by name."""
        ...

    async def campaign_figures(self) -> Mapping[str, CampaignFigures]:
        """Return what the runs of every campaign come to, by key; costs the same however long the ledger is."""
        ...

    async def delete_campaign(self, key: str) -> None:
        """Delete the campaign's row and the records of its runs.

        Its lease, ledger, totals, alerts and audit stay: a campaign of the same key has spent what this one had spent.

        Raises:
            UnknownCampaign: there is none with that key.
        """
        ...

    async def set_pause(self, key: str, pause: Pause | None, *, replacing: Pause | None) -> bool:
        """Write down that the campaign is paused (None: that it is not) if ``replacing`` is what stands there now.

        Returns:
            Whether it was; otherwise nothing is written. Of several that write at once, one does.

        Raises:
            UnknownCampaign: there is none with that key.
        """
        ...

    # The emergency stop

    async def read_stop(self) -> Stop | None:
        """Return the emergency stop that stands; None where none does."""
        ...

    async def set_stop(self, stop: Stop | None) -> Stop | None:
        """Let the stop stand from now on (None: end it); one that stands already is kept.

        Returns:
            The one that stood there before; None where none did.
        """
        ...

    # Approvals

    async def ask_approval(self, lease: Lease, *, step: str, timeout_seconds: float) -> ApprovalRecord:
        """Write down that a step of the lease's run waits for a person from now on, and until when.

        One that is decided, whatever was decided, is asked for anew: whether to ask is the flow's to know.

        Raises:
            LeaseLost: see above.
        """
        ...

    async def decide_approval(self, run_id: str, step: str, state: ApprovalState, *, by: str) -> ApprovalRecord:
        """Decide an approval that waits, and return it; one that is decided already is returned as it is.

        Needs no lease: whoever decides holds none.

        Raises:
            StoreError: nobody has asked for it.
        """
        ...

    async def list_approvals(
        self, *, campaign_key: str | None = None, run_id: str | None = None, waiting_only: bool = False
    ) -> Sequence[ApprovalRecord]:
        """Return approvals, oldest first: those of a campaign, of a run, or all."""
        ...

    # Who did what

    async def record_audit(self, entry: AuditEntry) -> None:
        """Write down what somebody did."""
        ...

    async def list_audit(self, *, campaign_key: str | None = None, limit: int = 50) -> Sequence[AuditEntry]:
        """Return what was done, newest first; of one campaign, or of all. It outlives the campaign."""
        ...

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
        """Take the campaign's lease, or say who is in the way and stay in the queue.

        The lease is given when nobody holds one that has not expired and no other run waits that began to
        wait earlier (of two that began at once: whose id is smaller) and asked again within the last 30
        seconds. Asking again with the same ``run_id`` and ``holder`` while holding the lease renews it, with
        its fence; one that ran out but was not taken is still held. Another ``holder`` of the same run is
        refused like any other. The LeaseHeld of a run that is before us says until when it keeps its place
        without asking again.
        """
        ...

    async def leave_queue(self, campaign_key: str, *, run_id: str) -> None:
        """Stop waiting for the campaign's lease."""
        ...

    async def renew_lease(self, lease: Lease, *, ttl_seconds: float) -> Lease:
        """Push the lease's expiry to ``ttl_seconds`` from now; one that ran out but was not taken is renewed.

        Raises:
            LeaseLost: it was taken, or given back.
        """
        ...

    async def release_lease(self, lease: Lease) -> None:
        """Give the lease back; does nothing when it is no longer held."""
        ...

    # Alerts

    async def claim_alerts(self, campaign_key: str, alert_keys: Sequence[str]) -> Sequence[str]:
        """Write down that these alerts (``Alert.key``) are due; return those that nobody has been told of.

        An alert is returned again and again until ``alert_told`` says that it has been told: a crash in between
        must not swallow it. Alerts of the account (their keys begin with ``account``) are one for all campaigns.
        """
        ...

    async def alert_told(self, campaign_key: str, alert_key: str) -> None:
        """Write down that people have been told."""
        ...

    # Runs

    async def start_run(self, lease: Lease, report: RunReport) -> None:
        """Insert the run's record; a resumed run keeps its start, steps and cost and is running again.

        Raises:
            StoreError: the report is about another run than the lease.
        """
        ...

    async def save_step(self, lease: Lease, step: StepResult) -> None:
        """Insert or replace one step of the lease's run.

        Raises:
            StoreError: the run was never started.
        """
        ...

    async def finish_run(self, lease: Lease, report: RunReport) -> None:
        """Write the run's end: status, state, message and time (now, if the report has none).

        Its steps are those that ``save_step`` wrote, its total cost is that of the ledger.

        Raises:
            StoreError: the run was never started, or the report is about another run than the lease.
        """
        ...

    async def suspend_run(self, lease: Lease, report: RunReport) -> None:
        """Write down that the run waits for a person: its state's name and message, while it counts as running.

        Raises:
            StoreError: the run was never started, or the report is about another run than the lease.
        """
        ...

    async def record_skipped_run(self, report: RunReport) -> None:
        """Write down a run that never got the lease; a run that is already recorded is left alone."""
        ...

    async def run_cost(self, run_id: str) -> Decimal:
        """Return all that the ledger has booked for the run."""
        ...

    async def get_run(self, run_id: str) -> RunReport | None:
        """Return the run's record, its steps by position, its cost that of the ledger; or None."""
        ...

    async def running_runs(self) -> Mapping[str, str]:
        """Return the ids of all runs that count as running, oldest first, each with its campaign's key."""
        ...

    async def list_runs(self, campaign_key: str, *, limit: int = 50) -> Sequence[RunReport]:
        """Return the campaign's runs with their steps, newest first."""
        ...
