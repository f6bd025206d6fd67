"""Books in Supabase that an earlier release has written, under this release's migrations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from clocks import SettableClock
from driving import until
from earlier_release import Left, lay_down_in, rows_in
from real_stack import Stack
from supabase_rig import Project

from prefect_campaigns.blocks.store_types import AttemptState, Lease, PausedBy
from prefect_campaigns.blocks.supabase.migrate import migrate, migrations
from prefect_campaigns.blocks.supabase.store import SupabaseStore

RELEASE = "0.1.0"


@pytest.fixture
def project(supabase: Project) -> Iterator[Project]:
    """A project in which nobody has made anything."""
    with supabase.database() as project:
        yield project


@pytest.fixture
def left(project: Project) -> Left:
    """What the release has left in it."""
    return lay_down_in(project, RELEASE)


async def migrated(project: Project, left: Left) -> SupabaseStore:
    """Bring the books to this release, a day later, and return them, not yet opened."""
    applied = await migrate(project.database_url)
    assert applied == [one.name for one in migrations()][-len(applied) :]
    clock = SettableClock(left.resumption_due + timedelta(days=1))
    return SupabaseStore(project.url, project.secret_key, clock=clock)


def contents(project: Project, columns: dict[str, set[str]] | None = None) -> dict[str, list[str]]:
    """Return all rows by table, with these columns, by table, alone; all of them where none are named."""
    return {
        table: sorted(
            json.dumps({name: value for name, value in row.items() if columns is None or name in columns[table]})
            for row in rows
        )
        for table, rows in rows_in(project).items()
        if columns is None or table in columns
    }


async def test_nothing_of_it_is_lost_and_it_adds_up(project: Project, left: Left) -> None:
    before = contents(project)
    columns = {table: {name for row in rows for name in row} for table, rows in rows_in(project).items()}
    async with await migrated(project, left) as store:
        assert contents(project, columns) == before, "every campaign, run, cent and audit line"
        assert list(await store.verify_totals(None)) == []
        records = {one.key: one for one in await store.list_campaigns()}
        for key in records:
            assert list(await store.verify_totals(key)) == []
        assert {key: one.pause.by for key, one in records.items() if one.pause} == {
            "upgraded-paused": PausedBy.PERSON,
            "upgraded-budget": PausedBy.BUDGET,
        }
        assert len(await store.list_audit(limit=1000)) == left.audit
        assert (await store.account_budget()).daily == 50
        (waiting,) = await store.list_approvals(waiting_only=True)
        assert waiting.run_id == str(left.runs["suspended"])
        (lost,) = await store.unconfirmed("upgraded-unconfirmed")
        assert lost.booked == Decimal("0.25")


async def test_its_runs_that_nobody_executes_are_found_and_go_on(project: Project, left: Left) -> None:
    run_id = str(left.runs["killed"])
    async with await migrated(project, left) as store:
        unattended = {one.run_id for one in await store.unattended_runs(within_seconds=0)}
        assert {run_id, str(left.runs["killed-sending"])} <= unattended
        assert str(left.runs["suspended"]) not in unattended
        report = await store.get_run(run_id)
        assert report is not None
        assert [step.status for step in report.steps] == ["completed", "running", "pending"]
        assert len((report.steps[0].result or {})["prospects"]) == 5
        lease = await store.acquire_lease(
            report.campaign_key,
            run_id=run_id,
            run_name=report.run_name,
            holder="of this release",
            ttl_seconds=60,
            waiting_since=report.started_at,
        )
        assert isinstance(lease, Lease)
        held = await store.reserve(lease, step="analysis", attempt=2, estimated_cost=None, hold_seconds=60)
        await store.settle(lease, await store.mark_sent(lease, held), Decimal("0.015"))
        earlier, _ = await store.attempts(run_id, "analysis")
        assert (earlier.state, earlier.booked) == (AttemptState.UNCONFIRMED, Decimal("0.25"))
        await store.settle_late(earlier, Decimal(0))
        states = [one.state for one in await store.attempts(run_id, "analysis")]
        assert states == [AttemptState.CORRECTED, AttemptState.SETTLED]
        assert await store.run_cost(run_id) == Decimal("0.027")
        assert list(await store.verify_totals(None)) == []


async def test_no_worker_of_this_release_starts_before_they_are_migrated(
    project: Project, left: Left, stack: Stack
) -> None:
    """It would fail what a worker of the release before has handed back."""
    books = {"SUPABASE_URL": project.url, "SUPABASE_KEY": project.secret_key}
    with stack.worker_of("not migrated yet", **books) as worker:
        assert await asyncio.to_thread(worker.wait, 90) == 1
    assert f"older version ({migrations()[13].name}" in (stack.home / "worker.log").read_text()
    await migrate(project.database_url)
    project.restart_api()
    with stack.worker_of("migrated", **books) as worker:
        async with SupabaseStore(project.url, project.secret_key) as store:

            async def lives() -> bool:
                return [one.pool for one in await store.list_workers()] == ["migrated"]

            await until(lives, "the worker in the books")
