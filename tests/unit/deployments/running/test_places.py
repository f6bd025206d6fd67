"""Places that are taken in turn."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from prefect_campaigns.deployments.running.places import Places

RUNS = [UUID(int=number) for number in range(6)]


async def took(order: list[UUID], places: Places, run: UUID) -> None:
    await places.take(run)
    order.append(run)


async def come(places: Places) -> tuple[list[UUID], list[asyncio.Task[None]]]:
    order: list[UUID] = []
    tasks = [asyncio.create_task(took(order, places, run)) for run in RUNS]
    await asyncio.sleep(0)
    return order, tasks


async def test_who_comes_first_is_first_and_a_place_that_is_left_twice_is_one() -> None:
    places = Places(2, keep_seconds=60)
    order, tasks = await come(places)
    assert order == RUNS[:2]
    places.leave(RUNS[1])
    places.leave(RUNS[1])
    await asyncio.sleep(0.01)
    assert order == RUNS[:3]
    for run in RUNS:
        places.leave(run)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == RUNS


async def test_who_has_a_place_keeps_it_and_takes_no_second_one() -> None:
    places = Places(2, keep_seconds=60)
    for _ in range(3):
        await asyncio.wait_for(places.take(RUNS[0]), 1)
    await asyncio.wait_for(places.take(RUNS[1]), 1)
    places.leave(RUNS[0])
    await asyncio.wait_for(places.take(RUNS[2]), 1)


async def test_a_place_that_nobody_leaves_is_free_after_a_while() -> None:
    places = Places(1, keep_seconds=0.1)
    order, tasks = await come(places)
    await asyncio.sleep(0.02)
    assert order == RUNS[:1]
    await asyncio.sleep(0.13)
    assert order == RUNS[:2]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_whoever_waits_no_longer_takes_no_place(is_cancelled: bool) -> None:
    places = Places(1, keep_seconds=60)
    order, tasks = await come(places)
    if is_cancelled:
        tasks[1].cancel()
    await asyncio.sleep(0)
    places.leave(RUNS[0])
    await asyncio.sleep(0.01)
    assert order == [RUNS[0], RUNS[2] if is_cancelled else RUNS[1]]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
