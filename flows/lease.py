"""One run of a campaign at a time: taking the lease, waiting for it, keeping it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import anyio
import httpx
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException
from prefect.states import Running

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease, LeaseHeld
from prefect_campaigns.clock import Clock, current_clock
from prefect_campaigns.errors import LeaseLost, LeaseTimeout, StoreUnavailable
from prefect_campaigns.flows import leaving
from prefect_campaigns.flows.closing import CLOSING
from prefect_campaigns.flows.run import RunLogger, patiently
from prefect_campaigns.flows.shielding import to_its_end
from prefect_campaigns.models import Campaign

LEASE_SECONDS = 60.0
"""How long a lease lives without being renewed: how long a dead run keeps its campaign from others."""

RENEW_SECONDS = 15.0
RENEW_AGAIN_SECONDS = 1.0
"""After how long a renewal is tried again that failed: soon after an outage, before others take the lease."""

POLL_SECONDS = 1.0
MAX_WAIT_SECONDS = 24 * 3600.0
"""How long a run waits for its turn before it fails."""

LEAVE_SECONDS = 10.0
"""How long giving the lease back may take."""


@dataclass(frozen=True)
class Overlapping:
    """Another run holds the campaign, and the campaign says to skip then."""

    held: LeaseHeld


@dataclass(frozen=True)
class Turn:
    """It is the run's turn; ``waited`` says whether it had to wait for it, and is shown as Waiting."""

    lease: Lease
    waited: bool


async def take_turn(
    store: CampaignStore, campaign: Campaign, flow_run: FlowRun, *, clock: Clock, logger: RunLogger
) -> Turn | Overlapping:
    """Take the campaign's lease, waiting for it where the campaign says so.

    While it waits, the run's state in Prefect is ``Waiting`` (type RUNNING), and says for which run.

    Raises:
        LeaseTimeout: it has waited for a day.
        StoreUnavailable: the store did not answer for five minutes.
    """
    overlap = campaign.schedule.overlap if campaign.schedule else "queue"
    run_id, holder, since = str(flow_run.id), uuid4().hex, clock.now()
    waiting_for: LeaseHeld | None = None
    leave = partial(store.leave_queue, campaign.slug, run_id=run_id)
    deadline = anyio.current_time() + MAX_WAIT_SECONDS
    try:
        while anyio.current_time() < deadline:
            try:
                answer = await store.acquire_lease(
                    campaign.slug,
                    run_id=run_id,
                    run_name=flow_run.name,
                    holder=holder,
                    ttl_seconds=LEASE_SECONDS,
                    waiting_since=flow_run.expected_start_time or since,
                )
            except StoreUnavailable:
                await _wait_out(partial(store.get_run, run_id), logger=logger)
            else:
                if isinstance(answer, Lease):
                    return Turn(answer, waited=waiting_for is not None)
                # A run that has begun is not dropped half-way: it waits, for its own earlier execution too.
                is_run = answer.run_id != run_id and not answer.run_name.startswith(CLOSING)
                recorded = partial(store.get_run, run_id)
                if overlap == "skip" and is_run and await patiently(recorded, logger=logger) is None:
                    await patiently(leave, logger=logger)
                    return Overlapping(answer)
                if waiting_for is None or waiting_for.run_id != answer.run_id:
                    waiting_for = answer
                    message = _waiting_message(answer, run_id)
                    logger.info(message)
                    await _show(flow_run, Running(name="Waiting", message=message), logger)
            if leaving.is_asked():
                await _leave_if_possible(leave)
                await leaving.hand_back(flow_run.id)
            await anyio.sleep(POLL_SECONDS)
    except asyncio.CancelledError:
        await _leave_if_possible(leave)
        raise
    await patiently(leave, logger=logger)
    raise LeaseTimeout(f"waited {MAX_WAIT_SECONDS / 3600:g} hours for another run of the campaign to end")


async def _wait_out(look: Callable[[], Awaitable[object]], *, logger: RunLogger) -> None:
    """Wait for a store that is away, and then for those that hold leases: of a long outage none could be renewed.

    Raises:
        StoreUnavailable: it is still away after five minutes.
    """
    began = anyio.current_time()
    await patiently(look, logger=logger)
    if anyio.current_time() - began > RENEW_SECONDS:
        await anyio.sleep(2 * RENEW_SECONDS)


async def _leave_if_possible(leave: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Leave the queue; whoever cannot has a place there that runs out by itself."""
    with suppress(StoreUnavailable, TimeoutError):
        await to_its_end(leave(), seconds=LEAVE_SECONDS)


def _waiting_message(held: LeaseHeld, run_id: str) -> str:
    if held.run_id == run_id:
        return f"Waiting for an earlier execution of this run, until {held.expires_at:%H:%M:%S} UTC at the latest"
    if held.run_name.startswith(CLOSING):
        return f"Waiting for {held.run_name} in the books"
    return f"Waiting for run {held.run_name!r} of this campaign to end"


async def _show(flow_run: FlowRun, state: State[Any], logger: RunLogger) -> None:
    """Show a state in Prefect. Not by force: a person may have cancelled the run in the meantime."""
    try:
        async with get_client() as client:
            await client.set_flow_run_state(flow_run.id, state)
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("the run's state could not be shown as %s: %s", state.name, error)


async def show_running(flow_run: FlowRun, *, logger: RunLogger) -> None:
    """Show that a run which has waited for its turn goes on."""
    await _show(flow_run, Running(), logger)


@asynccontextmanager
async def keeping(store: CampaignStore, lease: Lease, *, logger: RunLogger) -> AsyncIterator[None]:
    """Renew the lease while the block runs, and give it back at its end.

    A lease that is lost stops the run at its next write: reserving the money of a step is one.
    """
    renewal = asyncio.create_task(_renew(store, lease, logger))
    try:
        yield
    finally:
        renewal.cancel()
        await asyncio.gather(renewal, return_exceptions=True)
        try:
            await to_its_end(store.release_lease(lease), seconds=LEAVE_SECONDS)
        except (StoreUnavailable, TimeoutError) as error:
            logger.warning("The lease was not given back and runs out by itself: %s", error)


@asynccontextmanager
async def if_alone(store: CampaignStore, doing: str, *, who: str, logger: RunLogger) -> AsyncIterator[bool]:
    """Yield whether nobody else is doing something of this name, and let nobody else begin it meanwhile.

    Raises:
        StoreError: the store is not there.
    """
    key, since = f"@{doing}", current_clock().now()
    lease = await store.acquire_lease(
        key, run_id=who, run_name=doing, holder=who, ttl_seconds=LEASE_SECONDS, waiting_since=since
    )
    if isinstance(lease, Lease):
        async with keeping(store, lease, logger=logger):
            yield True
    else:
        await store.leave_queue(key, run_id=who)
        yield False


async def _renew(store: CampaignStore, lease: Lease, logger: RunLogger) -> None:
    pause = RENEW_SECONDS
    while True:
        await asyncio.sleep(pause)
        try:
            lease = await store.renew_lease(lease, ttl_seconds=LEASE_SECONDS)
            pause = RENEW_SECONDS
        except LeaseLost as error:
            logger.error("%s", error)
            return
        except Exception as error:
            # Of any kind: whoever stops renewing is taken for dead.
            if pause == RENEW_SECONDS:
                logger.warning("The lease could not be renewed, trying again: %s", error)
            pause = min(RENEW_AGAIN_SECONDS, RENEW_SECONDS)
