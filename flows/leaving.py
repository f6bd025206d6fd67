"""A worker that is told to stop: how its runs are handed back for another to take up.

A run that is handed back is Scheduled in Prefect again, at once, under the name of HandedBack. Whoever takes it up does
what is left of it, as after a retry.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, NoReturn
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import Pause, PrefectException
from prefect.states import Running, Scheduled

from prefect_campaigns.flows.control import Leaving, current_control, is_unwanted

HANDED_BACK = "HandedBack"
"""The name of the state (type SCHEDULED) of a run that waits for another worker to go on with it."""

RECOVERING = "Recovering"
"""The name of the state (type SCHEDULED) of a run that goes on after nobody executed it any more."""

HAND_BACK_SECONDS = 20.0
"""How long a run that is cut off may take to be handed back. Its worker cuts off all at once: Prefect is busy then."""

ASK_SECONDS, ASKED_TIMES = 10.0, 60
"""How often Prefect is asked whether the run goes on elsewhere, and how many times."""

LOOK_SECONDS = 3.0
"""How long it takes at most to see whether it was handed back after all."""


def is_asked() -> bool:
    """Whether the worker of this run waits for it to end, and begins nothing new."""
    return _leaving().is_asked


def is_over() -> bool:
    """Whether the worker of this run has cancelled it so that another goes on with it."""
    return _leaving().is_over


def _leaving() -> Leaving:
    control = current_control()
    return control.leaving if control is not None else Leaving("unknown")


async def give_back(
    client: PrefectClient,
    flow_run_id: UUID,
    *,
    why: str,
    due: datetime,
    name: str = HANDED_BACK,
    even_crashed: bool = False,
) -> State[Any] | None:
    """Let another worker take the run up when it is due; return the state in which it waits for that.

    A run that somebody has suspended stays so, and that is the state which is returned. None is, where the run has
    ended or somebody wants it cancelled: Prefect would let it go on all the same.

    Args:
        why: what the state says to people.
        name: what the state is called.
        even_crashed: whether one that Prefect calls Crashed is given back as well.

    Raises:
        httpx.HTTPError, PrefectException: Prefect does not answer, or has no such run any more.
    """
    state = (await client.read_flow_run(flow_run_id)).state
    if state is None or state.is_cancelling() or (state.is_final() and not (even_crashed and state.is_crashed())):
        return None
    if state.is_paused():
        return state
    wanted: State[Any] = Scheduled(name=name, scheduled_time=due, message=why)
    answer = await client.set_flow_run_state(flow_run_id, wanted)
    is_given = answer.state is not None and answer.state.type is StateType.SCHEDULED
    return answer.state if is_given and answer.status is not SetStateStatus.ABORT else None


async def hand_back(flow_run_id: UUID, *, until: datetime | None = None, why: str | None = None) -> NoReturn:
    """Give this run back, for another worker to go on with it: at once, or when it is time.

    Args:
        why: what the state says to people; by default that the worker stops.

    Raises:
        Pause: this execution of it is over: it is given back, or somebody has suspended it.
        asyncio.CancelledError: somebody wants it cancelled.
        httpx.HTTPError, PrefectException: Prefect does not answer.
    """
    state = await _give_this_back(flow_run_id, until=until, why=why)
    if state is None:
        if control := current_control():
            control.is_unwanted = True
        raise asyncio.CancelledError("somebody wants the run cancelled")
    # As a run ends that is suspended: the engine writes down nothing more.
    raise Pause(state=state)


async def hand_back_at_the_end(flow_run_id: UUID) -> bool:
    """Give this run back, which is cut off; return, where it cannot be, whether that is because somebody cancelled it.

    Raises:
        Pause: this execution of it is over, as hand_back says.
    """
    if is_unwanted():
        return True
    try:
        try:
            async with asyncio.timeout(HAND_BACK_SECONDS):
                state = await _give_this_back(flow_run_id)
        except TimeoutError:
            async with asyncio.timeout(LOOK_SECONDS):
                state = await _state_of(flow_run_id)
            if state.is_running():
                raise
    except (TimeoutError, httpx.HTTPError, PrefectException) as error:
        get_run_logger().error("The run could not be handed back: %s", str(error) or type(error).__name__)
        return False
    if state is None or state.is_cancelling() or state.is_final():
        return True
    raise Pause(state=state)


async def _give_this_back(
    flow_run_id: UUID, *, until: datetime | None = None, why: str | None = None
) -> State[Any] | None:
    async with get_client() as client:
        return await give_back(client, flow_run_id, why=why or _leaving().in_words, due=until or datetime.now(UTC))


async def taken_over(client: PrefectClient, flow_run_id: UUID, began: UUID) -> State[Any] | None:
    """Return where a run stands that is not this execution's any more: somebody saw it crash, end, or go on.

    None where it is still this one's, for all that Prefect knows.

    Args:
        began: the id of the state with which this execution of it began.

    Raises:
        httpx.HTTPError, PrefectException: Prefect does not answer.
    """
    states = sorted(await client.read_flow_run_states(flow_run_id), key=lambda state: state.timestamp)
    place = next((place for place, one in enumerate(states) if one.id == began), None)
    if place is None:
        return None
    is_taken = any(one.is_crashed() or one.is_scheduled() or one.is_cancelled() for one in states[place + 1 :])
    return states[-1] if is_taken else None


async def taken_over_at_last(flow_run: FlowRun) -> State[Any] | None:
    """Return what ``taken_over`` does, as soon as Prefect answers; None where it does not for ten minutes.

    Args:
        flow_run: as this execution of it began.
    """
    if flow_run.state is None:
        return None
    for _ in range(ASKED_TIMES):
        try:
            async with get_client() as client:
                return await taken_over(client, flow_run.id, flow_run.state.id)
        except (httpx.HTTPError, PrefectException) as error:
            get_run_logger().warning("not known whether the run goes on elsewhere: %s", error)
        await asyncio.sleep(ASK_SECONDS)
    return None


async def _state_of(flow_run_id: UUID) -> State[Any]:
    """Return where the run stands; Prefect may have heard what it gave no answer to."""
    async with get_client() as client:
        state = (await client.read_flow_run(flow_run_id)).state
    return state if state is not None else Running()
