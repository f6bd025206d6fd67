"""What the stores' tests share: a clock that is set, and the smallest campaign, lease, run and request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease, LeaseHeld, Reservation
from prefect_campaigns.budget import LimitStatus
from prefect_campaigns.clock import Uptime
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus

KEY = "spring-outreach"
NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)
"""A Wednesday."""


def run_id(name: str) -> str:
    """Return the id of the run that a test calls so: Prefect's are UUIDs, and some stores keep nothing else."""
    return str(uuid5(NAMESPACE_URL, name))


RUN_1, RUN_2 = run_id("run-1"), run_id("run-2")


class SettableClock:
    """A clock that stands still until it is told: that time passes, or that somebody sets it."""

    def __init__(self, now: datetime = NOON) -> None:
        self.instant = now
        self._boot = uuid4().hex
        self._set_by = timedelta()

    def now(self) -> datetime:
        return self.instant

    def uptime(self) -> Uptime:
        return Uptime(self._boot, (self.instant - self._set_by).timestamp())

    def advance(self, **duration: float) -> None:
        self.instant += timedelta(**duration)

    def step(self, **duration: float) -> None:
        """Set the clock, forward or back, while no time passes."""
        self._set_by += timedelta(**duration)
        self.instant += timedelta(**duration)


def make_campaign(name: str = "Spring Outreach", *, timezone: str | None = None, **budget: Any) -> Campaign:
    return Campaign.model_validate(
        {
            "name": name,
            "schedule": {"cron": "0 9 * * MON", "timezone": timezone} if timezone else None,
            "budget": budget,
            "steps": [{"name": "find", "engine": "prospecting", "endpoint": "http://localhost:3010/api/prospect"}],
        }
    )


async def take_lease(store: CampaignStore, run: str = "run-1", *, key: str = KEY, **asked: Any) -> Lease:
    lease = await ask_lease(store, run, key=key, **asked)
    assert isinstance(lease, Lease)
    return lease


async def ask_lease(
    store: CampaignStore,
    run: str = "run-1",
    *,
    key: str = KEY,
    holder: str | None = None,
    ttl_seconds: float = 60,
    since: datetime = NOON,
) -> Lease | LeaseHeld:
    return await store.acquire_lease(
        key,
        run_id=run_id(run),
        run_name=f"name of {run}",
        holder=holder or f"holder of {run}",
        ttl_seconds=ttl_seconds,
        waiting_since=since,
    )


async def reserve(
    store: CampaignStore,
    lease: Lease,
    amount: str | None = "1.00",
    *,
    attempt: int = 1,
    step: str = "find",
    hold_seconds: float = 600,
) -> Reservation:
    return await store.reserve(
        lease,
        step=step,
        attempt=attempt,
        estimated_cost=None if amount is None else Decimal(amount),
        hold_seconds=hold_seconds,
    )


async def send(store: CampaignStore, lease: Lease, amount: str | None = "1.00", **reserved: Any) -> Reservation:
    """Bring a request as far as it goes before its answer."""
    return await store.mark_sent(lease, await reserve(store, lease, amount, **reserved))


async def spend(store: CampaignStore, lease: Lease, amount: str, **reserved: Any) -> Reservation:
    """Make a request that costs what was estimated."""
    return await store.settle(lease, await send(store, lease, amount, **reserved), Decimal(amount))


SpendMany = Callable[[CampaignStore, Lease, Decimal, int], Awaitable[None]]
"""Makes so many requests of that cost, each of another step."""


async def assert_books_are_whole(store: CampaignStore, *campaign_keys: str) -> None:
    """Add up the ledger of the account and of the campaigns: those given, and all that have a row."""
    keys = {*campaign_keys, *(record.key for record in await store.list_campaigns())}
    for key in (None, *keys):
        assert list(await store.verify_totals(key)) == []


async def books(store: CampaignStore, key: str = KEY) -> dict[str, tuple[Decimal, Decimal]]:
    """Return (spent, reserved) of the campaign's current day, week and month."""
    return amounts((await store.budget_status(key)).limits)


async def account_books(store: CampaignStore) -> dict[str, tuple[Decimal, Decimal]]:
    """Return (spent, reserved) of the account's current day, week and month."""
    return amounts((await store.account_status()).account)


def amounts(limits: Iterable[LimitStatus]) -> dict[str, tuple[Decimal, Decimal]]:
    """Return (spent, reserved) by the period of the limits' windows."""
    return {limit.window.period: (limit.spent, limit.reserved) for limit in limits if limit.window}


async def today(store: CampaignStore) -> tuple[str, str]:
    """Return (spent, reserved) of the current day, as text with six places."""
    spent, reserved = (await books(store))["daily"]
    return str(spent), str(reserved)


def make_report(run: str = "run-1", **changes: Any) -> RunReport:
    values: dict[str, Any] = {
        "run_id": run_id(run),
        "run_name": f"name of {run}",
        "campaign_key": KEY,
        "campaign_name": "Spring Outreach",
        "status": RunStatus.RUNNING,
        "started_at": NOON,
        **changes,
    }
    return RunReport(**values)


def make_step(name: str = "find", position: int = 0, **changes: Any) -> StepResult:
    return StepResult(**{"name": name, "engine": "any", "position": position, "status": StepStatus.PENDING, **changes})


Act = Callable[[CampaignStore, Lease, Reservation], Awaitable[Reservation]]

ACTS: dict[str, Act] = {
    "mark_sent": lambda store, lease, reservation: store.mark_sent(lease, reservation),
    "settle": lambda store, lease, reservation: store.settle(lease, reservation, Decimal("0.75")),
    "unconfirmed": lambda store, lease, reservation: store.book_unconfirmed(lease, reservation),
    "release": lambda store, lease, reservation: store.release(lease, reservation),
}


StoreFactory = Callable[[], CampaignStore]
