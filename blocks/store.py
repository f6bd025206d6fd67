"""What keeps campaigns, runs and every cent: the one Protocol that all stores follow.

Amounts are US dollars as Decimal; instants are aware and in UTC. Every method may raise StoreUnavailable.
Every write of a run takes its Lease and raises LeaseLost, changing nothing, when another run (or another
execution of the same run) holds the campaign now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from prefect_campaigns.budget import BudgetStatus
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, StepResult


@dataclass(frozen=True, kw_only=True)
class CampaignRecord:
    """A campaign's row.

    Attributes:
        id: the campaign's id, for ever.
        key: the slug of its name; the ledger is kept by it.
        campaign: what was applied, with nothing secret in it.
        deployment_id: the Prefect deployment that runs it; None until it is applied.
        applied_schedule_active: whether the last apply switched the schedule on; None before the first one. A
            schedule that is off on the server although this says on was switched off by a person.
    """

    id: UUID
    key: str
    campaign: Campaign
    deployment_id: UUID | None
    applied_schedule_active: bool | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right of one execution of one run to act for its campaign.

    Attributes:
        holder: names the execution, so that a run that is executed twice is not let in twice.
        fence: grows by one with every lease of the campaign; every write of the run carries it.
    """

    campaign_key: str
    run_id: str
    run_name: str
    holder: str
    fence: int
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class LeaseHeld:
    """Why a lease was not given: who holds the campaign, or who is before us in the queue."""

    run_id: str
    run_name: str
    expires_at: datetime


class AttemptState(StrEnum):
    """Where the money of one request stands.

    held → sent → settled (the engine said what it cost) or unconfirmed (nobody knows: booked at its estimate)
    unconfirmed → corrected (a later answer to the same Idempotency-Key said what it all cost)
    held or sent → released (the request never left: it was not made, or its connection was refused)

    Every other way is a StoreError.
    """

    HELD = "held"
    SENT = "sent"
    SETTLED = "settled"
    RELEASED = "released"
    UNCONFIRMED = "unconfirmed"
    CORRECTED = "corrected"


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """The money of one request: reserved before it leaves, settled when it is answered.

    Attributes:
        attempt: counts the requests of this step in this run from 1, over retries and resumed runs.
        estimate: what was reserved.
        booked: what it came to; None while it is held or sent, and when it was released.
        expires_at: when a reservation that nobody settled is released (held) or booked as unconfirmed (sent).
    """

    campaign_key: str
    run_id: str
    step: str
    attempt: int
    state: AttemptState
    estimate: Decimal
    booked: Decimal | None
    expires_at: datetime


class CampaignStore(Protocol):
    """Keeps campaigns, runs, leases and the ledger."""

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

        The limits and the timezone are those of the campaign's row. Reservations that have expired are
        released or booked first.

        Raises:
            UnknownCampaign: there is none with that key.
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
        campaign was booked at (requests that cost nothing aside), else nothing. The campaign's
        reservations that have expired are released or booked first, and stay so when this one is refused. The
        windows are those of this moment, in the timezone of the campaign's row; whatever is booked later is
        booked into them.

        A step that has never been answered, and that does not say what it costs, may cost something: it is refused
        where a limit is reached already. One that is known to cost nothing is not.

        Raises:
            BudgetRefused: it would pass a limit.
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
