"""What every store says of many runs at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from store_cases import (
    KEY,
    NOON,
    SettableClock,
    make_campaign,
    make_report,
    make_step,
    run_id,
    send,
    spend,
    take_lease,
)

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.budget import AccountBudget
from prefect_campaigns.results import RunReport, RunStatus, StepStatus

OTHER = "autumn-outreach"


async def run_at(
    store: CampaignStore, clock: SettableClock, name: str, at: datetime, *, cost: str = "0.25", key: str = KEY
) -> RunReport:
    """Let a run begin then, cost something and end a minute later; return its record."""
    clock.advance(seconds=(at - clock.now()).total_seconds())
    lease = await take_lease(store, name, key=key)
    began = make_report(name, campaign_key=key, started_at=at)
    await store.start_run(lease, began)
    await spend(store, lease, cost)
    await store.save_step(
        lease,
        make_step(
            status=StepStatus.COMPLETED,
            attempts=2,
            started_at=at,
            completed_at=at + timedelta(seconds=30),
            cost=Decimal(cost),
            counts={"prospects_generated": 20},
            result={"leads": [{"email": "bob@example.net"}]},
            warnings=("Acme: no website",),
        ),
    )
    ended = {"status": RunStatus.COMPLETED, "state_name": "Completed", "completed_at": at + timedelta(minutes=1)}
    await store.finish_run(lease, began.model_copy(update=ended))
    await store.release_lease(lease)
    record = await store.get_run(began.run_id)
    assert record is not None
    return record


def outline(run: RunReport) -> RunReport:
    """Return a run without what its engines answered."""
    return run.model_copy(update={"steps": tuple(step.model_copy(update={"result": None}) for step in run.steps)})


@pytest.fixture
async def two(store: CampaignStore) -> AsyncIterator[None]:
    await store.save_campaign(make_campaign(timezone="America/New_York", daily="1", monthly="10"))
    await store.save_campaign(make_campaign("Autumn Outreach"))
    yield


@pytest.mark.usefixtures("two")
class TestRuns:
    async def test_the_newest_of_each_campaign_come_newest_first(
        self, store: CampaignStore, clock: SettableClock
    ) -> None:
        runs = [await run_at(store, clock, f"a{day}", NOON + timedelta(days=day)) for day in range(3)]
        other = await run_at(store, clock, "b", NOON + timedelta(days=1, hours=1), cost="0.5", key=OTHER)
        found = await store.latest_runs(limit=2)
        assert {key: [brief.run_id for brief in briefs] for key, briefs in found.items()} == {
            KEY: [runs[2].run_id, runs[1].run_id],
            OTHER: [other.run_id],
        }
        (brief,) = found[OTHER]
        assert (brief.run_name, brief.status, brief.state_name) == ("name of b", RunStatus.COMPLETED, "Completed")
        assert (brief.started_at, brief.completed_at) == (other.started_at, other.completed_at)
        assert brief.total_cost == Decimal("0.5")

    async def test_they_can_be_asked_for_by_campaign(self, store: CampaignStore, clock: SettableClock) -> None:
        await run_at(store, clock, "a", NOON)
        await run_at(store, clock, "b", NOON, key=OTHER)
        assert list(await store.latest_runs(limit=5, campaign_keys=[OTHER, "nobody"])) == [OTHER]
        assert await store.latest_runs(limit=5, campaign_keys=[]) == {}
        assert await store.latest_runs(limit=0) == {}

    async def test_one_that_goes_on_has_no_end(self, store: CampaignStore) -> None:
        await store.start_run(await take_lease(store), make_report())
        ((brief,),) = (await store.latest_runs(limit=5)).values()
        assert (brief.status, brief.state_name, brief.completed_at) == (RunStatus.RUNNING, None, None)
        assert brief.total_cost == 0

    async def test_of_each_campaign_it_is_known_how_the_newest_run_ended(
        self, store: CampaignStore, clock: SettableClock
    ) -> None:
        assert await store.last_outcomes() == {}
        await run_at(store, clock, "a", NOON)
        await store.start_run(await take_lease(store, "b"), make_report("b", started_at=NOON + timedelta(minutes=1)))
        await run_at(store, clock, "c", NOON, key=OTHER)
        assert await store.last_outcomes() == {KEY: RunStatus.RUNNING, OTHER: RunStatus.COMPLETED}

    async def test_an_outline_is_the_run_without_what_engines_answered(
        self, store: CampaignStore, clock: SettableClock
    ) -> None:
        run = await run_at(store, clock, "a", NOON)
        assert run.steps[0].result is not None
        assert list(await store.run_outlines(limit=5)) == [outline(run)]

    @pytest.mark.parametrize("said", ["\x00", "\ud800", "🎉", "\\u0000", '"'], ids=repr)
    async def test_whatever_they_answered(self, store: CampaignStore, said: str) -> None:
        lease = await take_lease(store)
        await store.start_run(lease, make_report())
        step = make_step(status=StepStatus.COMPLETED, result={said: said}, warnings=("a warning",), error=None)
        await store.save_step(lease, step)
        (run,) = await store.run_outlines(limit=5)
        assert run.steps == (step.model_copy(update={"result": None}),)

    async def test_outlines_are_those_of_a_span_of_time_newest_first(
        self, store: CampaignStore, clock: SettableClock
    ) -> None:
        runs = [await run_at(store, clock, f"a{day}", NOON + timedelta(days=day)) for day in range(4)]
        await run_at(store, clock, "b", NOON + timedelta(days=1), key=OTHER)
        span = {"since": NOON + timedelta(days=1), "until": NOON + timedelta(days=3), "campaign_key": KEY}
        assert [run.run_id for run in await store.run_outlines(**span, limit=9)] == [runs[2].run_id, runs[1].run_id]
        assert [run.run_id for run in await store.run_outlines(**span, limit=1)] == [runs[2].run_id]
        assert len(await store.run_outlines(since=NOON + timedelta(days=1), limit=9)) == 4
        assert await store.run_outlines(campaign_key="nobody", limit=9) == []

    async def test_a_skipped_run_is_among_them(self, store: CampaignStore) -> None:
        skipped = make_report(status=RunStatus.ABORTED, state_name="Skipped", completed_at=NOON)
        await store.record_skipped_run(skipped)
        assert list(await store.run_outlines(limit=5)) == [skipped]
        assert [brief.run_id for brief in (await store.latest_runs(limit=5))[KEY]] == [run_id("run-1")]


@pytest.mark.usefixtures("two")
class TestMoney:
    async def test_a_day_is_the_campaigns_own_and_the_accounts_own(
        self, store: CampaignStore, clock: SettableClock
    ) -> None:
        await run_at(store, clock, "a", NOON, cost="0.50")
        await run_at(store, clock, "b", NOON, cost="0.04", key=OTHER)
        # 23:30 on the 13th in New York, and the 14th already in UTC, by which the account counts.
        await run_at(store, clock, "c", NOON + timedelta(hours=15.5), cost="0.25")
        days = {"since": date(2026, 5, 1), "until": date(2026, 5, 31)}
        assert await store.spent_by_day(**days, campaign_key=KEY) == {date(2026, 5, 13): Decimal("0.75")}
        assert await store.spent_by_day(**days) == {
            date(2026, 5, 13): Decimal("0.54"),
            date(2026, 5, 14): Decimal("0.25"),
        }

    async def test_both_ends_of_the_span_count(self, store: CampaignStore, clock: SettableClock) -> None:
        for day in range(5):
            await run_at(store, clock, f"a{day}", NOON + timedelta(days=day))
        found = await store.spent_by_day(since=date(2026, 5, 14), until=date(2026, 5, 16), campaign_key=KEY)
        assert sorted(found) == [date(2026, 5, 14), date(2026, 5, 15), date(2026, 5, 16)]
        assert await store.spent_by_day(since=date(2026, 6, 1), until=date(2026, 6, 9), campaign_key=KEY) == {}

    async def test_the_budgets_of_all_are_those_of_each(self, store: CampaignStore, clock: SettableClock) -> None:
        await store.set_account_budget(AccountBudget(weekly=Decimal(20), timezone="Europe/Madrid"))
        await run_at(store, clock, "a", NOON, cost="0.25")
        lease = await take_lease(store, "b", key=OTHER)
        await send(store, lease, "0.10")
        assert await store.budget_statuses() == {key: await store.budget_status(key) for key in (KEY, OTHER)}
        assert await store.budget_statuses([OTHER, "nobody"]) == {OTHER: await store.budget_status(OTHER)}
        assert await store.budget_statuses([]) == {}

    async def test_what_has_expired_is_seen_to_first(self, store: CampaignStore, clock: SettableClock) -> None:
        await send(store, await take_lease(store), "0.10", hold_seconds=60)
        assert (await store.budget_statuses())[KEY].limits[0].reserved == Decimal("0.10")
        clock.advance(seconds=61)
        status = (await store.budget_statuses())[KEY]
        assert (status.limits[0].spent, status.limits[0].reserved) == (Decimal("0.10"), Decimal(0))

    async def test_without_campaigns_there_is_nothing(self, store: CampaignStore) -> None:
        for key in (KEY, OTHER):
            await store.delete_campaign(key)
        assert await store.budget_statuses() == {}
        assert await store.latest_runs(limit=5) == {}
        assert await store.run_outlines(limit=5) == []
