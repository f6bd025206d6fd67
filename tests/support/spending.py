"""Runs that spend money in a store, without anybody to charge it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease
from prefect_campaigns.results import RunReport, RunStatus


async def spend(store: CampaignStore, key: str, cost: str, *, run_name: str = "azure-fox", step: str = "find") -> str:
    """Let one request of a run cost something; return the run's id."""
    return await _run(store, key, cost, run_name=run_name, step=step, is_answered=True)


async def lose_an_answer(
    store: CampaignStore, key: str, estimate: str, *, run_name: str = "azure-fox", step: str = "find"
) -> str:
    """Let one request of a run leave, and nobody know what it cost; return the run's id."""
    return await _run(store, key, estimate, run_name=run_name, step=step, is_answered=False)


async def _run(store: CampaignStore, key: str, amount: str, *, run_name: str, step: str, is_answered: bool) -> str:
    run_id, now = str(uuid4()), datetime.now(UTC)
    lease = await store.acquire_lease(
        key, run_id=run_id, run_name=run_name, holder=run_id, ttl_seconds=60, waiting_since=now
    )
    assert isinstance(lease, Lease)
    report = RunReport(
        run_id=run_id,
        run_name=run_name,
        campaign_key=key,
        campaign_name=key,
        status=RunStatus.RUNNING,
        started_at=now,
    )
    await store.start_run(lease, report)
    # The limits are not what is tried: what is spent may pass them.
    estimate = Decimal(0) if is_answered else Decimal(amount)
    held = await store.reserve(lease, step=step, attempt=1, estimated_cost=estimate, hold_seconds=600)
    sent = await store.mark_sent(lease, held)
    if is_answered:
        await store.settle(lease, sent, Decimal(amount))
    else:
        await store.book_unconfirmed(lease, sent)
    status = RunStatus.COMPLETED if is_answered else RunStatus.FAILED
    await store.finish_run(lease, report.model_copy(update={"status": status, "state_name": status.title()}))
    await store.release_lease(lease)
    return run_id


def skipped_run(key: str, number: int) -> RunReport:
    """Return one of the runs that never got their turn, each later than the one before."""
    at = datetime.now(UTC) + timedelta(seconds=number)
    return RunReport(
        run_id=str(uuid4()),
        run_name=f"skipped-{number}",
        campaign_key=key,
        campaign_name=key,
        status=RunStatus.ABORTED,
        state_name="Skipped",
        started_at=at,
        completed_at=at,
    )
