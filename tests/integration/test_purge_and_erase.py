"""Removing what engines said of people, from everywhere it lies on a real stack, while the books stay."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from driving import Driver, until
from prefect.client.schemas.actions import LogCreate
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from real_stack import Stack
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.store_types import AuditAction
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.driving.runs import approve_run, find_run
from prefect_campaigns.deployments.personal_data.removing import Removed, erase
from prefect_campaigns.deployments.running import upkeep
from prefect_campaigns.errors import UnknownRun
from prefect_campaigns.models import Campaign
from prefect_campaigns.personal_data import Address

ALMA = "alma@example.net"
COST = Decimal("0.25")


class Talkative:
    """An engine that says whom it deals with wherever it can."""

    def __init__(self, somebody: str) -> None:
        self.somebody = somebody
        self.fails = True
        self.hold = asyncio.Event()
        self.hold.set()
        self.asked: list[Any] = []
        self.url = ""

    def app(self) -> Starlette:
        return Starlette(
            routes=[Route("/find", self._find, methods=["POST"]), Route("/use", self._use, methods=["POST"])]
        )

    async def _find(self, request: Request) -> Response:
        leads = [{"name": "Bob", "email": self.somebody, "phone": "1"}, {"name": "Alma", "email": ALMA}]

        def events() -> Iterator[str]:
            looking = {"type": "progress", "message": f"looking at {self.somebody}", "progress": 50}
            complete = {"type": "complete", "results": {"leads": leads, "found": 2, "cost": str(COST)}}
            for event in (looking, complete):
                yield f"data: {json.dumps(event)}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _use(self, request: Request) -> Response:
        self.asked.append(await request.json())
        await self.hold.wait()
        if self.fails:
            return JSONResponse({"error": f"{self.somebody} is nobody to write to"}, status_code=400)
        return JSONResponse({"composed": 1, "mails": [{"to": self.somebody, "body": "Dear Bob"}], "cost": 0})


@pytest.fixture
async def engine() -> AsyncIterator[Talkative]:
    engine = Talkative(f"bob.{uuid4().hex[:8]}@example.net")
    async with serve(engine.app()) as url:
        engine.url = url
        yield engine


def talked_about(name: str, engine: Talkative, **use: Any) -> Campaign:
    steps = [
        {"name": "find", "engine": "prospecting", "endpoint": f"{engine.url}/find", "params": {"count": 2}},
        {
            "name": "use",
            "engine": "outreach",
            "endpoint": f"{engine.url}/use",
            "params": {"leads": "{{ steps.find.leads }}"},
            **use,
        },
    ]
    return Campaign.model_validate({"name": name, "steps": steps})


class Places:
    """Where a stack may have kept what was said."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def of(self, text: str) -> set[str]:
        """Return the places in which a text stands now."""
        return {name for name, look in self._looks().items() if look(text)}

    def _looks(self) -> dict[str, Callable[[str], bool]]:
        prefect = self._stack.home / "prefect"
        return {
            "books": lambda text: bool(_tables(self._stack.database, text)),
            "Prefect": lambda text: bool(_tables(prefect / "prefect.db", text) - {"events", "event_resources"}),
            "results": lambda text: _in_files(prefect / "storage", "*", text),
            "logs": lambda text: _in_files(self._stack.home / "logs", "*.log*", text),
        }


def _tables(path: Path, text: str) -> set[str]:
    """Return the tables of a database in which a text stands."""
    with closing(sqlite3.connect(path, timeout=10)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name for name in names if any(text in str(row) for row in db.execute(f'SELECT * FROM "{name}"'))}  # noqa: S608


def _in_files(folder: Path, pattern: str, text: str) -> bool:
    return any(text in path.read_text("utf-8", "replace") for path in folder.rglob(pattern) if path.is_file())


@pytest.fixture
def places(in_stack: Stack) -> Places:
    return Places(in_stack)


EVERYWHERE = {"books", "Prefect", "results", "logs"}


async def run_once(driver: Driver, campaign: Campaign) -> FlowRun:
    (deployment,) = await driver.apply(campaign)
    flow_run = await driver.run(deployment)
    await driver.step_runs(flow_run.id, len(campaign.steps))
    return flow_run


async def command(stack: Stack, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a command that prints JSON; return its exit code and what it printed."""
    done = await asyncio.to_thread(stack.run_command, *arguments, "--yes", "--json")
    assert '"success"' in done.stdout, done.stderr
    said = json.loads(done.stdout)
    assert "again" in said, said
    return done.returncode, said


async def erased(driver: Driver, stack: Stack, engine: Talkative) -> Removed:
    """Erase whom an engine talks about, as the command does."""
    storage = stack.home / "prefect" / "storage"
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: storage}):
        settings = load_settings().model_copy(update={"campaigns_logs": stack.home / "logs"})
        return await erase(driver.client, driver.store, settings, Address(engine.somebody), now=datetime.now(UTC))


async def test_a_person_is_erased_from_everywhere_and_the_books_stay(
    driver: Driver, in_stack: Stack, engine: Talkative, places: Places
) -> None:
    flow_run = await run_once(driver, talked_about("Erased From Everywhere", engine))
    assert flow_run.state is not None
    assert flow_run.state.name == "Failed"
    before = await driver.store.get_run(str(flow_run.id))
    await until(lambda: in_places(places, engine.somebody, EVERYWHERE), "it is written everywhere")
    audited = await driver.store.list_audit(limit=1_000)

    code, said = await command(in_stack, "erase", "--email", engine.somebody.upper())
    assert (code, said["success"], said["again"]) == (0, True, [])
    assert {name: said[name] for name in ("runs", "prefectRuns", "mails", "unsettledAnswers")} == {
        "runs": 1,
        "prefectRuns": 1,
        "mails": 0,
        "unsettledAnswers": 0,
    }
    assert said["taskResults"] >= 1
    assert said["logLines"] >= 1
    (events,) = said["kept"]
    assert "Prefect's events" in events
    # Prefect removes the logs of a run a moment later.
    await until(lambda: in_places(places, engine.somebody, set()), "it is written nowhere")

    after = await driver.store.get_run(str(flow_run.id))
    assert before is not None
    assert after is not None
    assert after.total_cost == before.total_cost == COST
    assert [step.counts for step in after.steps] == [step.counts for step in before.steps]
    assert after.steps[0].result["leads"] == [{"name": "Alma", "email": ALMA}]
    assert (after.steps[1].status, after.steps[1].error) == (before.steps[1].status, "[erased]")
    audit = await driver.store.list_audit(limit=1_000)
    assert [entry.action for entry in audit if entry not in audited] == [AuditAction.DATA_ERASED]
    assert engine.somebody not in str(audit)

    with pytest.raises(UnknownRun, match=f"this Prefect server keeps nothing of run '{flow_run.name}'"):
        await find_run(driver.client, driver.store, str(flow_run.id))
    again = await erased(driver, in_stack, engine)
    assert (again.describe(), again.again) == ("", ())


async def in_places(places: Places, text: str, wanted: set[str]) -> bool:
    return await asyncio.to_thread(places.of, text) == wanted


async def test_a_run_that_waits_for_approval_goes_on_without_the_person(
    driver: Driver, in_stack: Stack, engine: Talkative
) -> None:
    engine.fails = False
    (deployment,) = await driver.apply(talked_about("Waits Without Bob", engine, approval={}))
    flow_run = await driver.start(deployment)
    await driver.in_state(flow_run.id, "Suspended")
    assert (await erased(driver, in_stack, engine)).runs == 1
    await approve_run(driver.client, driver.store, flow_run, actor="ada@laptop")
    ended = await driver.ended(flow_run.id)
    assert ended.state is not None
    assert ended.state.is_completed(), ended.state.message
    (request,) = engine.asked
    assert request["leads"] == [{"name": "Alma", "email": ALMA}]


async def test_a_run_that_goes_on_is_named_and_erased_when_it_has_ended(
    driver: Driver, in_stack: Stack, engine: Talkative, places: Places
) -> None:
    engine.hold.clear()
    (deployment,) = await driver.apply(talked_about("Goes On About Bob", engine))
    flow_run = await driver.start(deployment)

    async def is_asked() -> bool:
        return bool(engine.asked)

    await until(is_asked, "the second step is under way")
    code, said = await command(in_stack, "erase", "--email", engine.somebody)
    assert (code, said["success"]) == (1, False)
    assert said["again"] == [f"run {flow_run.name} has not ended, and may say it again"]
    engine.hold.set()
    await driver.ended(flow_run.id)
    await driver.step_runs(flow_run.id, 2)

    async def is_erased() -> bool:
        removed = await erased(driver, in_stack, engine)
        return not removed and not await asyncio.to_thread(places.of, engine.somebody)

    await until(is_erased, "it is written nowhere")


async def test_what_a_run_that_has_just_ended_logs_is_erased_with_it(
    driver: Driver, in_stack: Stack, engine: Talkative, places: Places
) -> None:
    flow_run = await run_once(driver, talked_about("Logs Late About Bob", engine))
    erasing = asyncio.create_task(erased(driver, in_stack, engine))
    # A process sends what it has logged every two seconds.
    await asyncio.sleep(3)
    line = LogCreate(
        name="prefect.flow_runs",
        level=20,
        message=f"wrote to {engine.somebody}",
        timestamp=datetime.now(UTC),
        flow_run_id=flow_run.id,
    )
    await driver.client.create_logs([line])
    assert (await erasing).prefect_runs == 1
    await until(lambda: in_places(places, engine.somebody, set()), "it is written nowhere")


def make_old(stack: Stack, flow_run: FlowRun, engine: Talkative, *, days: float) -> None:
    """Let a run have ended so long ago, wherever that is written down; it is the only one yet of its engine."""
    then = datetime.now(UTC) - timedelta(days=days)
    for path, change in (
        (stack.database, "UPDATE runs SET completed_at = ? WHERE run_id = ?"),
        (stack.home / "prefect" / "prefect.db", "UPDATE flow_run SET end_time = ? WHERE id = ?"),
    ):
        written = then.isoformat(timespec="microseconds") if "runs" in change else f"{then:%Y-%m-%d %H:%M:%S.%f}"
        with closing(sqlite3.connect(path, timeout=10)) as db, db:
            assert db.execute(change, (written, str(flow_run.id))).rowcount == 1
    files = (path for path in (stack.home / "prefect" / "storage").iterdir() if path.is_file())
    results = [path for path in files if engine.somebody in path.read_text()]
    assert len(results) == 2, "what the first step has come to, and the error of the second"
    for result in results:
        os.utime(result, (then.timestamp(), then.timestamp()))
    (stack.home / "logs" / "orchestrator.log.1").write_text(
        f"{then:%Y-%m-%dT%H:%M:%S}.000Z info  prefect: an old line\n    and what belongs to it\n"
        f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.000Z info  prefect: a new line\n"
    )


async def test_what_is_old_is_purged_and_the_books_stay(
    driver: Driver, in_stack: Stack, engine: Talkative, places: Places
) -> None:
    # Other tests have a clock of their own, by which their runs are old.
    assert (await command(in_stack, "purge", "--older-than", "180d"))[0] == 0
    campaign = talked_about("Purged When Old", engine)
    old = await run_once(driver, campaign)
    make_old(in_stack, old, engine, days=181)
    new = await run_once(driver, campaign)
    before = {run.id: await driver.store.get_run(str(run.id)) for run in (old, new)}

    code, said = await command(in_stack, "purge", "--older-than", "180d")
    assert (code, said["success"], said["again"], said["kept"]) == (0, True, [], [])
    assert (said["runs"], said["prefectRuns"], said["taskResults"], said["logLines"]) == (1, 1, 2, 2)

    after, ended = await driver.store.get_run(str(old.id)), before[old.id]
    assert after is not None
    assert ended is not None
    assert (after.total_cost, after.status, after.message) == (COST, ended.status, "[removed]")
    assert [(step.result, step.warnings) for step in after.steps] == [(None, ())] * 2
    assert [step.error for step in after.steps] == [None, "[removed]"]
    assert [step.counts for step in after.steps] == [step.counts for step in ended.steps]
    assert await driver.store.get_run(str(new.id)) == before[new.id]
    assert list(await driver.store.verify_totals("purged-when-old")) == []
    await until(lambda: in_places(places, str(old.id), {"books", "logs"}), "Prefect has nothing of it any more")
    assert {"books", "Prefect", "results"} <= places.of(engine.somebody)
    log = (in_stack.home / "logs" / "orchestrator.log.1").read_text()
    assert "a new line" in log
    assert "old line" not in log
    assert "belongs to it" not in log


async def test_a_worker_purges_by_itself_what_is_older_than_the_setting_says(
    driver: Driver, in_stack: Stack, engine: Talkative, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = await run_once(driver, talked_about("Purged By The Worker", engine))
    make_old(in_stack, run, engine, days=31)
    monkeypatch.setattr(upkeep, "PURGE_SECONDS", 0.2)
    monkeypatch.setenv("CAMPAIGNS_LOGS", str(tmp_path))
    purging = asyncio.create_task(upkeep.purge_for_ever(driver.client, uuid4(), logging.getLogger(__name__)))
    try:
        # Nothing is ever purged by itself unless somebody wants it.
        await asyncio.sleep(1)
        report = await driver.store.get_run(str(run.id))
        assert report is not None
        assert engine.somebody in str(report)
        monkeypatch.setenv("CAMPAIGNS_RETENTION_DAYS", "30")

        async def is_purged() -> bool:
            report = await driver.store.get_run(str(run.id))
            return report is not None and engine.somebody not in str(report)

        await until(is_purged, "the run is purged")
    finally:
        purging.cancel()
        await asyncio.gather(purging, return_exceptions=True)
