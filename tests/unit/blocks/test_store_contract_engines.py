"""What every store keeps of engines by which runs fail, one after the other."""

from __future__ import annotations

from datetime import timedelta

from store_cases import NOON, RUN_1, RUN_2, SettableClock, run_id

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import EngineTrouble

ENGINE = "http://localhost:3010"
PAUSE = timedelta(minutes=15)


async def fail(store: CampaignStore, run: str, error: str = "no answer", *, endpoint: str = ENGINE) -> EngineTrouble:
    pause = PAUSE.total_seconds()
    return await store.engine_failed(endpoint, run_id=run, error=error, after_runs=3, pause_seconds=pause)


async def test_an_engine_is_left_alone_after_so_many_runs_and_not_before(
    store: CampaignStore, clock: SettableClock
) -> None:
    for number, run in enumerate((RUN_1, RUN_2), start=1):
        trouble = await fail(store, run, f"error {number} “ü”")
        assert (trouble.runs, trouble.since, trouble.left_alone_until) == (number, NOON, None)
        clock.advance(minutes=1)
    trouble = await fail(store, run_id("run-3"), "error 3")
    assert trouble == EngineTrouble(
        endpoint=ENGINE,
        runs=3,
        since=NOON,
        left_alone_since=NOON + timedelta(minutes=2),
        left_alone_until=NOON + timedelta(minutes=2) + PAUSE,
        error="error 3",
    )
    assert await store.engine_troubles() == [trouble]


async def test_a_run_that_is_retried_counts_once(store: CampaignStore) -> None:
    for _ in range(5):
        assert (await fail(store, RUN_1)).runs == 1


async def test_one_that_is_tried_again_and_fails_is_left_alone_anew(store: CampaignStore, clock: SettableClock) -> None:
    for number in range(3):
        await fail(store, run_id(f"run-{number}"))
    clock.advance(minutes=20)
    trouble = await fail(store, run_id("run-4"))
    assert (trouble.runs, trouble.left_alone_since) == (4, NOON)
    assert trouble.left_alone_until == NOON + timedelta(minutes=20) + PAUSE


async def test_one_that_works_is_forgotten_and_the_others_are_not(store: CampaignStore) -> None:
    for number in range(3):
        await fail(store, run_id(f"run-{number}"))
        await fail(store, run_id(f"run-{number}"), endpoint="http://localhost:3000")
    for _ in range(2):
        await store.engine_answered(ENGINE)
    assert [one.endpoint for one in await store.engine_troubles()] == ["http://localhost:3000"]
    assert (await fail(store, RUN_1)).runs == 1
    assert [one.endpoint for one in await store.engine_troubles()] == ["http://localhost:3000", ENGINE]
