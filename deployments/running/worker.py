"""The campaign worker: campaign runs as tasks of one event loop.

A campaign's steps wait for the network; a Python process for each run would be nearly all of what the run costs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import anyio.abc
import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.deployments.compile import WORK_POOL_TYPE
from prefect_campaigns.deployments.running.announcements import ASKED_FOR, CANCELLED, announcements
from prefect_campaigns.deployments.running.logs import writing_logs
from prefect_campaigns.deployments.running.places import Places
from prefect_campaigns.deployments.running.result_storage import ResultStorage
from prefect_campaigns.deployments.running.run_loop import STOP_SECONDS, RunLoop
from prefect_campaigns.deployments.running.scheduled_event import emit_scheduled
from prefect_campaigns.deployments.running.taken_run import TakenRun
from prefect_campaigns.deployments.running.timezones import remember_timezones
from prefect_campaigns.deployments.running.unwanted import watch
from prefect_campaigns.deployments.running.upkeep import (
    can_use_books,
    close_ended_for_ever,
    keep_worker,
    keep_worker_for_ever,
    purge_for_ever,
    remove_worker,
    resume_overdue_for_ever,
    send_owed_for_ever,
    settle_journal_for_ever,
)
from prefect_campaigns.deployments.running.vigil import Vigil
from prefect_campaigns.deployments.running.zombies import Zombies
from prefect_campaigns.errors import SettingsError, UnsupportedFlow
from prefect_campaigns.flows.control import Leaving

PAGE = 200
"""How many runs Prefect's server names at a time."""

FRESH_SECONDS = 10.0
"""How long it holds what Prefect has said is to be run; after that it is asked again."""

BEGUN_AT_ONCE = 4
"""How many runs that are due are claimed and begun side by side: the first that is due begins first, or nearly so.

One server is busy with four. With more each request takes longer, one of which Prefect's client makes for the events
of each run, one run after the other: events would be left behind, and with them all that they keep of their runs.
"""

BEGIN_SECONDS = 10.0
"""After how long a run that does not begin, or whose claim has no answer, holds up the next no longer."""

BREATH_SECONDS = 0.1
"""How long it waits after a look before the next, however many ask for one."""

REPORT_SECONDS = 10.0
"""How often it tries to tell Prefect what it has to hear: that a run is taken up, or that it broke off."""

STOP_LISTENING_SECONDS = 2.0


class CampaignWorkerResult(BaseWorkerResult):
    """What Prefect's base class would be told of a run; this worker tells the server itself."""


class CampaignWorker(BaseWorker[BaseJobConfiguration, BaseVariables, CampaignWorkerResult]):
    """Runs campaigns as tasks of one event loop.

    It takes up runs by itself, where Prefect's base class would describe to the server, in five requests for each,
    infrastructure that there is none of.
    """

    type = WORK_POOL_TYPE
    job_configuration = BaseJobConfiguration
    _description = "Runs the campaigns of prefect-campaigns, many at a time, in one process."
    _display_name = "Campaign"
    _documentation_url = "https://pypi.org/project/prefect-campaigns/"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._run_loop = RunLoop()
        self._storage = ResultStorage()
        self._leaving = Leaving(self.name)
        self._hurried = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._taken: dict[UUID, TakenRun] = {}
        self._due: deque[FlowRun] = deque()
        """Runs that Prefect has named, and for which there was no room yet."""
        self._due_since = 0.0
        self._may_be_more = False
        """Whether Prefect may have more runs that are due than it has named, or than there was room for."""
        self._places = Places(BEGUN_AT_ONCE, keep_seconds=BEGIN_SECONDS)
        self._claims_fail = False
        """Whether the last claim did; it is said once."""
        self._looks_once = False
        self._unclaimed = 0
        self._asked = asyncio.Event()
        self._taking_up = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._look_now = asyncio.Event()
        self._beside: list[asyncio.Task[None]] = []
        self._logs = ExitStack()

    @classmethod
    def get_default_base_job_template(cls) -> dict[str, Any]:
        """Return what a work pool of this type is made with: there is no infrastructure, and so nothing to configure.

        Prefect's server checks a template's variables, each by itself, whenever somebody asks for a run: 0.1 s of its
        CPU for those of its own default. It wants both parts, and something in each.
        """
        return {"job_configuration": {"labels": {}}, "variables": {"type": "object", "properties": {}}}

    async def setup(self) -> None:
        """Begin to log, to listen for what people do to runs, and to look after what upkeep and zombies are about."""
        remember_timezones()
        try:
            self._logs.enter_context(writing_logs(load_settings()))
        except SettingsError as error:
            for fault in str(error).splitlines():
                self._logger.error("%s", fault)
            # Each of its runs would fail by them.
            raise SystemExit(1) from None
        try:
            if not await can_use_books(self._logger):
                # What it took up would fail, and what others have handed back with it.
                raise SystemExit(1)
            await super().setup()
        except BaseException:
            self._logs.close()
            raise
        # Before it takes up any run: of who does not live nobody would notice that it has died.
        own_id = self._leaving.worker_id
        pool = self._work_pool_name
        await keep_worker(own_id, self.name, pool, self._logger)
        zombies = Zombies(self.client, own_id=own_id, work_pool=pool, logger=self._logger)
        vigil = Vigil(self.client, own_id=own_id, worker_name=self.name, work_pool=pool, logger=self._logger)
        self._beside = [
            asyncio.create_task(keep_worker_for_ever(own_id, self.name, pool, self._logger)),
            asyncio.create_task(zombies.look_for_ever()),
            asyncio.create_task(vigil.keep_for_ever()),
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._take_up_when_asked()),
            asyncio.create_task(settle_journal_for_ever(self._logger)),
            asyncio.create_task(resume_overdue_for_ever(self.client, self._logger)),
            asyncio.create_task(close_ended_for_ever(self.client, self._logger)),
            asyncio.create_task(purge_for_ever(self.client, own_id, self._logger)),
            asyncio.create_task(send_owed_for_ever(self.client, own_id, self._logger)),
        ]

    async def start(self, *args: Any, **kwargs: Any) -> None:
        """Work until cancelled; then take up nothing more, wait for what runs, and hand back what is left.

        As long as ``CAMPAIGNS_GRACE_SECONDS`` says, or until ``hurry`` is called, or it is cancelled once more.
        """
        working = asyncio.ensure_future(self._work(*args, **kwargs))
        try:
            if (exit_of_process := await asyncio.shield(working)) is not None:
                raise exit_of_process
        except asyncio.CancelledError:
            try:
                await self._let_end()
            finally:
                working.cancel()
                await asyncio.wait({working}, timeout=STOP_SECONDS)
            raise

    async def _work(self, *args: Any, **kwargs: Any) -> SystemExit | None:
        """Work until cancelled, or until the process is to end: raised in a task, that would end the event loop."""
        self._looks_once = bool(kwargs.get("run_once"))
        try:
            await super().start(*args, **kwargs)
        except SystemExit as error:
            return error
        return None

    def hurry(self) -> None:
        """Wait for the runs no longer, if that is what it does: hand them back now."""
        self._hurried.set()

    async def _let_end(self) -> None:
        """Wait for the runs, and cancel those that take too long; each hands itself back if it can."""
        self._leaving.is_asked = True
        for taken in self._taken.values():
            taken.let_be()
        grace_seconds = load_settings().campaigns_grace_seconds
        if self._taken and grace_seconds:
            self._logger.info(
                "Waiting %g seconds at the most for %s to end; what is left is handed back",
                *(grace_seconds, "1 run" if len(self._taken) == 1 else f"{len(self._taken)} runs"),
            )
            waits = [asyncio.ensure_future(one.wait()) for one in (self._idle, self._hurried)]
            await asyncio.wait(waits, timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
            for one in waits:
                one.cancel()
        self._leaving.is_over = True
        for taken in list(self._taken.values()):
            taken.cancel()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), STOP_SECONDS)

    async def teardown(self, *exc_info: Any) -> None:
        """End what runs, and the thread it runs in; what was taken up by a worker that looks once is done first."""
        if not any(exc_info):
            await self._idle.wait()
        self._leaving.is_asked = self._leaving.is_over = True
        for task in (*self._beside, *([self._watching] if self._watching else [])):
            task.cancel()
        try:
            # Which raises again what it is given.
            await super().teardown(*exc_info)
        finally:
            await self._run_loop.close()
            if not self._taken:
                # Otherwise others notice that it is gone, and see to what it leaves behind.
                await remove_worker(self._leaving.worker_id, self._logger)
            # Last, since a server that has fallen silent makes them wait ten seconds for its goodbye.
            if self._beside:
                await asyncio.wait(self._beside, timeout=STOP_LISTENING_SECONDS)
            self._logs.close()

    async def sync_with_backend(self) -> None:
        """Send a heartbeat, and look where results are kept now."""
        await super().sync_with_backend()
        if self._run_loop.is_open:
            await self._refresh_storage()

    async def run(
        self,
        flow_run: FlowRun,
        configuration: BaseJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> CampaignWorkerResult:
        """Refuse flows that are submitted to the worker itself, by which Prefect's base class would call this.

        Raises:
            UnsupportedFlow: always.
        """
        raise UnsupportedFlow("the campaign worker runs deployments only, and no flow that is submitted to it")

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Take up the runs that are due, as many as there is room for, and return them.

        One caller at a time: a second one would take up the same runs again.
        """
        async with self._taking_up:
            if not self._has_room():
                self._may_be_more = True
                self._last_polled_time = datetime.now(UTC)
                return []
            now = time.monotonic()
            self._due = deque(await self._find_due())
            self._due_since = now
            self._may_be_more = len(self._due) >= PAGE
            # What Prefect's health check of a worker looks at.
            self._last_polled_time = datetime.now(UTC)
            if self._due:
                await self._open()
            return self._fill()

    async def _find_due(self) -> list[FlowRun]:
        """Ask which runs are due, or are so soon, that this worker does not have yet."""
        before = datetime.now(UTC) + timedelta(seconds=self._prefetch_seconds)
        try:
            found = await self.client.get_scheduled_flow_runs_for_work_pool(
                work_pool_name=self._work_pool_name,
                work_queue_names=list(self._work_queues),
                scheduled_before=before,
            )
        except ObjectNotFound:
            # The next heartbeat makes the pool, or says why there is none.
            return []
        return [one.flow_run for one in found]

    async def _open(self) -> None:
        if not self._run_loop.is_open:
            await self._run_loop.open()
            await self._refresh_storage()

    async def _refresh_storage(self) -> None:
        # There, since it finds the client that the runs share.
        if error := await self._run_loop.start(self._storage.refresh).wait():
            self._logger.warning("Not known where results are to be kept: %s", error)

    def _has_room(self) -> bool:
        if self._leaving.is_asked:
            return False
        return self._limiter is None or self._limiter.available_tokens > 0

    def _fill(self) -> list[FlowRun]:
        """Take up what is due, as long as there is room."""
        filled: list[FlowRun] = []
        while self._runs_task_group is not None and self._due and self._has_room():
            flow_run = self._due.popleft()
            taken = self._taken.get(flow_run.id)
            if taken is None:
                self._unclaimed += 1
                self._runs_task_group.start_soon(self._see_to, self._take(flow_run))
                filled.append(flow_run)
            elif taken.is_claimed:
                # Somebody has resumed it before its execution here has ended.
                self._may_be_more = True
        return filled

    def _take(self, flow_run: FlowRun) -> TakenRun:
        if self._limiter is not None:
            self._limiter.acquire_on_behalf_of_nowait(flow_run.id)
        taken = self._taken[flow_run.id] = TakenRun(
            flow_run,
            looked_at=self._due_since,
            leaving=self._leaving,
            client=self.client,
            loop=self._run_loop,
            storage=self._storage,
            places=self._places,
        )
        self._idle.clear()
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(watch(self.client, self._taken, look_now=self._look_now))
        return taken

    def _let_go(self, taken: TakenRun) -> None:
        """Have room for another run, and fill it."""
        del self._taken[taken.id]
        if not self._taken:
            self._idle.set()
        if self._limiter is not None:
            self._limiter.release_on_behalf_of(taken.id)
        if self._due and time.monotonic() - self._due_since < FRESH_SECONDS:
            self._fill()
        elif self._due or self._may_be_more:
            self._asked.set()

    async def _see_to(self, taken: TakenRun) -> None:
        """Claim a run and see it through; what goes wrong with it harms no other."""
        try:
            await self._places.take(taken.id)
            if await self._claim(taken):
                emit_scheduled(taken.flow_run)
                if not taken.is_due:
                    self._places.leave(taken.id)
                await self._see_through(taken)
        except ObjectNotFound:
            self._logger.debug("Run %s is deleted", taken.id)
        except Exception as error:
            # Of any kind: it would end the task group, and with it all other runs.
            self._logger.exception("Run %s could not be claimed: %s", taken.flow_run.name, error)
        finally:
            self._places.leave(taken.id)
            self._let_go(taken)

    async def _see_through(self, taken: TakenRun) -> None:
        """See a run through; should it break off, tell Prefect so, as soon as it listens."""
        try:
            broken = await taken.see_through()
        except ObjectNotFound:
            raise
        except Exception as error:
            broken = error
        is_said = False
        while broken is not None:
            try:
                await taken.report(broken)
                return
            except (httpx.HTTPError, PrefectException) as failure:
                if not is_said:
                    self._logger.error("Prefect cannot be told of the end of run %s: %s", taken.flow_run.name, failure)
                is_said = True
            await asyncio.sleep(REPORT_SECONDS)

    async def _claim(self, taken: TakenRun) -> bool:
        """Claim a run; where Prefect gives no answer, ask again until it does: it may have heard the claim."""
        try:
            while True:
                try:
                    is_claimed = await taken.claim()
                except httpx.HTTPError as error:
                    level = logging.DEBUG if self._claims_fail else logging.WARNING
                    self._logger.log(level, "Run %s could not be taken up yet: %s", taken.flow_run.name, error)
                    self._claims_fail = True
                else:
                    self._claims_fail = False
                    return is_claimed
                if self._leaving.is_asked:
                    return False
                await asyncio.sleep(REPORT_SECONDS)
        finally:
            self._unclaimed -= 1
            if not self._unclaimed and self._may_be_more:
                self._asked.set()

    async def _listen(self) -> None:
        async for one in announcements(self._work_pool_name, logger=self._logger):
            taken = self._taken.get(one.flow_run_id)
            if one.event in ASKED_FOR:
                self._asked.set()
            elif taken is not None and one.event in CANCELLED:
                taken.cancel_for_a_person(since=one.occurred)
            elif taken is not None:
                self._look_now.set()

    async def _take_up_when_asked(self) -> None:
        """Take up runs when they are asked for; those that this misses are found when Prefect's worker asks next."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            if self._looks_once:
                continue
            try:
                await self.get_and_submit_flow_runs()
            except Exception as error:
                # Of any kind: nobody else would notice that this task has ended.
                self._logger.warning("Not known which runs have been asked for: %s", error)
            # What many ask for at once is looked for a few times, not as often as they ask.
            await asyncio.sleep(BREATH_SECONDS)
