"""The weeks in which clocks change, on real Prefect: when the runs of a cron are due there, and that each runs once.

Prefect's scheduler is asked as if the time were that of those weeks, also with a clock that is set an hour back or
forward. The instants are written out, in UTC. Around the change the runs are executed as a worker does, each at its
time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID

import pytest
from campaign_files import campaign
from day import Day
from driving import Driver
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from run_process import RunProcess

from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.flows.leaving import HANDED_BACK
from prefect_campaigns.forecast import fire_times
from prefect_campaigns.models import Schedule

pytestmark = pytest.mark.usefixtures("no_worker")

HOUR = timedelta(hours=1)
PAGE = 200


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def days(month: str, instants: str) -> list[datetime]:
    """Return the instants of a month, ``05 14:00, 06 14:00``; ``11-01 14:00`` is of another month of the year."""
    texts = instants.split(", ")
    return [at(f"{month[:4]}-{text}" if "-" in text else f"{month}-{text}") for text in texts]


def hours(first: str, count: int) -> list[datetime]:
    return [at(first) + number * HOUR for number in range(count)]


@dataclass(frozen=True)
class Week:
    """A week from midnight to midnight, in which clocks change.

    Attributes:
        change: when they do.
        due: the instants at which Prefect has the runs of each cron due.
    """

    zone: str
    begin: str
    end: str
    change: str
    due: dict[str, list[datetime]]


WEEKS = {
    # 02:00 becomes 03:00: one hour less.
    "New York, spring": Week(
        "America/New_York",
        "2026-03-05T05:00",
        "2026-03-12T04:00",
        "2026-03-08T07:00",
        {
            "0 * * * *": hours("2026-03-05T05:00", 167),
            "0 0 * * *": days("2026-03", "05 05:00, 06 05:00, 07 05:00, 08 05:00, 09 04:00, 10 04:00, 11 04:00"),
            # Half past two is skipped, and comes at half past one.
            "30 2 * * *": days("2026-03", "05 07:30, 06 07:30, 07 07:30, 08 06:30, 09 06:30, 10 06:30, 11 06:30"),
            "0 9 * * *": days("2026-03", "05 14:00, 06 14:00, 07 14:00, 08 13:00, 09 13:00, 10 13:00, 11 13:00"),
            # Hours that are named: two o'clock, which is skipped, falls together with one o'clock.
            "0 0-3 * * SUN": days("2026-03", "08 05:00, 08 06:00, 08 07:00"),
        },
    ),
    # 02:00 becomes 01:00: one hour more.
    "New York, autumn": Week(
        "America/New_York",
        "2026-10-29T04:00",
        "2026-11-05T05:00",
        "2026-11-01T06:00",
        {
            "0 * * * *": hours("2026-10-29T04:00", 169),
            "0 0 * * *": days(
                "2026-10", "29 04:00, 30 04:00, 31 04:00, 11-01 04:00, 11-02 05:00, 11-03 05:00, 11-04 05:00"
            ),
            # Half past one comes twice, and counts the first time.
            "30 1 * * *": days(
                "2026-10", "29 05:30, 30 05:30, 31 05:30, 11-01 05:30, 11-02 06:30, 11-03 06:30, 11-04 06:30"
            ),
            "30 2 * * *": days(
                "2026-10", "29 06:30, 30 06:30, 31 06:30, 11-01 07:30, 11-02 07:30, 11-03 07:30, 11-04 07:30"
            ),
            "0 9 * * *": days(
                "2026-10", "29 13:00, 30 13:00, 31 13:00, 11-01 14:00, 11-02 14:00, 11-03 14:00, 11-04 14:00"
            ),
            # Hours that are named: of one o'clock, which comes twice, the first.
            "0 0-3 * * SUN": days("2026-11", "01 04:00, 01 05:00, 01 07:00, 01 08:00"),
        },
    ),
    "Berlin, spring": Week(
        "Europe/Berlin",
        "2026-03-25T23:00",
        "2026-04-01T22:00",
        "2026-03-29T01:00",
        {
            "0 * * * *": hours("2026-03-25T23:00", 167),
            "0 0 * * *": days("2026-03", "25 23:00, 26 23:00, 27 23:00, 28 23:00, 29 22:00, 30 22:00, 31 22:00"),
            "30 2 * * *": days("2026-03", "26 01:30, 27 01:30, 28 01:30, 29 00:30, 30 00:30, 31 00:30, 04-01 00:30"),
            "0 9 * * *": days("2026-03", "26 08:00, 27 08:00, 28 08:00, 29 07:00, 30 07:00, 31 07:00, 04-01 07:00"),
        },
    ),
    "Berlin, autumn": Week(
        "Europe/Berlin",
        "2026-10-21T22:00",
        "2026-10-28T23:00",
        "2026-10-25T01:00",
        {
            "0 * * * *": hours("2026-10-21T22:00", 169),
            "0 0 * * *": days("2026-10", "21 22:00, 22 22:00, 23 22:00, 24 22:00, 25 23:00, 26 23:00, 27 23:00"),
            # Half past two comes twice, and counts the first time.
            "30 2 * * *": days("2026-10", "22 00:30, 23 00:30, 24 00:30, 25 00:30, 26 01:30, 27 01:30, 28 01:30"),
            "0 9 * * *": days("2026-10", "22 07:00, 23 07:00, 24 07:00, 25 08:00, 26 08:00, 27 08:00, 28 08:00"),
        },
    ),
    # 00:00 becomes 01:00: midnight, at which budgets begin anew, is skipped.
    "Havana, spring": Week(
        "America/Havana",
        "2026-03-05T05:00",
        "2026-03-12T04:00",
        "2026-03-08T05:00",
        {
            "0 * * * *": hours("2026-03-05T05:00", 167),
            # Due at eleven of the day before; it begins with its day, an hour later.
            "0 0 * * *": days("2026-03", "05 05:00, 06 05:00, 07 05:00, 08 04:00, 09 04:00, 10 04:00, 11 04:00"),
            "30 2 * * *": days("2026-03", "05 07:30, 06 07:30, 07 07:30, 08 06:30, 09 06:30, 10 06:30, 11 06:30"),
            "0 9 * * *": days("2026-03", "05 14:00, 06 14:00, 07 14:00, 08 13:00, 09 13:00, 10 13:00, 11 13:00"),
        },
    ),
    # 01:00 becomes 00:00: midnight comes twice.
    "Havana, autumn": Week(
        "America/Havana",
        "2026-10-29T04:00",
        "2026-11-05T05:00",
        "2026-11-01T05:00",
        {
            "0 * * * *": hours("2026-10-29T04:00", 169),
            "0 0 * * *": days(
                "2026-10", "29 04:00, 30 04:00, 31 04:00, 11-01 04:00, 11-02 05:00, 11-03 05:00, 11-04 05:00"
            ),
            "0 9 * * *": days(
                "2026-10", "29 13:00, 30 13:00, 31 13:00, 11-01 14:00, 11-02 14:00, 11-03 14:00, 11-04 14:00"
            ),
        },
    ),
}

BEGIN_LATER = {at("2026-03-08T04:00"): at("2026-03-08T05:00")}
"""Of Havana's midnight that is skipped: when it is due, and when it begins."""


class Scheduler:
    """Prefect's scheduler, on the server, as its clock were set."""

    def __init__(self, driver: Driver, deployment_id: UUID) -> None:
        self._driver = driver
        self._deployment_id = deployment_id

    async def look(self, now: datetime, *, ahead: timedelta) -> None:
        """Make the runs that are due from now on, as it does: at least three, and all of some time ahead."""
        await self._driver.client.request(
            "POST",
            "/deployments/{id}/schedule",
            path_params={"id": self._deployment_id},
            json={"start_time": now.isoformat(), "min_time": ahead.total_seconds(), "min_runs": 3},
        )

    async def live_through(self, week: Week) -> None:
        """Look every day; around the change every half hour, and each time with a clock that is an hour off, too."""
        for midnight in range(7):
            await self.look(at(week.begin) + midnight * 24 * HOUR, ahead=25 * HOUR)
        for halves in range(-2, 4):
            now = at(week.change) + halves * HOUR / 2
            for clock in (now, now - HOUR, now + HOUR):
                await self.look(clock, ahead=HOUR)

    async def made(self, week: Week) -> list[FlowRun]:
        """Return the week's runs, by when they are due."""
        found: list[FlowRun] = []
        while True:
            page = await self._driver.client.read_flow_runs(
                flow_run_filter=FlowRunFilter(
                    deployment_id=FlowRunFilterDeploymentId(any_=[self._deployment_id]),
                    expected_start_time=FlowRunFilterExpectedStartTime(
                        after_=at(week.begin), before_=at(week.end) - timedelta.resolution
                    ),
                ),
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                limit=PAGE,
                offset=len(found),
            )
            found += page
            if len(page) < PAGE:
                return found


@pytest.fixture
async def leaving_nothing(driver: Driver) -> AsyncIterator[list[UUID]]:
    """The deployments that are deleted at the end: the worker that comes back would run what is due of them."""
    deployments: list[UUID] = []
    yield deployments
    for deployment_id in deployments:
        await driver.client.delete_deployment(deployment_id)


@pytest.mark.parametrize("name", WEEKS)
async def test_each_run_of_the_week_is_due_when_the_cron_means_it_and_runs_once(
    name: str, driver: Driver, engines: DemoEngines, runner: RunProcess, leaving_nothing: list[UUID]
) -> None:
    week = WEEKS[name]
    schedules = [{"cron": cron, "timezone": week.zone} for cron in week.due]
    campaigns = [
        campaign(f"{name} {number}", engines.url, only=1, schedule=schedule)
        for number, schedule in enumerate(schedules)
    ]
    leaving_nothing += await driver.apply(*campaigns)
    schedulers = [Scheduler(driver, deployment_id) for deployment_id in leaving_nothing]
    await asyncio.gather(*(scheduler.live_through(week) for scheduler in schedulers))
    around: list[FlowRun] = []
    for one, scheduler, (cron, due) in zip(campaigns, schedulers, week.due.items(), strict=True):
        runs = await scheduler.made(week)
        assert [run.expected_start_time for run in runs] == due, cron
        assert foretold(one.schedule, week) == [begin(cron, instant) for instant in due], cron
        around += [run for run in runs if is_near(run.expected_start_time, week)]

    assert await executed(driver, runner, around) == ["Completed"] * len(around)
    assert len(engines.requests) == len(around)
    for one, (cron, due) in zip(campaigns, week.due.items(), strict=True):
        begun = sorted(run.started_at for run in await driver.store.list_runs(one.slug))
        assert begun == [begin(cron, instant) for instant in due if is_near(instant, week)], cron
    # The clock is set back once more: what has run is not made again.
    for scheduler, due in zip(schedulers, week.due.values(), strict=True):
        await scheduler.look(at(week.change) - HOUR, ahead=2 * HOUR)
        assert len(await scheduler.made(week)) == len(due)


def begin(cron: str, due: datetime) -> datetime:
    return BEGIN_LATER.get(due, due) if cron == "0 0 * * *" else due


def foretold(schedule: Schedule | None, week: Week) -> list[datetime]:
    assert schedule is not None
    times = fire_times(schedule, after=at(week.begin) - timedelta.resolution)
    return list(takewhile(lambda instant: instant < at(week.end), times))


def is_near(instant: datetime | None, week: Week) -> bool:
    assert instant is not None
    return abs(instant - at(week.change)) <= HOUR


async def executed(driver: Driver, runner: RunProcess, runs: Sequence[FlowRun]) -> list[str]:
    """Execute runs as a worker does, each at its time, those of one instant side by side; return how they ended."""
    waiting: dict[UUID, datetime | None] = {run.id: run.expected_start_time for run in runs}
    ended: list[str] = []
    while waiting:
        now = min(due for due in waiting.values() if due is not None)
        together = [run_id for run_id, due in waiting.items() if due == now]
        for run_id in together:
            await runner.tell(run_id, now=now)
        for _ in together:
            one = await runner.hear()
            del waiting[one.flow_run_id]
            if one.name == HANDED_BACK:
                again = await driver.client.read_flow_run(one.flow_run_id)
                waiting[again.id] = again.next_scheduled_start_time
            else:
                ended.append(one.name)
    return ended


HAVANA = {"cron": "0 0 * * *", "timezone": "America/Havana"}
SATURDAY, SUNDAY, MONDAY = (at(text) for text in ("2026-03-07T05:00", "2026-03-08T05:00", "2026-03-09T04:00"))
"""When these days of March begin in Havana; on Sunday clocks skip midnight."""

DUE_EARLY = at("2026-03-08T04:00")


async def test_a_budget_of_one_run_a_day_lets_each_day_run_though_midnight_is_skipped(day: Day) -> None:
    await day.apply(schedule=HAVANA)
    day.clock.instant = SATURDAY
    for now in (SATURDAY, SUNDAY, MONDAY):
        await Scheduler(day.driver, day.deployment_id).look(now - HOUR, ahead=HOUR)
    (saturday,) = await day.runs_at(SATURDAY)
    assert (await day.execute(saturday)).name == "Completed"

    day.clock.instant = DUE_EARLY
    (sunday,) = await day.runs_at(DUE_EARLY)
    early = await day.execute(sunday)
    assert (early.name, early.message) == (
        HANDED_BACK,
        "It begins with its day, at 05:00 UTC: clocks go forward at midnight",
    )
    assert (await day.client.read_flow_run(sunday.id)).next_scheduled_start_time == SUNDAY
    day.clock.instant = SUNDAY
    assert (await day.execute(sunday)).name == "Completed"

    day.clock.instant = MONDAY
    (monday,) = await day.runs_at(MONDAY)
    assert (await day.execute(monday)).name == "Completed"
    assert [run.started_at for run in await day.store.list_runs(day.key)] == [MONDAY, SUNDAY, SATURDAY]


async def test_a_pause_until_a_midnight_that_is_skipped_ends_with_the_run_of_that_midnight(day: Day) -> None:
    await day.apply(schedule=HAVANA)
    day.clock.instant = SATURDAY
    assert (await day.spend_the_day()).name == "BudgetExceeded"
    pause = await day.pause()
    assert pause is not None and pause.until == SUNDAY
    (awaited,) = await day.runs_at(DUE_EARLY)
    assert awaited.id == pause.awaited_run_id

    # Its time comes before the pause ends, by Prefect's clock.
    day.clock.instant = DUE_EARLY
    assert (await day.execute(awaited)).name == HANDED_BACK
    day.clock.instant = SUNDAY
    assert "is resumed" in await day.resume()
    (sunday,) = await day.runs_at(DUE_EARLY)
    assert (await day.execute(sunday)).name == "Completed"
    assert not await day.is_paused()


@pytest.mark.parametrize("schedule", [{"catchUp": "none"}, {"maxLateness": 60_000}], ids=["none", "a minute"])
async def test_the_run_of_a_skipped_midnight_is_not_late_when_its_day_begins(
    day: Day, schedule: dict[str, Any]
) -> None:
    # Both have spent on that day.
    await day.apply(schedule={**HAVANA, **schedule}, budget={})
    await Scheduler(day.driver, day.deployment_id).look(DUE_EARLY, ahead=HOUR)
    (sunday,) = await day.runs_at(DUE_EARLY)
    day.clock.instant = SUNDAY + timedelta(seconds=59)
    assert (await day.execute(sunday)).name == "Completed"
