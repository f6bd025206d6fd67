"""Ending runs that have not ended: asking for it, waiting for it, and saying so of those that nobody answers for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import anyio
import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import OrchestrationResult
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.logging import get_logger
from prefect.states import Cancelled, Cancelling

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.errors import StoreError
from prefect_campaigns.flows.approval import RESUMING
from prefect_campaigns.flows.campaign import FLOW_NAME
from prefect_campaigns.flows.closing import close_record
from prefect_campaigns.flows.reporting import leave_report_of
from prefect_campaigns.words import why_failed

CANCEL_SECONDS = 8.0
"""How long whoever executes a run has for ending it: the worker looks every two seconds."""

UNENDED = (
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.PAUSED,
    StateType.CANCELLING,
)

ASKED_AT_ONCE = 8
"""How many requests are made to Prefect's API at the same time; on SQLite it refuses what comes in heaps."""

_POLL_SECONDS = 0.25
_PAGE = 200
_logger = get_logger("campaigns.cancelling")


async def unended_runs(client: PrefectClient, *, deployment_id: UUID | None = None) -> list[FlowRun]:
    """Return the runs of a campaign's deployment, or of all campaigns, that have not ended."""
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(UNENDED))),
        # Runs keep the id of a deployment that is deleted.
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]) if deployment_id else None,
    )
    found: list[FlowRun] = []
    while True:
        page = await client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW_NAME])),
            flow_run_filter=wanted,
            limit=_PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < _PAGE:
            return found


async def end_runs(
    client: PrefectClient,
    store: CampaignStore,
    flow_runs: Sequence[FlowRun],
    *,
    actor: str,
    problems: list[str] | None = None,
) -> Sequence[FlowRun]:
    """Cancel runs, in whatever state they are, and return them as they have ended.

    A run that goes on is asked to end, and says itself what was under way. One that waits to be started, or for a
    person, ends at once. Of a run that has not ended within eight seconds nobody may be left to answer for, and it is
    written down as cancelled; should it be executed all the same, its worker sees that and ends it.

    A request that fails holds up no other run: each is asked, waited for, and in the end written down, whatever became
    of the others.

    Args:
        problems: takes a sentence for each run that could not be ended or written down. Without it the first such error
            is raised, when everything else is done.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    turns = asyncio.Semaphore(ASKED_AT_ONCE)
    deadline = anyio.current_time() + CANCEL_SECONDS
    run_ids = [run.id for run in flow_runs]
    failed: dict[UUID, Exception] = {}

    async def attempt(flow_run: FlowRun, request: Callable[[PrefectClient, FlowRun, str], Awaitable[None]]) -> None:
        async with turns:
            try:
                await request(client, flow_run, actor)
            except (httpx.HTTPError, PrefectException) as error:
                failed[flow_run.id] = error
            else:
                failed.pop(flow_run.id, None)

    await asyncio.gather(*(attempt(run, _ask) for run in flow_runs))
    ended = await _ended_by(client, run_ids, deadline)
    await asyncio.gather(*(attempt(run, _insist) for run in flow_runs if run.id not in ended))
    try:
        ended |= await _read_ended(client, [one for one in run_ids if one not in ended])
    except (httpx.HTTPError, PrefectException) as error:
        failed = {one: error for one in run_ids if one not in ended} | failed
    errors = [(run, failed[run.id]) for run in flow_runs if run.id in failed and run.id not in ended]
    for flow_run in flow_runs:
        state = flow_run.state
        if state is not None and (state.is_paused() or (state.name == RESUMING and flow_run.id in ended)):
            try:
                await _close(client, store, flow_run, actor)
            except StoreError as error:
                errors.append((flow_run, error))
    if errors and problems is None:
        raise errors[0][1]
    if problems is not None:
        problems += [f"run {run.name} could not be cancelled: {why_failed(error)}" for run, error in errors]
    return [ended.get(run.id, run) for run in flow_runs]


async def _insist(client: PrefectClient, flow_run: FlowRun, actor: str) -> None:
    message = f"Cancelled by {actor}; nobody who executes the run has answered"
    # One that is deleted meanwhile has ended for good.
    with suppress(ObjectNotFound):
        await client.set_flow_run_state(flow_run.id, Cancelled(message=message), force=True)


async def _ask(client: PrefectClient, flow_run: FlowRun, actor: str) -> None:
    message = f"Cancelled by {actor}"
    was_waiting = flow_run.state is not None and flow_run.state.is_scheduled()
    # One that is deleted meanwhile has ended for good.
    with suppress(ObjectNotFound):
        asked: OrchestrationResult[Any] = await client.set_flow_run_state(flow_run.id, Cancelling(message=message))
        if was_waiting and asked.state is not None and asked.state.type is StateType.CANCELLING:
            # A retry that nobody has taken up: the server takes it for one that is still executed.
            await client.set_flow_run_state(flow_run.id, Cancelled(message=message))


async def _ended_by(client: PrefectClient, run_ids: Sequence[UUID], deadline: float) -> dict[UUID, FlowRun]:
    """Wait for the end of runs until a deadline; return those that have ended.

    A look that fails is followed by the next one.
    """
    ended: dict[UUID, FlowRun] = {}
    while True:
        with suppress(httpx.HTTPError, PrefectException):
            ended |= await _read_ended(client, [one for one in run_ids if one not in ended])
        if len(ended) == len(run_ids) or anyio.current_time() >= deadline:
            return ended
        await anyio.sleep(_POLL_SECONDS)


async def _read_ended(client: PrefectClient, run_ids: Sequence[UUID]) -> dict[UUID, FlowRun]:
    ended: dict[UUID, FlowRun] = {}
    for start in range(0, len(run_ids), _PAGE):
        ids = list(run_ids[start : start + _PAGE])
        runs = await client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)), limit=_PAGE)
        ended |= {run.id: run for run in runs if run.state is not None and run.state.is_final()}
    return ended


async def _close(client: PrefectClient, store: CampaignStore, flow_run: FlowRun, actor: str) -> None:
    """Write down the end of a run that waited for a person, or to go on after one: no worker has it to do that."""
    closed = await close_record(
        store, str(flow_run.id), actor=actor, state_name="Cancelled", why=f"Cancelled by {actor}"
    )
    if closed.is_aborted:
        await leave_report_of(client, store, str(flow_run.id), logger=_logger)
    if closed.is_held:
        _logger.warning("Run %s is cancelled, and `campaigns cancel` writes that down later", flow_run.name)
