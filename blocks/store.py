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

from prefect_campaigns.blocks.store_types import (
    ApprovalRecord,
    ApprovalState,
    AuditEntry,
    CampaignFigures,
    CampaignRecord,
    Lease,
    LeaseHeld,
    Pause,
    Reservation,
    Stop,
)
from prefect_campaigns.budget import AccountBudget, BudgetStatus
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, StepResult


class CampaignStore(Protocol):
    """Keeps campaigns, runs, leases and the ledger.

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

    # Money

    async def budget_status(self, campaign_key: str) -> BudgetStatus:
        """Return what is spent and reserved now in the campaign's day, week and month, against its limits.

        The limits and the timezone are those of the campaign's row; those of the account are in ``account``, in its
        own timezone. Reservations that have expired, of whatever campaign, are released or booked first.

        Raises:
            UnknownCampaign: there is none with that key.
        """
        ...

    async def account_budget(self) -> AccountBudget:
        """Return the limits for all campaigns together; none are set until somebody sets them."""
        ...

    async def set_account_budget(self, budget: AccountBudget) -> None:
        """Set the limits for all campaigns together, and the timezone of their windows, from now on."""
        ...

    async def account_status(self) -> BudgetStatus:
        """Return what all campaigns together have spent and reserved; its ``limits`` are empty.

        What was spent before any limit was set counts, too. Reservations that have expired are seen to first.
        """
        ...

    async def attempts(self, run_id: str, step: str) -> Sequence[Reservation]:
        """Return the requests that this step of this run has made, by attempt."""
        ...

    async def reserve(
        self,
        lease: Lease,
        *,
        step: str,
        attempt: int,
        estimated_cost: Decimal | None,
        hold_seconds: float,
    ) -> Reservation:
        """Reserve a request's estimate against all limits at once, or raise and reserve nothing.

        Reserving the same (run, step, attempt) again returns what is there, in whatever state it is by then.
        Without ``estimated_cost`` the estimate is the largest of the last five amounts this step of this
        campaign was booked at (requests that cost nothing aside), else nothing. Reservations that have expired,
        of whatever campaign, are released or booked first, and stay so when this one is refused. The windows are
        those of this moment, in the timezones of the campaign's row and of the account; whatever is booked later
        is booked into them.

        The limits are the campaign's, the account's, and ``perRun`` against what all attempts of this run have
        been booked at or hold.

        A step that has never been answered, and that does not say what it costs, may cost something: it is refused
        where a limit is reached already. One that is known to cost nothing is not.

        Raises:
            BudgetRefused: it would pass a limit, or several.
            UnknownCampaign: the campaign has no row.
        """
        ...

    async def mark_sent(self, lease: Lease, reservation: Reservation) -> Reservation:
        """Write down that the request is about to leave: its end is ambiguous from here until it is settled.

        Raises:
            StoreError: it is not held: it expired and was released, or it was marked before. The request must
                not leave (again).
        """
        ...

    async def settle(
        self, lease: Lease, reservation: Reservation, amount: Decimal, *, step: StepResult | None = None
    ) -> Reservation:
        """Book what the engine said the request cost, in the windows of its reservation.

        With ``step`` the answer was the result of the finished step. Its record is written in the same act,
        as by save_step: a crash cannot come between an answer that is paid for and the note that the step is
        done. Earlier attempts that are unconfirmed (or still sent) carried the same Idempotency-Key; the
        result speaks for them too, so their bookings are corrected to nothing.

        Without ``step`` it is what a failed request cost, which says nothing about earlier ones. The answer
        to an unconfirmed one corrects it. Settling again at the same amount does nothing.

        Raises:
            StoreError: it is held, released, or booked at another amount already.
        """
        ...

    async def book_unconfirmed(self, lease: Lease, reservation: Reservation) -> Reservation:
        """Book the estimate, because the request left and nobody read its answer; once is enough.

        Raises:
            StoreError: it is neither sent nor unconfirmed.
        """
        ...

    async def release(self, lease: Lease, reservation: Reservation) -> Reservation:
        """Give the reservation back, because the request never left; once is enough.

        Raises:
            StoreError: it has been booked.
        """
        ...

    async def settle_late(
        self, reservation: Reservation, amount: Decimal, *, step: StepResult | None = None
    ) -> Reservation:
        """Book what the engine said, for a run that may have lost its lease or ended since it heard it.

        Needs no lease: what an engine charged for a request is true whoever holds the campaign by now, and it is
        booked once. Otherwise as ``settle``, except that it leaves alone what it is too late or too early for:

        - What is settled or corrected already, at whatever amount, stays so.
        - While a later attempt of the step is held or sent, nothing changes: its answer may speak for this one.
        - The step's record is written unless it is completed already or a later attempt has begun.

        Returns:
            The reservation as it is now; still sent or unconfirmed if it is to be tried again later.

        Raises:
            StoreError: it is held or released, or nothing is known of it.
        """
        ...

    async def unconfirmed(self, campaign_key: str) -> Sequence[Reservation]:
        """Return what is booked at its estimate because nobody knows what it cost, oldest first.

        Reservations that have expired are seen to first.
        """
        ...

    async def correct(
        self, campaign_key: str, *, run_id: str, step: str, attempt: int, amount: Decimal, by: str, note: str
    ) -> Reservation:
        """Book what a person found out that an unconfirmed request cost; who and why stay in the ledger.

        Raises:
            StoreError: nothing is known of it, it is not of this campaign, or it is not unconfirmed.
        """
        ...

    async def verify_totals(self, campaign_key: str | None) -> Sequence[str]:
        """Add up the whole ledger of the campaign (None: of all, against the account's totals).

        Costs time by the length of the ledger, and holds nobody up.

        Returns:
            Where the totals or the reservations differ from the ledger, a sentence each; none when they are in
            order.
        """
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

    async def list_runs(self, campaign_key: str, *, limit: int = 50) -> Sequence[RunReport]:
        """Return the campaign's runs with their steps, newest first."""
        ...
