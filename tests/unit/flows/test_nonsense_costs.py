"""What an engine says that it cost, and cannot be: what is booked then, and who hears of it."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from campaign_files import campaign
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Failed
from spending import lose_an_answer

from prefect_campaigns.blocks.journal import Journal
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import AttemptState, Lease
from prefect_campaigns.clock import SystemClock
from prefect_campaigns.errors import EngineError
from prefect_campaigns.flows import run as flows_run
from prefect_campaigns.flows.ending import finish
from prefect_campaigns.flows.exchange import Progress
from prefect_campaigns.flows.run import CampaignRun
from prefect_campaigns.flows.steps import _exchange, _request, failed_result
from prefect_campaigns.results import RunStatus


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "c.db") as opened:
        yield opened


async def begin(store: SqliteStore, journal: Path, http: httpx.AsyncClient, **step: Any) -> CampaignRun:
    """Begin a run of a campaign of one step."""
    written = campaign("Spring", "http://127.0.0.1:9", only=1, steps={"prospecting": step})
    await store.save_campaign(written)
    # What another run has left unconfirmed is not this one's.
    await lose_an_answer(store, written.slug, "7")
    clock, flow_run = SystemClock(), FlowRun(flow_id=uuid4(), name="azure-fox")
    lease = await store.acquire_lease(
        written.slug,
        run_id=str(flow_run.id),
        run_name=flow_run.name,
        holder="here",
        ttl_seconds=60,
        waiting_since=clock.now(),
    )
    assert isinstance(lease, Lease)
    run = CampaignRun(
        campaign=written,
        flow_run=flow_run,
        store=store,
        lease=lease,
        http=http,
        clock=clock,
        journal=Journal(journal),
        logger=logging.getLogger("run"),
    )
    await run.begin()
    return run


async def ignore(progress: Progress) -> None:
    pass


# What the engine answers, and what of it is no cost.
NONSENSE = [
    (200, {"found": 5, "cost": -5}, "-5"),
    (200, {"found": 5, "cost": "lots"}, "'lots'"),
    # A failed request may say what it cost, too.
    (500, {"error": "out of tokens", "cost": "lots"}, "'lots'"),
]


async def streamed(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Yield the body as it comes over a network: not read beforehand."""
    yield json.dumps(body).encode()


@pytest.mark.parametrize(("status", "body", "came"), NONSENSE)
@pytest.mark.parametrize(
    ("estimate", "booked"),
    [("0.2", "the estimate of 0.20 USD"), (None, "0.00 USD, for want of an estimate")],
)
async def test_a_cost_that_is_none_is_booked_at_the_estimate_and_told_of(
    store: SqliteStore, tmp_path: Path, status: int, body: dict[str, Any], came: str, estimate: str | None, booked: str
) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=streamed(body)))
    async with httpx.AsyncClient(transport=transport) as http:
        run = await begin(store, tmp_path / "journal", http, estimatedCost=estimate)
        (step,) = run.campaign.steps
        held = await store.reserve(
            run.lease, step=step.name, attempt=1, estimated_cost=step.estimated_cost, hold_seconds=60
        )
        sent = await store.mark_sent(run.lease, held)
        with pytest.raises(EngineError):
            await _exchange(run, step, await _request(run, step), sent, on_progress=ignore)
    (attempt,) = await store.attempts(run.run_id, step.name)
    assert (attempt.state, attempt.booked) == (AttemptState.UNCONFIRMED, Decimal(estimate or 0))

    await failed_result(run, 0, "why")
    state = await finish(run, RunStatus.FAILED, Failed(), "why")
    record = await store.get_run(run.run_id)
    assert record is not None
    assert record.steps[0].warnings == (
        f"the engine reported {came} as cost; a cost is a number of US dollars from 0 to 1,000,000,000;"
        f" booked at {booked}, unconfirmed",
    )
    cost = "0.20" if estimate else "0.00"
    assert state.message == f"why\n0 of 1 steps, cost {cost} USD, of which {cost} USD unconfirmed (1 request)."
    assert record.message == state.message


async def test_a_run_whose_cost_is_known_says_nothing_of_unconfirmed_money(store: SqliteStore, tmp_path: Path) -> None:
    async with httpx.AsyncClient() as http:
        run = await begin(store, tmp_path / "journal", http)
        held = await store.reserve(run.lease, step="prospecting", attempt=1, estimated_cost=None, hold_seconds=60)
        await store.settle(run.lease, await store.mark_sent(run.lease, held), Decimal("0.024"))
        state = await finish(run, RunStatus.COMPLETED, Completed())
    assert state.message == "0 of 1 steps, cost 0.024 USD."


async def test_an_amount_that_the_journal_keeps_is_said_as_everywhere(
    store: SqliteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with httpx.AsyncClient() as http:
        run = await begin(store, tmp_path / "journal", http)
        held = await store.reserve(run.lease, step="prospecting", attempt=1, estimated_cost=None, hold_seconds=60)
        sent = await store.mark_sent(run.lease, held)
        monkeypatch.setattr(flows_run, "SETTLE_SECONDS", 0.2)
        with closing(sqlite3.connect(tmp_path / "c.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            await run.settle_failure(sent, Decimal("0.024000"))
    assert "prospecting: cost 0.024 USD is kept in the journal" in caplog.text
