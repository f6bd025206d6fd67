"""What every store does with a reservation until it is booked, to the last millionth."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest
from store_cases import (
    ACTS,
    NOON,
    RUN_1,
    RUN_2,
    SpendMany,
    StoreFactory,
    account_books,
    assert_books_are_whole,
    make_campaign,
    make_report,
    make_step,
    reserve,
    send,
    spend,
    take_lease,
    today,
)

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AttemptState, Lease, Reservation
from prefect_campaigns.errors import BudgetRefused, StoreError
from prefect_campaigns.results import StepResult, StepStatus


async def recorded(store: CampaignStore) -> tuple[StepResult, ...]:
    """Return the steps of the run's record."""
    report = await store.get_run(RUN_1)
    assert report is not None
    return report.steps


class TestStates:
    """A reservation of 1.00, and what becomes of it."""

    @pytest.mark.parametrize(
        ("acts", "state", "booked", "spent", "reserved"),
        [
            ([], "held", None, "0.000000", "1.000000"),
            (["release"], "released", None, "0.000000", "0.000000"),  # the request was never made
            (["mark_sent"], "sent", None, "0.000000", "1.000000"),
            (["mark_sent", "release"], "released", None, "0.000000", "0.000000"),  # its connection was refused
            (["mark_sent", "settle"], "settled", "0.75", "0.750000", "0.000000"),
            (["mark_sent", "unconfirmed"], "unconfirmed", "1", "1.000000", "0.000000"),
            (["mark_sent", "unconfirmed", "settle"], "corrected", "0.75", "0.750000", "0.000000"),
            # Saying it twice, after an answer of the store got lost, does nothing.
            (["release", "release"], "released", None, "0.000000", "0.000000"),
            (["mark_sent", "settle", "settle"], "settled", "0.75", "0.750000", "0.000000"),
            (["mark_sent", "unconfirmed", "unconfirmed"], "unconfirmed", "1", "1.000000", "0.000000"),
            (["mark_sent", "unconfirmed", "settle", "settle"], "corrected", "0.75", "0.750000", "0.000000"),
        ],
    )
    async def test_legal_ways(
        self,
        store: CampaignStore,
        lease: Lease,
        acts: list[str],
        state: str,
        booked: str | None,
        spent: str,
        reserved: str,
    ) -> None:
        reservation = first = await reserve(store, lease, "1.00")
        for act in acts:
            # What the store has counts, not what the caller still has in hand.
            reservation = await ACTS[act](store, lease, first)
        assert (reservation.state, reservation.booked) == (state, booked and Decimal(booked))
        assert await store.attempts(RUN_1, "find") == [reservation]
        assert await today(store) == (spent, reserved)
        assert await store.run_cost(RUN_1) == Decimal(spent)

    @pytest.mark.parametrize(
        ("acts", "illegal"),
        [
            (["mark_sent"], "mark_sent"),  # the request would leave twice
            (["release"], "mark_sent"),  # its money is gone
            (["release"], "settle"),
            (["release"], "unconfirmed"),
            ([], "settle"),  # it has not left
            ([], "unconfirmed"),  # it has not left
            (["mark_sent", "settle"], "mark_sent"),
            (["mark_sent", "settle"], "release"),
            (["mark_sent", "settle"], "unconfirmed"),
            (["mark_sent", "unconfirmed"], "mark_sent"),
            (["mark_sent", "unconfirmed"], "release"),
            (["mark_sent", "unconfirmed", "settle"], "release"),
            (["mark_sent", "unconfirmed", "settle"], "unconfirmed"),
        ],
    )
    async def test_illegal_ways_change_nothing(
        self, store: CampaignStore, lease: Lease, acts: list[str], illegal: str
    ) -> None:
        reservation = await reserve(store, lease, "1.00")
        for act in acts:
            reservation = await ACTS[act](store, lease, reservation)
        before = await today(store)
        with pytest.raises(StoreError, match=f"attempt 1 of step 'find' of run {RUN_1} is {reservation.state}"):
            await ACTS[illegal](store, lease, reservation)
        assert await store.attempts(RUN_1, "find") == [reservation]
        assert await today(store) == before

    async def test_a_step_is_written_with_the_note_that_its_request_leaves(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        await store.start_run(lease, make_report())
        running = make_step(status=StepStatus.RUNNING, attempts=1, started_at=NOON)
        sent = await store.mark_sent(lease, await reserve(store, lease), step=running)
        assert sent.state is AttemptState.SENT
        assert await recorded(store) == (running,)

    async def test_neither_is_written_without_the_other(self, store: CampaignStore, lease: Lease) -> None:
        running = make_step(status=StepStatus.RUNNING)
        held = await reserve(store, lease)
        with pytest.raises(StoreError, match="start_run comes first"):
            await store.mark_sent(lease, held, step=running)
        assert await store.attempts(RUN_1, "find") == [held]
        await store.start_run(lease, make_report())
        await store.release(lease, held)
        with pytest.raises(StoreError, match="is released and cannot be marked as sent"):
            await store.mark_sent(lease, held, step=running)
        assert await recorded(store) == ()

    async def test_settling_again_at_another_amount_is_refused(self, store: CampaignStore, lease: Lease) -> None:
        settled = await spend(store, lease, "1")
        with pytest.raises(StoreError, match=r"already settled at 1\.00, not 2\.00"):
            await store.settle(lease, settled, Decimal(2))

    async def test_what_was_never_reserved_is_refused(self, store: CampaignStore, lease: Lease) -> None:
        invented = replace(await reserve(store, lease), step="invented")
        with pytest.raises(StoreError, match="nothing is reserved for attempt 1 of step 'invented'"):
            await store.mark_sent(lease, invented)

    async def test_another_run_may_not_touch_it(self, store: CampaignStore, lease: Lease) -> None:
        sent = await send(store, lease)
        await store.release_lease(lease)
        with pytest.raises(StoreError, match=f"not the business of run {RUN_2}"):
            await store.settle(await take_lease(store, "run-2"), sent, Decimal(1))

    async def test_a_resumed_run_settles_what_its_earlier_execution_sent(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        sent = await send(store, lease)
        await store.release_lease(lease)
        resumed = await take_lease(store, "run-1", holder="the other worker")
        assert (await store.settle(resumed, sent, Decimal(1))).state is AttemptState.SETTLED

    async def test_costing_more_than_estimated_is_booked_in_full(self, store: CampaignStore, lease: Lease) -> None:
        await store.save_campaign(make_campaign(daily=1))
        await store.settle(lease, await send(store, lease, "1"), Decimal("1.02"))
        assert await today(store) == ("1.020000", "0.000000")

    async def test_what_a_failed_request_cost_says_nothing_about_an_earlier_one(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        lost = await store.book_unconfirmed(lease, await send(store, lease, "2", attempt=1))
        await store.settle(lease, await send(store, lease, "2", attempt=2), Decimal(0))
        assert (await store.attempts(RUN_1, "find"))[0] == lost
        assert await store.run_cost(RUN_1) == 2

    async def test_a_result_speaks_for_earlier_attempts_that_had_none(self, store: CampaignStore, lease: Lease) -> None:
        await store.start_run(lease, make_report())
        await store.book_unconfirmed(lease, await send(store, lease, "2", attempt=1))
        await send(store, lease, "2", attempt=2)
        await spend(store, lease, "0.5", attempt=3)
        await store.release(lease, await reserve(store, lease, "2", attempt=4))
        last = await send(store, lease, "2", attempt=5)
        other = await store.book_unconfirmed(lease, await send(store, lease, "4", step="another"))
        await store.settle(lease, last, Decimal("0.3"), step=make_step(status=StepStatus.COMPLETED))
        attempts = await store.attempts(RUN_1, "find")
        assert [(attempt.state, attempt.booked) for attempt in attempts] == [
            ("corrected", 0),
            ("corrected", 0),
            ("settled", Decimal("0.5")),
            ("released", None),
            ("settled", Decimal("0.3")),
        ]
        assert await store.attempts(RUN_1, "another") == [other]
        assert await store.run_cost(RUN_1) == Decimal("4.8")

    async def test_a_late_answer_does_not_speak_for_later_attempts(self, store: CampaignStore, lease: Lease) -> None:
        first = await store.book_unconfirmed(lease, await send(store, lease, "2", attempt=1))
        second = await store.book_unconfirmed(lease, await send(store, lease, "2", attempt=2))
        third = await send(store, lease, "2", attempt=3)
        await store.start_run(lease, make_report())
        await store.settle(lease, first, Decimal("0.5"), step=make_step(status=StepStatus.COMPLETED))
        assert (await store.attempts(RUN_1, "find"))[1:] == [second, third]

    async def test_a_step_is_written_with_its_settlement_or_not_at_all(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        sent = await send(store, lease)
        done = make_step(status=StepStatus.COMPLETED, cost=1)
        with pytest.raises(StoreError, match="start_run comes first"):
            await store.settle(lease, sent, Decimal(1), step=done)
        assert await store.attempts(RUN_1, "find") == [sent]
        await store.start_run(lease, make_report())
        await store.settle(lease, sent, Decimal(1), step=done)
        report = await store.get_run(RUN_1)
        assert report and (report.steps, report.total_cost) == ((done,), 1)


class TestExactness:
    async def test_three_thousand_times_a_tenth_of_a_cent_is_three_dollars(
        self, store: CampaignStore, lease: Lease, spend_many: SpendMany
    ) -> None:
        await spend_many(store, lease, Decimal("0.001"), 3000)
        assert await today(store) == ("3.000000", "0.000000")
        assert str(await store.run_cost(RUN_1)) == "3.000000"
        assert {str(spent) for spent, _ in (await account_books(store)).values()} == {"3.000000"}

    async def test_less_than_a_millionth_is_booked_as_one(self, store: CampaignStore, lease: Lease) -> None:
        settled = await store.settle(lease, await send(store, lease, "0"), Decimal("0.0000001"))
        assert str(settled.booked) == "0.000001"

    async def test_fifty_at_once_against_a_limit_of_twenty(self, make_store: StoreFactory) -> None:
        async with make_store() as one, make_store() as two, make_store() as three:
            await one.save_campaign(make_campaign(daily=20))
            lease = await take_lease(one)
            answers = await asyncio.gather(
                *(
                    reserve(store, lease, "1.00", attempt=attempt)
                    for attempt, store in enumerate([one, two, three] * 17, start=1)
                    if attempt <= 50
                ),
                return_exceptions=True,
            )
            assert sum(isinstance(answer, Reservation) for answer in answers) == 20
            assert sum(isinstance(answer, BudgetRefused) for answer in answers) == 30
            assert await today(two) == ("0.000000", "20.000000")
            await assert_books_are_whole(three)
