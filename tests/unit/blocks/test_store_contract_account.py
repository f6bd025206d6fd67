"""What every store does with limits beyond the campaign's own: the account's, and that of a run."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest
from store_cases import (
    KEY,
    SettableClock,
    account_books,
    books,
    make_campaign,
    reserve,
    send,
    spend,
    take_lease,
)

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AttemptState, Lease
from prefect_campaigns.budget import AccountBudget, Scope
from prefect_campaigns.errors import BudgetRefused, StoreError


@pytest.fixture
async def other(store: CampaignStore, lease: Lease) -> Lease:
    """A run of another campaign that goes on at the same time."""
    await store.save_campaign(make_campaign("Another"))
    return await take_lease(store, "run-2", key="another")


class TestAccountBudget:
    async def test_there_are_no_limits_until_somebody_sets_them(self, store: CampaignStore) -> None:
        assert await store.account_budget() == AccountBudget()
        status = await store.account_status()
        assert [(limit.limit, limit.spent, limit.reserved) for limit in status.account] == [(None, 0, 0)] * 3

    async def test_what_was_set_is_read_back_to_the_millionth(self, store: CampaignStore) -> None:
        for budget in (
            AccountBudget(daily=Decimal("0.000001"), monthly=Decimal(1_000_000_000), timezone="Asia/Tokyo"),
            AccountBudget(daily=Decimal(0), weekly=Decimal("20.5"), timezone="America/New_York"),
            AccountBudget(),
        ):
            await store.set_account_budget(budget)
            assert await store.account_budget() == budget

    @pytest.mark.parametrize(
        "budget",
        [
            AccountBudget(timezone="Mars/Olympus"),
            AccountBudget(timezone=""),
            AccountBudget(daily=Decimal(-1)),
            AccountBudget(weekly=Decimal("NaN")),
            AccountBudget(monthly=Decimal(1_000_000_001)),
        ],
        ids=repr,
    )
    async def test_what_cannot_be_a_budget_is_refused_and_changes_nothing(
        self, store: CampaignStore, budget: AccountBudget
    ) -> None:
        await store.set_account_budget(AccountBudget(daily=Decimal(5)))
        with pytest.raises(StoreError):
            await store.set_account_budget(budget)
        assert await store.account_budget() == AccountBudget(daily=Decimal(5))

    async def test_its_status_tells_of_all_campaigns_together(
        self, store: CampaignStore, lease: Lease, other: Lease, clock: SettableClock
    ) -> None:
        await store.set_account_budget(AccountBudget(daily=Decimal(5), monthly=Decimal(100)))
        await spend(store, lease, "1.5")
        await reserve(store, other, "0.25")
        status = await store.account_status()
        assert (status.at, status.limits) == (clock.now(), ())
        assert [(limit.name, limit.limit) for limit in status.account] == [
            ("account daily", 5),
            ("account weekly", None),
            ("account monthly", 100),
        ]
        assert {(str(limit.spent), str(limit.reserved)) for limit in status.account} == {("1.500000", "0.250000")}
        assert [limit.window.key for limit in status.account if limit.window] == [
            "daily:2026-05-13",
            "weekly:2026-05-10",
            "monthly:2026-05-01",
        ]

    async def test_a_campaigns_status_tells_of_it_too_always(
        self, store: CampaignStore, lease: Lease, other: Lease
    ) -> None:
        await spend(store, other, "2")
        status = await store.budget_status(KEY)
        assert {(limit.limit, limit.spent) for limit in status.limits} == {(None, 0)}
        assert {(limit.scope, limit.limit, limit.spent) for limit in status.account} == {(Scope.ACCOUNT, None, 2)}
        assert len(status.account) == 3

    async def test_its_reached_limit_keeps_every_campaigns_run_from_starting(
        self, store: CampaignStore, lease: Lease, other: Lease
    ) -> None:
        await store.set_account_budget(AccountBudget(weekly=Decimal(2)))
        await spend(store, other, "2")
        for key in (KEY, "another"):
            assert [limit.name for limit in (await store.budget_status(key)).reached] == ["account weekly"]


class TestAccountLimits:
    @pytest.mark.parametrize("period", ["daily", "weekly", "monthly"])
    async def test_every_limit_holds_over_several_campaigns(
        self, store: CampaignStore, lease: Lease, other: Lease, period: str
    ) -> None:
        await store.set_account_budget(AccountBudget(**{period: Decimal(5)}))
        await spend(store, lease, "3")
        await reserve(store, other, "1")
        with pytest.raises(BudgetRefused, match=rf"account {period} 5\.00 would be passed, spent 3\.00, reserved 1"):
            await reserve(store, other, "1.000001", attempt=2)
        assert (await account_books(store))[period] == (3, 1)
        await reserve(store, other, "1", attempt=2)
        with pytest.raises(BudgetRefused, match=rf"account {period} 5\.00 reached, spent 3\.00, reserved 2"):
            await reserve(store, lease, "0.000001", attempt=2)

    async def test_what_was_spent_before_they_were_set_counts(self, store: CampaignStore, lease: Lease) -> None:
        await spend(store, lease, "3")
        await send(store, lease, "1.5", attempt=2)
        await store.set_account_budget(AccountBudget(daily=Decimal(5)))
        with pytest.raises(BudgetRefused, match=r"account daily 5\.00 would be passed, spent 3\.00, reserved 1\.50"):
            await reserve(store, lease, "0.51", attempt=3)

    async def test_only_what_costs_something_is_refused(self, store: CampaignStore, lease: Lease) -> None:
        await store.set_account_budget(AccountBudget(daily=Decimal(0)))
        assert (await reserve(store, lease, "0")).state is AttemptState.HELD
        with pytest.raises(BudgetRefused, match="the next step may cost something"):
            await reserve(store, lease, None, step="unheard of")

    async def test_a_refused_reservation_is_in_nobodys_books(self, store: CampaignStore, lease: Lease) -> None:
        await store.set_account_budget(AccountBudget(daily=Decimal(1)))
        with pytest.raises(BudgetRefused):
            await reserve(store, lease, "2")
        assert await books(store) == await account_books(store) == dict.fromkeys(("daily", "weekly", "monthly"), (0, 0))

    async def test_another_timezone_is_no_fresh_budget(self, store: CampaignStore, lease: Lease) -> None:
        await spend(store, lease, "5")
        await store.set_account_budget(AccountBudget(daily=Decimal(5), timezone="America/New_York"))
        with pytest.raises(BudgetRefused):
            await reserve(store, lease, "1", attempt=2)

    async def test_every_booking_is_one_of_the_account_too(
        self, store: CampaignStore, lease: Lease, other: Lease, clock: SettableClock
    ) -> None:
        await store.release(lease, await reserve(store, lease, "10", step="released"))
        await spend(store, lease, "1", step="settled")
        await store.book_unconfirmed(lease, await send(store, lease, "2", step="unconfirmed"))
        await send(store, other, "4", step="expired", hold_seconds=60)
        await reserve(store, other, "20", step="let go", hold_seconds=60)
        late = await send(store, other, "30", step="late", hold_seconds=60)
        clock.advance(seconds=60)
        assert await account_books(store) == dict.fromkeys(("daily", "weekly", "monthly"), (37, 0))
        await store.settle_late(late, Decimal(8))
        await store.correct(
            KEY, run_id=lease.run_id, step="unconfirmed", attempt=1, amount=Decimal(16), by="Ada", note="invoice"
        )
        assert await account_books(store) == dict.fromkeys(("daily", "weekly", "monthly"), (29, 0))


class TestAccountWindows:
    @pytest.mark.parametrize(
        ("account_zone", "before", "after", "fresh", "account_fresh"),
        [
            # Midnight in Tokyo is 11:00 in New York.
            ("Asia/Tokyo", "2026-05-13T14:59:59+00:00", "2026-05-13T15:00:00+00:00", set(), {"daily"}),
            # Midnight in New York is 13:00 in Tokyo.
            ("Asia/Tokyo", "2026-05-14T03:59:59+00:00", "2026-05-14T04:00:00+00:00", {"daily"}, set()),
            # Saturday, 31 October, to Sunday, 1 November, in Kiritimati, fourteen hours ahead of UTC.
            (
                "Pacific/Kiritimati",
                "2026-10-31T09:59:59+00:00",
                "2026-10-31T10:00:00+00:00",
                set(),
                {"daily", "weekly", "monthly"},
            ),
            # Clocks go forward at midnight in Santiago: Sunday, 6 September, begins at 01:00, which is 04:00 UTC …
            ("America/Santiago", "2026-09-06T03:59:59+00:00", "2026-09-06T04:00:00+00:00", {"daily", "weekly"}, None),
            # … and they go back by half an hour on Lord Howe: Sunday, 5 April, ends at 13:30 UTC.
            ("Australia/Lord_Howe", "2026-04-05T13:29:59+00:00", "2026-04-05T13:30:00+00:00", set(), {"daily"}),
        ],
    )
    async def test_they_begin_in_the_accounts_own_timezone(
        self,
        store: CampaignStore,
        clock: SettableClock,
        account_zone: str,
        before: str,
        after: str,
        fresh: set[str],
        account_fresh: set[str] | None,
    ) -> None:
        await store.save_campaign(make_campaign(timezone="America/New_York"))
        await store.set_account_budget(AccountBudget(timezone=account_zone))
        clock.instant = datetime.fromisoformat(before)
        await spend(store, await take_lease(store), "1")
        clock.instant = datetime.fromisoformat(after)
        status = await store.budget_status(KEY)
        assert {limit.name for limit in status.limits if limit.spent == 0} == fresh
        expected = fresh if account_fresh is None else account_fresh
        assert {limit.name for limit in status.account if limit.spent == 0} == {f"account {name}" for name in expected}

    async def test_settling_after_its_midnight_books_into_the_day_of_the_reservation(
        self, store: CampaignStore, clock: SettableClock
    ) -> None:
        await store.set_account_budget(AccountBudget(daily=Decimal(5), timezone="Asia/Tokyo"))
        clock.instant = datetime.fromisoformat("2026-05-13T23:59:00+09:00")
        lease = await take_lease(store)
        sent = await send(store, lease, "5")
        clock.advance(minutes=2)
        await reserve(store, lease, "5", step="next day")
        await store.settle(lease, sent, Decimal(4))
        assert await account_books(store) == {"daily": (0, 5), "weekly": (4, 5), "monthly": (4, 5)}
        assert await books(store) == dict.fromkeys(("daily", "weekly", "monthly"), (4, 5))


class TestSweep:
    """Whoever looks sees to what has expired, of whatever campaign."""

    @pytest.mark.parametrize("see_to_it", ["account_status", "budget_status", "reserve", "unconfirmed"])
    async def test_another_campaigns_expired_reservations_are_released_or_booked(
        self, store: CampaignStore, lease: Lease, other: Lease, clock: SettableClock, see_to_it: str
    ) -> None:
        await reserve(store, other, "1", step="held", hold_seconds=60)
        await send(store, other, "2", step="sent", hold_seconds=60)
        clock.advance(seconds=60)
        if see_to_it == "account_status":
            await store.account_status()
        elif see_to_it == "budget_status":
            await store.budget_status(KEY)
        elif see_to_it == "reserve":
            await reserve(store, lease, "0")
        else:
            assert await store.unconfirmed(KEY) == []
        (held,), (sent,) = [await store.attempts(other.run_id, step) for step in ("held", "sent")]
        assert (held.state, sent.state, sent.booked) == ("released", "unconfirmed", 2)
        assert (await books(store, "another"))["daily"] == (await account_books(store))["daily"] == (2, 0)

    async def test_what_has_expired_elsewhere_makes_room(
        self, store: CampaignStore, lease: Lease, other: Lease, clock: SettableClock
    ) -> None:
        await store.set_account_budget(AccountBudget(daily=Decimal(5)))
        await reserve(store, other, "5", hold_seconds=60)
        clock.advance(seconds=60)
        assert (await reserve(store, lease, "5")).state is AttemptState.HELD


class TestPerRun:
    async def test_all_attempts_of_the_run_count(self, store: CampaignStore, lease: Lease) -> None:
        await store.save_campaign(make_campaign(perRun=10))
        await spend(store, lease, "1", step="settled")
        await store.book_unconfirmed(lease, await send(store, lease, "2", step="unconfirmed"))
        await store.release(lease, await reserve(store, lease, "7", step="released"))
        await send(store, lease, "3", step="sent")
        await reserve(store, lease, "2", step="held")
        with pytest.raises(BudgetRefused) as refused:
            await reserve(store, lease, "2.000001")
        (limit,) = refused.value.limits
        assert (limit.scope, limit.window, limit.limit) == (Scope.RUN, None, 10)
        assert (limit.spent, limit.reserved, refused.value.amount) == (3, 5, Decimal("2.000001"))
        assert "budget: perRun 10.00 would be passed, spent 3.00, reserved 5.00" in str(refused.value)
        assert (await reserve(store, lease, "2")).state is AttemptState.HELD

    async def test_a_resumed_run_goes_on_with_what_is_left_and_another_begins_anew(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        await store.save_campaign(make_campaign(perRun=5))
        await spend(store, lease, "4")
        await store.release_lease(lease)
        clock.advance(days=40)
        resumed = await take_lease(store, holder="the other worker")
        with pytest.raises(BudgetRefused, match=r"perRun 5\.00 would be passed, spent 4\.00"):
            await reserve(store, resumed, "2", step="next")
        await store.release_lease(resumed)
        assert await reserve(store, await take_lease(store, "run-2", since=clock.now()), "5")

    async def test_what_nobody_knows_the_cost_of_is_refused_where_it_is_reached(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        await store.save_campaign(make_campaign(perRun=1))
        await spend(store, lease, "1")
        with pytest.raises(BudgetRefused, match=r"perRun 1\.00 reached, spent 1\.00; the next step may cost something"):
            await reserve(store, lease, None, step="unheard of")
        assert (await reserve(store, lease, "0", step="free")).state is AttemptState.HELD

    async def test_it_does_not_keep_the_next_run_from_starting(self, store: CampaignStore, lease: Lease) -> None:
        await store.save_campaign(make_campaign(perRun=1))
        await spend(store, lease, "1")
        assert (await store.budget_status(KEY)).reached == ()


async def test_every_limit_that_refuses_is_told_in_order(store: CampaignStore, lease: Lease) -> None:
    await store.save_campaign(make_campaign(daily=1, weekly=100, monthly="1.5", perRun="1.75"))
    await store.set_account_budget(AccountBudget(daily=Decimal(50), weekly=Decimal("1.25")))
    await spend(store, lease, "1")
    with pytest.raises(BudgetRefused) as refused:
        await reserve(store, lease, "1", step="next")
    assert [limit.name for limit in refused.value.limits] == ["daily", "monthly", "account weekly", "perRun"]
    assert [limit.limit for limit in refused.value.limits] == [1, Decimal("1.5"), Decimal("1.25"), Decimal("1.75")]
    assert str(refused.value).startswith("budget: daily 1.00 reached, spent 1.00; budget: monthly 1.50 would be passed")
