"""A worker that is told to stop: how its runs are handed back for another to take up.

A run that is handed back is Scheduled in Prefect again, at once, under the name of HandedBack. Whoever takes it up does
what is left of it, as after a retry.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import Pause, PrefectException
from prefect.states import Scheduled

from prefect_campaigns.flows.control import Leaving, current_control

HANDED_BACK = "HandedBack"
"""The name of the state (type SCHEDULED) of a run that waits for another worker to go on with it."""

HAND_BACK_SECONDS = 5.0
"""How long a run that is cut off may take to be handed back."""


def is_asked() -> bool:
    """Whether the worker of this run waits for it to end, and begins nothing new."""
    return _leaving().is_asked


def is_over() -> bool:
    """Whether the worker of this run has cancelled it so that another goes on with it."""
    return _leaving().is_over


def _leaving() -> Leaving:
    control = current_control()
    return control.leaving if control is not None else Leaving("unknown")


async def give_back(client: PrefectClient, flow_run_id: UUID, *, worker_name: str, due: datetime) -> State[Any] | None:
    """Let another worker take the run up when it is due; return its state, or None where somebody wants it cancelled.

    Raises:
        httpx.HTTPError, PrefectException: Prefect does not answer, or has no such run any more.
    """
    wanted: State[Any] = Scheduled(
        name=HANDED_BACK, scheduled_time=due, message=f"Handed back by worker {worker_name!r}, which stops"
    )
    answer = await client.set_flow_run_state(flow_run_id, wanted)
    is_given = answer.state is not None and answer.state.type is StateType.SCHEDULED
    return answer.state if is_given and answer.status is not SetStateStatus.ABORT else None


async def hand_back(flow_run_id: UUID) -> None:
    """Give this run back, for another worker to go on with it at once; return where somebody wants it cancelled.

    Raises:
        Pause: this execution of it is over.
        httpx.HTTPError, PrefectException: Prefect does not answer.
    """
    async with get_client() as client:
        worker_name = _leaving().worker_name
        state = await give_back(client, flow_run_id, worker_name=worker_name, due=datetime.now(UTC))
    if state is not None:
        # As a run ends that is suspended: the engine writes down nothing more.
        raise Pause(state=state)


async def hand_back_at_the_end(flow_run_id: UUID) -> bool:
    """Give this run back, which is cut off; return, where it cannot be, whether that is because somebody cancelled it.

    Raises:
        Pause: this execution of it is over.
    """
    try:
        async with asyncio.timeout(HAND_BACK_SECONDS):
            await hand_back(flow_run_id)
    except (TimeoutError, httpx.HTTPError, PrefectException) as error:
        get_run_logger().error("The run could not be handed back: %s", str(error) or type(error).__name__)
        return False
    return True
