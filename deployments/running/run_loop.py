"""The event loop that campaign runs share, in a thread of its own.

In a thread of its own, because what ends the worker's loop must not end the runs before they have written down what
became of their money; and because Prefect's flow engine puts a SIGTERM handler into the main thread that would raise
in the middle of everything.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from prefect_campaigns.flows.shielding import outlast_cancellation

STOP_SECONDS = 30.0
"""How long a run that is being cancelled may take to end."""


class RunningTask:
    """A task in the runs' loop, as seen from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False
        self.ended: concurrent.futures.Future[BaseException | None] = concurrent.futures.Future()

    def begin(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Start the work; called in the runs' loop."""
        self._task = self._loop.create_task(work())
        self._task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        self.ended.set_result(None if task.cancelled() else task.exception())

    def cancel(self) -> None:
        """Cancel the work, once: a second cancellation would cut off the cleaning up after the first."""
        if not self._cancelled:
            self._cancelled = True
            self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())

    async def wait(self) -> BaseException | None:
        """Wait for the end and return the error it ended with; None when it was well, or cancelled.

        When the waiting itself is cancelled, so is the work, and its end is waited for all the same, up to thirty
        seconds; then the cancellation is raised.
        """
        ended = asyncio.wrap_future(self.ended)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            self.cancel()
            await outlast_cancellation(ended, seconds=STOP_SECONDS)
            raise


class RunLoop:
    """The runs' loop and its thread; made when the first run comes."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> RunningTask:
        """Start work in the loop, in a copy of the caller's context."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="campaign-runs", daemon=True)
            self._thread.start()
        running = RunningTask(self._loop)
        self._loop.call_soon_threadsafe(running.begin, work, context=contextvars.copy_context())
        return running

    async def stop(self) -> None:
        """End the thread; what still runs in it ends with the process."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join, STOP_SECONDS)
        if not thread.is_alive():
            loop.close()
