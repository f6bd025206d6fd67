"""Finishing what must not be half done, whoever cancels meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


def stay_alive() -> None:
    """Take a cancellation back: of a cancelled coroutine Prefect says only that its environment cancelled it."""
    if current := asyncio.current_task():
        current.uncancel()


async def to_its_end(work: Coroutine[Any, Any, T], *, seconds: float) -> T:
    """Await the work to its end and return its result; a cancellation on the way is raised afterwards.

    It holds against both kinds of cancellation: a Prefect timeout is an anyio cancel scope, and whoever cancels the run
    cancels its asyncio task, which anyio's own shield lets through.

    Raises:
        TimeoutError: the work did not end within ``seconds``; it was cancelled then.
        asyncio.CancelledError: somebody cancelled while it went on.
    """
    task = asyncio.ensure_future(work)
    cancellation = await outlast_cancellation(task, seconds=seconds)
    if not task.done():
        task.cancel()
        if cancellation is None:
            raise TimeoutError(f"not done within {seconds:g} seconds")
    if cancellation is not None:
        if task.done() and not task.cancelled() and (failure := task.exception()) is not None:
            raise cancellation from failure
        raise cancellation
    return task.result()


async def outlast_cancellation(awaited: asyncio.Future[Any], *, seconds: float) -> asyncio.CancelledError | None:
    """Wait for a future, at most so long, however often the waiting is cancelled; return the last cancellation."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    cancellation: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not awaited.done() and (left := deadline - loop.time()) > 0:
            try:
                await asyncio.wait({awaited}, timeout=left)
            except asyncio.CancelledError as error:
                cancellation = error
    return cancellation
