"""The campaign worker: campaign runs as tasks of one event loop.

A campaign's steps wait for the network; a Python process for each run would be nearly all of what the run costs.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from importlib import import_module
from typing import Any
from uuid import UUID

import anyio.abc
import httpx
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import Pause, PrefectException
from prefect.flow_engine import run_flow_async
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Failed
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.deployments.compile import WORK_POOL_TYPE
from prefect_campaigns.deployments.running.announcements import announced_runs
from prefect_campaigns.deployments.running.log_lines import about
from prefect_campaigns.deployments.running.logs import writing_logs
from prefect_campaigns.deployments.running.run_loop import RunLoop, RunningTask
from prefect_campaigns.deployments.running.scheduled_event import emit_scheduled
from prefect_campaigns.deployments.running.upkeep import (
    close_ended_for_ever,
    resume_overdue_for_ever,
    settle_journal_for_ever,
)
from prefect_campaigns.errors import SettingsError, UnsupportedFlow

FLOWS_PACKAGE = "prefect_campaigns.flows."
"""Only flows from here run in the worker: anything else could block its loop, and with it every other run."""

CLIENT_MAX_RETRIES = 8
"""How often a run repeats a request to Prefect's API that finds no server: 2, 4, 8 … seconds, eight minutes in all."""

CANCELLATION_POLL_SECONDS = 2.0
_UNWANTED = ("Cancelling", "Cancelled")
"""The names of the states of runs that somebody wants cancelled."""

STOP_LISTENING_SECONDS = 2.0


class CampaignWorkerResult(BaseWorkerResult):
    """How a run ended, as far as the worker is concerned: a flow that failed by itself is no crash."""


def load_flow(entrypoint: str | None) -> Flow[..., Any]:
    """Return the flow of a dotted entrypoint inside this package.

    Raises:
        UnsupportedFlow: it is none of this package's.
    """
    module_name, _, name = (entrypoint or "").rpartition(".")
    if not f"{module_name}.".startswith(FLOWS_PACKAGE):
        raise UnsupportedFlow(
            f"the campaign worker runs the flows of prefect_campaigns only, and was given {entrypoint!r};"
            " run this deployment from a work pool of another type, such as process"
        )
    found = getattr(import_module(module_name), name, None)
    if not isinstance(found, Flow):
        raise UnsupportedFlow(f"{entrypoint!r} is no flow of this version of prefect_campaigns")
    return found


def _campaign_key(flow_run: FlowRun, deployment: DeploymentResponse | None) -> str | None:
    """Return the campaign that a run is about: a campaign's deployment has its key for a name."""
    campaign = flow_run.parameters.get("campaign")
    return campaign if isinstance(campaign, str) else deployment.name if deployment else None


class CampaignWorker(BaseWorker[BaseJobConfiguration, BaseVariables, CampaignWorkerResult]):
    """Runs campaigns as tasks of one event loop."""

    type = WORK_POOL_TYPE
    job_configuration = BaseJobConfiguration
    _description = "Runs the campaigns of prefect-campaigns, many at a time, in one process."
    _display_name = "Campaign"
    _documentation_url = "https://pypi.org/project/prefect-campaigns/"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._run_loop = RunLoop()
        self._running: dict[UUID, RunningTask] = {}
        self._cancellation_watch: asyncio.Task[None] | None = None
        self._announced = asyncio.Event()
        self._taking_up = asyncio.Lock()
        self._beside: list[asyncio.Task[None]] = []
        self._logs = ExitStack()

    async def setup(self) -> None:
        """Begin to log, to listen for runs that somebody asks for, and to look after money, pauses and ends."""
        try:
            self._logs.enter_context(writing_logs(load_settings()))
        except SettingsError as error:
            for fault in str(error).splitlines():
                self._logger.error("%s", fault)
            # Each of its runs would fail by them.
            raise SystemExit(1) from None
        try:
            await super().setup()
        except BaseException:
            self._logs.close()
            raise
        self._beside = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._take_up_announced_runs()),
            asyncio.create_task(settle_journal_for_ever(self._logger)),
            asyncio.create_task(resume_overdue_for_ever(self.client, self._logger)),
            asyncio.create_task(close_ended_for_ever(self.client, self._logger)),
        ]

    async def run(
        self,
        flow_run: FlowRun,
        configuration: BaseJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> CampaignWorkerResult:
        """Run a flow run to its end.

        The result's status is not zero when the run ended without Prefect hearing of it, which makes it Crashed.
        """
        if task_status is not None:
            task_status.started(flow_run.id)  # type: ignore[arg-type]
        identifier = str(flow_run.id)
        deployment = await self._deployment(flow_run)
        with about(campaign=_campaign_key(flow_run, deployment), run=flow_run.name, run_id=identifier):
            try:
                flow = load_flow(deployment.entrypoint if deployment else None)
            except UnsupportedFlow as error:
                await self.client.set_flow_run_state(flow_run.id, Failed(message=str(error)), force=True)
                return CampaignWorkerResult(identifier=identifier, status_code=0)
            broken = await self._run_to_the_end(flow, flow_run)
            if broken is None:
                return CampaignWorkerResult(identifier=identifier, status_code=0)
            self.get_flow_run_logger(flow_run).error("The run broke off: %s: %s", type(broken).__name__, broken)
            return CampaignWorkerResult(identifier=identifier, status_code=1)

    async def teardown(self, *exc_info: Any) -> None:
        """End what runs, and the thread it runs in."""
        for task in self._beside:
            task.cancel()
        await super().teardown(*exc_info)
        await self._run_loop.stop()
        # Last, since a server that has fallen silent makes them wait ten seconds for its goodbye.
        if self._beside:
            await asyncio.wait(self._beside, timeout=STOP_LISTENING_SECONDS)
        self._logs.close()

    async def _listen(self) -> None:
        async for _ in announced_runs(self._work_pool_name, logger=self._logger):
            self._announced.set()

    async def _take_up_announced_runs(self) -> None:
        """Take up runs when they are asked for; those that this misses are found when Prefect's worker asks next."""
        while True:
            await self._announced.wait()
            self._announced.clear()
            try:
                await self.get_and_submit_flow_runs()
            except Exception as error:
                # Of any kind: nobody else would notice that this task has ended.
                self._logger.warning("Not known which runs have been asked for: %s", error)

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Take up the runs that are due, one caller at a time: a second one would take up the same runs again."""
        async with self._taking_up:
            taken_up = await super().get_and_submit_flow_runs()
        for flow_run in taken_up:
            emit_scheduled(flow_run)
        return taken_up

    async def _deployment(self, flow_run: FlowRun) -> DeploymentResponse | None:
        return None if flow_run.deployment_id is None else await self.client.read_deployment(flow_run.deployment_id)

    async def _run_to_the_end(self, flow: Flow[..., Any], flow_run: FlowRun) -> BaseException | None:
        """Run the flow; somebody who cancels the run ends its open request, and the flow says the rest."""
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: CLIENT_MAX_RETRIES}):
            running = self._run_loop.start(
                lambda: run_flow_async(flow, flow_run=flow_run, parameters=flow_run.parameters, return_type="state")
            )
        self._running[flow_run.id] = running
        if self._cancellation_watch is None or self._cancellation_watch.done():
            self._cancellation_watch = asyncio.create_task(self._watch_for_cancellation())
        try:
            ended = await running.wait()
        finally:
            del self._running[flow_run.id]
        # A run that is suspended comes back when somebody resumes it.
        return None if isinstance(ended, Pause) else ended

    async def _watch_for_cancellation(self) -> None:
        """Ask, once for all runs, which of them somebody wants cancelled; end when none is left.

        One that was written down as cancelled, because it did not answer in time, is cancelled too; most that are seen
        so are just ending by themselves, and are not seen so twice.
        """
        written_down: set[UUID] = set()
        async with get_client() as client:
            while self._running:
                await asyncio.sleep(CANCELLATION_POLL_SECONDS)
                try:
                    found = await client.read_flow_runs(
                        flow_run_filter=FlowRunFilter(
                            id=FlowRunFilterId(any_=list(self._running)),
                            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[*_UNWANTED])),
                        )
                    )
                except (httpx.HTTPError, PrefectException) as error:
                    self._logger.debug("not known which runs are to be cancelled: %s", error)
                    continue
                for flow_run in found:
                    is_unwanted = flow_run.state_type is StateType.CANCELLING or flow_run.id in written_down
                    if is_unwanted and (running := self._running.get(flow_run.id)):
                        running.cancel()
                written_down = {flow_run.id for flow_run in found if flow_run.state_type is StateType.CANCELLED}
