"""A clock that somebody sets, an hour forward or back: who lives goes on living, and who has died is not kept alive.

In the SQLite store, whose clock is the machine's. Budgets, which go by the day that it is, in every store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from store_cases import (
    NOON,
    RUN_1,
    SettableClock,
    ask_lease,
    assert_books_are_whole,
    books,
    make_campaign,
    make_report,
    reserve,
    spend,
    take_lease,
)

from prefect_campaigns.blocks.sqlite.clock_steps import STEP
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AttemptState, Lease, LeaseHeld, MailRecord, MailState
from prefect_campaigns.clock import SystemClock, Uptime
from prefect_campaigns.errors import BudgetRefused, LeaseLost

both_ways = pytest.mark.parametrize("hours", [1, -1], ids=["forward", "back"])


@pytest.fixture
async def file(tmp_path: Path, clock: SettableClock) -> AsyncIterator[SqliteStore]:
    """An open SQLite store with one campaign."""
    async with SqliteStore(tmp_path / "campaigns.db", clock=clock) as opened:
        await opened.save_campaign(make_campaign())
        yield opened
        await assert_books_are_whole(opened)


async def write(file: SqliteStore) -> None:
    """Write something, as every worker does every few seconds."""
    await file.keep_worker(uuid4(), name="other", pool="campaigns", ttl_seconds=60)


class TestLeases:
    @both_ways
    async def test_a_lease_is_held_for_as_long_as_it_was_to_be(
        self, file: SqliteStore, clock: SettableClock, hours: int
    ) -> None:
        await take_lease(file, ttl_seconds=60)
        clock.advance(seconds=20)
        clock.step(hours=hours)
        held = await ask_lease(file, "run-2")
        assert isinstance(held, LeaseHeld)
        assert held.expires_at == clock.now() + timedelta(seconds=40)
        clock.advance(seconds=39)
        assert isinstance(await ask_lease(file, "run-2"), LeaseHeld)
        # Its holder has died.
        clock.advance(seconds=1)
        assert isinstance(await ask_lease(file, "run-2"), Lease)

    @both_ways
    async def test_one_that_is_renewed_is_kept_and_its_run_writes(
        self, file: SqliteStore, clock: SettableClock, hours: int
    ) -> None:
        lease = await take_lease(file, ttl_seconds=60)
        clock.step(hours=hours)
        assert isinstance(await ask_lease(file, "run-2"), LeaseHeld)
        assert (await file.renew_lease(lease, ttl_seconds=60)).expires_at == clock.now() + timedelta(seconds=60)
        await file.start_run(lease, make_report())
        assert await file.unattended_runs(within_seconds=45) == []

    async def test_one_that_had_expired_does_not_live_again(self, file: SqliteStore, clock: SettableClock) -> None:
        await take_lease(file, ttl_seconds=60)
        clock.advance(seconds=60)
        clock.step(hours=-1)
        assert isinstance(await ask_lease(file, "run-2"), Lease)

    async def test_what_is_set_back_and_forth_stands_where_it_stood(
        self, file: SqliteStore, clock: SettableClock
    ) -> None:
        await take_lease(file, ttl_seconds=60)
        for hours in (1, -1, -24, 24, 1, -1):
            clock.step(hours=hours)
            held = await ask_lease(file, "run-2")
            assert isinstance(held, LeaseHeld)
            assert held.expires_at == clock.now() + timedelta(seconds=60)

    @both_ways
    async def test_who_waits_keeps_its_place_and_no_longer(
        self, file: SqliteStore, clock: SettableClock, hours: int
    ) -> None:
        lease = await take_lease(file)
        await ask_lease(file, "run-2", since=NOON)
        await file.release_lease(lease)
        clock.step(hours=hours)
        assert isinstance(await ask_lease(file, "run-3", since=NOON + timedelta(seconds=1)), LeaseHeld)
        clock.advance(seconds=31)
        assert isinstance(await ask_lease(file, "run-3", since=NOON + timedelta(seconds=1)), Lease)

    async def test_a_process_that_is_started_after_the_step_knows_of_it(
        self, file: SqliteStore, clock: SettableClock, tmp_path: Path
    ) -> None:
        await take_lease(file, ttl_seconds=60)
        clock.step(hours=1)
        async with SqliteStore(tmp_path / "campaigns.db", clock=clock) as other:
            assert isinstance(await ask_lease(other, "run-2"), LeaseHeld)

    async def test_a_process_that_has_not_heard_of_a_boot_moves_nothing(
        self, file: SqliteStore, clock: SettableClock, tmp_path: Path
    ) -> None:
        """What lived before the machine was booted has died; until when it counts as alive the clock says."""
        await take_lease(file, ttl_seconds=60)
        booted = SettableClock(clock.now() + timedelta(seconds=59))
        async with SqliteStore(tmp_path / "campaigns.db", clock=booted) as other:
            assert isinstance(await ask_lease(other, "run-2"), LeaseHeld)
            booted.advance(seconds=1)
            assert isinstance(await ask_lease(other, "run-2"), Lease)

    async def test_what_lies_days_ahead_was_written_by_another_clock_and_does_not_move(
        self, file: SqliteStore, clock: SettableClock, tmp_path: Path
    ) -> None:
        """A machine that does not know the time when it is booted is told it a little later."""
        await take_lease(file, ttl_seconds=60)
        booted = SettableClock(datetime(1970, 1, 1, tzinfo=UTC))
        async with SqliteStore(tmp_path / "campaigns.db", clock=booted) as other:
            await write(other)
            booted.step(seconds=(NOON - booted.now()).total_seconds() + 60)
            assert isinstance(await ask_lease(other, "run-2"), Lease)

    async def test_a_clock_that_is_corrected_by_little_is_none_that_was_set(
        self, file: SqliteStore, clock: SettableClock
    ) -> None:
        lease = await take_lease(file, ttl_seconds=60)
        clock.step(seconds=STEP.total_seconds() - 1)
        held = await ask_lease(file, "run-2")
        assert isinstance(held, LeaseHeld)
        assert held.expires_at == lease.expires_at
        # But many corrections come to one.
        clock.step(seconds=STEP.total_seconds() - 1)
        held = await ask_lease(file, "run-2")
        assert isinstance(held, LeaseHeld)
        assert held.expires_at == lease.expires_at + 2 * (STEP - timedelta(seconds=1))

    async def test_whoever_stands_still_between_two_looks_at_the_clock_sees_no_step(self, tmp_path: Path) -> None:
        clock = StandingStill()
        async with SqliteStore(tmp_path / "campaigns.db", clock=clock) as file:
            await file.save_campaign(make_campaign())
            lease = await take_lease(file, ttl_seconds=60)
            clock.still_for = 30
            held = await ask_lease(file, "run-2")
            assert isinstance(held, LeaseHeld)
            assert held.expires_at == lease.expires_at


class StandingStill(SettableClock):
    """The clock of a process that the machine does not let go on for a while, just as it looks."""

    still_for = 0.0

    def now(self) -> datetime:
        now = super().now()
        self.advance(seconds=self.still_for)
        return now


@both_ways
class TestWhatElseMoves:
    async def test_a_worker_counts_as_alive_for_as_long_as_it_was_to(
        self, file: SqliteStore, clock: SettableClock, hours: int
    ) -> None:
        await file.keep_worker(uuid4(), name="laptop", pool="campaigns", ttl_seconds=60)
        clock.step(hours=hours)
        for seconds, has_expired in ((0, False), (59, False), (1, True)):
            clock.advance(seconds=seconds)
            await write(file)
            (laptop,) = (one for one in await file.list_workers() if one.name == "laptop")
            assert laptop.has_expired is has_expired

    async def test_a_run_is_unattended_when_its_lease_has_run_out(
        self, file: SqliteStore, clock: SettableClock, hours: int
    ) -> None:
        await file.start_run(await take_lease(file, ttl_seconds=60), make_report())
        clock.step(hours=hours)
        await write(file)
        assert await file.unattended_runs(within_seconds=30) == []
        clock.advance(seconds=60)
        assert [(one.run_id, one.has_expired) for one in await file.unattended_runs(within_seconds=30)] == [
            (RUN_1, True)
        ]

    async def test_money_is_reserved_for_as_long_as_it_was_to_be(
        self, file: SqliteStore, clock: SettableClock, hours: int
    ) -> None:
        lease = await take_lease(file, ttl_seconds=6000)
        held = await reserve(file, lease, "1.00", hold_seconds=600)
        lost = await reserve(file, lease, "2.00", step="lost", hold_seconds=600)
        clock.step(hours=hours)
        clock.advance(seconds=599)
        assert (await file.mark_sent(lease, held)).state is AttemptState.SENT
        assert (await file.settle(lease, held, Decimal("0.50"))).state is AttemptState.SETTLED
        assert (await books(file))["daily"] == (Decimal("0.50"), Decimal("2.00"))
        clock.advance(seconds=1)
        assert (await books(file))["daily"] == (Decimal("0.50"), Decimal("0"))
        (attempt,) = await file.attempts(RUN_1, lost.step)
        assert attempt.state is AttemptState.RELEASED

    async def test_an_engine_is_left_alone_for_as_long_as_it_was_to_be(
        self, file: SqliteStore, clock: SettableClock, hours: int
    ) -> None:
        await file.engine_failed("http://localhost:9", run_id=RUN_1, error="down", after_runs=1, pause_seconds=900)
        clock.step(hours=hours)
        await write(file)
        (trouble,) = await file.engine_troubles()
        assert trouble.left_alone_until == clock.now() + timedelta(seconds=900)
        # By which it is known who has been told.
        assert trouble.left_alone_since == NOON

    async def test_a_mail_is_tried_again_when_it_was_to_be(
        self, file: SqliteStore, clock: SettableClock, hours: int
    ) -> None:
        owed = MailRecord(
            event_id=uuid4(),
            recipient="ops@example.com",
            subject="Failed",
            state=MailState.OWED,
            owed_since=NOON,
            next_try_at=NOON + timedelta(minutes=2),
        )
        await file.record_mails([owed])
        clock.step(hours=hours)
        await write(file)
        moved = replace(owed, next_try_at=clock.now() + timedelta(minutes=2))
        assert await file.list_mails(MailState.OWED) == [moved]

    async def test_until_when_a_person_may_approve_stays_as_the_person_was_told(
        self, file: SqliteStore, clock: SettableClock, hours: int
    ) -> None:
        lease = await take_lease(file)
        await file.start_run(lease, make_report())
        asked = await file.ask_approval(lease, step="find", timeout_seconds=86_400)
        clock.step(hours=hours)
        await write(file)
        (waiting,) = await file.list_approvals(run_id=RUN_1)
        assert waiting.expires_at == asked.expires_at


async def test_a_day_that_begins_twice_gives_its_money_out_once(store: CampaignStore, clock: SettableClock) -> None:
    """Set forward over midnight and back, and then midnight comes."""
    await store.save_campaign(make_campaign(timezone="America/New_York", daily="1.00"))
    clock.instant = datetime(2026, 5, 14, 3, 30, tzinfo=UTC)
    lease = await take_lease(store, ttl_seconds=86_400)
    await spend(store, lease, "1.00", step="on the 13th")
    clock.step(hours=1)
    await spend(store, lease, "0.75", step="on the 14th")
    clock.step(hours=-1)
    with pytest.raises(BudgetRefused):
        await reserve(store, lease, "0.01", step="on the 13th again")
    clock.advance(minutes=30)
    with pytest.raises(BudgetRefused):
        await reserve(store, lease, "0.50", step="on the 14th again")
    await spend(store, lease, "0.25", step="what was left of the 14th")
    assert (await books(store))["daily"] == (Decimal("1.00"), Decimal("0"))


async def test_where_a_step_is_not_known_of_a_lease_is_lost_to_whoever_takes_it_and_nothing_is_written_twice(
    store: CampaignStore, clock: SettableClock
) -> None:
    """The clock of a database is set forward: who is cut off by that notices it at its next write."""
    lease = await take_lease(store, ttl_seconds=60)
    await store.start_run(lease, make_report())
    sent = await store.mark_sent(lease, await reserve(store, lease, "1.00"))
    clock.advance(hours=1)
    other = await take_lease(store, "run-2")
    for act in (
        store.renew_lease(lease, ttl_seconds=60),
        store.settle(lease, sent, Decimal("0.50")),
        reserve(store, lease, "1.00", step="next"),
        store.finish_run(lease, make_report()),
    ):
        with pytest.raises(LeaseLost):
            await act
    # What the engine charged is booked, once; the run that has the lease spends its own.
    assert (await store.settle_late(sent, Decimal("0.50"))).booked == Decimal("0.50")
    await spend(store, other, "0.25")
    assert await store.run_cost(RUN_1) == Decimal("0.50")


async def test_the_machine_has_a_clock_that_nobody_sets() -> None:
    clock = SystemClock()
    first = clock.uptime()
    await asyncio.sleep(0.01)
    second = clock.uptime()
    if first is None:
        pytest.skip("this system does not say when it was booted")
    assert isinstance(second, Uptime)
    assert second.boot == first.boot
    assert 0.01 <= second.seconds - first.seconds < 5
