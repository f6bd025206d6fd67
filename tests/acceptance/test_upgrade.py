"""What an earlier release has left on a machine goes on under this one: books, deployments, runs in every state."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from driving import Driver, until
from earlier_release import Left, lay_down, rows_of, upgraded_machine
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import AutomationSort
from prefect.settings import PREFECT_API_URL, temporary_settings
from processes import Ended, run_campaigns
from real_stack import SCRUBBED, Stack

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import AttemptState, PausedBy
from prefect_campaigns.deployments.demo.engines import ANALYZE, PROSPECT, SEND, DemoEngines
from prefect_campaigns.flows.mailing import OwedMails

RELEASE = "0.1.0"
FOLDER = "my-campaigns"
COST = Decimal("0.027")
"""What a run costs that does all its steps."""


@dataclass
class Machine:
    """A machine on which an earlier release has worked, and this one is installed now."""

    left: Left
    before: dict[str, list[dict[str, Any]]]
    stack: Stack
    engines: DemoEngines
    driver: Driver

    async def run(self, *arguments: str) -> Ended:
        """Run ``campaigns …``, which has to do it."""
        ended = await run_campaigns(*arguments, env=self.stack.environment, cwd=self.stack.home)
        assert ended.code == 0, ended.text
        return ended

    async def blocks_and_automations(self) -> set[tuple[str, str]]:
        """Return what mails and secrets are made of on the Prefect server, by name and id."""
        blocks = await self.driver.client.read_block_documents()
        wanted = {"sort": AutomationSort.NAME_ASC, "limit": 200, "offset": 0}
        automations = (await self.driver.client.request("POST", "/automations/filter", json=wanted)).json()
        return {(one.name or "", str(one.id)) for one in blocks} | {(one["name"], one["id"]) for one in automations}


@pytest.fixture
async def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    """The machine, its Prefect server running, and no worker."""
    left = lay_down(RELEASE, tmp_path)
    before = rows_of(tmp_path / "campaigns.db")
    async with upgraded_machine(tmp_path) as (stack, engines):
        for name, value in stack.environment.items():
            if name.startswith(SCRUBBED):
                monkeypatch.setenv(name, value)
        with temporary_settings({PREFECT_API_URL: stack.server.api_url}):
            async with get_client() as client, SqliteStore(stack.database) as store:
                driver = Driver(client, store, load_settings())
                yield Machine(left, before, stack, engines, driver)


def subjects(stack: Stack) -> Counter[str]:
    """Return what has been mailed, without the names of the runs."""
    return Counter(str(mail.message["Subject"]).partition(" (")[0] for mail in stack.mail.messages)


def as_before(after: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return a row without the columns that are new, and empty."""
    return {name: value for name, value in after.items() if name in before or value is not None}


async def carry_forward(machine: Machine) -> None:
    """Upgrade as the README says, all but the campaign that waits for its budget, and start a worker."""
    await machine.run("db", "migrate")
    after = rows_of(machine.stack.database)
    kept = {
        table: [as_before(*pair) for pair in zip(after[table], rows, strict=True)]
        for table, rows in machine.before.items()
    }
    assert kept == machine.before, "every campaign, run, cent, audit line"
    assert len(after["audit"]) == machine.left.audit

    # Whoever looks for mails that are owed, as a worker does, which may be there before the apply.
    owed = OwedMails(machine.driver.client, logger=logging.getLogger(__name__), taken_over_seconds=0)
    await owed.look(machine.driver.store, now=datetime.now(UTC))
    assert subjects(machine.stack) == {}, "nobody is mailed again"

    there = await machine.blocks_and_automations()
    planned, verified = await asyncio.gather(
        machine.run("plan", FOLDER, "--json"), machine.run("budget", "--account", "--verify", "--json")
    )
    assert json.loads(verified.out)["differences"] == [], verified.out
    plan = json.loads(planned.out)
    assert plan["counts"] == {"created": 0, "changed": 0, "deleted": 0, "unchanged": len(after["campaigns"])}
    assert plan["shared"] == []
    changed = {name for name, _ in there if name.startswith("campaigns: ")}
    assert {one["what"] for one in plan["notifications"]} == {f"automation {name!r}" for name in changed}
    assert {one["change"] for one in plan["notifications"]} == {"changed"}

    files = sorted(str(file) for file in (machine.stack.home / FOLDER).glob("*.json") if file.name != "budget.json")
    await machine.run("apply", *files)
    machine.stack.start_worker()
    await asyncio.gather(
        machine.run("plan", *files, "--exit-code"), machine.run("approve", str(machine.left.runs["suspended"]))
    )
    assert await machine.blocks_and_automations() == there, "changed where they are, and none besides"


@pytest.mark.timeout(300)
async def test_everything_is_carried_forward_and_every_run_ends(machine: Machine) -> None:
    await carry_forward(machine)
    driver, runs = machine.driver, machine.left.runs
    wanted = ("suspended", "killed", "killed-sending", "handed-back", "scheduled", "resumption")

    async def all_well() -> bool:
        states = {what: (await driver.client.read_flow_run(runs[what])).state for what in wanted}
        final = {what: state.name for what, state in states.items() if state and state.is_final()}
        # One that crashed may go on.
        return final == {what: "Crashed" if what == "killed-sending" else "Completed" for what in wanted}

    await until(all_well, "the end of all runs")
    await every_run_went_on_where_it_was(machine)
    await the_campaigns_are_as_they_should_be(machine)
    ends = {
        "Completed: Upgraded Suspended": 1,
        "Crashed: Upgraded Killed": 1,
        "Completed: Upgraded Killed": 1,
        "Crashed: Upgraded Killed Sending": 1,
        "Completed: Upgraded Handed Back": 1,
        "Completed: Upgraded Scheduled": 1,
    }

    async def all_mailed() -> bool:
        return subjects(machine.stack) >= Counter(ends)

    await until(all_mailed, "the mails about these ends")
    assert subjects(machine.stack) == ends


async def every_run_went_on_where_it_was(machine: Machine) -> None:
    """Nothing was asked for again but what had no answer, and that by its key; nothing was sent twice."""
    engines, keys = machine.engines, machine.left.keys
    (prospecting,) = engines.requests_to(PROSPECT)
    analyses = Counter(one.idempotency_key for one in engines.requests_to(ANALYZE))
    assert (analyses[keys["killed"]], analyses[keys["handed-back"]]) == (1, 1)
    assert sorted(analyses.values()) == [1, 1, 1], "these two, and the run that was scheduled"
    for one in engines.requests_to(ANALYZE):
        assert len(one.params["prospects"]) == 5, "what an earlier release has found is still there"
    sends = Counter(one.idempotency_key for one in engines.requests_to(SEND))
    assert sorted(sends.values()) == [1, 1, 1]
    assert keys["killed-sending"] not in sends
    for what in ("killed", "handed-back", "suspended"):
        report = await machine.driver.store.get_run(str(machine.left.runs[what]))
        assert report is not None
        assert (report.status, report.total_cost) == ("completed", COST), what
    for what in ("killed", "handed-back"):
        states = [one.state for one in await machine.driver.store.attempts(str(machine.left.runs[what]), "analysis")]
        assert states == [AttemptState.CORRECTED, AttemptState.SETTLED]
    broken = await machine.driver.store.get_run(str(machine.left.runs["killed-sending"]))
    assert broken is not None
    assert (broken.status, broken.state_name) == ("failed", "Crashed")
    assert "must not be sent twice" in (broken.message or "")
    assert prospecting.idempotency_key not in keys.values()


async def the_campaigns_are_as_they_should_be(machine: Machine) -> None:
    """The budget's pause is over, a person's is not; the books add up, and nothing is left to apply."""
    records = {one.key: one for one in await machine.driver.store.list_campaigns()}
    assert {key: one.pause.by for key, one in records.items() if one.pause} == {"upgraded-paused": PausedBy.PERSON}
    for key, is_paused in (("upgraded-paused", True), ("upgraded-budget", False)):
        deployment = await machine.driver.client.read_deployment_by_name(f"campaign/{key}")
        assert deployment.paused is is_paused
    assert list(await machine.driver.store.verify_totals(None)) == []
    ledger = rows_of(machine.stack.database)["ledger"]
    assert ledger[: len(machine.before["ledger"])] == machine.before["ledger"]
    await machine.run("plan", FOLDER, "--exit-code")
