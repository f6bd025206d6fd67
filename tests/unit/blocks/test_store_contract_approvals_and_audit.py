"""What every store keeps for those who drive campaigns: origins, figures, the stop, approvals, and who did what."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from store_cases import (
    KEY,
    NOON,
    RUN_1,
    RUN_2,
    SettableClock,
    StoreFactory,
    make_campaign,
    make_report,
    make_step,
    send,
    spend,
    take_lease,
)

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import (
    ApprovalRecord,
    ApprovalState,
    AuditAction,
    AuditEntry,
    CampaignFigures,
    Lease,
    Pause,
    PausedBy,
    Stop,
)
from prefect_campaigns.errors import StoreError
from prefect_campaigns.results import RunStatus, StepStatus

STOP = Stop(by="ada@laptop", reason="the list is wrong", since=NOON)
NOTHING_YET = CampaignFigures(runs=0, cost=Decimal(0), last_run_at=None)


class TestOrigins:
    async def test_an_origin_is_kept_until_another_is_given(self, store: CampaignStore) -> None:
        assert (await store.get_campaign(KEY)).origin is None
        saved = await store.save_campaign(make_campaign(), origin="/srv/campaigns")
        assert saved.origin == (await store.get_campaign(KEY)).origin == "/srv/campaigns"
        assert (await store.save_campaign(make_campaign(daily=5))).origin == "/srv/campaigns"
        assert (await store.save_campaign(make_campaign(), origin="api")).origin == "api"
        assert [record.origin for record in await store.list_campaigns()] == ["api"]

    async def test_a_folder_whose_name_is_no_text_is_kept_legibly(self, store: CampaignStore) -> None:
        assert (await store.save_campaign(make_campaign(), origin="/srv/\udcff")).origin == "/srv/\\udcff"


class TestFigures:
    async def test_a_campaign_that_never_ran_comes_to_nothing(self, store: CampaignStore) -> None:
        assert await store.campaign_figures() == {KEY: NOTHING_YET}

    async def test_runs_and_their_cost_are_counted_by_campaign(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        await store.save_campaign(make_campaign("Another"))
        await store.start_run(lease, make_report())
        await spend(store, lease, "0.10")
        await store.book_unconfirmed(lease, await send(store, lease, "2", step="analyze"))
        await send(store, lease, "50", step="never answered")
        await store.record_skipped_run(make_report("older", started_at=NOON - timedelta(hours=1)))
        # It has never begun.
        skipped = make_report("run-2", started_at=NOON + timedelta(hours=1), state_name="Skipped")
        await store.record_skipped_run(skipped)
        assert await store.campaign_figures() == {
            KEY: CampaignFigures(runs=2, cost=Decimal("2.10"), last_run_at=NOON),
            "another": NOTHING_YET,
        }
        # In another month; and a correction of what was booked in this one.
        clock.advance(days=40)
        await spend(store, lease, "0.000001", attempt=2)
        await store.correct(
            KEY, run_id=RUN_1, step="analyze", attempt=1, amount=Decimal("0.5"), by="Ada", note="on the bill"
        )
        figures = await store.campaign_figures()
        # What was sent and never answered is booked by now.
        assert figures[KEY].cost == Decimal("50.600001")

    async def test_what_a_key_has_cost_outlives_its_campaign_and_its_runs_do_not(
        self, store: CampaignStore, lease: Lease
    ) -> None:
        await store.start_run(lease, make_report())
        await spend(store, lease, "0.10")
        await store.delete_campaign(KEY)
        assert await store.campaign_figures() == {}
        await store.save_campaign(make_campaign())
        assert await store.campaign_figures() == {KEY: replace(NOTHING_YET, cost=Decimal("0.10"))}


class TestStop:
    async def test_none_stands_at_first(self, store: CampaignStore) -> None:
        assert await store.read_stop() is None
        assert await store.set_stop(None) is None

    async def test_the_first_stands_until_it_is_ended(self, store: CampaignStore, make_store: StoreFactory) -> None:
        assert await store.set_stop(replace(STOP, since=NOON.astimezone(ZoneInfo("Asia/Tokyo")))) is None
        async with make_store() as other:
            assert await other.set_stop(Stop(by="bob", reason="me, too", since=NOON + timedelta(hours=1))) == STOP
            assert await other.read_stop() == await store.read_stop() == STOP
            assert await other.set_stop(None) == STOP
        assert await store.read_stop() is None
        assert await store.set_stop(None) is None
        assert await store.set_stop(STOP) is None

    async def test_of_many_that_stop_at_once_one_is_first(self, store: CampaignStore) -> None:
        before = await asyncio.gather(*(store.set_stop(replace(STOP, by=f"person {n}")) for n in range(8)))
        assert before.count(None) == 1
        assert {stop for stop in before if stop} == {await store.read_stop()}

    async def test_what_a_person_says_is_not_refused_for_what_no_text_can_hold(self, store: CampaignStore) -> None:
        await store.set_stop(Stop(by="ada \ud800", reason="so \ud800", since=NOON))
        assert await store.read_stop() == Stop(by="ada \\ud800", reason="so \\ud800", since=NOON)

    async def test_a_campaign_may_be_paused_by_it(self, store: CampaignStore) -> None:
        stopped = Pause(by=PausedBy.STOP, reason="stopped by ada@laptop", since=NOON)
        by_person = Pause(by=PausedBy.PERSON, reason="by hand", since=NOON)
        assert await store.set_pause(KEY, stopped, replacing=None)
        assert (await store.get_campaign(KEY)).pause == stopped
        assert not await store.set_pause(KEY, by_person, replacing=None)
        assert await store.set_pause(KEY, None, replacing=stopped)


def waiting(**changes: Any) -> ApprovalRecord:
    return ApprovalRecord(
        **{
            "campaign_key": KEY,
            "run_id": RUN_1,
            "step": "send",
            "state": ApprovalState.WAITING,
            "asked_at": NOON,
            "expires_at": NOON + timedelta(hours=1),
            **changes,
        }
    )


class TestApprovals:
    async def test_one_that_is_asked_for_waits(self, store: CampaignStore, lease: Lease) -> None:
        assert await store.ask_approval(lease, step="send", timeout_seconds=3600) == waiting()
        assert list(await store.list_approvals()) == [waiting()]

    @pytest.mark.parametrize("state", [None, ApprovalState.APPROVED, ApprovalState.EXPIRED, ApprovalState.WITHDRAWN])
    async def test_it_is_asked_for_anew(
        self, store: CampaignStore, lease: Lease, clock: SettableClock, state: ApprovalState | None
    ) -> None:
        """By a run that was retried, or executed again before it was suspended."""
        await store.ask_approval(lease, step="send", timeout_seconds=3600)
        if state is not None:
            await store.decide_approval(RUN_1, "send", state, by="the clock")
        clock.advance(hours=2)
        anew = waiting(asked_at=clock.now(), expires_at=clock.now() + timedelta(seconds=99))
        assert await store.ask_approval(lease, step="send", timeout_seconds=99) == anew
        assert list(await store.list_approvals()) == [anew]
        decided = await store.decide_approval(RUN_1, "send", ApprovalState.APPROVED, by="ada")
        assert (decided.state, decided.decided_at) == (ApprovalState.APPROVED, clock.now())

    @pytest.mark.parametrize("state", [ApprovalState.APPROVED, ApprovalState.EXPIRED, ApprovalState.WITHDRAWN])
    async def test_what_is_decided_first_stays(
        self, store: CampaignStore, lease: Lease, clock: SettableClock, state: ApprovalState
    ) -> None:
        await store.ask_approval(lease, step="send", timeout_seconds=3600)
        await store.release_lease(lease)
        clock.advance(minutes=1)
        expected = waiting(state=state, decided_at=clock.now(), decided_by="ada@laptop")
        assert await store.decide_approval(RUN_1, "send", state, by="ada@laptop") == expected
        clock.advance(minutes=1)
        for later in (ApprovalState.APPROVED, ApprovalState.EXPIRED, ApprovalState.WITHDRAWN):
            assert await store.decide_approval(RUN_1, "send", later, by="bob") == expected
        assert list(await store.list_approvals()) == [expected]

    async def test_of_many_that_decide_at_once_one_does(self, store: CampaignStore, lease: Lease) -> None:
        await store.ask_approval(lease, step="send", timeout_seconds=3600)
        states = [ApprovalState.APPROVED, ApprovalState.EXPIRED] * 4
        decided = await asyncio.gather(
            *(store.decide_approval(RUN_1, "send", state, by=f"person {n}") for n, state in enumerate(states))
        )
        assert len(set(decided)) == 1

    async def test_one_that_nobody_asked_for_cannot_be_decided(self, store: CampaignStore, lease: Lease) -> None:
        await store.ask_approval(lease, step="send", timeout_seconds=3600)
        for run, step in ((RUN_1, "other"), (RUN_2, "send")):
            with pytest.raises(StoreError, match=f"nobody has asked for an approval of step '{step}' of run {run}"):
                await store.decide_approval(run, step, ApprovalState.APPROVED, by="ada")

    async def test_one_that_waits_is_no_decision(self, store: CampaignStore, lease: Lease) -> None:
        await store.ask_approval(lease, step="send", timeout_seconds=3600)
        with pytest.raises(StoreError, match="approved, expired or withdrawn, not as waiting"):
            await store.decide_approval(RUN_1, "send", ApprovalState.WAITING, by="ada")

    async def test_they_are_listed_oldest_first_by_campaign_run_and_state(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        await store.save_campaign(make_campaign("Another"))
        elsewhere = await take_lease(store, "run-2", key="another")
        first = await store.ask_approval(lease, step="z", timeout_seconds=60)
        clock.advance(seconds=1)
        second = await store.ask_approval(elsewhere, step="m", timeout_seconds=60)
        clock.advance(seconds=1)
        third = await store.ask_approval(lease, step="a", timeout_seconds=60)
        decided = await store.decide_approval(RUN_1, "z", ApprovalState.APPROVED, by="ada")
        assert decided == replace(first, state=ApprovalState.APPROVED, decided_at=clock.now(), decided_by="ada")
        assert list(await store.list_approvals()) == [decided, second, third]
        assert list(await store.list_approvals(campaign_key=KEY)) == [decided, third]
        assert list(await store.list_approvals(run_id=RUN_2)) == [second]
        assert list(await store.list_approvals(campaign_key=KEY, run_id=RUN_2)) == []
        assert list(await store.list_approvals(waiting_only=True)) == [second, third]
        assert list(await store.list_approvals(run_id=RUN_1, waiting_only=True)) == [third]

    async def test_they_go_with_their_campaign(self, store: CampaignStore, lease: Lease) -> None:
        await store.ask_approval(lease, step="send", timeout_seconds=60)
        await store.delete_campaign(KEY)
        assert list(await store.list_approvals()) == []


def entry(minutes: int = 0, **changes: Any) -> AuditEntry:
    return AuditEntry(
        **{
            "at": NOON + timedelta(minutes=minutes),
            "actor": "ada@laptop",
            "action": AuditAction.CAMPAIGN_PAUSED,
            "campaign_key": KEY,
            **changes,
        }
    )


class TestAudit:
    @pytest.mark.parametrize("action", list(AuditAction))
    async def test_every_action_is_read_back(self, store: CampaignStore, action: AuditAction) -> None:
        written = entry(action=action, detail={"fields": ["budget"], "old": None, "new": {"daily": 2.5, "": [True]}})
        await store.record_audit(written)
        assert list(await store.list_audit()) == [written]

    async def test_any_detail_is_restored_equal(self, store: CampaignStore) -> None:
        detail = {"daily": Decimal("0.10"), "text": 'quotes " and \x00 and \ud800 and 🎉', "n": 10**40, "$decimal": "x"}
        await store.record_audit(entry(detail=detail))
        assert (await store.list_audit())[0].detail == detail

    async def test_what_no_text_can_hold_is_written_legibly(self, store: CampaignStore) -> None:
        await store.record_audit(entry(actor="ada \ud800"))
        assert (await store.list_audit())[0].actor == "ada \\ud800"

    async def test_it_is_listed_newest_first_by_campaign_and_up_to_a_limit(self, store: CampaignStore) -> None:
        of_all = entry(2, action=AuditAction.ALL_STOPPED, campaign_key=None)
        elsewhere = entry(4, campaign_key="another")
        lines = [entry(3), of_all, entry(1), elsewhere, entry(1, actor="later in the same minute")]
        for line in lines:
            await store.record_audit(line)
        assert list(await store.list_audit()) == [elsewhere, lines[0], of_all, lines[4], lines[2]]
        assert list(await store.list_audit(limit=2)) == [elsewhere, lines[0]]
        assert list(await store.list_audit(campaign_key=KEY)) == [lines[0], lines[4], lines[2]]
        assert list(await store.list_audit(campaign_key=KEY, limit=1)) == [lines[0]]
        assert list(await store.list_audit(limit=0)) == list(await store.list_audit(limit=-1)) == []
        assert list(await store.list_audit(campaign_key="nobody")) == []

    async def test_fifty_are_listed_unless_more_are_asked_for(self, store: CampaignStore) -> None:
        await asyncio.gather(*(store.record_audit(entry(n)) for n in range(52)))
        assert list(await store.list_audit()) == [entry(n) for n in range(51, 1, -1)]
        assert len(await store.list_audit(limit=1000)) == 52

    async def test_it_outlives_the_campaign(self, store: CampaignStore) -> None:
        await store.record_audit(entry())
        await store.delete_campaign(KEY)
        assert list(await store.list_audit(campaign_key=KEY)) == [entry()]


class TestSuspendedRuns:
    async def test_one_counts_as_running_and_says_what_it_waits_for(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        done = make_step(status=StepStatus.COMPLETED)
        await store.start_run(lease, make_report())
        await store.save_step(lease, done)
        await spend(store, lease, "0.5")
        clock.advance(minutes=5)
        waits = make_report(
            status=RunStatus.ABORTED,  # whatever the report says
            state_name="Suspended",
            message="step send waits for approval \ud800",
            completed_at=clock.now(),
        )
        await store.suspend_run(lease, waits)
        expected = make_report(
            state_name="Suspended",
            message="step send waits for approval \\ud800",
            steps=(done,),
            total_cost=Decimal("0.5"),
        )
        assert await store.get_run(RUN_1) == expected
        assert list(await store.list_runs(KEY)) == [expected]

    async def test_one_goes_on_as_it_was_and_ends(
        self, store: CampaignStore, lease: Lease, clock: SettableClock
    ) -> None:
        await store.start_run(lease, make_report())
        await store.suspend_run(lease, make_report(state_name="Suspended", message="waits"))
        await store.release_lease(lease)
        clock.advance(hours=2)
        again = await take_lease(store, "run-1", holder="the other worker")
        await store.start_run(again, make_report(started_at=clock.now()))
        assert await store.get_run(RUN_1) == make_report()
        await store.finish_run(again, make_report(status=RunStatus.COMPLETED))
        assert (await store.list_runs(KEY))[0].completed_at == clock.now()

    async def test_what_was_not_started_is_not_suspended(self, store: CampaignStore, lease: Lease) -> None:
        with pytest.raises(StoreError, match="start_run comes first"):
            await store.suspend_run(lease, make_report())

    async def test_a_report_about_another_run_is_refused(self, store: CampaignStore, lease: Lease) -> None:
        await store.start_run(lease, make_report())
        with pytest.raises(StoreError, match=f"the report is about run {RUN_2}"):
            await store.suspend_run(lease, make_report("run-2", state_name="Suspended"))


async def test_all_of_it_is_there_when_the_store_is_opened_again(make_store: StoreFactory) -> None:
    async with make_store() as store:
        await store.save_campaign(make_campaign(), origin="/srv/campaigns", deployment_id=uuid4())
        lease = await take_lease(store)
        asked = await store.ask_approval(lease, step="send", timeout_seconds=60)
        await store.set_stop(STOP)
        await store.record_audit(entry())
    async with make_store() as store:
        assert (await store.get_campaign(KEY)).origin == "/srv/campaigns"
        assert list(await store.list_approvals()) == [asked]
        assert await store.read_stop() == STOP
        assert list(await store.list_audit()) == [entry()]
