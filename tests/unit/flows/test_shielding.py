"""What must not be half done is done, whoever cancels meanwhile."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from prefect_campaigns.flows.shielding import to_its_end


class Work:
    """Work that goes on until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.done = asyncio.Event(), asyncio.Event(), False

    async def do(self) -> str:
        self.begun.set()
        await self.go_on.wait()
        self.done = True
        return "done"


async def test_undisturbed_it_gives_the_result() -> None:
    work = Work()
    work.go_on.set()
    assert await to_its_end(work.do(), seconds=5) == "done"


async def test_a_task_that_is_cancelled_many_times_ends_the_work_first() -> None:
    work = Work()
    task = asyncio.create_task(to_its_end(work.do(), seconds=5))
    await work.begun.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    work.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.done


async def test_a_timeout_around_it_ends_the_work_first() -> None:
    work = Work()
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.01):
            asyncio.get_running_loop().call_later(0.05, work.go_on.set)
            await to_its_end(work.do(), seconds=5)
            await anyio.sleep(5)
    assert work.done


async def test_work_that_does_not_end_is_given_up() -> None:
    with pytest.raises(TimeoutError, match=r"not done within 0\.01 seconds"):
        await to_its_end(Work().do(), seconds=0.01)


async def test_its_own_error_is_raised() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await to_its_end(fail(), seconds=5)
