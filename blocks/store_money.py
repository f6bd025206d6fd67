"""What keeps every cent: the part of the Protocol of all stores that is about money.

What ``store`` says holds here: amounts are US dollars as Decimal, every method may raise StoreUnavailable, and what
takes a Lease raises LeaseLost, changing nothing, when that is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

from prefect_campaigns.blocks.store_types import Lease, Reservation
from prefect_campaigns.budget import AccountBudget, BudgetStatus
from prefect_campaigns.results import StepResult


class MoneyStore(Protocol):
    """Keeps limits, reservations and the ledger."""

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

    async def last_cost(self, campaign_key: str, step: str) -> Decimal | None:
        """Return what ``reserve`` would reserve for a step that does not say what it costs.

        Returns:
            The largest of the last five amounts that it was booked at; nothing where its answers have never cost
            anything; None where it has never been answered.
        """
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

    async def mark_sent(self, lease: Lease, reservation: Reservation, *, step: StepResult | None = None) -> Reservation:
        """Write down that the request is about to leave: its end is ambiguous from here until it is settled.

        With ``step`` the step's record is written in the same act, as by save_step.

        Raises:
            StoreError: it is not held: it expired and was released, or it was marked before. The request must
                not leave (again), and the step's record stays as it was.
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
