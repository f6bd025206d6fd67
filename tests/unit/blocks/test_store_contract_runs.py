"""What every store does with runs and their steps."""

from __future__ import annotations

from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from store_cases import (
    KEY,
    NOON,
    RUN_1,
    RUN_2,
    SettableClock,
    StoreFactory,
    ask_lease,
    books,
    make_campaign,
    make_report,
    make_step,
    send,
    spend,
    take_lease,
)

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease, LeaseHeld
from prefect_campaigns.errors import StoreError
from prefect_campaigns.results import RunStatus, StepStatus


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
        assert await store.get_run(RUN_1) == make_report(trigger_type="scheduled", steps=(find, later))

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
        report = await store.get_run(RUN_1)
        assert report and (report.steps[0].result, repr(report.steps[0].result)) == (result, repr(result))

    async def test_steps_of_the_first_report_are_kept(self, store: CampaignStore, lease: Lease) -> None:
        steps = (make_step("find", 0), make_step("analyze", 1, taken_from=RUN_2), make_step("send", 2, sent_as="0f"))
        await store.start_run(lease, make_report(steps=steps))
        report = await store.get_run(RUN_1)
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
        assert await store.get_run(RUN_1) == end.model_copy(update={"total_cost": Decimal("0.12")})

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
        report = await store.get_run(RUN_1)
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
        assert await store.get_run(RUN_1) == make_report(steps=(done,), total_cost=Decimal("0.5"))

    async def test_what_was_not_started_is_neither_continued_nor_finished(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        with pytest.raises(StoreError, match="start_run comes first"):
            await store.save_step(lease, make_step())
        with pytest.raises(StoreError, match="start_run comes first"):
            await store.finish_run(lease, make_report())

    async def test_a_report_about_another_run_is_refused(self, store: CampaignStore, lease: Lease) -> None:
        with pytest.raises(StoreError, match=f"the report is about run {RUN_2}"):
            await store.start_run(lease, make_report("run-2"))
        assert await store.get_run(RUN_2) is None

    async def test_a_skipped_run_is_recorded_without_a_lease(self, store: CampaignStore, lease: Lease) -> None:
        skipped = make_report("run-2", status=RunStatus.ABORTED, state_name="Skipped", completed_at=NOON)
        await store.record_skipped_run(skipped)
        assert await store.get_run(RUN_2) == skipped

    async def test_a_run_that_is_recorded_is_not_skipped_over(self, store: CampaignStore, lease: Lease) -> None:
        await store.start_run(lease, make_report())
        await store.record_skipped_run(make_report(status=RunStatus.ABORTED, steps=(make_step(),)))
        assert await store.get_run(RUN_1) == make_report()

    async def test_runs_are_listed_newest_first_each_with_its_own_steps(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        reports = [
            make_report(f"run-{n}", started_at=NOON + timedelta(minutes=n), steps=(make_step(f"step of {n}"),))
            for n in range(5)
        ]
        for report in (reports[2], reports[4], reports[0], reports[1], reports[3]):
            await store.record_skipped_run(report)
        await store.save_campaign(make_campaign("Another"))
        await store.record_skipped_run(make_report("elsewhere", campaign_key="another"))
        assert list(await store.list_runs(KEY)) == reports[::-1]
        assert list(await store.list_runs(KEY, limit=2)) == reports[:2:-1]
        assert list(await store.list_runs("nobody")) == []

    async def test_what_counts_as_running_is_listed_oldest_first_whatever_campaign_it_is_of(
        self, store: CampaignStore
    ) -> None:
        await store.save_campaign(make_campaign("Another"))
        for run, key, minutes in (("run-1", KEY, 3), ("run-2", "another", 1), ("run-3", "third", 2)):
            lease = await take_lease(store, run, key=key)
            begun = make_report(run, campaign_key=key, started_at=NOON + timedelta(minutes=minutes))
            await store.start_run(lease, begun)
            if run == "run-2":
                await store.suspend_run(lease, begun.model_copy(update={"state_name": "Suspended"}))
            if run == "run-3":
                await store.finish_run(lease, begun.model_copy(update={"status": RunStatus.FAILED}))
        await store.record_skipped_run(make_report("run-4", status=RunStatus.ABORTED, completed_at=NOON))
        assert list((await store.running_runs()).items()) == [(RUN_2, "another"), (RUN_1, KEY)]


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
