"""How a worker reaches into a run that it executes: to cancel it, to suspend it, to let it know that the worker leaves.

Only the flow itself is cancelled, never Prefect's engine around it. The engine, cancelled before the flow has begun or
after it has ended, leaves the run Pending for ever, or calls it Crashed although all is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID, uuid4

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext

T = TypeVar("T")


@dataclass
class Leaving:
    """What a worker's runs know of its leaving; it changes while they run.

    Attributes:
        worker_name: whose runs they are.
        worker_id: names the worker's process.
        is_asked: it waits for its runs; what should not be cut off is not begun any more.
        is_over: it waits no longer, and cancels them.
    """

    worker_name: str
    worker_id: UUID = field(default_factory=uuid4)
    is_asked: bool = False
    is_over: bool = False

    @property
    def in_words(self) -> str:
        """What is said of a run that is handed back."""
        return f"Handed back by worker {self.worker_name!r}, which stops"


class RunControl:
    """The worker's hand in one run. Its methods are called in the run's own event loop.

    Args:
        on_begin: called there when the flow begins, which Prefect knows of by then.

    Attributes:
        is_unwanted: a person wants the run cancelled. Prefect may not know it any more: a run that was cancelled as it
            began is let go on.
    """

    def __init__(self, leaving: Leaving, *, on_begin: Callable[[], object] = lambda: None) -> None:
        self.leaving = leaving
        self._on_begin = on_begin
        self.is_unwanted = False
        self._flow: asyncio.Task[Any] | None = None
        self._context: FlowRunContext | None = None
        self._suspended: State[Any] | None = None
        self._is_cancelled = False

    @property
    def has_ended(self) -> bool:
        """Whether the flow has ended, and all that is left is for the engine to say how."""
        return self._flow is not None and self._flow.done()

    def cancel(self) -> None:
        """Cancel the flow, once, or as soon as it begins: a second time would cut off the cleaning up."""
        if not self._is_cancelled:
            self._is_cancelled = True
            if self._flow is not None:
                self._flow.cancel()

    def suspend(self, state: State[Any]) -> None:
        """Let the run end, suspended, before its next step begins.

        Prefect's engine hears of it by a thread, an event loop and a connection of its own for each run, and blocks the
        event loop until these stand, and again until they are gone. A worker hears of all suspensions at once.

        Args:
            state: the Suspended state in which Prefect has it.
        """
        self._suspended = state
        if self._context is not None:
            self._context.flow_run_suspension_request.mark_requested(state)

    async def conduct(self, flow: Coroutine[Any, Any, T]) -> T:
        """Await what the flow does, as a task that can be cancelled by itself."""
        self._context = FlowRunContext.get()
        task = asyncio.ensure_future(flow)
        self._flow = task
        self._on_begin()
        if self._is_cancelled:
            # After its first step: one that has not begun can say nothing of its end.
            asyncio.get_running_loop().call_soon(task.cancel)
        if self._suspended is not None:
            self.suspend(self._suspended)
        return await task


_control: ContextVar[RunControl | None] = ContextVar("control_of_the_run", default=None)


def current_control() -> RunControl | None:
    """Return the hand in the run that asks; None where it has a process to itself."""
    return _control.get()


def is_unwanted() -> bool:
    """Whether the worker of the run that asks has heard that a person wants it cancelled."""
    control = current_control()
    return control is not None and control.is_unwanted


@contextmanager
def controlled_by(control: RunControl) -> Iterator[None]:
    """Let what the block starts be in the worker's hand."""
    token = _control.set(control)
    try:
        yield
    finally:
        _control.reset(token)
