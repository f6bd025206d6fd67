"""Runs that somebody suspends from outside, as the Prefect UI's Pause does.

Prefect's engine hears of it by a thread, an event loop and a connection of its own for each run that belongs to a
deployment, and blocks the event loop until these stand, and again until they are gone. Where many runs share a loop,
whoever runs them hears of all suspensions at once, and passes them on to the engine here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext

_going: dict[UUID, FlowRunContext] = {}


@contextmanager
def suspendable(flow_run_id: UUID, context: FlowRunContext) -> Iterator[None]:
    """Let a run be suspended while the block runs."""
    _going[flow_run_id] = context
    try:
        yield
    finally:
        if _going.get(flow_run_id) is context:
            del _going[flow_run_id]


def suspend(flow_run_id: UUID, state: State) -> bool:
    """Let a run of this process end, suspended, before its next step begins; whether it is going here.

    Args:
        state: the Suspended state in which Prefect has it.
    """
    context = _going.get(flow_run_id)
    if context is None:
        return False
    context.flow_run_suspension_request.mark_requested(state)
    return True
