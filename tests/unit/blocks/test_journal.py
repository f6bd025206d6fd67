"""What engines charged is kept on this machine until the store has it."""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from store_cases import KEY, RUN_1, SettableClock, make_report, make_step, reserve, send, today

from prefect_campaigns.blocks.journal import Journal, JournalEntry, settle_journal
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease, Reservation
from prefect_campaigns.errors import StoreUnavailable
from prefect_campaigns.results import StepStatus


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def entry(store: CampaignStore, reservation: Reservation, amount: str = "0.75", **changes: object) -> JournalEntry:
    finished = make_step(status=StepStatus.COMPLETED, result={"said": "\ud800 \0 ü", "n": [1, None]})
    made = JournalEntry(books=store.books, reservation=reservation, amount=Decimal(amount), step=finished)
    return replace(made, **changes)


async def test_what_is_written_is_read_back_and_gone_when_it_is_removed(
    journal: Journal, store: CampaignStore, lease: Lease
) -> None:
    assert await journal.is_empty()
    written = entry(store, await send(store, lease))
    await journal.write(written)
    assert await journal.entries(store.books) == [written]
    assert not await journal.is_empty()
    (file,) = journal.folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for _ in range(2):
        await journal.remove(written)
    assert await journal.is_empty()


async def test_writing_again_replaces(journal: Journal, store: CampaignStore, lease: Lease) -> None:
    sent = await send(store, lease)
    await journal.write(entry(store, sent, "1"))
    await journal.write(entry(store, sent, "2"))
    assert [one.amount for one in await journal.entries(store.books)] == [2]


async def test_what_belongs_to_other_books_is_left_alone(journal: Journal, store: CampaignStore, lease: Lease) -> None:
    await journal.write(entry(store, await send(store, lease), books="somewhere else"))
    assert await settle_journal(journal, store) == 0
    assert not await journal.is_empty()


async def test_it_is_settled_when_the_run_has_ended_and_its_lease_is_gone(
    journal: Journal, store: CampaignStore, lease: Lease, clock: SettableClock
) -> None:
    await store.start_run(lease, make_report())
    await journal.write(entry(store, await send(store, lease, "2", hold_seconds=60)))
    await store.release_lease(lease)
    clock.advance(seconds=61)
    assert await today(store) == ("2.000000", "0.000000"), "booked at its estimate, since nobody knew better"
    assert await settle_journal(journal, store) == 1
    assert await today(store) == ("0.750000", "0.000000")
    (step,) = (await store.get_run(RUN_1)).steps
    assert (step.status, step.result["said"]) == (StepStatus.COMPLETED, "\ud800 \0 ü")
    assert await journal.is_empty()


async def test_what_was_settled_after_all_is_not_booked_twice(
    journal: Journal, store: CampaignStore, lease: Lease
) -> None:
    sent = await send(store, lease)
    await journal.write(entry(store, sent, step=None))
    await store.settle(lease, sent, Decimal("0.75"))
    assert await settle_journal(journal, store) == 1
    assert await today(store) == ("0.750000", "0.000000")


async def test_what_a_later_request_may_speak_for_waits(journal: Journal, store: CampaignStore, lease: Lease) -> None:
    await store.start_run(lease, make_report())
    first = await store.book_unconfirmed(lease, await send(store, lease))
    await journal.write(entry(store, first))
    second = await send(store, lease, attempt=2)
    assert await settle_journal(journal, store) == 0
    assert not await journal.is_empty()
    await store.settle(lease, second, Decimal("0.75"), step=make_step(status=StepStatus.COMPLETED, attempts=2))
    assert await settle_journal(journal, store) == 1
    assert await today(store) == ("0.750000", "0.000000"), "the same answer, charged once"
    assert await journal.is_empty()


@pytest.mark.parametrize("amount", ["0.0123456789", "0.30000000000000004"])
async def test_a_cost_that_is_finer_than_the_books_is_in_them(
    journal: Journal, store: CampaignStore, lease: Lease, amount: str
) -> None:
    await journal.write(entry(store, await send(store, lease), amount, step=None))
    assert await settle_journal(journal, store) == 1
    assert (await journal.content()).contradicting == ()
    assert await journal.is_empty()


async def corrected_by_a_person(store: CampaignStore, lease: Lease, amount: str, *, attempt: int = 1) -> Reservation:
    await store.book_unconfirmed(lease, await send(store, lease, attempt=attempt))
    return await store.correct(
        KEY, run_id=RUN_1, step="find", attempt=attempt, amount=Decimal(amount), by="Ada", note="not on the bill"
    )


async def nothing_later(store: CampaignStore, lease: Lease) -> None:
    pass


async def later_released(store: CampaignStore, lease: Lease) -> None:
    await store.release(lease, await send(store, lease, attempt=2))


async def later_unconfirmed(store: CampaignStore, lease: Lease) -> None:
    await store.book_unconfirmed(lease, await send(store, lease, attempt=2))


async def later_corrected_to_nothing(store: CampaignStore, lease: Lease) -> None:
    await corrected_by_a_person(store, lease, "0", attempt=2)


@pytest.mark.parametrize(
    "later",
    [nothing_later, later_released, later_unconfirmed, later_corrected_to_nothing],
    ids=lambda act: act.__name__,
)
async def test_what_a_person_said_cost_nothing_and_the_engine_charged_is_set_aside(
    journal: Journal,
    store: CampaignStore,
    lease: Lease,
    later: Callable[[CampaignStore, Lease], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await store.start_run(lease, make_report())
    await journal.write(entry(store, await corrected_by_a_person(store, lease, "0")))
    await later(store, lease)
    assert await settle_journal(journal, store) == 0
    (file,) = (await journal.content()).contradicting
    assert f"is booked at 0.00, and the engine said 0.75 before; a person may look at {file}" in caplog.text
    assert await journal.is_empty()


async def test_what_a_late_answer_has_spoken_for_is_not_set_aside(
    journal: Journal, store: CampaignStore, lease: Lease
) -> None:
    await store.start_run(lease, make_report())
    first = await store.book_unconfirmed(lease, await send(store, lease))
    second = await store.book_unconfirmed(lease, await send(store, lease, attempt=2))
    await store.settle_late(second, Decimal("0.75"), step=make_step(status=StepStatus.COMPLETED, attempts=2))
    await journal.write(entry(store, first))
    assert await settle_journal(journal, store) == 1
    assert (await journal.content()).contradicting == ()
    assert await today(store) == ("0.750000", "0.000000")


async def test_what_the_store_refuses_stays_and_does_not_hold_up_the_rest(
    journal: Journal, store: CampaignStore, lease: Lease
) -> None:
    await journal.write(entry(store, await reserve(store, lease, step="never sent"), step=None))
    await journal.write(entry(store, await send(store, lease, step="sent"), step=None))
    assert await settle_journal(journal, store) == 1
    (left,) = await journal.entries(store.books)
    assert left.reservation.step == "never sent"


async def test_what_cannot_be_read_stays_and_does_not_hold_up_the_rest(
    journal: Journal, store: CampaignStore, lease: Lease
) -> None:
    await journal.write(entry(store, await send(store, lease), step=None))
    (journal.folder / "torn.json").write_text('{"books"')
    assert await settle_journal(journal, store) == 1
    assert [file.name for file in journal.folder.iterdir()] == ["torn.json"]


async def test_a_disk_that_takes_nothing_is_a_store_that_is_away(
    tmp_path: Path, store: CampaignStore, lease: Lease
) -> None:
    (tmp_path / "file").touch()
    journal = Journal(tmp_path / "file" / "journal")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await journal.write(entry(store, await send(store, lease)))


async def test_what_it_says_can_be_changed_and_what_was_charged_stays(
    journal: Journal, store: CampaignStore, lease: Lease
) -> None:
    said = make_step(status=StepStatus.COMPLETED, result={"to": "bob@example.com"}, warnings=("bob@example.com",))
    with_step = entry(store, await send(store, lease), step=said)
    without_step = entry(store, await send(store, lease, step="mail"), step=None)
    for one in (with_step, without_step):
        await journal.write(one)
    aside = await journal.set_aside(entry(store, with_step.reservation, step=said))
    await journal.write(with_step)
    written = datetime.fromtimestamp(aside.stat().st_mtime, UTC)

    def change(step: dict[str, object]) -> dict[str, object]:
        return {**step, "result": None, "warnings": []}

    # What is old and was set aside, and nothing that a run may go on with.
    assert await journal.rewrite(change, set_aside_before=written - timedelta(hours=1)) == 0
    assert await journal.rewrite(change, set_aside_before=written + timedelta(hours=1)) == 1
    assert "bob" in str(await journal.entries(store.books))
    assert await journal.rewrite(change) == 1
    assert await journal.rewrite(change) == 0
    silent = said.model_copy(update={"result": None, "warnings": ()})
    found = {one.reservation.step: one for one in await journal.entries(store.books)}
    assert found == {"find": replace(with_step, step=silent), "mail": without_step}
    assert "bob" not in aside.read_text()
