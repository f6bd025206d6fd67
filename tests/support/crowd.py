"""Many campaigns, by default of a work pool of their own, whose engine a test holds in its hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from driving import Driver, until
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.states import AwaitingRetry, Cancelling, Scheduled
from stub_engine import StubEngine

from prefect_campaigns.deployments.compile import WORK_POOL_TYPE
from prefect_campaigns.deployments.driving.cancelling import end_runs
from prefect_campaigns.deployments.running.worker import CampaignWorker
from prefect_campaigns.models import Campaign

STEPS = ("prospecting", "analysis", "outreach", "sender")
AT_ONCE = 8
QUIET_SECONDS = 8.0
"""How long nothing happens where nobody is at work."""


class Crowd:
    """Campaigns that are alike, each of which can run beside all others."""

    def __init__(self, driver: Driver, engine: StubEngine, name: str, count: int, *, has_pool: bool = True) -> None:
        self.pool = name if has_pool else None
        self.engine = engine
        self.names = [f"{name} {number}" for number in range(count)]
        self.runs: dict[str, FlowRun] = {}
        self._driver = driver
        self._deployments: dict[str, UUID] = {}

    def key(self, name: str) -> str:
        """The campaign's key."""
        return name.replace(" ", "-")

    async def deploy(self, *, sends: bool = False) -> None:
        """Apply the campaigns; where they have a pool of their own give them to it, and pause it."""
        ids = await self._driver.apply(*(self._campaign(name, sends=sends) for name in self.names))
        self._deployments = dict(zip(self.names, ids, strict=True))
        if self.pool:
            await self._move(self.pool)

    async def _move(self, pool: str) -> None:
        client = self._driver.client
        template = CampaignWorker.get_default_base_job_template()
        await client.create_work_pool(WorkPoolCreate(name=pool, type=WORK_POOL_TYPE, base_job_template=template))
        await client.update_work_pool(pool, WorkPoolUpdate(is_paused=True))
        to_pool = DeploymentUpdate(work_pool_name=pool)
        await asyncio.gather(*(client.update_deployment(one, to_pool) for one in self._deployments.values()))

    def _campaign(self, name: str, *, sends: bool) -> Campaign:
        steps = [
            {
                "name": step,
                "engine": step,
                "endpoint": f"{self.engine.url}/{self.key(name)}/{step}",
                "estimatedCost": "0.01",
                **({} if sends else {"sends": False}),
            }
            for step in STEPS
        ]
        return Campaign.model_validate({"name": name, "budget": {"daily": 5}, "steps": steps})

    async def ask(self, names: Sequence[str] | None = None, *, times: dict[str, datetime] | None = None) -> None:
        """Ask for a run of each, or of these; at the times that are given."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            async with gate:
                state = Scheduled(scheduled_time=times[name]) if times else None
                deployment = self._deployments[name]
                self.runs[name] = await self._driver.client.create_flow_run_from_deployment(deployment, state=state)

        await asyncio.gather(*(one(name) for name in (names or self.names)))

    async def let_run(self) -> None:
        """Let workers have the runs."""
        assert self.pool is not None
        await self._driver.client.update_work_pool(self.pool, WorkPoolUpdate(is_paused=False))

    async def pause(self) -> None:
        """Let workers have no more of the runs."""
        assert self.pool is not None
        await self._driver.client.update_work_pool(self.pool, WorkPoolUpdate(is_paused=True))

    async def under_way(self, count: int, *, seconds: float = 100) -> None:
        """Wait until so many requests wait for their answer."""

        async def look() -> bool:
            return self.engine.open >= count

        await until(look, f"{count} requests under way", seconds=seconds)

    async def asked_for(self, count: int, *, seconds: float = 600) -> None:
        """Wait until the engine has been asked so often."""

        async def look() -> bool:
            return sum(map(len, self.engine.asked.values())) >= count

        await until(look, f"{count} requests", seconds=seconds)

    async def ended(self, names: Sequence[str] | None = None, *, seconds: float = 100) -> dict[str, FlowRun]:
        """Wait for the end of all runs, or of these."""
        wanted, found = list(names or self.names), list[FlowRun]()
        deadline = time.monotonic() + seconds
        for start in range(0, len(wanted), 200):
            ids = [self.runs[name].id for name in wanted[start : start + 200]]
            found += await self._driver.all_ended(ids, seconds=deadline - time.monotonic())
        return dict(zip(wanted, found, strict=True))

    async def cancel(self, name: str) -> None:
        """Press Cancel in the Prefect UI."""
        await self._driver.client.set_flow_run_state(self.runs[name].id, Cancelling())

    async def worker_of(self, name: str) -> str:
        """Return which worker has taken the run up last."""
        states = await self._driver.client.read_flow_run_states(self.runs[name].id)
        said = max((state for state in states if state.is_pending()), key=lambda state: state.timestamp).message or ""
        return said.split("'")[1]

    async def running_in(self, worker: str) -> set[str]:
        """Wait until some runs go in a worker, whose requests the engine holds; return which."""
        seen: set[str] = set()

        async def look() -> set[str]:
            before = set(seen)
            seen.clear()
            for name, state in (await self.states()).items():
                if state == "Running" and await self.worker_of(name) == worker:
                    seen.add(name)
            # Not of those that end while one looks.
            return before & seen

        return await until(look, f"runs that go in {worker}")

    async def retry_what_is_dead(self) -> None:
        """Cancel and retry, as the commands do, the runs that nobody has any more: nothing moves, and they go on."""
        seen = await self._progress()
        while True:
            await asyncio.sleep(QUIET_SECONDS)
            before, seen = seen, await self._progress()
            if seen == before and "Scheduled" not in seen[1].values():
                break
        client, store = self._driver.client, self._driver.store
        dead = [self.runs[name] for name, state in seen[1].items() if state in ("Running", "Pending")]
        await end_runs(client, store, dead, actor="who looks after it")
        for run in dead:
            await client.set_flow_run_state(run.id, AwaitingRetry(), force=True)

    async def _progress(self) -> tuple[int, dict[str, str]]:
        return sum(map(len, self.engine.asked.values())), await self.states()

    async def finished_steps(self) -> set[tuple[str, str]]:
        """Return what the books have as done: names and steps."""
        found = set()
        for name, run in self.runs.items():
            report = await self._driver.store.get_run(str(run.id))
            found |= {(name, step.name) for step in report.steps if step.status == "completed"} if report else set()
        return found

    def done_again(self) -> set[tuple[str, str]]:
        """Return what the engine was asked for more than once, or never: names and steps."""
        return {(name, step) for name in self.names for step in STEPS if len(self.asked(name, step)) != 1}

    async def states(self) -> dict[str, str]:
        """Return the names of the states in which the runs are."""
        return {
            name: str((await self._driver.client.read_flow_run(run.id)).state_name) for name, run in self.runs.items()
        }

    async def states_ever(self) -> set[str]:
        """Return the names of all states in which any of the runs has been."""
        histories = [await self._driver.client.read_flow_run_states(run.id) for run in self.runs.values()]
        return {str(state.name) for states in histories for state in states}

    def asked(self, name: str, step: str) -> list[float]:
        """Return when the engine was asked to do a step."""
        return self.engine.asked[f"{self.key(name)}/{step}"]


def now_as_monotonic(at: datetime) -> float:
    """Return a moment as the stub engine tells the time."""
    return time.monotonic() + (at - datetime.now(UTC)).total_seconds()
