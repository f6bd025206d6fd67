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
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from prefect.context import AsyncClientContext, SyncClientContext
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, PREFECT_CLIENT_RETRY_EXTRA_CODES, temporary_settings

from prefect_campaigns.flows.shielding import outlast_cancellation

STOP_SECONDS = 30.0
"""How long a run that is being cancelled may take to end."""

OPEN_SECONDS = 30.0

CLIENT_MAX_RETRIES = 8
"""How often a run repeats a request to Prefect's API that finds no server: 2, 4, 8 … seconds, eight minutes in all."""

SERVER_ERROR = 500
"""What Prefect's server answers while its message broker (Redis) is away: it takes a change of state back whose event
cannot be sent. So the request is repeated, as one is that finds no server. Where the broker had heard the event and its
answer was lost, people may be told twice."""


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

    def call(self, act: Callable[[], object]) -> None:
        """Call something in the runs' loop, where the work is at home."""
        self._loop.call_soon_threadsafe(act)

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


@asynccontextmanager
async def what_runs_share() -> AsyncIterator[None]:
    """Give everything in the block, and what is started from it, the same clients of Prefect's API.

    A client costs 70 ms of CPU, for its TLS context, and the engine makes several for each run that finds none.
    """
    retry_codes = {SERVER_ERROR, *PREFECT_CLIENT_RETRY_EXTRA_CODES.value()}
    patience = {PREFECT_CLIENT_MAX_RETRIES: CLIENT_MAX_RETRIES, PREFECT_CLIENT_RETRY_EXTRA_CODES: retry_codes}
    with temporary_settings(patience):
        async with AsyncClientContext():
            with SyncClientContext():
                yield


class RunLoop:
    """The runs' loop and its thread; made when the first run comes."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._context: contextvars.Context | None = None
        self._closing: asyncio.Event | None = None
        self._sharing: concurrent.futures.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether runs can be started in it."""
        return self._context is not None

    async def open(self) -> None:
        """Make the loop, if there is none yet, and what its runs share.

        Raises:
            httpx.HTTPError, PrefectException: Prefect's API does not answer.
        """
        if self._context is not None:
            return
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="campaign-runs", daemon=True)
            self._thread.start()
        opened: concurrent.futures.Future[contextvars.Context] = concurrent.futures.Future()
        self._sharing = asyncio.run_coroutine_threadsafe(self._share(opened), self._loop)
        self._context = await asyncio.wait_for(asyncio.wrap_future(opened), OPEN_SECONDS)

    async def _share(self, opened: concurrent.futures.Future[contextvars.Context]) -> None:
        try:
            async with what_runs_share():
                self._closing = asyncio.Event()
                opened.set_result(contextvars.copy_context())
                await self._closing.wait()
        except Exception as error:
            if opened.done():
                raise
            opened.set_exception(error)

    def start(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> RunningTask:
        """Start work in the loop.

        Raises:
            RuntimeError: the loop is not open.
        """
        if self._loop is None or self._context is None:
            raise RuntimeError("the runs' loop is not open")
        running = RunningTask(self._loop)
        self._loop.call_soon_threadsafe(running.begin, work, context=self._context.copy())
        return running

    async def close(self) -> None:
        """End the thread; what still runs in it ends with the process."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = self._context = None
        if loop is None or thread is None:
            return
        if self._closing is not None and self._sharing is not None:
            loop.call_soon_threadsafe(self._closing.set)
            await asyncio.wait({asyncio.wrap_future(self._sharing)}, timeout=STOP_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join, STOP_SECONDS)
        if not thread.is_alive():
            loop.close()
