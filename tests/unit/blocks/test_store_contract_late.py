"""What every store does with what is found out late: answers, and what a person says that nobody answered."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest
from store_cases import (
    ACTS,
    KEY,
    RUN_1,
    SettableClock,
    assert_books_are_whole,
    books,
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
from prefect_campaigns.errors import StoreError
from prefect_campaigns.results import StepStatus

DONE = make_step(status=StepStatus.COMPLETED, result={"found": 3}, cost=Decimal("0.75"))


async def in_state(store: CampaignStore, lease: Lease, acts: list[str], *, attempt: int = 1) -> Reservation:
    reservation = await reserve(store, lease, "1.00", attempt=attempt)
    for act in acts:
        reservation = await ACTS[act](store, lease, reservation)
    return reservation


class TestSettleLate:
    @pytest.mark.parametrize(
        ("acts", "state", "booked"),
        [
            (["mark_sent"], "settled", "0.5"),
            (["mark_sent", "unconfirmed"], "corrected", "0.5"),
            # An engine's answer that was heard before stays as it is, at 0.75.
            (["mark_sent", "settle"], "settled", "0.75"),
            (["mark_sent", "unconfirmed", "settle"], "corrected", "0.75"),
        ],
    )
    async def test_it_is_booked_once(
        self, store: CampaignStore, lease: Lease, acts: list[str], state: str, booked: str
    ) -> None:
        first = await in_state(store, lease, acts)
        # The second and the third time nothing changes, whatever they say.
        for amount in ("0.5", "0.5", "9"):
            settled = await store.settle_late(first, Decimal(amount))
            assert (settled.state, settled.booked) == (state, Decimal(booked))
        assert await store.attempts(RUN_1, "find") == [settled]
        assert await store.run_cost(RUN_1) == Decimal(booked)

    @pytest.mark.parametrize("acts", [[], ["release"], ["mark_sent", "release"]])
    async def test_a_request_that_never_left_cannot_have_been_answered(
        self, store: CampaignStore, lease: Lease, acts: list[str]
    ) -> None:
        reservation = await in_state(store, lease, acts)
        with pytest.raises(StoreError, match=f"attempt 1 of step 'find' of run {RUN_1} is {reservation.state}"):
            await store.settle_late(reservation, Decimal("0.5"))
        assert await store.attempts(RUN_1, "find") == [reservation]

    async def test_what_was_never_reserved_is_refused(self, store: CampaignStore, lease: Lease) -> None:
        invented = replace(await send(store, lease), step="invented")
        with pytest.raises(StoreError, match="nothing is reserved for attempt 1 of step 'invented'"):
            await store.settle_late(invented, Decimal(1))

    @pytest.mark.parametrize("amount", ["-0.01", "NaN", "Infinity", "1000000001"])
    async def test_what_is_no_amount_is_refused(self, store: CampaignStore, lease: Lease, amount: str) -> None:
        with pytest.raises(StoreError, match="cannot be booked"):
            await store.settle_late(await send(store, lease), Decimal(amount))

    async def test_it_needs_no_lease(self, store: CampaignStore, lease: Lease, clock: SettableClock) -> None:
        await store.start_run(lease, make_report())
        sent = await send(store, lease, "2", hold_seconds=60)
        clock.advance(hours=1)
        await store.finish_run(lease, make_report())
        await take_lease(store, "run-2", since=clock.now())
        assert await today(store) == ("2.000000", "0.000000")
        late = await store.settle_late(sent, Decimal("0.75"), step=DONE)
        assert (late.state, late.booked) == (AttemptState.CORRECTED, Decimal("0.75"))
        assert await today(store) == ("0.750000", "0.000000")
        report = await store.get_run(RUN_1)
        assert report and report.steps == (DONE,)

    async def test_it_is_booked_into_the_windows_of_its_reservation(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        sent = await send(store, lease, "2")
        clock.advance(days=1)
        await store.settle_late(sent, Decimal(3))
        assert await books(store) == {"daily": (0, 0), "weekly": (3, 0), "monthly": (3, 0)}

    async def test_of_many_that_heard_it_at_once_one_books_it(self, store: CampaignStore, lease: Lease) -> None:
        sent = await send(store, lease, "2")
        settled = await asyncio.gather(*(store.settle_late(sent, Decimal(cents) / 100) for cents in range(1, 11)))
        assert len({reservation.booked for reservation in settled}) == 1
        assert await store.run_cost(RUN_1) == settled[0].booked

    @pytest.mark.parametrize("open_acts", [[], ["mark_sent"]], ids=["held", "sent"])
    @pytest.mark.parametrize("acts", [["mark_sent"], ["mark_sent", "unconfirmed"]], ids=["sent", "unconfirmed"])
    async def test_while_a_later_attempt_is_open_it_has_to_wait(
        self, store: CampaignStore, lease: Lease, acts: list[str], open_acts: list[str]
    ) -> None:
        """The later answer may speak for it: booked now, its cost would be counted twice."""
        await store.start_run(lease, make_report())
        first = await in_state(store, lease, acts)
        second = await in_state(store, lease, open_acts, attempt=2)
        before = await today(store)
        assert await store.settle_late(first, Decimal("0.5"), step=DONE) == first
        assert await store.attempts(RUN_1, "find") == [first, second]
        assert await today(store) == before
        await store.release(lease, second)
        assert (await store.settle_late(first, Decimal("0.5"))).booked == Decimal("0.5")

    async def test_a_later_result_has_spoken_for_it(self, store: CampaignStore, lease: Lease) -> None:
        await store.start_run(lease, make_report())
        first = await store.book_unconfirmed(lease, await send(store, lease, "2"))
        await store.settle(lease, await send(store, lease, "2", attempt=2), Decimal("0.75"), step=DONE)
        late = await store.settle_late(first, Decimal("0.75"))
        assert (late.state, late.booked) == (AttemptState.CORRECTED, 0)
        assert await store.run_cost(RUN_1) == Decimal("0.75")

    async def test_a_result_speaks_for_earlier_attempts_that_had_none(self, store: CampaignStore, lease: Lease) -> None:
        await store.start_run(lease, make_report())
        await store.book_unconfirmed(lease, await send(store, lease, "2", attempt=1))
        await send(store, lease, "2", attempt=2)
        last = await store.book_unconfirmed(lease, await send(store, lease, "2", attempt=3))
        await store.settle_late(last, Decimal("0.75"), step=DONE)
        assert [(a.state, a.booked) for a in await store.attempts(RUN_1, "find")] == [
            ("corrected", 0),
            ("corrected", 0),
            ("corrected", Decimal("0.75")),
        ]

    async def test_what_a_failed_request_cost_says_nothing_about_an_earlier_one(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        first = await store.book_unconfirmed(lease, await send(store, lease, "2", attempt=1))
        second = await store.book_unconfirmed(lease, await send(store, lease, "2", attempt=2))
        await store.settle_late(second, Decimal("0.5"))
        assert (await store.attempts(RUN_1, "find"))[0] == first


class TestLateStep:
    """The record of the step whose result came late."""

    async def recorded(self, store: CampaignStore) -> StepStatus | None:
        report = await store.get_run(RUN_1)
        assert report is not None
        return report.steps[0].status if report.steps else None

    @pytest.mark.parametrize("there", [None, StepStatus.RUNNING, StepStatus.FAILED])
    async def test_it_is_written_over_what_was_not_completed(
        self, store: CampaignStore, lease: Lease, there: StepStatus | None
    ) -> None:
        await store.start_run(lease, make_report())
        if there is not None:
            await store.save_step(lease, make_step(status=there))
        await store.settle_late(await send(store, lease), Decimal("0.75"), step=DONE)
        assert await self.recorded(store) is StepStatus.COMPLETED

    async def test_one_that_is_completed_already_stays(self, store: CampaignStore, lease: Lease) -> None:
        await store.start_run(lease, make_report())
        first = DONE.model_copy(update={"result": {"found": 4}})
        await store.save_step(lease, first)
        await store.settle_late(await send(store, lease), Decimal("0.75"), step=DONE)
        report = await store.get_run(RUN_1)
        assert report and report.steps == (first,)

    @pytest.mark.parametrize("ended_by", ["release", "settle", "unconfirmed"])
    async def test_it_is_not_written_once_a_later_attempt_has_begun(
        self, store: CampaignStore, lease: Lease, ended_by: str
    ) -> None:
        await store.start_run(lease, make_report())
        await store.save_step(lease, make_step(status=StepStatus.FAILED))
        first = await store.book_unconfirmed(lease, await send(store, lease))
        await in_state(store, lease, [ended_by] if ended_by == "release" else ["mark_sent", ended_by], attempt=2)
        await store.settle_late(first, Decimal("0.75"), step=DONE)
        assert await self.recorded(store) is StepStatus.FAILED
        assert (await store.attempts(RUN_1, "find"))[0].booked == Decimal("0.75")

    async def test_it_is_written_though_the_money_was_booked_before(self, store: CampaignStore, lease: Lease) -> None:
        await store.start_run(lease, make_report())
        await store.save_step(lease, make_step(status=StepStatus.FAILED))
        await store.book_unconfirmed(lease, await send(store, lease))
        corrected = await store.correct(
            KEY, run_id=RUN_1, step="find", attempt=1, amount=Decimal("0.5"), by="Ada", note="by telephone"
        )
        assert await store.settle_late(corrected, Decimal("0.75"), step=DONE) == corrected
        assert await self.recorded(store) is StepStatus.COMPLETED

    async def test_what_it_cost_is_booked_where_the_record_of_the_run_is_gone(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        await store.start_run(lease, make_report())
        sent = await send(store, lease, "2")
        await store.delete_campaign(KEY)
        assert (await store.settle_late(sent, Decimal("0.75"), step=DONE)).state is AttemptState.SETTLED
        assert await store.get_run(RUN_1) is None
        assert await store.run_cost(RUN_1) == Decimal("0.75")
        await assert_books_are_whole(store, KEY)


class TestUnconfirmed:
    async def test_it_is_listed_from_the_oldest_on(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        second = await send(store, lease, "2", step="b", hold_seconds=60)
        clock.advance(seconds=1)
        first = await store.book_unconfirmed(lease, await send(store, lease, "1", step="a"))
        await spend(store, lease, "3", step="settled")
        await reserve(store, lease, "4", step="held", hold_seconds=59)
        clock.advance(seconds=59)
        listed = await store.unconfirmed(KEY)
        assert listed == [replace(second, state=AttemptState.UNCONFIRMED, booked=Decimal(2)), first]

    async def test_another_campaigns_is_not(self, store: CampaignStore, lease: Lease) -> None:
        await store.save_campaign(make_campaign("Another"))
        other = await take_lease(store, "run-2", key="another")
        unconfirmed = await store.book_unconfirmed(other, await send(store, other))
        assert await store.unconfirmed(KEY) == []
        assert await store.unconfirmed("another") == [unconfirmed]

    async def test_what_was_answered_or_corrected_is_not(self, store: CampaignStore, lease: Lease) -> None:
        for step in ("answered", "corrected"):
            await store.book_unconfirmed(lease, await send(store, lease, step=step))
        await store.settle_late((await store.attempts(RUN_1, "answered"))[0], Decimal(1))
        await store.correct(KEY, run_id=RUN_1, step="corrected", attempt=1, amount=Decimal(1), by="Ada", note="log")
        assert await store.unconfirmed(KEY) == []


class TestCorrect:
    @pytest.mark.parametrize("amount", ["0", "1", "0.000001", "7.5"])
    async def test_a_person_says_what_it_cost(
        self, store: CampaignStore, lease: Lease, clock: SettableClock, amount: str
    ) -> None:
        await store.book_unconfirmed(lease, await send(store, lease, "1"))
        await store.release_lease(lease)
        clock.advance(days=1)
        corrected = await store.correct(
            KEY, run_id=RUN_1, step="find", attempt=1, amount=Decimal(amount), by="Ada", note='the "invoice" of May 🎉'
        )
        assert (corrected.state, corrected.booked) == (AttemptState.CORRECTED, Decimal(amount))
        assert await store.attempts(RUN_1, "find") == [corrected]
        assert (await books(store))["daily"] == (0, 0)
        assert (await books(store))["weekly"] == (Decimal(amount), 0)
        assert await store.run_cost(RUN_1) == Decimal(amount)

    @pytest.mark.parametrize(
        "acts", [[], ["mark_sent"], ["release"], ["mark_sent", "settle"], ["mark_sent", "unconfirmed", "settle"]]
    )
    async def test_only_what_is_unconfirmed_is_hers_to_say(
        self, store: CampaignStore, lease: Lease, acts: list[str]
    ) -> None:
        reservation = await in_state(store, lease, acts)
        with pytest.raises(StoreError, match=f"is {reservation.state} and cannot be corrected"):
            await store.correct(KEY, run_id=RUN_1, step="find", attempt=1, amount=Decimal(5), by="Ada", note="guess")
        assert await store.attempts(RUN_1, "find") == [reservation]

    async def test_what_is_unknown_or_of_another_campaign_is_refused(self, store: CampaignStore, lease: Lease) -> None:
        await store.save_campaign(make_campaign("Another"))
        await store.book_unconfirmed(lease, await send(store, lease))
        said = {"run_id": RUN_1, "amount": Decimal(5), "by": "Ada", "note": "guess"}
        with pytest.raises(StoreError, match="nothing is reserved for attempt 2 of step 'find'"):
            await store.correct(KEY, step="find", attempt=2, **said)
        with pytest.raises(StoreError, match="is of campaign 'spring-outreach', not of 'another'"):
            await store.correct("another", step="find", attempt=1, **said)
        assert await store.run_cost(RUN_1) == 1

    async def test_what_is_no_amount_is_refused(self, store: CampaignStore, lease: Lease) -> None:
        await store.book_unconfirmed(lease, await send(store, lease))
        with pytest.raises(StoreError, match="cannot be booked"):
            await store.correct(KEY, run_id=RUN_1, step="find", attempt=1, amount=Decimal(-1), by="Ada", note="no")

    async def test_a_later_answer_does_not_overrule_her(self, store: CampaignStore, lease: Lease) -> None:
        unconfirmed = await store.book_unconfirmed(lease, await send(store, lease))
        corrected = await store.correct(
            KEY, run_id=RUN_1, step="find", attempt=1, amount=Decimal("0.5"), by="Ada", note="invoice"
        )
        assert await store.settle_late(unconfirmed, Decimal(9)) == corrected
        with pytest.raises(StoreError, match=r"already corrected at 0\.50, not 9\.00"):
            await store.settle(lease, unconfirmed, Decimal(9))
