"""What the stores' tests share: a clock that is set, and the smallest campaign, lease, run and request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from prefect_campaigns.blocks.store import CampaignStore, Lease, LeaseHeld, Reservation
from prefect_campaigns.budget import LimitStatus
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus

KEY = "spring-outreach"
NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)
"""A Wednesday."""


class SettableClock:
    """A clock that stands still until it is told."""

    def __init__(self, now: datetime = NOON) -> None:
        self.instant = now

    def now(self) -> datetime:
        return self.instant

    def advance(self, **duration: float) -> None:
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


async def take_lease(store: CampaignStore, run_id: str = "run-1", *, key: str = KEY, **asked: Any) -> Lease:
    lease = await ask_lease(store, run_id, key=key, **asked)
    assert isinstance(lease, Lease)
    return lease


async def ask_lease(
    store: CampaignStore,
    run_id: str = "run-1",
    *,
    key: str = KEY,
    holder: str | None = None,
    ttl_seconds: float = 60,
    since: datetime = NOON,
) -> Lease | LeaseHeld:
    return await store.acquire_lease(
        key,
        run_id=run_id,
        run_name=f"name of {run_id}",
        holder=holder or f"holder of {run_id}",
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


async def books(store: CampaignStore, key: str = KEY) -> dict[str, tuple[Decimal, Decimal]]:
    """Return (spent, reserved) of the current day, week and month."""
    limits: tuple[LimitStatus, ...] = (await store.budget_status(key)).limits
    return {limit.window.period: (limit.spent, limit.reserved) for limit in limits}


async def today(store: CampaignStore) -> tuple[str, str]:
    """Return (spent, reserved) of the current day, as text with six places."""
    spent, reserved = (await books(store))["daily"]
    return str(spent), str(reserved)


def make_report(lease_or_run: Lease | str = "run-1", **changes: Any) -> RunReport:
    run_id = lease_or_run if isinstance(lease_or_run, str) else lease_or_run.run_id
    values: dict[str, Any] = {
        "run_id": run_id,
        "run_name": f"name of {run_id}",
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


class StoreUnderTest(CampaignStore, Protocol):
    """A store that can also add up its books."""

    async def verify_totals(self, campaign_key: str) -> list[str]: ...


StoreFactory = Callable[[], StoreUnderTest]
