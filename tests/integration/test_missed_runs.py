"""Runs whose time came while nobody could begin them, on real Prefect: what ``catchUp`` and ``maxLateness`` say."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from driving import Driver, until
from prefect.client.schemas.objects import FlowRun

from prefect_campaigns.deployments.demo.engines import DemoEngines

HOURS = 3
"""How long the server was away."""

LATE = timedelta(minutes=30)
"""How long ago the last run was due that was missed."""


class Outage:
    """A campaign that runs every hour, and what its runs come to after three of them were missed."""

    def __init__(self, driver: Driver, engines: DemoEngines, name: str, **schedule: Any) -> None:
        self._driver = driver
        self._url = engines.url
        self._name = name
        last = (datetime.now(UTC) - LATE).replace(second=0, microsecond=0)
        self.due = [last - timedelta(hours=hours) for hours in reversed(range(HOURS))]
        self._schedule = {"cron": f"{last.minute} * * * *", **schedule}
        self.deployment_id = UUID(int=0)

    async def over(self, *, made: int = HOURS, and_the_last: bool = False) -> dict[datetime, FlowRun]:
        """Let it be over; return the runs that were due, by when, once they have ended.

        Args:
            made: how many of the runs Prefect had made ahead.
            and_the_last: whether it has made the last one since.
        """
        self.deployment_id = await self._driver.deploy(self._name, self._url, only=1, schedule=self._schedule)
        if and_the_last:
            await self._make(self.due[-1], 1)
        await self._make(self.due[0], made)

        async def look() -> dict[datetime, FlowRun] | None:
            runs = await self._driver.runs_of(self.deployment_id)
            were_due = {at: run for at, run in runs.items() if at in self.due}
            ended = [run for run in were_due.values() if run.state and run.state.is_final()]
            is_last_there = self.due[-1] in were_due or made < HOURS
            return were_due if len(ended) == len(were_due) >= made and is_last_there else None

        return await until(look, "the runs that were missed have ended")

    async def _make(self, first: datetime, count: int) -> None:
        """Make runs that were due from then on, by Prefect's own scheduler."""
        await self._driver.client.request(
            "POST",
            "/deployments/{id}/schedule",
            path_params={"id": self.deployment_id},
            json={"start_time": first.isoformat(), "min_time": 0, "min_runs": count, "max_runs": count},
        )

    async def ended(self) -> list[str]:
        """Return the names of the states in which they ended, by when they were due."""
        runs = await self._driver.runs_of(self.deployment_id)
        states = [runs[at].state for at in self.due if at in runs]
        return [state.name or "" for state in states if state]


@pytest.mark.parametrize(
    ("schedule", "ended"),
    [
        # The one that was due last runs for all of them.
        ({}, ["Skipped", "Skipped", "Completed"]),
        ({"catchUp": "none"}, ["Skipped", "Skipped", "Skipped"]),
        ({"catchUp": "all"}, ["Completed", "Completed", "Completed"]),
        # Half an hour is too late, or is not.
        ({"maxLateness": 15 * 60_000}, ["Skipped", "Skipped", "Skipped"]),
        ({"maxLateness": 45 * 60_000}, ["Skipped", "Skipped", "Completed"]),
        ({"catchUp": "none", "maxLateness": 45 * 60_000}, ["Skipped", "Skipped", "Completed"]),
        ({"catchUp": "all", "maxLateness": 100 * 60_000}, ["Skipped", "Completed", "Completed"]),
    ],
    ids=lambda value: "-".join(map(str, value.values() if isinstance(value, dict) else value)) or "default",
)
async def test_after_three_hours_without_a_server(
    driver: Driver, engines: DemoEngines, schedule: dict[str, Any], ended: list[str], request: pytest.FixtureRequest
) -> None:
    outage = Outage(driver, engines, f"Missed {request.node.callspec.id}", **schedule)
    runs = await outage.over()
    assert await outage.ended() == ended
    asked = Counter(ended)["Completed"]
    assert len(engines.requests) == asked
    reports = [await driver.store.get_run(str(runs[at].id)) for at in outage.due]
    assert [report.state_name for report in reports if report] == ended
    begun = sorted((one.started_at, one.completed_at) for one in reports if one and one.state_name == "Completed")
    for (_, end), (begin, _) in pairwise(begun):
        assert end is not None
        assert end <= begin, "one after another"


async def test_each_that_is_skipped_says_why(driver: Driver, engines: DemoEngines) -> None:
    outage = Outage(driver, engines, "Missed And Why", maxLateness=60_000)
    runs = await outage.over()
    first, last = (f"{outage.due[number]:%Y-%m-%d %H:%M} UTC" for number in (0, -1))
    messages = [runs[at].state.message or "" for at in outage.due if runs[at].state]
    assert messages[0] == (
        f"Skipped: it was due at {first}, and the run that was due at {last} stands for all that were missed"
    )
    # Half an hour, and what has passed of this minute.
    late = r"3[01] min( \d+ s)? ago, and may begin no later than 1 min after"
    assert re.fullmatch(rf"Skipped: it was due at {re.escape(last)}, {late}", messages[-1])


@pytest.mark.parametrize(("catch_up", "ended"), [("latest", ["Skipped", "Completed"]), ("all", ["Completed"] * 3)])
async def test_what_prefect_had_not_made_ahead_is_made(
    driver: Driver, engines: DemoEngines, catch_up: str, ended: list[str]
) -> None:
    outage = Outage(driver, engines, f"Missed And Never Made {catch_up}", catchUp=catch_up)
    await outage.over(made=1)

    async def all_there() -> bool:
        return await outage.ended() == ended

    await until(all_there, f"{ended} of {catch_up}")


async def test_a_later_run_that_is_made_keeps_none_before_it_from_being_made(
    driver: Driver, engines: DemoEngines
) -> None:
    """Prefect's scheduler is back before all that was missed is done."""
    outage = Outage(driver, engines, "Missed Before A Later One", catchUp="all")
    await outage.over(made=1, and_the_last=True)

    async def all_there() -> bool:
        return await outage.ended() == ["Completed"] * 3

    await until(all_there, "all three runs")


async def test_a_run_that_somebody_asks_for_is_late_for_nothing(driver: Driver, engines: DemoEngines) -> None:
    deployment = await driver.deploy(
        "Missed By Hand", engines.url, only=1, schedule={"cron": "0 0 1 1 *", "catchUp": "none", "maxLateness": 1}
    )
    flow_run = await driver.start(deployment, in_seconds=-3600)
    ended = await driver.ended(flow_run.id)
    assert ended.state is not None
    assert ended.state.name == "Completed"
