"""Asking which runs somebody wants to end or to hold, should Prefect's events of it be late or lost."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import State

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
