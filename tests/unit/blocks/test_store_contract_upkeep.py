"""What every store does with a campaign beside its runs: it is paused, alerted of, deleted, and added up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta, timezone
from decimal import Decimal
from uuid import uuid4

import pytest
from store_cases import (
    KEY,
    NOON,
    RUN_1,
    RUN_2,
    SettableClock,
    StoreFactory,
    account_books,
    assert_books_are_whole,
    books,
    make_campaign,
    make_report,
    make_step,
    reserve,
    send,
    spend,
    take_lease,
)

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease, Pause, PausedBy
from prefect_campaigns.budget import AccountBudget
from prefect_campaigns.errors import BudgetRefused, StoreError, UnknownCampaign

BY_BUDGET = Pause(
    by=PausedBy.BUDGET,
    reason="budget: weekly 20.00 reached, spent 20.03",
    since=NOON + timedelta(microseconds=1),
    until=NOON + timedelta(days=4),
    awaited_run_id=uuid4(),
)
BY_PERSON = Pause(by=PausedBy.PERSON, reason="the client's on holiday; “back soon” 🌴", since=NOON)


class TestPause:
    async def paused(self, store: CampaignStore, key: str = KEY) -> Pause | None:
        return (await store.get_campaign(key)).pause

    async def test_a_campaign_is_not_paused_until_somebody_does(self, store: CampaignStore) -> None:
        assert await self.paused(store) is None

    @pytest.mark.parametrize("pause", [BY_BUDGET, BY_PERSON, replace(BY_BUDGET, awaited_run_id=None, until=None)])
    async def test_what_was_written_is_read_back(self, store: CampaignStore, pause: Pause) -> None:
        assert await store.set_pause(KEY, pause, replacing=None)
        assert await self.paused(store) == pause
        assert [record.pause for record in await store.list_campaigns()] == [pause]

    @pytest.mark.parametrize(
        ("there", "replacing"),
        [
            (None, BY_BUDGET),
            (BY_BUDGET, None),
            (BY_BUDGET, BY_PERSON),
            (BY_BUDGET, replace(BY_BUDGET, reason="another")),
            (BY_BUDGET, replace(BY_BUDGET, since=NOON)),  # a millionth of a second earlier
            (BY_BUDGET, replace(BY_BUDGET, until=None)),
            (BY_BUDGET, replace(BY_BUDGET, awaited_run_id=None)),
            (BY_BUDGET, replace(BY_BUDGET, awaited_run_id=uuid4())),
            (replace(BY_BUDGET, awaited_run_id=None), BY_BUDGET),
            (BY_PERSON, replace(BY_PERSON, until=NOON)),
        ],
    )
    async def test_nothing_is_written_over_what_the_writer_did_not_expect(
        self, store: CampaignStore, there: Pause | None, replacing: Pause | None
    ) -> None:
        await store.set_pause(KEY, there, replacing=None)
        for pause in (None, BY_PERSON, there):
            assert not await store.set_pause(KEY, pause, replacing=replacing)
            assert await self.paused(store) == there

    async def test_it_is_replaced_and_lifted_by_who_knows_it(self, store: CampaignStore) -> None:
        awaiting = replace(BY_BUDGET, awaited_run_id=None)
        assert await store.set_pause(KEY, awaiting, replacing=None)
        assert await store.set_pause(KEY, BY_BUDGET, replacing=awaiting)
        elsewhere = replace(BY_BUDGET, since=BY_BUDGET.since.astimezone(timezone(timedelta(hours=9))))
        assert await store.set_pause(KEY, None, replacing=elsewhere)
        assert await self.paused(store) is None

    async def test_of_many_at_once_one_writes(self, store: CampaignStore) -> None:
        pauses = [replace(BY_PERSON, reason=f"person {number}") for number in range(10)]
        written = await asyncio.gather(*(store.set_pause(KEY, pause, replacing=None) for pause in pauses))
        assert sum(written) == 1
        assert await self.paused(store) == pauses[written.index(True)]

    async def test_applying_the_campaign_again_does_not_lift_it(self, store: CampaignStore) -> None:
        await store.set_pause(KEY, BY_PERSON, replacing=None)
        assert (await store.save_campaign(make_campaign(daily=5))).pause == BY_PERSON

    async def test_other_campaigns_go_on(self, store: CampaignStore) -> None:
        await store.save_campaign(make_campaign("Another"))
        await store.set_pause(KEY, BY_BUDGET, replacing=None)
        assert await self.paused(store, "another") is None

    @pytest.mark.parametrize("replacing", [None, BY_PERSON])
    async def test_an_unknown_campaign_is_refused_by_name(self, store: CampaignStore, replacing: Pause | None) -> None:
        with pytest.raises(UnknownCampaign, match="'nobody'"):
            await store.set_pause("nobody", BY_PERSON, replacing=replacing)


class TestAlerts:
    EIGHTY, FULL = "campaign daily:2026-05-13 0.8", "campaign daily:2026-05-13 1"
    OF_ALL = "account daily:2026-05-13 0.8"

    async def test_one_is_claimed_again_and_again_until_it_is_told(self, store: CampaignStore) -> None:
        assert await store.claim_alerts(KEY, []) == []
        for _ in range(2):
            assert await store.claim_alerts(KEY, [self.EIGHTY]) == [self.EIGHTY]
        await store.alert_told(KEY, self.EIGHTY)
        assert await store.claim_alerts(KEY, [self.FULL, self.EIGHTY, self.OF_ALL]) == [self.FULL, self.OF_ALL]
        await store.alert_told(KEY, self.EIGHTY)
        assert await store.claim_alerts(KEY, [self.EIGHTY]) == []

    async def test_each_campaign_has_its_own(self, store: CampaignStore) -> None:
        await store.claim_alerts(KEY, [self.EIGHTY])
        await store.alert_told(KEY, self.EIGHTY)
        assert await store.claim_alerts("another", [self.EIGHTY]) == [self.EIGHTY]

    async def test_those_of_the_account_are_told_once_for_all_campaigns(self, store: CampaignStore) -> None:
        assert await store.claim_alerts(KEY, [self.OF_ALL]) == [self.OF_ALL]
        assert await store.claim_alerts("another", [self.OF_ALL]) == [self.OF_ALL]
        await store.alert_told("another", self.OF_ALL)
        assert await store.claim_alerts(KEY, [self.OF_ALL]) == []

    async def test_a_new_window_brings_new_ones(self, store: CampaignStore) -> None:
        await store.claim_alerts(KEY, [self.EIGHTY])
        await store.alert_told(KEY, self.EIGHTY)
        tomorrow = self.EIGHTY.replace("05-13", "05-14")
        assert await store.claim_alerts(KEY, [tomorrow]) == [tomorrow]

    async def test_it_is_remembered_when_the_store_is_opened_again(self, make_store: StoreFactory) -> None:
        async with make_store() as store:
            await store.claim_alerts(KEY, [self.EIGHTY, self.FULL])
            await store.alert_told(KEY, self.EIGHTY)
        async with make_store() as store:
            assert await store.claim_alerts(KEY, [self.EIGHTY, self.FULL]) == [self.FULL]


class TestDeletion:
    async def test_the_row_and_the_records_of_its_runs_are_gone(self, store: CampaignStore, lease: Lease) -> None:
        await store.save_campaign(make_campaign("Another"))
        await store.start_run(lease, make_report(steps=(make_step(),)))
        await store.record_skipped_run(make_report("run-2", campaign_key="another", campaign_name="Another"))
        await store.delete_campaign(KEY)
        with pytest.raises(UnknownCampaign, match="'spring-outreach'"):
            await store.get_campaign(KEY)
        assert [record.key for record in await store.list_campaigns()] == ["another"]
        assert (await store.get_run(RUN_1), list(await store.list_runs(KEY))) == (None, [])
        assert await store.get_run(RUN_2) is not None

    async def test_what_is_not_there_is_refused_by_name(self, store: CampaignStore) -> None:
        await store.delete_campaign(KEY)
        for key in (KEY, "nobody"):
            with pytest.raises(UnknownCampaign, match=f"'{key}'"):
                await store.delete_campaign(key)

    async def test_a_campaign_deleted_and_created_again_has_spent_what_it_had_spent(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        first = await store.get_campaign(KEY)
        await spend(store, lease, "4")
        await reserve(store, lease, "0.5", attempt=2)
        await store.delete_campaign(KEY)
        await assert_books_are_whole(store, KEY)
        assert (await store.save_campaign(make_campaign(daily=5))).id != first.id
        assert (await books(store))["daily"] == (4, Decimal("0.5"))
        with pytest.raises(BudgetRefused, match=r"daily 5\.00 would be passed, spent 4\.00, reserved 0\.50"):
            await reserve(store, lease, "0.51", attempt=3)
        assert await store.run_cost(RUN_1) == 4

    async def test_the_account_has_spent_it_too(self, store: CampaignStore, lease: Lease) -> None:
        await spend(store, lease, "4")
        await store.delete_campaign(KEY)
        assert (await account_books(store))["daily"] == (4, 0)

    async def test_its_lease_fence_and_alerts_stay(self, store: CampaignStore, lease: Lease) -> None:
        alert = "campaign daily:2026-05-13 0.8"
        await store.claim_alerts(KEY, [alert])
        await store.alert_told(KEY, alert)
        await store.delete_campaign(KEY)
        await store.save_campaign(make_campaign())
        assert await store.claim_alerts(KEY, [alert]) == []
        await store.release_lease(await store.renew_lease(lease, ttl_seconds=60))
        assert (await take_lease(store, "run-2")).fence == lease.fence + 1

    async def test_a_new_campaign_of_its_key_is_not_paused(self, store: CampaignStore) -> None:
        await store.set_pause(KEY, BY_PERSON, replacing=None)
        await store.delete_campaign(KEY)
        assert (await store.save_campaign(make_campaign())).pause is None

    async def test_what_its_requests_cost_is_still_found_out(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        sent = await send(store, lease, "2", hold_seconds=60)
        await store.delete_campaign(KEY)
        clock.advance(seconds=60)
        (unconfirmed,) = await store.unconfirmed(KEY)
        assert (unconfirmed.run_id, unconfirmed.booked) == (sent.run_id, 2)
        await store.correct(KEY, run_id=RUN_1, step="find", attempt=1, amount=Decimal(1), by="Ada", note="invoice")
        assert await store.run_cost(RUN_1) == 1
        await assert_books_are_whole(store, KEY)

    async def test_its_run_reserves_nothing_more(self, store: CampaignStore, lease: Lease) -> None:
        await store.start_run(lease, make_report())
        await store.delete_campaign(KEY)
        with pytest.raises(UnknownCampaign):
            await reserve(store, lease)
        with pytest.raises(StoreError, match="start_run comes first"):
            await store.save_step(lease, make_step())


class TestVerify:
    async def test_books_without_a_line_are_in_order(self, store: CampaignStore) -> None:
        for key in (KEY, "nobody", None):
            assert list(await store.verify_totals(key)) == []

    async def test_books_are_in_order_in_whatever_timezones_they_were_kept(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        for zone in ("Asia/Tokyo", "America/New_York", "UTC"):
            await store.set_account_budget(AccountBudget(timezone=zone))
            await store.save_campaign(make_campaign(timezone=zone))
            for number in range(8):
                await spend(store, lease, "0.1", step=f"{zone} {number}")
                await send(store, lease, "0.2", step=f"{zone} {number}", attempt=2)
                clock.advance(hours=11)
        await assert_books_are_whole(store)

    async def test_it_holds_up_nobody(self, store: CampaignStore, lease: Lease) -> None:
        answers = await asyncio.gather(
            *(store.verify_totals(key) for key in (KEY, None) for _ in range(5)),
            *(spend(store, lease, "0.1", step=f"step {number}") for number in range(10)),
        )
        assert all(list(answer) == [] for answer in answers[:10])
