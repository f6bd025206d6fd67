"""What every store does when what engines said has to go, and the books stay."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from store_cases import (
    KEY,
    NOON,
    RUN_1,
    RUN_2,
    SettableClock,
    make_campaign,
    make_report,
    make_step,
    send,
    spend,
    take_lease,
)
from supabase_rig import Project

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_personal_data import Mentions, RunWords
from prefect_campaigns.blocks.store_types import MailRecord, MailState
from prefect_campaigns.blocks.supabase.store import SupabaseStore
from prefect_campaigns.blocks.values import json_text, json_value
from prefect_campaigns.results import RunReport, RunStatus, StepStatus, step_detail

RESULT = {"leads": [{"email": "Bob@Example.com", "odd": "\ud800 \x00 ü"}], "cost": Decimal("0.10")}
FIND = make_step(status=StepStatus.COMPLETED, counts={"prospects_generated": 1.0}, result=RESULT, cost=Decimal("0.1"))
MAIL = make_step("mail", 1, status=StepStatus.FAILED, error="bob@example.com bounced", sent_as="a", warnings=("slow",))
FAILED = make_report(
    status=RunStatus.FAILED, state_name="Failed", message="mail: bob@example.com bounced", completed_at=NOON
)
NOTHING = Mentions(found=(), after=None)
BOB = ["bob@example.com", "bob%40example.com"]


async def run_to_its_end(
    store: CampaignStore, run: str = "run-1", report: RunReport = FAILED, *, attempt: int = 1
) -> RunWords:
    """Let a run end that spends ten cents; return what it says."""
    lease = await take_lease(store, run)
    report = report.model_copy(update={"run_id": lease.run_id, "run_name": lease.run_name})
    await store.start_run(lease, report.model_copy(update={"status": RunStatus.RUNNING, "completed_at": None}))
    await spend(store, lease, "0.10", attempt=attempt)
    for step in (FIND, MAIL):
        await store.save_step(lease, step)
    await store.finish_run(lease, report)
    await store.release_lease(lease)
    return RunWords(
        run_id=lease.run_id,
        message=report.message,
        steps={step.name: json_text(step_detail(step)) for step in (FIND, MAIL)},
    )


@pytest.mark.parametrize("text", [*BOB[:1], "bounced", "slow", "bob@example", ""])
async def test_a_run_is_found_by_what_was_said_in_it(store: CampaignStore, text: str) -> None:
    said = await run_to_its_end(store)
    assert await store.runs_mentioning([text, "unheard of"]) == Mentions(found=(said,), after=None)
    assert await store.runs_mentioning([text], after=RUN_1) == NOTHING
    assert await store.runs_mentioning(["unheard of"]) == await store.runs_mentioning([]) == NOTHING


async def test_runs_are_found_by_their_ids_a_few_at_a_time(store: CampaignStore) -> None:
    said = sorted(
        [await run_to_its_end(store, name) for name in ("run-1", "run-2", "run-3")], key=lambda one: one.run_id
    )
    assert await store.runs_mentioning(BOB, limit=2) == Mentions(found=tuple(said[:2]), after=said[1].run_id)
    assert await store.runs_mentioning(BOB, after=said[1].run_id, limit=2) == Mentions(found=(said[2],), after=None)
    # Whether it was found or not: so many are looked through.
    assert await store.runs_mentioning(["unheard of"], limit=2) == Mentions(found=(), after=said[1].run_id)


async def test_words_are_replaced_and_the_books_stay(store: CampaignStore) -> None:
    said = await run_to_its_end(store)
    before = await store.get_run(RUN_1)
    assert before is not None
    find, mail = (json_value(said.steps[name]) for name in ("find", "mail"))
    new = replace(
        said,
        message="gone \ud800",
        steps={"find": json_text({**find, "result": None}), "mail": json_text({**mail, "error": "gone"})},
    )
    assert await store.replace_words(said, new)
    assert await store.runs_mentioning(BOB) == NOTHING
    after = await store.get_run(RUN_1)
    assert after == before.model_copy(
        update={
            "message": "gone \\ud800",
            "steps": (FIND.model_copy(update={"result": None}), MAIL.model_copy(update={"error": "gone"})),
        }
    )
    assert after.total_cost == Decimal("0.10")
    assert list(await store.verify_totals(KEY)) == []


async def test_words_that_a_run_does_not_say_are_not_replaced(store: CampaignStore) -> None:
    said = await run_to_its_end(store)
    changed = replace(said, message="another")
    assert not await store.replace_words(changed, said)
    assert not await store.replace_words(replace(said, run_id=RUN_2), said)
    assert not await store.replace_words(replace(said, steps={"find": said.steps["find"]}), changed)
    assert await store.runs_mentioning(BOB) == Mentions(found=(said,), after=None)


async def test_a_run_is_cleared_once(store: CampaignStore, clock: SettableClock) -> None:
    said = await run_to_its_end(store)
    later = NOON + timedelta(seconds=1)
    assert await store.uncleared_runs(ended_before=NOON) == []
    assert await store.uncleared_runs(ended_before=later) == [said]
    assert await store.uncleared_runs(ended_before=later, limit=0) == []
    assert await store.replace_words(said, said)
    assert await store.uncleared_runs(ended_before=later) == [said]
    assert await store.replace_words(said, said, cleared=True)
    assert await store.uncleared_runs(ended_before=later) == []
    # One that goes on says something again.
    again = await run_to_its_end(store, attempt=2)
    assert await store.uncleared_runs(ended_before=later) == [again]
    assert await store.overwrite_removed()


async def test_a_run_that_has_begun_anew_is_not_cleared(store: CampaignStore) -> None:
    said = await run_to_its_end(store, report=FAILED.model_copy(update={"message": None}))
    lease = await take_lease(store)
    await store.start_run(lease, make_report())
    assert not await store.replace_words(said, said, cleared=True)
    assert await store.replace_words(said, said)


async def test_a_late_answer_says_something_again(store: CampaignStore) -> None:
    said = await run_to_its_end(store)
    sent = await send(store, await take_lease(store), step="late")
    assert await store.replace_words(said, said, cleared=True)
    await store.settle_late(sent, Decimal("0.10"), step=make_step("late", 2, status=StepStatus.COMPLETED, result="bob"))
    (again,) = await store.uncleared_runs(ended_before=NOON + timedelta(seconds=1))
    assert set(again.steps) == {"find", "mail", "late"}


async def test_those_that_ended_first_come_first(store: CampaignStore) -> None:
    ended = {name: NOON + timedelta(hours=hours) for name, hours in {"run-1": 2, "run-2": 1, "run-3": 3}.items()}
    said = {
        name: await run_to_its_end(store, name, FAILED.model_copy(update={"completed_at": at}))
        for name, at in ended.items()
    }
    in_order = [said[name] for name in ("run-2", "run-1", "run-3")]
    assert await store.uncleared_runs(ended_before=NOON + timedelta(hours=3, seconds=1)) == in_order
    assert await store.uncleared_runs(ended_before=NOON + timedelta(hours=3)) == in_order[:2]
    assert await store.uncleared_runs(ended_before=NOON + timedelta(hours=3), limit=1) == in_order[:1]


async def test_a_run_that_goes_on_or_waits_is_not_to_be_cleared(store: CampaignStore) -> None:
    lease = await take_lease(store)
    await store.start_run(lease, make_report())
    await store.save_step(lease, FIND)
    assert await store.uncleared_runs(ended_before=NOON + timedelta(days=1)) == []
    await store.suspend_run(lease, make_report(state_name="Suspended"))
    assert await store.uncleared_runs(ended_before=NOON + timedelta(days=1)) == []


async def test_mails_are_forgotten_that_are_not_owed_any_more(store: CampaignStore) -> None:
    owed = MailRecord(
        event_id=uuid4(), recipient="Ops@example.com", subject="", state=MailState.OWED, attempts=1, owed_since=NOON
    )
    sent = replace(owed, event_id=uuid4(), state=MailState.SENT, sent_at=NOON)
    given_up = replace(owed, event_id=uuid4(), state=MailState.GIVEN_UP)
    other = replace(sent, event_id=uuid4(), recipient="o@example.com")
    await store.record_mails([owed, sent, given_up, other])
    assert await store.remove_mails(before=NOON) == 0
    assert await store.remove_mails(before=NOON + timedelta(seconds=1), to="ops@Example.com") == 2
    assert await store.remove_mails(before=NOON + timedelta(seconds=1)) == 1
    assert await store.list_mails(MailState.OWED) == [owed]
    assert await store.list_mails(MailState.SENT) == await store.list_mails(MailState.GIVEN_UP) == []


async def test_in_supabase_the_columns_for_people_say_no_more_either(
    clean_supabase: Project, clock: SettableClock
) -> None:
    async with SupabaseStore(clean_supabase.url, clean_supabase.secret_key, clock=clock) as store:
        await store.save_campaign(make_campaign())
        said = await run_to_its_end(store)
        mail = json_value(said.steps["mail"])
        new = replace(said, message=None, steps={**said.steps, "mail": json_text({**mail, "error": "gone"})})
        assert await store.replace_words(said, new)
    shown = clean_supabase.rows(
        "select r::text || s::text from campaign_runs r join campaign_run_steps s using (run_id)"
    )
    assert "bounced" not in str(shown)
    assert "gone" in str(shown)


async def test_in_supabase_a_run_from_before_says_it_in_columns_of_json(
    clean_supabase: Project, clock: SettableClock
) -> None:
    clean_supabase.sql(
        "insert into campaign_runs (id, run_id, campaign_key, campaign_name, status, completed_at, results, errors)"
        " values (gen_random_uuid(), 'a run from before', 'old', 'Old', 'failed', '2026-01-01 00:00+00',"
        """ '{"find": {"leads": ["bob@example.com"]}}', '[{"error": "bob@example.com"}]')"""
    )
    async with SupabaseStore(clean_supabase.url, clean_supabase.secret_key, clock=clock) as store:
        (said,) = (await store.runs_mentioning(BOB)).found
        assert said.steps == {}
        assert {name: json_value(text) for name, text in said.earlier.items()} == {
            "results": {"find": {"leads": ["bob@example.com"]}},
            "errors": [{"error": "bob@example.com"}],
        }
        assert await store.uncleared_runs(ended_before=NOON) == [said]
        assert await store.replace_words(said, replace(said, earlier={"results": "{}", "errors": "[]"}), cleared=True)
        assert await store.runs_mentioning(BOB) == NOTHING
        assert await store.uncleared_runs(ended_before=NOON) == []
