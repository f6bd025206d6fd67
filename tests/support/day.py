"""A campaign on one day, by the test's clock: it runs, and is paused and resumed, when the test says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from campaign_files import campaign
from clocks import SettableClock
from driving import Driver
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from run_process import Ended, RunProcess

from prefect_campaigns.blocks.store_types import Pause
from prefect_campaigns.flows.paused_deployment import RESUME_DEPLOYMENT
from prefect_campaigns.flows.pausing import pause_by_person

NEW_YORK = ZoneInfo("America/New_York")
YESTERDAY = datetime.now(NEW_YORK).date() - timedelta(days=1)
AT_THREE = datetime(YESTERDAY.year, YESTERDAY.month, YESTERDAY.day, 15, tzinfo=NEW_YORK)
TODAY = YESTERDAY + timedelta(days=1)
MIDNIGHT = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=NEW_YORK)
EVERY_MIDNIGHT = {"cron": "0 0 * * *", "timezone": "America/New_York"}
# One run costs 0.012: five prospects.
ONE_RUN_A_DAY = {"daily": 0.012}


class Day:
    """A campaign of one step on one day."""

    def __init__(
        self, driver: Driver, runner: RunProcess, clock: SettableClock, url: str, name: str, **options: Any
    ) -> None:
        self.driver = driver
        self._runner = runner
        self.client = driver.client
        self.store = driver.store
        self.clock = clock
        self._url = url
        self._name = name
        self._options = {"only": 1, "budget": ONE_RUN_A_DAY, "schedule": EVERY_MIDNIGHT, **options}
        self.key = campaign(name, url, **self._options).slug
        self.deployment_id = UUID(int=0)

    async def apply(self, **changes: Any) -> None:
        self._options |= changes
        (self.deployment_id,) = await self.driver.apply(campaign(self._name, self._url, **self._options))

    async def run(self) -> Ended:
        """Run the campaign by hand, now."""
        return await self.execute(await self.driver.start(self.deployment_id))

    async def execute(self, flow_run: FlowRun) -> Ended:
        """Execute a run as a worker does, by the test's clock."""
        return await self._runner.run(flow_run.id, now=self.clock.now())

    async def spend_the_day(self) -> Ended:
        """Run it until the budget stops it; return how that run ended."""
        assert (await self.run()).name == "Completed"
        return await self.run()

    async def resume(self) -> str:
        """Run the run that was scheduled to resume it; return what it says."""
        scheduled = (await self.resumptions())[-1]
        again = await self.client.create_flow_run_from_deployment(
            scheduled.deployment_id, parameters=scheduled.parameters
        )
        ended = await self.execute(again)
        assert ended.name == "Completed", ended
        return ended.message

    async def resumptions(self) -> list[FlowRun]:
        deployment = await self.client.read_deployment_by_name(RESUME_DEPLOYMENT)
        runs = await self._runs_of(deployment.id)
        return [run for run in runs if run.parameters == {"campaign": self.key} and run.idempotency_key]

    async def awaited(self) -> list[FlowRun]:
        """The campaign's own runs that are scheduled for the midnight after."""
        return await self.runs_at(MIDNIGHT)

    async def runs_at(self, instant: datetime) -> list[FlowRun]:
        return [run for run in await self._runs_of(self.deployment_id) if run.expected_start_time == instant]

    async def _runs_of(self, deployment_id: UUID) -> list[FlowRun]:
        of = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
        runs = await self.client.read_flow_runs(deployment_filter=of)
        return sorted(runs, key=lambda run: run.expected_start_time)

    async def end(self) -> None:
        """Leave nothing that is due: the worker that comes back would run it."""
        for resumption in await self.resumptions():
            await self.client.delete_flow_run(resumption.id)
        await self.client.delete_deployment(self.deployment_id)
        await self.store.delete_campaign(self.key)

    async def pause(self) -> Pause | None:
        return (await self.store.get_campaign(self.key)).pause

    async def is_paused(self) -> bool:
        """Whether it is paused in Prefect."""
        return (await self.client.read_deployment(self.deployment_id)).paused

    async def description(self) -> str:
        return (await self.client.read_deployment(self.deployment_id)).description or ""


class Overtaken:
    """The store or Prefect, for somebody whom somebody else overtakes once, just before a call of that method."""

    def __init__(self, overtaken: object, method: str, act: Callable[[], Awaitable[object]], *, calls: int) -> None:
        self._overtaken = overtaken
        self._method = method
        self._act = act
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._overtaken, name)
        if name != self._method:
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._calls -= 1
            if self._calls == 0:
                await self._act()
            return await found(*args, **kwargs)

        return call


async def by_our_command(day: Day) -> None:
    record = await day.store.get_campaign(day.key)
    await pause_by_person(day.client, day.store, record, reason="holidays", now=day.clock.now())


async def in_the_ui(day: Day) -> None:
    path = {"id": day.deployment_id}
    await day.client.request("POST", "/deployments/{id}/pause_deployment", path_params=path)


async def by_prefects_client(day: Day) -> None:
    await day.client.pause_deployment(day.deployment_id)


async def by_prefects_client_off_and_on(day: Day) -> None:
    await day.client.resume_deployment(day.deployment_id)
    await day.client.pause_deployment(day.deployment_id)
