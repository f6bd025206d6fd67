"""Asking which runs somebody wants to end or to hold, should Prefect's events of it be late or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.logging import get_logger

from prefect_campaigns.deployments.running.taken_run import TakenRun

WATCH_SECONDS = 2.0
"""How often Prefect is asked which runs are wanted otherwise, should its events be late."""

_logger = get_logger("campaigns.unwanted")
_UNWANTED = ("Cancelling", "Cancelled", "Suspended")


async def read_unwanted(client: PrefectClient, run_ids: Iterable[UUID]) -> dict[UUID, State]:
    """Return the states of those of the runs that are to end or to be held, as many as the server names at a time.

    Raises:
        httpx.HTTPError: the server cannot be reached, or answers with an error.
    """
    found = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            id=FlowRunFilterId(any_=list(run_ids)),
            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[*_UNWANTED])),
        )
    )
    return {flow_run.id: flow_run.state for flow_run in found if flow_run.state is not None}


async def watch(client: PrefectClient, taken_runs: Mapping[UUID, TakenRun], *, look_now: asyncio.Event) -> None:
    """Ask, once for all runs of a worker, which of them somebody wants to end or to hold; end when none is left.

    Args:
        taken_runs: the worker's runs as they are, whenever they are looked at.
        look_now: set by who does not want to wait for the next look.
    """
    while taken_runs:
        with suppress(TimeoutError):
            await asyncio.wait_for(look_now.wait(), WATCH_SECONDS)
        look_now.clear()
        asked = dict(taken_runs)
        try:
            unwanted = await read_unwanted(client, asked)
        except (httpx.HTTPError, PrefectException) as error:
            _logger.debug("not known which runs are wanted otherwise: %s", error)
            continue
        for run_id, state in unwanted.items():
            taken = asked[run_id]
            if taken_runs.get(run_id) is not taken:
                # Of an execution that is over; the run may have been taken up again.
                continue
            if state.is_paused():
                taken.suspend(state)
            else:
                taken.cancel_for_a_person()
