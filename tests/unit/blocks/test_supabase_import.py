"""The books of a SQLite file go on in a Supabase project: nothing is lost, and nothing may be spent twice."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from store_cases import (
    KEY,
    NOON,
    RUN_1,
    SettableClock,
    account_books,
    assert_books_are_whole,
    books,
    make_campaign,
    make_report,
    make_step,
    reserve,
    run_id,
    send,
    spend,
    take_lease,
    today,
)
from supabase_rig import Project

from prefect_campaigns.blocks.sqlite import schema
from prefect_campaigns.blocks.sqlite.backup import Figures, backup, figures_of, restore
from prefect_campaigns.blocks.sqlite.closing import left_behind, successor_of
from prefect_campaigns.blocks.sqlite.schema import APPLICATION_ID, MIGRATIONS
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import (
    ApprovalState,
    AttemptState,
    AuditAction,
    AuditEntry,
    CampaignFigures,
    MailRecord,
    MailState,
    Pause,
    PausedBy,
    Stop,
)
from prefect_campaigns.blocks.supabase.importing import Imported, import_books
from prefect_campaigns.blocks.supabase.migrate import project_name
from prefect_campaigns.blocks.supabase.store import SupabaseStore
from prefect_campaigns.budget import AccountBudget
from prefect_campaigns.errors import BudgetRefused, StoreError, StoreMisconfigured, StoreUnavailable
from prefect_campaigns.results import RunStatus, StepStatus

BY_PERSON = Pause(by=PausedBy.PERSON, reason="holidays", since=NOON)
BY_BUDGET = Pause(
    by=PausedBy.BUDGET,
    reason="budget: daily 5.00 reached, spent 5.00",
    since=NOON,
    until=NOON + timedelta(hours=12),
    awaited_run_id=uuid4(),
)
BY_STOP = Pause(by=PausedBy.STOP, reason="stopped by ada@laptop", since=NOON)
STOP = Stop(by="ada@laptop", reason="the list is wrong", since=NOON)
CLOSED = "these books are closed: they were carried over to another store"

MEANWHILE = """
create function rig.meanwhile() returns trigger language plpgsql as $$ begin {deed}; return new; end $$;
create {when} on public.campaign_imports {how} for each row execute function rig.meanwhile();
"""


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "campaigns.db"


@pytest.fixture
async def old(path: Path, clock: SettableClock) -> AsyncIterator[SqliteStore]:
    """Books in a file, open as in a worker that nobody has ended, with one campaign that may spend 5 a day."""
    async with SqliteStore(path, clock=clock) as store:
        await store.save_campaign(make_campaign(daily=5))
        yield store


@pytest.fixture
async def new(clean_supabase: Project, clock: SettableClock) -> AsyncIterator[SupabaseStore]:
    """The books in Supabase; they are added up after every test."""
    async with SupabaseStore(clean_supabase.url, clean_supabase.secret_key, clock=clock) as store:
        yield store
        await assert_books_are_whole(store)


async def carry_over(path: Path, project: Project, clock: SettableClock) -> Imported:
    return await import_books(path, project.database_url, clock=clock)


async def finished_run(store: CampaignStore, name: str, *amounts: str, key: str = KEY) -> str:
    """Let a run spend these amounts in as many steps, and end."""
    lease = await take_lease(store, name, key=key)
    report = make_report(name, campaign_key=key)
    await store.start_run(lease, report)
    for position, amount in enumerate(amounts):
        step = "find" if position == 0 else f"step {position}"
        done = make_step(step, position, status=StepStatus.COMPLETED, cost=Decimal(amount), result={"leads": ["\x00"]})
        await store.settle(lease, await send(store, lease, amount, step=step), Decimal(amount), step=done)
    await store.finish_run(lease, report.model_copy(update={"status": RunStatus.COMPLETED, "state_name": "Completed"}))
    await store.release_lease(lease)
    return report.run_id


def contents(project: Project) -> list[tuple[object, ...]]:
    """Return how many rows there are of all that an import may write."""
    tables = ("campaigns", "campaign_runs", "campaign_ledger", "campaign_reservations", "campaign_totals")
    tables += ("campaign_alerts", "campaign_imports", "campaign_run_steps", "campaign_stop", "campaign_approvals")
    tables += ("campaign_audit", "campaign_mails")
    return project.rows("select " + ", ".join(f"(select count(*) from {table})" for table in tables))  # noqa: S608


def names_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@contextmanager
def meanwhile(project: Project, deed: str, *, at_commit: bool = False) -> Iterator[None]:
    """Let the database do something when an import is all but done, or when it is committed."""
    when, how = ("trigger meanwhile before insert", "")
    if at_commit:
        when, how = ("constraint trigger meanwhile after insert", "deferrable initially deferred")
    project.superuser_sql(MEANWHILE.format(deed=deed, when=when, how=how))
    try:
        yield
    finally:
        project.superuser_sql("drop function rig.meanwhile cascade")


class TestWhatIsCarriedOver:
    async def test_a_limit_that_was_reached_still_is(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "3", "2")
        before = await books(old), await account_books(old)
        imported = await carry_over(path, clean_supabase, clock)
        assert imported.figures == Figures(campaigns=1, runs=1, ledger_lines=4, spent=Decimal(5), newest_line_at=NOON)
        assert imported.earlier is None and imported.kept == ()
        assert (await books(new), await account_books(new)) == before
        assert before[0]["daily"] == (5, 0)
        lease = await take_lease(new, "run-2")
        with pytest.raises(BudgetRefused, match=r"daily 5\.00 reached, spent 5\.00"):
            await reserve(new, lease, "0.01")
        clock.advance(days=1)
        await spend(new, lease, "5")
        assert (await books(new))["weekly"] == (10, 0)

    async def test_runs_with_their_steps_and_what_people_read_of_them(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "1", "0.5")
        clock.advance(minutes=1)
        await finished_run(old, "run-2", "0.25")
        await old.record_skipped_run(make_report("run-3", state_name="Skipped", status=RunStatus.ABORTED))
        record, runs = await old.get_campaign(KEY), await old.list_runs(KEY)
        await carry_over(path, clean_supabase, clock)
        assert await new.get_campaign(KEY) == record
        assert sorted(await new.list_runs(KEY), key=lambda run: run.run_id) == sorted(runs, key=lambda run: run.run_id)
        assert clean_supabase.rows("select total_runs, total_cost::text, last_run_at from campaigns") == [
            (2, "1.750000", NOON)
        ]
        assert clean_supabase.rows(f"select total_cost::text from campaign_runs where run_id = '{RUN_1}'") == [  # noqa: S608
            ("1.500000",)
        ]

    async def test_a_retry_finds_the_attempts_of_its_run(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "1")
        attempts = await old.attempts(RUN_1, "find")
        await carry_over(path, clean_supabase, clock)
        assert await new.attempts(RUN_1, "find") == attempts
        assert await reserve(new, await take_lease(new), "1") == attempts[0]

    async def test_unconfirmed_bookings_are_listed_and_corrected(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        lease = await take_lease(old)
        await old.book_unconfirmed(lease, await send(old, lease, "2"))
        await old.release(lease, await reserve(old, lease, "1", attempt=2))
        corrected = await old.book_unconfirmed(lease, await send(old, lease, "1", attempt=3))
        words = {"run_id": RUN_1, "step": "find", "by": "ann", "note": "asked"}
        await old.correct(KEY, attempt=corrected.attempt, amount=Decimal("0.4"), **words)
        # One that the store has not seen to yet, because nobody has asked since it expired.
        await send(old, lease, "0.5", attempt=4, hold_seconds=30)
        await old.release_lease(lease)
        clock.advance(seconds=31)
        await carry_over(path, clean_supabase, clock)
        first, second = await new.unconfirmed(KEY)
        assert (first.attempt, first.booked, second.attempt, second.booked) == (1, 2, 4, Decimal("0.5"))
        clock.advance(days=40)
        settled = await new.correct(KEY, attempt=1, amount=Decimal("0.1"), **words)
        assert settled.state is AttemptState.CORRECTED
        assert clean_supabase.rows(
            'select spent::text, campaign_day::text, "by" from campaign_ledger where "by" is not null order by id'
        ) == [("-0.600000", "2026-05-13", "ann"), ("-1.900000", "2026-05-13", "ann")]

    async def test_estimates_are_learned_from_what_was_paid(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        for number, amount in enumerate(("0.9", "0.1", "0.2", "0.3", "0.2", "0.1")):
            await finished_run(old, f"old {number}", amount)
        await new.save_campaign(make_campaign("Another"))
        await new.save_campaign(make_campaign())
        await carry_over(path, clean_supabase, clock)
        assert (await reserve(new, await take_lease(new), None)).estimate == Decimal("0.3")

    async def test_what_was_paid_in_supabase_already_is_the_newer_cost(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "old", "0.9")
        await new.save_campaign(make_campaign())
        for number in range(5):
            await finished_run(new, f"new {number}", "0.1")
        await carry_over(path, clean_supabase, clock)
        assert (await reserve(new, await take_lease(new), None)).estimate == Decimal("0.1")

    async def test_limits_of_the_account_and_pauses(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        budget = AccountBudget(daily=Decimal("7.5"), monthly=Decimal(0), timezone="America/New_York")
        await old.set_account_budget(budget)
        await old.save_campaign(make_campaign("Another"))
        await old.set_pause(KEY, BY_PERSON, replacing=None)
        await old.set_pause("another", BY_BUDGET, replacing=None)
        await carry_over(path, clean_supabase, clock)
        assert await new.account_budget() == budget
        assert [record.pause for record in await new.list_campaigns()] == [BY_BUDGET, BY_PERSON]

    async def test_alerts_are_not_told_twice(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        keys = ["campaign daily:2026-05-13 0.8", "account daily:2026-05-13 0.8", "campaign daily:2026-05-13 1"]
        await old.claim_alerts(KEY, keys)
        for key in keys[:2]:
            await old.alert_told(KEY, key)
        await carry_over(path, clean_supabase, clock)
        assert list(await new.claim_alerts(KEY, keys)) == keys[2:]

    async def test_the_stop_and_what_it_has_paused(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await old.set_stop(STOP)
        await old.set_pause(KEY, BY_STOP, replacing=None)
        await old.save_campaign(make_campaign(daily=5), origin="/srv/campaigns")
        await carry_over(path, clean_supabase, clock)
        assert await new.read_stop() == STOP
        record = await new.get_campaign(KEY)
        assert (record.pause, record.origin) == (BY_STOP, "/srv/campaigns")

    async def test_mails_that_are_owed_and_those_that_were_sent(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        """None is sent again because other books go on."""
        owed = MailRecord(
            event_id=uuid4(), recipient="a@example.com", subject="One", state=MailState.OWED, owed_since=clock.now()
        )
        sent = replace(owed, recipient="b@example.com", state=MailState.SENT, attempts=2, sent_at=clock.now())
        await old.record_mails([owed, sent])
        await carry_over(path, clean_supabase, clock)
        found = {mail.recipient: mail for mail in await new.mails_about([owed.event_id])}
        assert found == {owed.recipient: owed, sent.recipient: sent}

    async def test_approvals_that_wait_and_those_that_were_given(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        """A run that waits for a person holds nothing; it goes on over the other books."""
        lease = await take_lease(old)
        await old.start_run(lease, make_report())
        for step in ("analyze", "send"):
            await old.ask_approval(lease, step=step, timeout_seconds=3600)
            clock.advance(seconds=1)
        await old.decide_approval(RUN_1, "analyze", ApprovalState.APPROVED, by="ada \x00")
        await old.suspend_run(lease, make_report(state_name="Suspended", message="send waits"))
        await old.release_lease(lease)
        (given, waiting), runs = await old.list_approvals(), await old.list_runs(KEY)
        await carry_over(path, clean_supabase, clock)
        assert list(await new.list_approvals()) == [replace(given, decided_by="ada \\x00"), waiting]
        assert list(await new.list_runs(KEY)) == list(runs)
        assert (await new.decide_approval(RUN_1, "send", ApprovalState.APPROVED, by="bob")).decided_by == "bob"
        asked_anew = await new.ask_approval(await take_lease(new), step="analyze", timeout_seconds=1)
        assert (asked_anew.state, asked_anew.decided_by) == (ApprovalState.WAITING, None)

    async def test_who_did_what(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        lines = [
            AuditEntry(at=NOON, actor="ada", action=AuditAction.CAMPAIGN_CREATED, campaign_key=KEY),
            AuditEntry(at=NOON, actor="ada", action=AuditAction.ALL_STOPPED, detail={"n": Decimal(1), "t": "\x00"}),
            AuditEntry(at=NOON + timedelta(hours=1), actor="bob", action=AuditAction.RUN_STARTED, campaign_key="gone"),
        ]
        for line in lines:
            await old.record_audit(line)
        earlier = AuditEntry(at=NOON - timedelta(hours=1), actor="eve", action=AuditAction.ALL_STARTED)
        await new.record_audit(earlier)
        await carry_over(path, clean_supabase, clock)
        assert list(await new.list_audit()) == [*reversed(lines), earlier]
        assert list(await new.list_audit(campaign_key="gone")) == [lines[2]]

    async def test_the_figures_of_campaigns(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "3", "1.5")
        await old.record_skipped_run(make_report("run-3", state_name="Skipped", status=RunStatus.ABORTED))
        before = await old.campaign_figures()
        await carry_over(path, clean_supabase, clock)
        assert (
            await new.campaign_figures()
            == before
            == {KEY: CampaignFigures(runs=1, cost=Decimal("4.5"), last_run_at=NOON)}
        )

    async def test_the_spending_of_a_campaign_that_was_deleted(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "4")
        await old.delete_campaign(KEY)
        await carry_over(path, clean_supabase, clock)
        await new.save_campaign(make_campaign(daily=5))
        assert await today(new) == ("4.000000", "0.000000")
        assert clean_supabase.rows("select total_cost::text from campaigns") == [("4.000000",)]

    async def test_a_file_of_the_first_version(
        self, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        script = (Path(schema.__file__).parent / "migrations" / MIGRATIONS[0]).read_text()
        with closing(sqlite3.connect(path)) as db:
            db.executescript(f"{script}; PRAGMA user_version = 1; PRAGMA application_id = {APPLICATION_ID}")
        assert (await carry_over(path, clean_supabase, clock)).figures.campaigns == 0
        assert await successor_of(path)


class TestBooksThatAreThere:
    async def test_a_campaign_keeps_its_definition_and_its_spending_adds_up(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        newer = await new.save_campaign(make_campaign(daily=9), origin="api")
        await new.set_stop(STOP)
        await finished_run(new, "new", "1")
        await new.set_pause(KEY, BY_BUDGET, replacing=None)
        await new.set_account_budget(AccountBudget(daily=Decimal(3), timezone="Europe/Berlin"))
        await finished_run(old, "old", "3", "0.5")
        await old.set_pause(KEY, BY_PERSON, replacing=None)
        await old.save_campaign(make_campaign(daily=5), origin="/srv/campaigns")
        await old.set_stop(replace(STOP, by="bob"))
        await old.set_account_budget(AccountBudget(daily=Decimal(8), weekly=Decimal(20), timezone="UTC"))
        imported = await carry_over(path, clean_supabase, clock)
        assert (imported.kept, imported.kept_limits) == ((KEY,), ("daily",))
        record = await new.get_campaign(KEY)
        assert (record.id, record.campaign, record.pause) == (newer.id, newer.campaign, BY_BUDGET)
        assert (record.origin, await new.read_stop()) == ("api", STOP)
        assert await new.account_budget() == AccountBudget(
            daily=Decimal(3), weekly=Decimal(20), timezone="Europe/Berlin"
        )
        assert await today(new) == ("4.500000", "0.000000")
        assert (await account_books(new))["monthly"] == (Decimal("4.5"), 0)
        assert clean_supabase.rows("select total_runs, total_cost::text from campaigns") == [(2, "4.500000")]

    async def test_a_campaign_of_the_orchestrator_before_is_taken_over_not_doubled(
        self, old: SqliteStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        config = json.dumps(make_campaign(daily=5).model_dump(mode="json", by_alias=True))
        clean_supabase.sql("insert into campaigns (name, config) values ('Spring Outreach', $1)", config)
        clean_supabase.sql(
            "insert into campaign_runs (campaign_id, status, total_cost, started_at)"
            " select id, 'completed', 1, '2026-05-13T12:00:00+00:00' from campaigns"
        )
        await finished_run(old, "run-1", "2")
        assert (await carry_over(path, clean_supabase, clock)).kept == (KEY,)
        async with SupabaseStore(clean_supabase.url, clean_supabase.secret_key, clock=clock) as new:
            assert [record.key for record in await new.list_campaigns()] == [KEY]
            assert await today(new) == ("3.000000", "0.000000")

    async def test_a_run_that_is_there_by_other_means_is_not_booked_twice(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await new.save_campaign(make_campaign())
        await finished_run(new, "run-1", "1")
        await finished_run(old, "run-1", "1")
        before = contents(clean_supabase)
        with pytest.raises(StoreError, match=rf"^run {RUN_1} of .* is in the database already, .* nothing was changed"):
            await carry_over(path, clean_supabase, clock)
        assert contents(clean_supabase) == before
        assert await successor_of(path) is None
        await finished_run(old, "run-2", "1")

    async def test_nor_is_one_that_spent_nothing(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        for store in (old, new):
            await store.record_skipped_run(make_report("run-3", state_name="Skipped"))
        with pytest.raises(StoreError, match=rf"^run {run_id('run-3')} of .* is in the database already"):
            await carry_over(path, clean_supabase, clock)

    async def test_nor_is_an_approval_that_is_there(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        for store in (old, new):
            lease = await take_lease(store)
            await store.ask_approval(lease, step="send", timeout_seconds=60)
            await store.release_lease(lease)
        with pytest.raises(StoreError, match=rf"^run {RUN_1} of .* is in the database already"):
            await carry_over(path, clean_supabase, clock)
        assert await successor_of(path) is None

    async def test_books_that_do_not_add_up_are_not_carried_over(
        self, old: SqliteStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "1")
        await old._file.write(lambda db, now: db.execute("UPDATE reservations SET booked = booked + 1"))
        before = contents(clean_supabase)
        with pytest.raises(StoreError, match=r"would not add up after the import, and nothing was changed: account, "):
            await carry_over(path, clean_supabase, clock)
        assert contents(clean_supabase) == before
        assert await successor_of(path) is None


class TestTheClosedFile:
    async def test_nothing_is_spent_in_a_store_that_was_open_all_the_time(
        self, old: SqliteStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        lease = await take_lease(old)
        await old.book_unconfirmed(lease, await send(old, lease, "2"))
        await old.ask_approval(lease, step="send", timeout_seconds=60)
        clock.advance(seconds=61)
        before = await figures_of(path)
        await carry_over(path, clean_supabase, clock)
        (unconfirmed,) = await old.unconfirmed(KEY)
        refused = [
            # Its lease ran out, and nobody has taken it: as far as that goes the run may go on.
            reserve(old, lease, "1", attempt=2),
            old.settle(lease, unconfirmed, Decimal(1)),
            old.renew_lease(lease, ttl_seconds=60),
            take_lease(old, "run-2"),
            take_lease(old, "run-2", key="another"),
            old.settle_late(unconfirmed, Decimal(1)),
            old.correct(KEY, run_id=RUN_1, step="find", attempt=1, amount=Decimal(0), by="ann", note="x"),
            old.save_campaign(make_campaign(daily=9)),
            old.save_campaign(make_campaign("Another")),
            old.set_pause(KEY, BY_PERSON, replacing=None),
            old.delete_campaign(KEY),
            old.set_account_budget(AccountBudget(daily=Decimal(9))),
            old.record_skipped_run(make_report("run-3")),
            old.set_stop(STOP),
            old.ask_approval(lease, step="find", timeout_seconds=60),
            old.ask_approval(lease, step="send", timeout_seconds=60),
            old.decide_approval(RUN_1, "send", ApprovalState.APPROVED, by="ann"),
            old.record_audit(AuditEntry(at=NOON, actor="ann", action=AuditAction.ALL_STOPPED)),
        ]
        for act in refused:
            with pytest.raises(StoreError, match=f"refused what it was told: {CLOSED}") as raised:
                await act
            assert not isinstance(raised.value, StoreUnavailable), "which would be tried again"
        await old.release_lease(lease)
        assert await figures_of(path) == before

    async def test_it_can_still_be_read_added_up_and_backed_up(
        self, old: SqliteStore, path: Path, tmp_path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "2")
        await carry_over(path, clean_supabase, clock)
        clock.advance(hours=1)
        assert await today(old) == ("2.000000", "0.000000")
        assert (await old.account_status()).account
        assert [run.run_id for run in await old.list_runs(KEY)] == [RUN_1]
        await assert_books_are_whole(old)
        assert (await backup(path, tmp_path / "copy.db")).spent == 2
        assert await successor_of(tmp_path / "copy.db") == await successor_of(path)

    async def test_a_backup_from_before_opens_it_again(
        self, old: SqliteStore, path: Path, tmp_path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "2")
        await backup(path, tmp_path / "before.db")
        await carry_over(path, clean_supabase, clock)
        await restore(path, tmp_path / "before.db", clock=clock)
        assert await successor_of(path) is None
        await finished_run(old, "run-2", "1")
        with pytest.raises(StoreError, match=rf"^run {RUN_1} of .* is in the database already"):
            await carry_over(path, clean_supabase, clock)

    async def test_what_would_be_left_behind(
        self, path: Path, tmp_path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        assert await left_behind(path) is None and names_in(tmp_path) == []
        async with SqliteStore(path, clock=clock) as store:
            assert await left_behind(path) is None
            await store.save_campaign(make_campaign())
        left = await left_behind(path)
        assert left is not None and (left.figures.campaigns, left.successor) == (1, None)
        await carry_over(path, clean_supabase, clock)
        left = await left_behind(path)
        assert left is not None and left.successor == await successor_of(path)
        assert names_in(tmp_path) == ["campaigns.db"]


class TestOnce:
    async def test_the_second_time_nothing_is_changed(
        self, old: SqliteStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "2")
        first = await carry_over(path, clean_supabase, clock)
        before = contents(clean_supabase)
        clock.advance(hours=1)
        second = await carry_over(path, clean_supabase, clock)
        assert second.earlier == await successor_of(path) and second.earlier and second.earlier.at == NOON
        assert (second.books, second.figures) == (first.books, first.figures)
        assert contents(clean_supabase) == before

    async def test_of_two_at_once_one_does_it(
        self, old: SqliteStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "2")
        both = await asyncio.gather(*(carry_over(path, clean_supabase, clock) for _ in range(2)))
        assert sorted(imported.earlier is None for imported in both) == [False, True]
        assert clean_supabase.rows("select sum(spent)::text from campaign_ledger") == [("2.000000",)]

    async def test_what_fails_at_its_end_leaves_both_as_they_were(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "2")
        before = contents(clean_supabase)
        with (
            meanwhile(clean_supabase, "perform pg_terminate_backend(pg_backend_pid())"),
            pytest.raises(StoreUnavailable, match=r"the database at 127\.0\.0\.1 stopped answering"),
        ):
            await carry_over(path, clean_supabase, clock)
        assert contents(clean_supabase) == before
        await finished_run(old, "run-2", "1")
        await carry_over(path, clean_supabase, clock)
        assert await today(new) == ("3.000000", "0.000000")

    async def test_what_breaks_off_at_the_commit_leaves_the_file_closed_and_is_done_again(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "2")
        before = contents(clean_supabase)
        with (
            meanwhile(clean_supabase, "perform pg_terminate_backend(pg_backend_pid())", at_commit=True),
            pytest.raises(StoreUnavailable, match=r"campaigns\.db is closed: import it again"),
        ):
            await carry_over(path, clean_supabase, clock)
        assert contents(clean_supabase) == before
        with pytest.raises(StoreError, match=CLOSED):
            await take_lease(old, "run-2")
        successor = await successor_of(path)
        assert successor is not None and not await new.was_imported(successor.id)
        assert (await carry_over(path, clean_supabase, clock)).earlier is None
        assert await new.was_imported(successor.id)
        assert await today(new) == ("2.000000", "0.000000")
        assert (await carry_over(path, clean_supabase, clock)).earlier is not None

    async def test_a_commit_that_is_refused_says_that_the_file_is_closed(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "2")
        no_room = "raise exception 'no space left on device' using errcode = '53100'"
        with (
            meanwhile(clean_supabase, no_room, at_commit=True),
            pytest.raises(StoreError, match=r"no space left on device; .*campaigns\.db is closed: import it again"),
        ):
            await carry_over(path, clean_supabase, clock)
        await carry_over(path, clean_supabase, clock)
        assert await today(new) == ("2.000000", "0.000000")

    async def test_a_file_that_was_closed_for_another_database_is_refused(
        self, old: SqliteStore, path: Path, supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "2")
        with supabase.database() as first, supabase.database() as second:
            for project in (first, second):
                project.migrate()
            await carry_over(path, first, clock)
            name = project_name(first.database_url)
            with pytest.raises(StoreError, match=rf"is closed: its books go on in {name}, and not in "):
                await carry_over(path, second, clock)
            assert contents(second) == [(0,) * 12]

    async def test_a_kill_leaves_both_as_they_were(
        self, old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        await finished_run(old, "run-1", "2")
        deed = "import asyncio, pathlib, sys; from prefect_campaigns.blocks.supabase.importing import import_books;"
        deed += "asyncio.run(import_books(pathlib.Path(sys.argv[1]), sys.argv[2]))"
        asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
        with meanwhile(clean_supabase, "perform pg_sleep(3)"):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", deed, str(path), clean_supabase.database_url
            )
            async with asyncio.timeout(60):
                while clean_supabase.rows(asleep) == [(0,)]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                process.kill()
                assert await process.wait() == -signal.SIGKILL
                while clean_supabase.rows(asleep) != [(0,)]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        await finished_run(old, "run-2", "1")
        await carry_over(path, clean_supabase, clock)
        assert await today(new) == ("3.000000", "0.000000")


class TestWhatIsRefused:
    async def test_a_run_that_goes_on(
        self, old: SqliteStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        lease = await take_lease(old, ttl_seconds=60)
        with pytest.raises(StoreError, match=r"run name of run-1 of campaign spring-outreach goes on .* nothing was"):
            await carry_over(path, clean_supabase, clock)
        await spend(old, lease, "1")
        await old.release_lease(lease)
        await carry_over(path, clean_supabase, clock)

    async def test_a_request_that_may_still_be_answered(
        self, old: SqliteStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        lease = await take_lease(old)
        await old.start_run(lease, make_report())
        await send(old, lease, "1", hold_seconds=600)
        await old.release_lease(lease)
        complaint = "a request of run name of run-1 of campaign spring-outreach may still be answered .* nothing was"
        with pytest.raises(StoreError, match=complaint):
            await carry_over(path, clean_supabase, clock)
        clock.advance(seconds=600)
        assert (await carry_over(path, clean_supabase, clock)).figures.spent == 1

    async def test_a_database_without_the_tables(self, old: SqliteStore, path: Path, supabase: Project) -> None:
        with (
            supabase.database() as empty,
            pytest.raises(StoreMisconfigured, match=r"has no campaign tables.*`campaigns db migrate`.*import again"),
        ):
            await import_books(path, empty.database_url)
        await finished_run(old, "run-1", "1")

    async def test_books_in_supabase_that_are_written_to_all_the_time(
        self, old: SqliteStore, path: Path, clean_supabase: Project, clock: SettableClock
    ) -> None:
        runs = await asyncpg.connect(clean_supabase.database_url)
        try:
            async with runs.transaction():
                await runs.execute("select public.campaigns_lock_books()")
                with pytest.raises(StoreUnavailable, match="runs are writing to the database; end all workers"):
                    await carry_over(path, clean_supabase, clock)
        finally:
            await runs.close()
        assert await successor_of(path) is None

    @pytest.mark.parametrize("content", [None, b"", b"shall I compare thee" * 100])
    async def test_what_is_no_store(self, path: Path, clean_supabase: Project, content: bytes | None) -> None:
        if content is not None:
            write(path, content)
        with pytest.raises(StoreError, match=r"there is no campaign store at|cannot be read: file is not a database"):
            await import_books(path, clean_supabase.database_url)
        assert names_in(path.parent) == ([] if content is None else [path.name])

    async def test_a_store_that_is_busy(
        self, old: SqliteStore, path: Path, clean_supabase: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("prefect_campaigns.blocks.sqlite.closing._PATIENCE_SECONDS", 0.2)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match=r"was busy for 0\.2 s"):
                await import_books(path, clean_supabase.database_url)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://postgres:x@db.abcdefgh.supabase.co:5432/postgres", "abcdefgh.supabase.co"),
        # The same project, by its pooler.
        ("postgres://postgres.abcdefgh:x@aws-0-eu-central-1.pooler.supabase.com:6543/postgres", "abcdefgh.supabase.co"),
        ("postgres://postgres:x@pg.example.com/books", "pg.example.com:5432/books"),
    ],
)
def test_a_database_is_called_by_its_project(url: str, name: str) -> None:
    assert project_name(url) == name


async def test_ids_of_campaigns_stay(
    old: SqliteStore, new: SupabaseStore, path: Path, clean_supabase: Project, clock: SettableClock
) -> None:
    deployment: UUID = uuid4()
    record = await old.save_campaign(make_campaign(), deployment_id=deployment, applied_schedule_active=True)
    await carry_over(path, clean_supabase, clock)
    assert await new.get_campaign(KEY) == record
