"""Whatever happens, in whatever order, at whatever hour: no limit is passed but by what engines charged beyond it.

Beside the store a second set of books is kept. After every act both must say the same, a reservation must be refused
by exactly those limits that refuse it there, and what stands there must be within the limits. A store joins by its
name in STORES, with how many examples it is tried on, and a fixture ``<name>_books``.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from second_books import NOTHING, Request, SecondBooks
from store_cases import (
    SettableClock,
    assert_books_are_whole,
    make_campaign,
    make_report,
    make_step,
    take_lease,
)
from supabase_rig import Project

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AttemptState, Lease
from prefect_campaigns.blocks.supabase.store import SupabaseStore
from prefect_campaigns.budget import AccountBudget, LimitStatus, Scope
from prefect_campaigns.errors import BudgetRefused
from prefect_campaigns.models import Campaign

STORES = {"sqlite": 60, "supabase": 8}

OpenBooks = Callable[[SettableClock], AbstractAsyncContextManager[CampaignStore]]
"""Opens a store that has nothing in it yet."""


@pytest.fixture
def sqlite_books() -> OpenBooks:
    @asynccontextmanager
    async def new_file(clock: SettableClock) -> AsyncIterator[CampaignStore]:
        with tempfile.TemporaryDirectory() as folder:
            async with SqliteStore(Path(folder) / "campaigns.db", clock=clock) as store:
                yield store

    return new_file


@pytest.fixture
def supabase_books(supabase: Project) -> OpenBooks:
    @asynccontextmanager
    async def emptied_project(clock: SettableClock) -> AsyncIterator[CampaignStore]:
        supabase.clean()
        async with SupabaseStore(supabase.url, supabase.secret_key, clock=clock) as store:
            yield store

    return emptied_project


ZONES = st.sampled_from(["America/New_York", "Europe/London", "America/Santiago", "Australia/Lord_Howe", "UTC"])
STARTS = st.sampled_from(
    [
        "2026-03-08T04:30+00:00",  # half an hour before a Sunday of 23 hours in New York
        "2026-03-28T23:30+00:00",  # … and in London
        "2026-04-04T12:30+00:00",  # … before one of 24 hours and a half on Lord Howe
        "2026-04-05T02:30+00:00",  # … before Saturday's last hour comes again in Santiago
        "2026-09-06T03:30+00:00",  # … before a Sunday that has no midnight in Santiago
        "2026-11-01T03:30+00:00",  # … before a Sunday of 25 hours in New York, which begins a month
        "2026-11-30T23:30+00:00",  # … before a month in London
    ]
).map(datetime.fromisoformat)

DOLLARS = st.sampled_from(["0", "0.000001", "0.2", "0.5", "0.99", "1", "1.5"]).map(Decimal)
# Most often there is none, so that each of the seven that hold for a run stands in the way alone at times.
LIMITS = st.sampled_from([None] * 12 + [Decimal(limit) for limit in ("1", "2.000001", "3", "5", "8")])
CAMPAIGNS = st.lists(
    st.fixed_dictionaries({"timezone": ZONES, "daily": LIMITS, "weekly": LIMITS, "monthly": LIMITS, "perRun": LIMITS}),
    min_size=1,
    max_size=3,
)
ACCOUNTS = st.builds(AccountBudget, daily=LIMITS, weekly=LIMITS, monthly=LIMITS, timezone=ZONES)

# Most often what leads somewhere.
KINDS = ["request", "settle"] * 3 + ["reserve", "sent", "wait", "unconfirmed", "release", "late", "correct", "next run"]
# What, of which campaign or open request, at what amount; whether an amount is known or an answer is a result.
ACTS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 11), DOLLARS, st.booleans()), min_size=20, max_size=40)
WAITS_MINUTES = (1, 20, 45, 60, 24 * 60, 7 * 24 * 60)


class Player:
    """Acts on the store and on the second books alike."""

    def __init__(self, store: CampaignStore, clock: SettableClock, books: SecondBooks) -> None:
        self.store, self.clock, self.books = store, clock, books
        self.leases: dict[str, Lease] = {}
        self.runs = 0

    async def start(self) -> None:
        await self.store.set_account_budget(self.books.account)
        for key, campaign in self.books.campaigns.items():
            await self.store.save_campaign(campaign)
            await self.next_run(key)

    async def next_run(self, key: str) -> None:
        if key in self.leases:
            await self.store.release_lease(self.leases[key])
        self.runs += 1
        run = f"run-{self.runs}"
        self.leases[key] = await take_lease(self.store, run, key=key, since=self.clock.now())
        await self.store.start_run(self.leases[key], make_report(run, campaign_key=key))

    async def act(self, kind: str, which: int, amount: Decimal, flag: bool) -> None:
        keys = list(self.books.campaigns)
        if kind == "wait":
            self.clock.advance(minutes=WAITS_MINUTES[which % len(WAITS_MINUTES)])
        elif kind == "next run":
            await self.next_run(keys[which % len(keys)])
        elif kind in ("reserve", "request"):
            step = f"step {which // len(keys) % 2}"
            made = await self.reserve(keys[which % len(keys)], step, amount if flag else None)
            if made and kind == "request":
                await self.send(made, amount, flag)
        else:
            states, is_for_its_run, deed = DEEDS[kind]
            possible = [
                request
                for request in self.books.requests
                if request.state in states
                and (not is_for_its_run or self.leases[request.made.campaign_key].run_id == request.made.run_id)
            ]
            if possible:
                # At, below and above the estimate.
                request = possible[which % len(possible)]
                cost = (request.made.estimate, amount, request.made.estimate + amount)[which % 3]
                await deed(self, request, cost, flag)

    async def reserve(self, key: str, step: str, amount: Decimal | None) -> Request | None:
        """Reserve the amount (None: nobody knows it) for the next attempt of the step, if no limit refuses it."""
        now, lease = self.clock.now(), self.leases[key]
        expected = self.books.last_cost(key, step) if amount is None else amount
        refusing = self.books.refusing(key, lease.run_id, now, expected)
        attempt = 1 + sum(
            (request.made.run_id, request.made.step) == (lease.run_id, step) for request in self.books.requests
        )
        asked: dict[str, Any] = {"step": step, "attempt": attempt, "estimated_cost": amount, "hold_seconds": 1800}
        try:
            made = await self.store.reserve(lease, **asked)
        except BudgetRefused as refused:
            assert ([limit.name for limit in refused.limits], refused.amount) == (refusing, expected)
            return None
        assert refusing == []
        assert made.estimate == (expected or NOTHING)
        for name, limit, window in self.books.limits(key, lease.run_id, now):
            # What an engine's overcharge has filled is not filled further.
            if limit is not None and made.estimate > 0:
                assert self.books.spent(window) + self.books.reserved(window) < limit, name
        return self.books.reserve(made)

    async def send(self, request: Request, cost: Decimal, flag: bool) -> None:
        await self.store.mark_sent(self.leases[request.made.campaign_key], request.made)
        request.state = AttemptState.SENT

    async def settle(self, request: Request, cost: Decimal, flag: bool) -> None:
        step = make_step(request.made.step) if flag else None
        await self.store.settle(self.leases[request.made.campaign_key], request.made, cost, step=step)
        self.books.answer(request, cost, is_result=flag)

    async def give_up(self, request: Request, cost: Decimal, flag: bool) -> None:
        await self.store.book_unconfirmed(self.leases[request.made.campaign_key], request.made)
        self.books.give_up(request)

    async def release(self, request: Request, cost: Decimal, flag: bool) -> None:
        await self.store.release(self.leases[request.made.campaign_key], request.made)
        self.books.release(request)

    async def settle_late(self, request: Request, cost: Decimal, flag: bool) -> None:
        await self.store.settle_late(request.made, cost, step=make_step(request.made.step) if flag else None)
        if request.state in (AttemptState.SENT, AttemptState.UNCONFIRMED) and not self.books.waits(request):
            self.books.answer(request, cost, is_result=flag)

    async def correct(self, request: Request, cost: Decimal, flag: bool) -> None:
        made = request.made
        asked: dict[str, Any] = {"run_id": made.run_id, "step": made.step, "attempt": made.attempt, "amount": cost}
        await self.store.correct(made.campaign_key, **asked, by="Ada", note="invoice")
        self.books.correct(request, cost)

    async def compare(self) -> None:
        """Ask the store what stands against the limits now, and hold it against the second books."""
        self.books.expire(self.clock.now())
        for key, lease in self.leases.items():
            status = await self.store.budget_status(key)
            expected = list(self.books.limits(key, lease.run_id, self.clock.now()))[:6]
            assert [(limit.name, limit.limit) for limit in status.all] == [(name, limit) for name, limit, _ in expected]
            for limit, (_, _, window) in zip(status.all, expected, strict=True):
                assert self.window_of(limit, key) == window
                assert (limit.spent, limit.reserved) == (self.books.spent(window), self.books.reserved(window)), window
        self.books.assert_within_limits()

    @staticmethod
    def window_of(limit: LimitStatus, key: str) -> tuple[str, str]:
        assert limit.window
        return "account" if limit.scope is Scope.ACCOUNT else key, limit.window.key

    async def compare_earlier_windows(self) -> None:
        for at in {request.made.reserved_at for request in self.books.requests}:
            self.clock.instant = at
            await self.compare()


OPEN = (AttemptState.HELD, AttemptState.SENT)
ANSWERABLE = (AttemptState.SENT, AttemptState.UNCONFIRMED)
LEFT = (*ANSWERABLE, AttemptState.SETTLED, AttemptState.CORRECTED)
Deed = Callable[[Player, Request, Decimal, bool], Awaitable[None]]
# By kind: with requests of what states, whether only the run that made it may, and how.
DEEDS: dict[str, tuple[tuple[AttemptState, ...], bool, Deed]] = {
    "sent": ((AttemptState.HELD,), True, Player.send),
    "settle": (ANSWERABLE, True, Player.settle),
    "unconfirmed": ((AttemptState.SENT,), True, Player.give_up),
    "release": (OPEN, True, Player.release),
    "late": (LEFT, False, Player.settle_late),
    "correct": ((AttemptState.UNCONFIRMED,), False, Player.correct),
}


async def play(
    open_books: OpenBooks,
    start: datetime,
    campaigns: dict[str, Campaign],
    account: AccountBudget,
    acts: list[tuple[str, int, Decimal, bool]],
) -> None:
    clock = SettableClock(start)
    async with open_books(clock) as store:
        player = Player(store, clock, SecondBooks(campaigns, account))
        await player.start()
        for act in acts:
            await player.act(*act)
            await player.compare()
        await player.compare_earlier_windows()
        await assert_books_are_whole(store)
        for request in player.books.requests:
            (found,) = [
                attempt
                for attempt in await store.attempts(request.made.run_id, request.made.step)
                if attempt.attempt == request.made.attempt
            ]
            assert (found.state, found.booked or NOTHING) == (request.state, request.booked)


@pytest.mark.parametrize("name", STORES)
def test_no_limit_is_passed_but_by_what_engines_charge_beyond_their_estimates(
    name: str, request: pytest.FixtureRequest
) -> None:
    open_books = request.getfixturevalue(f"{name}_books")

    @settings(max_examples=STORES[name], deadline=None)
    @given(start=STARTS, budgets=CAMPAIGNS, account=ACCOUNTS, acts=ACTS)
    def in_every_order(
        start: datetime,
        budgets: list[dict[str, Any]],
        account: AccountBudget,
        acts: list[tuple[str, int, Decimal, bool]],
    ) -> None:
        campaigns = [make_campaign(f"Campaign {number}", **budget) for number, budget in enumerate(budgets)]
        by_key = {campaign.slug: campaign for campaign in campaigns}
        asyncio.run(play(open_books, start, by_key, account, acts))

    in_every_order()
