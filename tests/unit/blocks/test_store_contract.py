"""What every store does, whatever it keeps its rows in. A store joins by an entry in STORES."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from store_cases import (
    KEY,
    NOON,
    SettableClock,
    ask_lease,
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

from prefect_campaigns.blocks.sqlite import SqliteStore
from prefect_campaigns.blocks.store import AttemptState, CampaignStore, Lease, LeaseHeld, Reservation
from prefect_campaigns.errors import BudgetRefused, LeaseLost, StoreError, UnknownCampaign
from prefect_campaigns.results import RunStatus, StepStatus


class StoreUnderTest(CampaignStore, Protocol):
    """A store that can also add up its books."""

    async def verify_totals(self, campaign_key: str) -> list[str]: ...


StoreFactory = Callable[[], StoreUnderTest]


def sqlite_stores(folder: Path, clock: SettableClock) -> StoreFactory:
    return lambda: SqliteStore(folder / "campaigns.db", clock=clock)


STORES: dict[str, Callable[[Path, SettableClock], StoreFactory]] = {"sqlite": sqlite_stores}


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest, tmp_path: Path, clock: SettableClock) -> StoreFactory:
    """Makes stores that keep the same data, as several processes do."""
    return STORES[request.param](tmp_path, clock)


@pytest.fixture
async def store(make_store: StoreFactory) -> AsyncIterator[StoreUnderTest]:
    """An open store with one campaign without limits; its books are added up after every test."""
    async with make_store() as opened:
        await opened.save_campaign(make_campaign())
        yield opened
        assert await opened.verify_totals(KEY) == []


@pytest.fixture
async def lease(store: CampaignStore) -> Lease:
    return await take_lease(store)


class TestCampaigns:
    async def test_what_was_saved_is_read_back(self, store: CampaignStore, clock: SettableClock) -> None:
        campaign = make_campaign("Élan & Co", timezone="Asia/Tokyo", daily="5.25", perLead="0.000001")
        deployment_id = uuid4()
        saved = await store.save_campaign(campaign, deployment_id=deployment_id, applied_schedule_active=True)
        assert saved == await store.get_campaign("elan-co")
        assert saved.campaign == campaign
        assert (saved.key, saved.deployment_id, saved.applied_schedule_active) == ("elan-co", deployment_id, True)
        assert saved.created_at == saved.updated_at == clock.now()
        assert saved.created_at.utcoffset() == timedelta(0)

    async def test_saving_again_keeps_the_id_and_what_is_not_given(
        self, store: CampaignStore, clock: SettableClock
    ) -> None:
        first = await store.save_campaign(make_campaign(), deployment_id=uuid4(), applied_schedule_active=False)
        clock.advance(hours=1)
        second = await store.save_campaign(make_campaign(daily=7))
        assert second == replace(first, campaign=make_campaign(daily=7), updated_at=clock.now())
        assert (await store.save_campaign(make_campaign(), applied_schedule_active=True)).applied_schedule_active

    async def test_another_spelling_of_the_same_key_is_the_same_campaign(self, store: CampaignStore) -> None:
        first = await store.get_campaign(KEY)
        assert (await store.save_campaign(make_campaign("spring  OUTREACH!"))).id == first.id

    async def test_an_unknown_key_is_refused_by_name(self, store: CampaignStore) -> None:
        with pytest.raises(UnknownCampaign, match="'nobody'"):
            await store.get_campaign("nobody")

    async def test_campaigns_are_listed_by_name(self, store: CampaignStore) -> None:
        for name in ("beta", "Alpha", "Gamma"):
            await store.save_campaign(make_campaign(name))
        names = [record.campaign.name for record in await store.list_campaigns()]
        assert names == ["Alpha", "beta", "Gamma", "Spring Outreach"]


class TestLease:
    async def test_the_first_to_ask_gets_it(self, store: CampaignStore, clock: SettableClock) -> None:
        lease = await take_lease(store, ttl_seconds=60)
        assert lease.expires_at == clock.now() + timedelta(seconds=60)
        assert lease.fence == 1

    async def test_everybody_else_hears_who_holds_it(self, store: CampaignStore, lease: Lease) -> None:
        expected = LeaseHeld(run_id="run-1", run_name="name of run-1", expires_at=lease.expires_at)
        assert await ask_lease(store, "run-2") == expected

    async def test_a_second_execution_of_the_same_run_is_refused(self, store: CampaignStore, lease: Lease) -> None:
        answer = await ask_lease(store, "run-1", holder="the other worker")
        assert isinstance(answer, LeaseHeld)
        assert answer.run_id == "run-1"

    async def test_asking_again_renews_with_the_same_fence(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        clock.advance(seconds=40)
        assert await take_lease(store) == replace(lease, expires_at=clock.now() + timedelta(seconds=60))

    async def test_leases_of_campaigns_do_not_meet(self, store: CampaignStore, lease: Lease) -> None:
        assert (await take_lease(store, "run-2", key="another")).fence == 1

    @pytest.mark.parametrize(
        ("seconds", "is_given"),
        [
            (59, False),  # still its holder's
            (60, True),  # expired at this very moment
            (3600, True),  # long ago
        ],
    )
    async def test_one_that_ran_out_is_given_to_the_next(
        self, store: CampaignStore, lease: Lease, clock: SettableClock, seconds: float, is_given: bool
    ) -> None:
        clock.advance(seconds=seconds)
        assert isinstance(await ask_lease(store, "run-2"), Lease) is is_given

    async def test_the_fence_grows_over_releases_and_expiries(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        await store.release_lease(lease)
        second = await take_lease(store, "run-2")
        clock.advance(hours=1)
        third = await take_lease(store, "run-1")
        await store.release_lease(third)
        fourth = await take_lease(store, "run-1")
        assert [lease.fence, second.fence, third.fence, fourth.fence] == [1, 2, 3, 4]

    async def test_one_that_ran_out_but_was_not_taken_is_renewed(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        clock.advance(hours=1)
        renewed = await store.renew_lease(lease, ttl_seconds=60)
        assert renewed == replace(lease, expires_at=clock.now() + timedelta(seconds=60))
        assert isinstance(await ask_lease(store, "run-2"), LeaseHeld)

    async def test_one_that_was_taken_is_not_renewed(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        clock.advance(hours=1)
        await take_lease(store, "run-2")
        with pytest.raises(LeaseLost, match="run name of run-2 has it now"):
            await store.renew_lease(lease, ttl_seconds=60)

    async def test_one_that_was_given_back_is_not_renewed(self, store: CampaignStore, lease: Lease) -> None:
        await store.release_lease(lease)
        with pytest.raises(LeaseLost, match="it was given back"):
            await store.renew_lease(lease, ttl_seconds=60)

    async def test_giving_back_what_another_holds_by_now_takes_nothing_from_him(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        clock.advance(hours=1)
        second = await take_lease(store, "run-2")
        await store.release_lease(lease)
        await store.renew_lease(second, ttl_seconds=60)

    async def test_of_many_that_ask_at_once_one_gets_it(self, store: CampaignStore) -> None:
        answers = await asyncio.gather(*(ask_lease(store, f"run-{n}") for n in range(10)))
        assert sum(isinstance(answer, Lease) for answer in answers) == 1


class TestQueue:
    async def test_who_began_to_wait_first_goes_first(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        await ask_lease(store, "late", since=NOON + timedelta(seconds=2))
        await ask_lease(store, "early", since=NOON + timedelta(seconds=1))
        await store.release_lease(lease)
        refused = await ask_lease(store, "late", since=NOON + timedelta(seconds=2))
        assert refused == LeaseHeld(
            run_id="early", run_name="name of early", expires_at=clock.now() + timedelta(seconds=30)
        )
        early = await take_lease(store, "early", since=NOON + timedelta(seconds=1))
        await store.release_lease(early)
        await take_lease(store, "late", since=NOON + timedelta(seconds=2))

    async def test_a_newcomer_does_not_pass_those_who_wait(self, store: CampaignStore, lease: Lease) -> None:
        await ask_lease(store, "waiting", since=NOON)
        await store.release_lease(lease)
        assert isinstance(await ask_lease(store, "newcomer", since=NOON + timedelta(seconds=9)), LeaseHeld)

    async def test_of_two_that_began_at_once_the_smaller_id_goes_first(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        for run in ("b", "a"):
            await ask_lease(store, run)
        await store.release_lease(lease)
        assert isinstance(await ask_lease(store, "b"), LeaseHeld)
        assert isinstance(await ask_lease(store, "a"), Lease)

    @pytest.mark.parametrize(
        ("silent_seconds", "is_given"),
        [
            (30, False),  # just within its patience
            (30.000001, True),  # it never came back: its run died while it waited
        ],
    )
    async def test_a_place_is_kept_for_thirty_seconds(
        self, store: CampaignStore, lease: Lease, clock: SettableClock, silent_seconds: float, is_given: bool
    ) -> None:
        await ask_lease(store, "gone", since=NOON)
        await store.release_lease(lease)
        clock.advance(seconds=silent_seconds)
        assert isinstance(await ask_lease(store, "next", since=NOON + timedelta(seconds=1)), Lease) is is_given

    async def test_asking_again_keeps_the_place(self, store: CampaignStore, lease: Lease, clock: SettableClock) -> None:
        await ask_lease(store, "patient", since=NOON)
        await store.renew_lease(lease, ttl_seconds=1000)
        for _ in range(3):
            clock.advance(seconds=25)
            await ask_lease(store, "patient", since=NOON)
        await store.release_lease(lease)
        assert isinstance(await ask_lease(store, "next", since=NOON + timedelta(seconds=1)), LeaseHeld)

    async def test_who_leaves_is_waited_for_no_more(self, store: CampaignStore, lease: Lease) -> None:
        await ask_lease(store, "leaver", since=NOON)
        await store.release_lease(lease)
        await store.leave_queue(KEY, run_id="leaver")
        await take_lease(store, "next", since=NOON + timedelta(seconds=1))

    async def test_who_got_the_lease_waits_no_more(self, store: CampaignStore, lease: Lease) -> None:
        await ask_lease(store, "second", since=NOON)
        await store.release_lease(lease)
        await store.release_lease(await take_lease(store, "second", since=NOON))
        await take_lease(store, "third", since=NOON + timedelta(seconds=1))

    async def test_a_waiting_instant_is_the_same_in_every_timezone(self, store: CampaignStore, lease: Lease) -> None:
        """Noon in Tokyo comes before noon in UTC, whatever the texts look like."""
        early = datetime(2026, 5, 13, 12, tzinfo=ZoneInfo("Asia/Tokyo"))
        await ask_lease(store, "tokyo", since=early)
        await store.release_lease(lease)
        assert isinstance(await ask_lease(store, "utc", since=NOON), LeaseHeld)


class TestBudgetStatus:
    async def test_an_unknown_campaign_has_none(self, store: CampaignStore) -> None:
        with pytest.raises(UnknownCampaign, match="'nobody'"):
            await store.budget_status("nobody")

    async def test_it_shows_limits_spent_and_reserved(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        await store.save_campaign(make_campaign(daily=5, monthly="100.5"))
        await spend(store, lease, "0.024")
        await reserve(store, lease, "1.5", step="analyze")
        status = await store.budget_status(KEY)
        assert status.at == clock.now()
        assert [limit.limit for limit in status.limits] == [Decimal(5), None, Decimal("100.5")]
        assert {(str(limit.spent), str(limit.reserved)) for limit in status.limits} == {("0.024000", "1.500000")}
        assert [limit.window.key for limit in status.limits] == [
            "daily:2026-05-13",
            "weekly:2026-05-10",
            "monthly:2026-05-01",
        ]

    @pytest.mark.parametrize(
        ("limit", "spent", "reserved", "is_reached"),
        [
            (None, "1000", "1000", False),  # absent: no limit
            (0, "0", "0", True),  # 0: nothing may be spent
            (5, "4.999998", "0.000001", False),  # a millionth is left
            (5, "4.999999", "0.000001", True),  # exactly at the limit
            (5, "0", "5", True),  # reserved counts like spent
        ],
    )
    async def test_a_run_may_not_start_when_spent_and_reserved_reach_a_limit(
        self,
        store: CampaignStore,
        lease: Lease,
        limit: int | None,
        spent: str,
        reserved: str,
        is_reached: bool,
    ) -> None:
        await store.save_campaign(make_campaign(daily=limit))
        await spend(store, lease, spent)
        await reserve(store, lease, reserved, step="analyze")
        assert bool((await store.budget_status(KEY)).reached) is is_reached

    async def test_it_is_kept_by_key_and_campaigns_do_not_meet(self, store: CampaignStore, lease: Lease) -> None:
        await store.save_campaign(make_campaign("Another"))
        await spend(store, lease, "3")
        assert (await books(store, "another"))["daily"] == (0, 0)


class TestReserve:
    async def test_it_holds_the_estimate_until_it_expires(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        assert await reserve(store, lease, "0.024", hold_seconds=90) == Reservation(
            campaign_key=KEY,
            run_id="run-1",
            step="find",
            attempt=1,
            state=AttemptState.HELD,
            estimate=Decimal("0.024"),
            booked=None,
            expires_at=clock.now() + timedelta(seconds=90),
        )
        assert await today(store) == ("0.000000", "0.024000")

    @pytest.mark.parametrize("period", ["daily", "weekly", "monthly"])
    async def test_every_limit_holds(self, store: CampaignStore, lease: Lease, period: str) -> None:
        await store.save_campaign(make_campaign(**{period: 5}))
        await spend(store, lease, "3")
        with pytest.raises(BudgetRefused, match=f"{period} 5.00 would be passed, spent 3.00") as refused:
            await reserve(store, lease, "2.000001", step="analyze")
        assert (refused.value.limit.window.period, refused.value.amount) == (period, Decimal("2.000001"))
        assert await today(store) == ("3.000000", "0.000000")
        assert await store.attempts("run-1", "analyze") == []

    @pytest.mark.parametrize(
        ("limit", "amount", "is_refused"),
        [
            (5, "5", False),  # up to the limit, not past it
            (5, "5.000001", True),  # a millionth past it
            (0, "0.000001", True),  # 0: nothing may be spent
            (0, "0", False),  # and nothing is what a free step spends
            (None, "999999999", False),  # absent: no limit
        ],
    )
    async def test_only_a_step_that_would_pass_a_limit_is_refused(
        self, store: CampaignStore, lease: Lease, limit: int | None, amount: str, is_refused: bool
    ) -> None:
        await store.save_campaign(make_campaign(weekly=limit))
        if is_refused:
            with pytest.raises(BudgetRefused):
                await reserve(store, lease, amount)
        else:
            assert (await reserve(store, lease, amount)).estimate == Decimal(amount)

    async def test_a_free_step_runs_when_the_limit_is_reached_and_passed(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        await store.save_campaign(make_campaign(daily=5))
        await store.settle(lease, await send(store, lease, "5"), Decimal("5.02"))
        assert (await reserve(store, lease, "0", step="send")).state is AttemptState.HELD

    async def test_reserving_again_returns_what_is_there(self, store: CampaignStore, lease: Lease) -> None:
        first = await reserve(store, lease, "2")
        assert await reserve(store, lease, "9") == first
        sent = await store.mark_sent(lease, first)
        assert await reserve(store, lease, "9") == sent
        assert await today(store) == ("0.000000", "2.000000")

    async def test_limits_are_read_anew_each_time(self, store: CampaignStore, lease: Lease) -> None:
        await reserve(store, lease, "2")
        await store.save_campaign(make_campaign(daily=2))
        with pytest.raises(BudgetRefused, match=r"daily 2\.00 reached, spent 0\.00, reserved 2\.00"):
            await reserve(store, lease, "0.01", attempt=2)

    async def test_a_campaign_without_a_row_reserves_nothing(self, store: CampaignStore) -> None:
        lease = await take_lease(store, key="nobody")
        with pytest.raises(UnknownCampaign):
            await reserve(store, lease)

    @pytest.mark.parametrize("amount", ["-0.01", "NaN", "Infinity", "1000000001"])
    async def test_what_is_no_amount_is_refused(self, store: CampaignStore, lease: Lease, amount: str) -> None:
        with pytest.raises(StoreError, match="cannot be booked"):
            await reserve(store, lease, amount)

    async def test_attempts_are_told_in_order_and_per_step(self, store: CampaignStore, lease: Lease) -> None:
        for attempt in (1, 2, 3):
            await reserve(store, lease, str(attempt), attempt=attempt)
        await reserve(store, lease, "9", step="analyze")
        assert [attempt.estimate for attempt in await store.attempts("run-1", "find")] == [1, 2, 3]


class TestEstimate:
    """Without an estimate: the largest of the last five amounts that the step was booked at."""

    @pytest.mark.parametrize(
        ("earlier", "estimate"),
        [
            ([], "0"),  # nothing is known
            (["0.5"], "0.5"),
            (["0.5", "2", "1"], "2"),  # the largest, not the last
            (["9", "1", "1", "1", "1", "1"], "1"),  # of the last five only
            (["9", "1", "1", "1", "1"], "9"),  # five are five
        ],
    )
    async def test_it_is_the_largest_of_the_last_five(
        self, store: CampaignStore, lease: Lease, earlier: list[str], estimate: str
    ) -> None:
        for attempt, amount in enumerate(earlier, start=1):
            await spend(store, lease, amount, attempt=attempt)
        await store.release_lease(lease)
        lease = await take_lease(store, "run-2")
        assert (await reserve(store, lease, None)).estimate == Decimal(estimate)

    async def test_other_steps_and_campaigns_do_not_count(self, store: CampaignStore, lease: Lease) -> None:
        await spend(store, lease, "9", step="another")
        await store.save_campaign(make_campaign("Another"))
        await spend(store, await take_lease(store, "run-2", key="another"), "8")
        assert (await reserve(store, lease, None)).estimate == 0

    async def test_what_was_released_or_taken_back_does_not_count(self, store: CampaignStore, lease: Lease) -> None:
        await store.release(lease, await reserve(store, lease, "9"))
        for attempt in range(2, 8):
            await store.book_unconfirmed(lease, await send(store, lease, "7", attempt=attempt))
        await store.settle(lease, await send(store, lease, "7", attempt=8), Decimal(3))
        assert (await reserve(store, lease, None, attempt=9)).estimate == 3

    async def test_what_is_unconfirmed_counts(self, store: CampaignStore, lease: Lease) -> None:
        await store.book_unconfirmed(lease, await send(store, lease, "7"))
        assert (await reserve(store, lease, None, attempt=2)).estimate == 7


Act = Callable[[CampaignStore, Lease, Reservation], Awaitable[Reservation]]

ACTS: dict[str, Act] = {
    "mark_sent": lambda store, lease, reservation: store.mark_sent(lease, reservation),
    "settle": lambda store, lease, reservation: store.settle(lease, reservation, Decimal("0.75")),
    "unconfirmed": lambda store, lease, reservation: store.book_unconfirmed(lease, reservation),
    "release": lambda store, lease, reservation: store.release(lease, reservation),
}


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
        assert await store.attempts("run-1", "find") == [reservation]
        assert await today(store) == (spent, reserved)
        assert await store.run_cost("run-1") == Decimal(spent)

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
        with pytest.raises(StoreError, match=f"attempt 1 of step 'find' of run run-1 is {reservation.state}"):
            await ACTS[illegal](store, lease, reservation)
        assert await store.attempts("run-1", "find") == [reservation]
        assert await today(store) == before

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
        with pytest.raises(StoreError, match="not the business of run run-2"):
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

    async def test_an_answer_speaks_for_earlier_attempts_that_had_none(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        await store.book_unconfirmed(lease, await send(store, lease, "2", attempt=1))
        await send(store, lease, "2", attempt=2)
        await spend(store, lease, "0.5", attempt=3)
        await store.release(lease, await reserve(store, lease, "2", attempt=4))
        last = await send(store, lease, "2", attempt=5)
        other = await store.book_unconfirmed(lease, await send(store, lease, "4", step="another"))
        await store.settle(lease, last, Decimal("0.3"))
        attempts = await store.attempts("run-1", "find")
        assert [(attempt.state, attempt.booked) for attempt in attempts] == [
            ("corrected", 0),
            ("corrected", 0),
            ("settled", Decimal("0.5")),
            ("released", None),
            ("settled", Decimal("0.3")),
        ]
        assert await store.attempts("run-1", "another") == [other]
        assert await store.run_cost("run-1") == Decimal("4.8")

    async def test_a_step_is_written_with_its_settlement_or_not_at_all(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        sent = await send(store, lease)
        done = make_step(status=StepStatus.COMPLETED, cost=1)
        with pytest.raises(StoreError, match="start_run comes first"):
            await store.settle(lease, sent, Decimal(1), step=done)
        assert await store.attempts("run-1", "find") == [sent]
        await store.start_run(lease, make_report())
        await store.settle(lease, sent, Decimal(1), step=done)
        report = await store.get_run("run-1")
        assert report and (report.steps, report.total_cost) == ((done,), 1)


class TestExpiry:
    @pytest.mark.parametrize("see_to_it", ["budget_status", "reserve"])
    async def test_what_was_held_is_released_and_what_was_sent_is_booked(
        self, store: CampaignStore, lease: Lease, clock: SettableClock, see_to_it: str
    ) -> None:
        await reserve(store, lease, "1", step="held", hold_seconds=60)
        await send(store, lease, "2", step="sent", hold_seconds=60)
        await send(store, lease, "4", step="later", hold_seconds=61)
        clock.advance(seconds=60)
        if see_to_it == "reserve":
            await reserve(store, lease, "0", step="next")
        assert await today(store) == ("2.000000", "4.000000")
        (held,), (sent,), (later,) = [await store.attempts("run-1", step) for step in ("held", "sent", "later")]
        assert (held.state, sent.state, later.state) == ("released", "unconfirmed", "sent")
        assert sent.booked == 2

    async def test_a_request_whose_hold_was_released_may_not_leave(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        held = await reserve(store, lease, "1", hold_seconds=60)
        clock.advance(seconds=61)
        await store.budget_status(KEY)
        with pytest.raises(StoreError, match="is released and cannot be marked as sent"):
            await store.mark_sent(lease, held)

    async def test_a_late_answer_corrects_what_was_booked(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        sent = await send(store, lease, "2", hold_seconds=60)
        clock.advance(days=1)
        assert await today(store) == ("0.000000", "0.000000")
        assert await store.run_cost("run-1") == 2
        assert (await store.settle(lease, sent, Decimal("0.5"))).state is AttemptState.CORRECTED
        assert await store.run_cost("run-1") == Decimal("0.5")
        clock.advance(days=-1)
        assert await today(store) == ("0.500000", "0.000000")

    async def test_what_has_expired_makes_room(self, store: CampaignStore, lease: Lease, clock: SettableClock) -> None:
        await store.save_campaign(make_campaign(daily=5))
        await reserve(store, lease, "5", hold_seconds=60)
        clock.advance(seconds=60)
        assert (await reserve(store, lease, "5", attempt=2)).state is AttemptState.HELD

    async def test_what_has_expired_stays_booked_when_the_next_is_refused(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        await store.save_campaign(make_campaign(daily=5))
        await send(store, lease, "5", hold_seconds=60)
        clock.advance(seconds=60)
        with pytest.raises(BudgetRefused, match=r"spent 5\.00; the next step needs 1"):
            await reserve(store, lease, "1", attempt=2)
        assert await store.run_cost("run-1") == 5


class TestWindows:
    NEW_YORK = ZoneInfo("America/New_York")

    @pytest.mark.parametrize(
        ("zone", "before", "after", "fresh"),
        [
            # Wednesday to Thursday: a new day and nothing else.
            ("UTC", "2026-05-13T23:59:59+00:00", "2026-05-14T00:00:00+00:00", {"daily"}),
            # Saturday to Sunday: a new week, too.
            ("UTC", "2026-05-16T23:59:59+00:00", "2026-05-17T00:00:00+00:00", {"daily", "weekly"}),
            # The month begins at local midnight, which is 04:00 UTC.
            ("America/New_York", "2026-06-01T03:59:59+00:00", "2026-06-01T04:00:00+00:00", {"daily", "monthly"}),
            # 00:00 UTC is nothing special in Tokyo.
            ("Asia/Tokyo", "2026-05-13T23:59:59+00:00", "2026-05-14T00:00:00+00:00", set()),
            # The day on which clocks go forward (Sunday, 8 March) begins at 05:00 UTC …
            ("America/New_York", "2026-03-08T04:59:59+00:00", "2026-03-08T05:00:00+00:00", {"daily", "weekly"}),
            # … and the one after it at 04:00 UTC: 23 hours.
            ("America/New_York", "2026-03-09T03:59:59+00:00", "2026-03-09T04:00:00+00:00", {"daily"}),
            # The day on which they go back (Sunday, 1 November) has 25 hours.
            (
                "America/New_York",
                "2026-11-01T03:59:59+00:00",
                "2026-11-01T04:00:00+00:00",
                {"daily", "weekly", "monthly"},
            ),
            ("America/New_York", "2026-11-02T04:59:59+00:00", "2026-11-02T05:00:00+00:00", {"daily"}),
        ],
    )
    async def test_a_new_window_starts_at_nothing(
        self, store: CampaignStore, clock: SettableClock, zone: str, before: str, after: str, fresh: set[str]
    ) -> None:
        await store.save_campaign(make_campaign(timezone=zone))
        clock.instant = datetime.fromisoformat(before)
        await spend(store, await take_lease(store), "1")
        clock.instant = datetime.fromisoformat(after)
        assert {period for period, (spent, _) in (await books(store)).items() if spent == 0} == fresh

    async def test_settling_after_midnight_books_into_the_day_of_the_reservation(
        self, store: CampaignStore, clock: SettableClock
    ) -> None:
        await store.save_campaign(make_campaign(timezone="America/New_York", daily=5))
        clock.instant = datetime(2026, 5, 13, 23, 59, tzinfo=self.NEW_YORK).astimezone(UTC)
        lease = await take_lease(store)
        sent = await send(store, lease, "5")
        clock.advance(minutes=2)
        await reserve(store, lease, "5", step="next day")
        await store.settle(lease, sent, Decimal(4))
        assert await books(store) == {"daily": (0, 5), "weekly": (4, 5), "monthly": (4, 5)}
        clock.advance(minutes=-2)
        assert (await books(store))["daily"] == (4, 0)

    async def test_another_timezone_is_no_fresh_budget(self, store: CampaignStore, lease: Lease) -> None:
        await spend(store, lease, "5")
        await store.save_campaign(make_campaign(timezone="America/New_York", daily=5))
        with pytest.raises(BudgetRefused):
            await reserve(store, lease, "1", attempt=2)


WRITES: dict[str, Callable[[CampaignStore, Lease, Reservation], Awaitable[Any]]] = {
    **ACTS,
    "reserve": lambda store, lease, _: reserve(store, lease, attempt=2),
    "start_run": lambda store, lease, _: store.start_run(lease, make_report(message="late")),
    "save_step": lambda store, lease, _: store.save_step(lease, make_step("late")),
    "finish_run": lambda store, lease, _: store.finish_run(lease, make_report(status=RunStatus.FAILED)),
}


class TestFencing:
    @pytest.mark.parametrize("write", WRITES)
    @pytest.mark.parametrize("taken_by", ["run-1", "run-2", None])
    async def test_who_lost_the_lease_writes_nothing_more(
        self, store: CampaignStore, lease: Lease, clock: SettableClock, write: str, taken_by: str | None
    ) -> None:
        """Taken by another run, by another execution of this one, or given back."""
        await store.start_run(lease, make_report())
        reservation = await reserve(store, lease, hold_seconds=1)
        if write in ("settle", "unconfirmed"):
            reservation = await store.mark_sent(lease, reservation)
        if taken_by is None:
            await store.release_lease(lease)
        else:
            clock.advance(hours=1)
            await take_lease(store, taken_by, holder="the other worker")
        before = (await store.attempts("run-1", "find"), await store.get_run("run-1"))
        with pytest.raises(LeaseLost, match="no longer holds the lease of campaign spring-outreach"):
            await WRITES[write](store, lease, reservation)
        assert (await store.attempts("run-1", "find"), await store.get_run("run-1")) == before

    async def test_one_that_ran_out_but_was_not_taken_still_counts(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        clock.advance(hours=1)
        assert (await spend(store, lease, "1")).booked == 1

    async def test_a_fence_that_was_made_up_is_refused(self, store: CampaignStore, lease: Lease) -> None:
        with pytest.raises(LeaseLost):
            await reserve(store, replace(lease, fence=2))


class TestExactness:
    async def test_three_hundred_times_a_tenth_of_a_cent_is_thirty_cents(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        for number in range(300):
            await spend(store, lease, "0.001", step=f"{number}")
        assert await today(store) == ("0.300000", "0.000000")
        assert str(await store.run_cost("run-1")) == "0.300000"

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
            assert await three.verify_totals(KEY) == []


class TestRuns:
    async def test_a_run_is_read_back_with_its_steps_in_order(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        find = make_step(
            "find",
            0,
            status=StepStatus.COMPLETED,
            attempts=2,
            started_at=NOON,
            completed_at=NOON.astimezone(timezone(timedelta(hours=2))) + timedelta(seconds=1.5),
            cost=Decimal("0.024"),
            counts={"prospects_generated": 20, "avg_quality": 7.25},
            warnings=("Acme: no website", "engine reported no cost"),
        )
        later = make_step("analyze", 1, status=StepStatus.FAILED, error="HTTP 500", attempts=1)
        await store.start_run(lease, make_report(trigger_type="scheduled"))
        await store.save_step(lease, later)
        await store.save_step(lease, make_step("find", 0, status=StepStatus.RUNNING))
        await store.save_step(lease, find)
        assert await store.get_run("run-1") == make_report(trigger_type="scheduled", steps=(find, later))

    @pytest.mark.parametrize(
        "result",
        [
            None,
            {"found": 20, "cost": 0.024, "nested": [{"a": [1, 2.5, True, None, "x"]}]},
            {"cost": Decimal("0.1000"), "more": [Decimal("1E-7"), {"deep": Decimal(0)}]},  # exact amounts
            {"$decimal": "not a number"},  # what an engine said, not what we wrote
            {"$object": {"$decimal": "1.5"}, "$decimal": "1.5"},
            {"$object": {"$object": {"$decimal": "0.1"}}},
            [],
            "text",
            {"text": 'quotes " and \x00 and \ud800 and 🎉'},  # a lone surrogate is legal in JSON
            10**40,
        ],
        ids=repr,
    )
    async def test_any_result_is_restored_equal(self, store: CampaignStore, lease: Lease, result: Any) -> None:
        await store.start_run(lease, make_report())
        await store.save_step(lease, make_step(result=result, error="bad \ud800"))
        report = await store.get_run("run-1")
        assert report and (report.steps[0].result, repr(report.steps[0].result)) == (result, repr(result))

    async def test_steps_of_the_first_report_are_kept(self, store: CampaignStore, lease: Lease) -> None:
        steps = (make_step("find", 0), make_step("analyze", 1))
        await store.start_run(lease, make_report(steps=steps))
        report = await store.get_run("run-1")
        assert report and report.steps == steps

    async def test_an_unknown_run_is_none_and_has_cost_nothing(self, store: CampaignStore) -> None:
        assert await store.get_run("nobody") is None
        assert await store.run_cost("nobody") == 0

    async def test_the_end_is_written_with_the_cost_of_the_ledger(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        await store.start_run(lease, make_report())
        await spend(store, lease, "0.1")
        await store.book_unconfirmed(lease, await send(store, lease, "0.02", step="analyze"))
        clock.advance(minutes=5)
        end = make_report(
            status=RunStatus.PARTIAL, state_name="Partial", message="1 of 2", completed_at=clock.now(), total_cost=99
        )
        await store.finish_run(lease, end)
        assert await store.get_run("run-1") == end.model_copy(update={"total_cost": Decimal("0.12")})

    async def test_a_later_correction_shows_in_the_runs_cost(self, store: CampaignStore, lease: Lease) -> None:
        await store.start_run(lease, make_report())
        unconfirmed = await store.book_unconfirmed(lease, await send(store, lease, "2"))
        await store.finish_run(lease, make_report(status=RunStatus.FAILED))
        await store.settle(lease, unconfirmed, Decimal("0.5"))
        (run,) = await store.list_runs(KEY)
        assert run.total_cost == Decimal("0.5")

    async def test_an_end_without_a_time_ends_now(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        await store.start_run(lease, make_report())
        clock.advance(minutes=5)
        await store.finish_run(lease, make_report(status=RunStatus.COMPLETED))
        report = await store.get_run("run-1")
        assert report and report.completed_at == clock.now()

    async def test_a_resumed_run_keeps_start_steps_and_cost(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        done = make_step(status=StepStatus.COMPLETED, result={"found": 3})
        await store.start_run(lease, make_report())
        await spend(store, lease, "0.5")
        await store.save_step(lease, done)
        await store.finish_run(lease, make_report(status=RunStatus.FAILED, state_name="Failed", message="no"))
        await store.release_lease(lease)
        clock.advance(hours=2)
        again = await take_lease(store, "run-1", holder="the other worker")
        await store.start_run(again, make_report(started_at=clock.now(), steps=(make_step(), make_step("next", 1))))
        assert await store.get_run("run-1") == make_report(steps=(done,), total_cost=Decimal("0.5"))

    async def test_what_was_not_started_is_neither_continued_nor_finished(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        with pytest.raises(StoreError, match="start_run comes first"):
            await store.save_step(lease, make_step())
        with pytest.raises(StoreError, match="start_run comes first"):
            await store.finish_run(lease, make_report())

    async def test_a_report_about_another_run_is_refused(self, store: CampaignStore, lease: Lease) -> None:
        with pytest.raises(StoreError, match="the report is about run run-2"):
            await store.start_run(lease, make_report("run-2"))
        assert await store.get_run("run-2") is None

    async def test_a_skipped_run_is_recorded_without_a_lease(self, store: CampaignStore, lease: Lease) -> None:
        skipped = make_report("run-2", status=RunStatus.ABORTED, state_name="Skipped", completed_at=NOON)
        await store.record_skipped_run(skipped)
        assert await store.get_run("run-2") == skipped

    async def test_a_run_that_is_recorded_is_not_skipped_over(self, store: CampaignStore, lease: Lease) -> None:
        await store.start_run(lease, make_report())
        await store.record_skipped_run(make_report(status=RunStatus.ABORTED, steps=(make_step(),)))
        assert await store.get_run("run-1") == make_report()

    async def test_runs_are_listed_newest_first_each_with_its_own_steps(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        reports = [
            make_report(f"run-{n}", started_at=NOON + timedelta(minutes=n), steps=(make_step(f"step of {n}"),))
            for n in range(5)
        ]
        for report in (reports[2], reports[4], reports[0], reports[1], reports[3]):
            await store.record_skipped_run(report)
        await store.record_skipped_run(make_report("elsewhere", campaign_key="another"))
        assert list(await store.list_runs(KEY)) == reports[::-1]
        assert list(await store.list_runs(KEY, limit=2)) == reports[:2:-1]
        assert list(await store.list_runs("nobody")) == []


async def test_everything_is_there_when_the_store_is_opened_again(make_store: StoreFactory) -> None:
    async with make_store() as store:
        await store.save_campaign(make_campaign(daily=5))
        lease = await take_lease(store)
        await store.start_run(lease, make_report())
        await spend(store, lease, "2")
        await send(store, lease, "1", step="analyze")
        await ask_lease(store, "waiting")
        before = (await store.list_campaigns(), await books(store), await store.list_runs(KEY))
    async with make_store() as store:
        assert (await store.list_campaigns(), await books(store), await store.list_runs(KEY)) == before
        assert await store.renew_lease(lease, ttl_seconds=60) == lease
        await store.release_lease(lease)
        assert isinstance(await ask_lease(store, "later", since=NOON + timedelta(seconds=1)), LeaseHeld)
        assert await store.verify_totals(KEY) == []
