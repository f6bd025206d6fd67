"""Several who pause and resume one campaign at once, and who dies while at it.

The clock is the test's, and no worker takes part.
"""

from __future__ import annotations

from datetime import UTC

import pytest
from day import (
    AT_THREE,
    MIDNIGHT,
    Overtaken,
    by_our_command,
)

from prefect_campaigns.blocks.store_types import PausedBy
from prefect_campaigns.errors import StoreUnavailable
from prefect_campaigns.flows.pausing import pause_by_person, pause_for_budget, show_pause, who_paused
from prefect_campaigns.flows.resuming import Outcome, resume_after_budget

pytestmark = pytest.mark.usefixtures("no_worker")


async def test_who_pauses_while_the_budget_resumes_has_the_last_word(day) -> None:
    await day.apply()
    await day.spend_the_day()
    day.clock.instant = MIDNIGHT.astimezone(UTC)
    overtaken = Overtaken(day.store, "set_pause", lambda: by_our_command(day), calls=1)
    await resume_after_budget(day.client, overtaken, day.key, now=day.clock.now())
    assert (await day.pause()).reason == "holidays"
    assert await day.is_paused()
    assert "holidays" in await day.description()
    assert "stays paused by a person" in await day.resume()


@pytest.mark.parametrize("method", ["set_pause", "get_campaign"])
async def test_a_pause_that_is_over_before_it_is_shown_is_over(day, method) -> None:
    await day.apply()
    assert (await day.run()).name == "Completed"
    reached = (await day.store.budget_status(day.key)).reached

    async def resume() -> None:
        await resume_after_budget(day.client, day.store, day.key, now=MIDNIGHT)

    overtaken = Overtaken(day.store, method, resume, calls=2)
    day.clock.instant = MIDNIGHT.astimezone(UTC)
    await pause_for_budget(day.client, overtaken, day.key, reached, now=AT_THREE)
    assert (await day.pause(), await day.is_paused()) == (None, False)
    assert "Paused" not in await day.description()


async def test_a_persons_pause_that_broke_off_is_a_persons_pause(day) -> None:
    await day.apply()

    async def die() -> None:
        raise StoreUnavailable("gone")

    record = await day.store.get_campaign(day.key)
    broken = Overtaken(day.store, "set_pause", die, calls=1)
    with pytest.raises(StoreUnavailable):
        await pause_by_person(day.client, broken, record, reason="holidays", now=day.clock.now())
    assert await day.is_paused()
    assert (
        await resume_after_budget(day.client, day.store, day.key, now=day.clock.now())
    ).outcome is Outcome.NOT_PAUSED
    assert await day.is_paused()


@pytest.mark.parametrize("calls", [1, 2])
async def test_a_run_that_begins_while_a_person_pauses_does_not_resume(day, calls) -> None:
    await day.apply()

    async def begin() -> None:
        await resume_after_budget(day.client, day.store, day.key, now=day.clock.now())

    record = await day.store.get_campaign(day.key)
    overtaken = Overtaken(day.client, "pause_deployment", begin, calls=calls)
    await pause_by_person(overtaken, day.store, record, reason="holidays", now=day.clock.now())
    await begin()
    assert ((await day.pause()).reason, await day.is_paused()) == ("holidays", True)


async def test_two_who_show_a_pause_at_once_do_not_make_it_a_persons(day) -> None:
    # A day to come: what is scheduled for the real past is not deleted.
    day.clock.advance(days=3)
    await day.apply()
    await day.spend_the_day()
    record = await day.store.get_campaign(day.key)

    async def write_the_run_that_is_gone() -> None:
        present = await day.pause()
        await day.store.set_pause(day.key, record.pause, replacing=present)

    overtaken = Overtaken(day.store, "set_pause", write_the_run_that_is_gone, calls=2)
    await show_pause(day.client, overtaken, record, record.pause)
    pause = await who_paused(day.client, await day.store.get_campaign(day.key))
    assert pause.by is PausedBy.BUDGET
    assert [run.id for run in await day.runs_at(pause.until)] == [pause.awaited_run_id]
