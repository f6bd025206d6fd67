"""What every store does, whatever it keeps its rows in: campaigns, leases, and who may write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from store_cases import (
    ACTS,
    KEY,
    NOON,
    RUN_1,
    SettableClock,
    StoreFactory,
    ask_lease,
    make_campaign,
    make_report,
    make_step,
    reserve,
    run_id,
    spend,
    take_lease,
)

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease, LeaseHeld, Reservation
from prefect_campaigns.errors import LeaseLost, UnknownCampaign
from prefect_campaigns.results import RunStatus


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


async def test_books_have_one_name_whoever_opens_them(make_store: StoreFactory) -> None:
    one, two = make_store(), make_store()
    assert one.books == two.books != ""
    async with one:
        assert one.books == two.books


class TestLease:
    async def test_the_first_to_ask_gets_it(self, store: CampaignStore, clock: SettableClock) -> None:
        lease = await take_lease(store, ttl_seconds=60)
        assert lease.expires_at == clock.now() + timedelta(seconds=60)
        assert lease.fence == 1

    async def test_everybody_else_hears_who_holds_it(self, store: CampaignStore, lease: Lease) -> None:
        expected = LeaseHeld(run_id=RUN_1, run_name="name of run-1", expires_at=lease.expires_at)
        assert await ask_lease(store, "run-2") == expected

    async def test_a_second_execution_of_the_same_run_is_refused(self, store: CampaignStore, lease: Lease) -> None:
        answer = await ask_lease(store, "run-1", holder="the other worker")
        assert isinstance(answer, LeaseHeld)
        assert answer.run_id == RUN_1

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
            run_id=run_id("early"), run_name="name of early", expires_at=clock.now() + timedelta(seconds=30)
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
        smaller, larger = sorted(("one", "other"), key=run_id)
        for run in (larger, smaller):
            await ask_lease(store, run)
        await store.release_lease(lease)
        assert isinstance(await ask_lease(store, larger), LeaseHeld)
        assert isinstance(await ask_lease(store, smaller), Lease)

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
        await store.leave_queue(KEY, run_id=run_id("leaver"))
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


WRITES: dict[str, Callable[[CampaignStore, Lease, Reservation], Awaitable[Any]]] = {
    **ACTS,
    "reserve": lambda store, lease, _: reserve(store, lease, attempt=2),
    "start_run": lambda store, lease, _: store.start_run(lease, make_report(message="late")),
    "save_step": lambda store, lease, _: store.save_step(lease, make_step("late")),
    "finish_run": lambda store, lease, _: store.finish_run(lease, make_report(status=RunStatus.FAILED)),
    "suspend_run": lambda store, lease, _: store.suspend_run(lease, make_report(state_name="Suspended")),
    "ask_approval": lambda store, lease, _: store.ask_approval(lease, step="find", timeout_seconds=60),
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
        before = (await store.attempts(RUN_1, "find"), await store.get_run(RUN_1), await store.list_approvals())
        with pytest.raises(LeaseLost, match="no longer holds the lease of campaign spring-outreach"):
            await WRITES[write](store, lease, reservation)
        after = (await store.attempts(RUN_1, "find"), await store.get_run(RUN_1), await store.list_approvals())
        assert after == before

    async def test_one_that_ran_out_but_was_not_taken_still_counts(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        clock.advance(hours=1)
        assert (await spend(store, lease, "1")).booked == 1

    async def test_a_fence_that_was_made_up_is_refused(self, store: CampaignStore, lease: Lease) -> None:
        with pytest.raises(LeaseLost):
            await reserve(store, replace(lease, fence=2))
