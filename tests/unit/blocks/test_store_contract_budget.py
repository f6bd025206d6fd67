"""What every store does with limits: what is reserved, for how long, and in which window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from store_cases import (
    KEY,
    RUN_1,
    SettableClock,
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
from prefect_campaigns.budget import AccountBudget, first_moment_without, windows
from prefect_campaigns.errors import BudgetRefused, StoreError, UnknownCampaign


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
            run_id=RUN_1,
            step="find",
            attempt=1,
            state=AttemptState.HELD,
            estimate=Decimal("0.024"),
            booked=None,
            reserved_at=clock.now(),
            expires_at=clock.now() + timedelta(seconds=90),
        )
        assert await today(store) == ("0.000000", "0.024000")

    @pytest.mark.parametrize("period", ["daily", "weekly", "monthly"])
    async def test_every_limit_holds(self, store: CampaignStore, lease: Lease, period: str) -> None:
        await store.save_campaign(make_campaign(**{period: 5}))
        await spend(store, lease, "3")
        with pytest.raises(BudgetRefused, match=f"{period} 5.00 would be passed, spent 3.00") as refused:
            await reserve(store, lease, "2.000001", step="analyze")
        assert ([limit.name for limit in refused.value.limits], refused.value.amount) == ([period], Decimal("2.000001"))
        assert await today(store) == ("3.000000", "0.000000")
        assert await store.attempts(RUN_1, "analyze") == []

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
        assert [attempt.estimate for attempt in await store.attempts(RUN_1, "find")] == [1, 2, 3]


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
        assert await store.last_cost(KEY, "find") == (Decimal(estimate) if earlier else None)
        lease = await take_lease(store, "run-2")
        assert (await reserve(store, lease, None)).estimate == Decimal(estimate)

    async def test_other_steps_and_campaigns_do_not_count(self, store: CampaignStore, lease: Lease) -> None:
        await spend(store, lease, "9", step="another")
        await store.save_campaign(make_campaign("Another"))
        await spend(store, await take_lease(store, "run-2", key="another"), "8")
        assert (await reserve(store, lease, None)).estimate == 0

    async def test_what_was_released_or_taken_back_does_not_count(self, store: CampaignStore, lease: Lease) -> None:
        await spend(store, lease, "3", attempt=1)
        await store.release(lease, await reserve(store, lease, "9", attempt=2))
        for attempt in range(3, 9):
            await store.book_unconfirmed(lease, await send(store, lease, "7", attempt=attempt))
        await store.start_run(lease, make_report())
        await store.settle(lease, await send(store, lease, "7", attempt=9), Decimal(0), step=make_step())
        assert (await reserve(store, lease, None, attempt=10)).estimate == 3

    async def test_what_nobody_knows_the_cost_of_is_refused_where_a_limit_is_reached(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        await store.save_campaign(make_campaign(daily=1))
        await spend(store, lease, "0", step="free")
        await spend(store, lease, "1")
        with pytest.raises(BudgetRefused, match=r"daily 1\.00 reached, spent 1\.00; the next step may cost something"):
            await reserve(store, lease, None, step="unheard of")
        # Known to cost nothing: by its history, or because it says so.
        assert await store.last_cost(KEY, "free") == 0
        assert (await reserve(store, lease, None, step="free", attempt=2)).estimate == 0
        assert (await reserve(store, lease, "0", step="said to be free")).estimate == 0

    async def test_requests_that_failed_for_nothing_do_not_count(self, store: CampaignStore, lease: Lease) -> None:
        await spend(store, lease, "3", attempt=1)
        for attempt in range(2, 8):
            await spend(store, lease, "0", attempt=attempt)
        assert (await reserve(store, lease, None, attempt=8)).estimate == 3

    async def test_what_is_unconfirmed_counts(self, store: CampaignStore, lease: Lease) -> None:
        await store.book_unconfirmed(lease, await send(store, lease, "7"))
        assert (await reserve(store, lease, None, attempt=2)).estimate == 7


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
        (held,), (sent,), (later,) = [await store.attempts(RUN_1, step) for step in ("held", "sent", "later")]
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
        assert await store.run_cost(RUN_1) == 2
        assert (await store.settle(lease, sent, Decimal("0.5"))).state is AttemptState.CORRECTED
        assert await store.run_cost(RUN_1) == Decimal("0.5")
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
        with pytest.raises(BudgetRefused, match=r"spent 5\.00; the next step needs 1\.00$"):
            await reserve(store, lease, "1", attempt=2)
        assert await store.run_cost(RUN_1) == 5


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

    @pytest.mark.parametrize(
        ("zone", "midnight"),
        [
            # Abbreviations, too, in some databases, which know no summer time then.
            ("CET", "2026-07-13T22:00:00+00:00"),
            ("MET", "2026-07-13T22:00:00+00:00"),
            ("EET", "2026-07-13T21:00:00+00:00"),
            ("WET", "2026-07-13T23:00:00+00:00"),
            ("EST5EDT", "2026-07-14T04:00:00+00:00"),
        ],
    )
    async def test_a_zone_of_few_letters_has_its_summer_time(
        self, store: CampaignStore, clock: SettableClock, zone: str, midnight: str
    ) -> None:
        await store.save_campaign(make_campaign(timezone=zone, daily=5))
        await store.set_account_budget(AccountBudget(daily=Decimal(5), timezone=zone))
        end = datetime.fromisoformat(midnight)
        for instant in (end - timedelta(minutes=1), end):
            clock.instant = instant
            lease = await take_lease(store, f"run at {instant}", ttl_seconds=1)
            await spend(store, lease, "5")
            status = await store.budget_status(KEY)
            expected = list(windows(instant, ZoneInfo(zone)))
            assert [limit.window for limit in status.limits] == expected
            assert [limit.window for limit in status.account] == expected
            # How long a pause would last.
            assert first_moment_without(status.reached) == (end if instant < end else end + timedelta(days=1))

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
