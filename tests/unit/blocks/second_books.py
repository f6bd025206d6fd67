"""Books kept beside a store's by the plainest means: a list of requests that is added up for every question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from prefect_campaigns.blocks.store_types import AttemptState, Reservation
from prefect_campaigns.budget import AccountBudget, limits_of, windows
from prefect_campaigns.models import Campaign

HELD, SENT = AttemptState.HELD, AttemptState.SENT
NOTHING = Decimal(0)

Window = tuple[str, str]
"""Whose it is (a campaign's key, the account, a run's id), and which."""


@dataclass
class Request:
    made: Reservation
    windows: tuple[Window, ...]
    state: AttemptState = HELD
    booked: Decimal = NOTHING

    @property
    def is_open(self) -> bool:
        return self.state in (HELD, SENT)

    @property
    def reserved(self) -> Decimal:
        return self.made.estimate if self.is_open else NOTHING

    @property
    def beyond(self) -> Decimal:
        """What its engine charged beyond the estimate."""
        return max(self.booked - self.made.estimate, NOTHING)


@dataclass
class SecondBooks:
    campaigns: dict[str, Campaign]
    account: AccountBudget
    requests: list[Request] = field(default_factory=list)

    def limits(self, key: str, run_id: str, at: datetime) -> Iterator[tuple[str, Decimal | None, Window]]:
        """Yield name, limit and window of all limits that hold for a run, in their order."""
        campaign = self.campaigns[key]
        assert campaign.schedule and campaign.schedule.timezone
        own = zip(limits_of(campaign.budget), windows(at, ZoneInfo(campaign.schedule.timezone)), strict=True)
        yield from ((str(period), limit, (key, window.key)) for (period, limit), window in own)
        account = zip(limits_of(self.account), windows(at, ZoneInfo(self.account.timezone)), strict=True)
        yield from ((f"account {period}", limit, ("account", window.key)) for (period, limit), window in account)
        yield "perRun", campaign.budget.per_run, (run_id, "")

    def spent(self, window: Window) -> Decimal:
        return sum((request.booked for request in self.requests if window in request.windows), NOTHING)

    def reserved(self, window: Window) -> Decimal:
        return sum((request.reserved for request in self.requests if window in request.windows), NOTHING)

    def beyond(self, window: Window) -> Decimal:
        return sum((request.beyond for request in self.requests if window in request.windows), NOTHING)

    def refusing(self, key: str, run_id: str, at: datetime, amount: Decimal | None) -> list[str]:
        """Return the names of the limits that the amount would pass, or that are reached if nobody knows it."""
        return [
            name
            for name, limit, window in self.limits(key, run_id, at)
            if limit is not None and self._refuses(limit, self.spent(window) + self.reserved(window), amount)
        ]

    @staticmethod
    def _refuses(limit: Decimal, taken: Decimal, amount: Decimal | None) -> bool:
        return taken >= limit if amount is None else amount > 0 and taken + amount > limit

    def last_cost(self, key: str, step: str) -> Decimal | None:
        """Return the largest of the last five, nothing for what was always free, None for what was never answered."""
        known = [request for request in self.requests if (request.made.campaign_key, request.made.step) == (key, step)]
        paid = [request.booked for request in known if request.booked > 0]
        if paid:
            return max(paid[-5:])
        return NOTHING if any(request.state is AttemptState.SETTLED for request in known) else None

    def reserve(self, made: Reservation) -> Request:
        limits = self.limits(made.campaign_key, made.run_id, made.reserved_at)
        request = Request(made, tuple(window for _, _, window in limits))
        self.requests.append(request)
        return request

    def expire(self, now: datetime) -> None:
        for request in self.requests:
            if request.is_open and request.made.expires_at <= now:
                self.give_up(request) if request.state is SENT else self.release(request)

    def release(self, request: Request) -> None:
        request.state = AttemptState.RELEASED

    def give_up(self, request: Request) -> None:
        request.state, request.booked = AttemptState.UNCONFIRMED, request.made.estimate

    def correct(self, request: Request, amount: Decimal) -> None:
        request.state, request.booked = AttemptState.CORRECTED, amount

    def answer(self, request: Request, amount: Decimal, *, is_result: bool) -> None:
        request.state = AttemptState.SETTLED if request.state is SENT else AttemptState.CORRECTED
        request.booked = amount
        for earlier in self._others(request) if is_result else ():
            is_unanswered = earlier.state in (SENT, AttemptState.UNCONFIRMED)
            if is_unanswered and earlier.made.attempt < request.made.attempt:
                self.correct(earlier, NOTHING)

    def waits(self, request: Request) -> bool:
        """Return whether a later attempt is under way, whose answer may speak for this one."""
        return any(later.is_open and later.made.attempt > request.made.attempt for later in self._others(request))

    def _others(self, request: Request) -> Iterator[Request]:
        mine = (request.made.run_id, request.made.step)
        return (other for other in self.requests if (other.made.run_id, other.made.step) == mine)

    def assert_within_limits(self) -> None:
        """No window, of now or earlier, holds more than its limit and what engines charged beyond their estimates."""
        for made in {request.made.reserved_at: request.made for request in self.requests}.values():
            for name, limit, window in self.limits(made.campaign_key, made.run_id, made.reserved_at):
                if limit is not None:
                    assert self.spent(window) + self.reserved(window) <= limit + self.beyond(window), (name, window)
