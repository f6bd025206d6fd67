"""A run that the worker has taken up: from the claim to its end."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse, SetStateStatus
from prefect.exceptions import ObjectNotFound, Pause, PrefectException
from prefect.flow_engine import run_flow_async
from prefect.logging.loggers import flow_run_logger
from prefect.states import Cancelled, Crashed, Failed, Pending

from prefect_campaigns.deployments.running.log_lines import about
from prefect_campaigns.deployments.running.places import Places
from prefect_campaigns.deployments.running.result_storage import ResultStorage
from prefect_campaigns.deployments.running.run_loop import RunLoop, RunningTask
from prefect_campaigns.errors import UnsupportedFlow
from prefect_campaigns.flows.control import Leaving, RunControl, controlled_by
from prefect_campaigns.flows.leaving import give_back, taken_over
from prefect_campaigns.flows.paused_deployment import CAMPAIGN_FLOW_NAME

FLOWS_PACKAGE = "prefect_campaigns.flows."
"""Only flows from here run in the worker: anything else could block its loop, and with it every other run."""

AGAIN_AFTER = timedelta(seconds=10)

LOOK_AGAIN = timedelta(seconds=1)
"""A run that has waited longer than this for its time is looked at once more before it begins."""

LOOK_AHEAD = timedelta(seconds=0.5)
"""How long before its time."""

STALE_SECONDS = 0.1
"""How long it is believed that a run is Scheduled: another worker may have taken it up and done it since.

Prefect refuses to have a run Pending that runs, and lets one begin again that has ended.
"""


def taken_up_by(worker_name: str, worker_id: UUID) -> str:
    """Return what the Pending state of a run says that a worker's process has taken up: which one."""
    return f"Taken up by worker {worker_name!r} ({worker_id})"


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


class TakenRun:
    """One flow run in the hands of this worker.

    Args:
        looked_at: the moment, of the monotonic clock, at which Prefect has last said that it is Scheduled.
        places: one of these is its own while it begins.
    """

    def __init__(
        self,
        flow_run: FlowRun,
        *,
        looked_at: float,
        leaving: Leaving,
        client: PrefectClient,
        loop: RunLoop,
        storage: ResultStorage,
        places: Places,
    ) -> None:
        self.flow_run = flow_run
        self._looked_at = looked_at
        self._leaving = leaving
        self._client = client
        self._loop = loop
        self._storage = storage
        self._places = places
        self._running: RunningTask | None = None
        self._control: RunControl | None = None
        self._is_unwanted = False
        self._given_up = asyncio.Event()
        self._has_asked = False
        """Whether it has tried to claim it; the answer may be lost."""
        self._claimed_at: datetime | None = None
        self._claim_id: UUID | None = None
        self._logger = flow_run_logger(flow_run).getChild("worker", extra={"worker_name": leaving.worker_name})

    @property
    def id(self) -> UUID:
        """The flow run's id."""
        return self.flow_run.id

    @property
    def is_due(self) -> bool:
        """Whether its time has come."""
        due = self.flow_run.next_scheduled_start_time
        return due is None or due <= datetime.now(UTC)

    @property
    def is_claimed(self) -> bool:
        """Whether Prefect has said that this worker has it."""
        return self._claimed_at is not None

    @property
    def has_begun(self) -> bool:
        """Whether the engine has it."""
        return self._running is not None

    @property
    def is_given_up(self) -> bool:
        """Whether it is not to begin here any more."""
        return self._given_up.is_set() or self._leaving.is_asked

    def cancel_for_a_person(self, *, since: datetime | None = None) -> None:
        """Cancel it, unless it has ended and Prefect only says so: nobody but a person writes Cancelled before that.

        Args:
            since: when somebody has cancelled it, by the server's clock. Before this worker took it up, that was
                another execution of the run; one that is cancelled before that Prefect does not let it take up.
        """
        if self._control is not None and self._control.has_ended:
            return
        if since is not None and (self._claimed_at is None or since < self._claimed_at):
            return
        self._is_unwanted = True
        if self._control is not None:
            self._control.is_unwanted = True
        self.cancel()

    def cancel(self) -> None:
        """End it: its open request, and then itself; before its time, let it not begin at all."""
        self._given_up.set()
        if self._running is None:
            return
        if self._control is not None:
            self._running.call(self._control.cancel)
        else:
            self._running.cancel()

    def suspend(self, state: State[Any]) -> None:
        """Let it end, suspended as Prefect has it, before its next step."""
        control = self._control
        if self._running is not None and control is not None:
            self._running.call(lambda: control.suspend(state))

    def let_be(self) -> None:
        """Hand it back if it has not begun yet."""
        self._given_up.set()

    async def claim(self) -> bool:
        """Tell Prefect that this worker has the run; whether it does: of several that try, one does.

        May be called again after an error: whether Prefect has heard it the first time is asked then.

        Raises:
            httpx.HTTPError, PrefectException: Prefect does not answer, or has no such run any more.
        """
        if self._given_up.is_set() and not self._has_asked:
            return False
        message = taken_up_by(self._leaving.worker_name, self._leaving.worker_id)
        if self._has_asked or time.monotonic() - self._looked_at > STALE_SECONDS:
            state = (await self._client.read_flow_run(self.id)).state
            if state is not None and state.is_pending() and state.message == message:
                return await self._keep(state)
            if state is None or not state.is_scheduled():
                return False
        self._has_asked = True
        claimed: State[Any] = Pending(message=message)
        answer = await self._client.set_flow_run_state(self.id, claimed)
        # A claim that was sent twice, because its answer was lost, is refused the second time: the run is ours already.
        is_ours = answer.status in (SetStateStatus.ACCEPT, SetStateStatus.REJECT)
        if not is_ours or answer.state is None or not answer.state.is_pending():
            return False
        return await self._keep(answer.state)

    async def _keep(self, pending: State[Any]) -> bool:
        """Have the run, unless another worker had done it before the claim was heard: then it ends as it had ended."""
        # Of a Scheduled run, and of no other, Prefect copies the time.
        if pending.state_details.scheduled_time is None:
            states = await self._client.read_flow_run_states(self.id)
            ended = max((state for state in states if state.is_final()), key=lambda state: state.timestamp)
            self._logger.warning("The run was taken up anew after it had ended; it is %s again", ended.name)
            again = State(type=ended.type, name=ended.name, message=ended.message, data=ended.data)
            await self._client.set_flow_run_state(self.id, again, force=True)
            return False
        self._claimed_at = pending.timestamp
        self._claim_id = pending.id
        return True

    async def see_through(self) -> BaseException | None:
        """Run it, when its time has come, to its end; return what it broke off with, if Prefect has not heard of it.

        Raises:
            httpx.HTTPError, PrefectException: Prefect does not answer, or has no such run any more.
        """
        try:
            deployment = await self._deployment()
        except ObjectNotFound:
            await self._set(Cancelled(message="Its deployment is deleted"))
            return None
        if not await self._is_due_at_last() or not await self._has_place():
            return None
        with about(campaign=self._campaign_key(deployment), run=self.flow_run.name, run_id=str(self.id)):
            try:
                flow = load_flow(deployment.entrypoint if deployment else None)
            except UnsupportedFlow as error:
                await self._client.set_flow_run_state(self.id, Failed(message=str(error)), force=True)
                return None
            return await self._execute(self._storage.given_to(flow), self._campaign_key(deployment))

    async def report(self, error: BaseException) -> None:
        """Tell Prefect of a run that broke off without its engine saying so.

        One that had not begun, since Prefect failed, is handed back to be tried again a little later.

        Raises:
            httpx.HTTPError, PrefectException: Prefect does not answer.
        """
        if not self.has_begun and isinstance(error, httpx.HTTPError | PrefectException):
            await self._give_back(datetime.now(UTC) + AGAIN_AFTER)
            return
        if self._claim_id is not None and await taken_over(self._client, self.id, self._claim_id):
            self._logger.error("The run broke off here, and was given up for lost before: %s", error)
            return
        self._logger.error("The run broke off: %s: %s", type(error).__name__, error)
        await self._set(Crashed(message=f"The run broke off: {type(error).__name__}: {error}"))

    async def _set(self, state: State[Any]) -> None:
        with suppress(ObjectNotFound):
            await self._client.set_flow_run_state(self.id, state)

    async def _deployment(self) -> DeploymentResponse | None:
        if self.flow_run.deployment_id is None:
            return None
        return await self._client.read_deployment(self.flow_run.deployment_id)

    def _campaign_key(self, deployment: DeploymentResponse | None) -> str | None:
        """Return the campaign that the run is about: a campaign's deployment has its key for a name."""
        campaign = self.flow_run.parameters.get("campaign")
        return campaign if isinstance(campaign, str) else deployment.name if deployment else None

    async def _is_due_at_last(self) -> bool:
        """Wait for the run's time; whether it is to begin then.

        Prefect would let a run that was cancelled in the meantime begin all the same.
        """
        due = self.flow_run.next_scheduled_start_time or datetime.now(UTC)
        if due - datetime.now(UTC) > LOOK_AGAIN:
            # A little ahead, so that it begins when it is time, and not when Prefect has answered.
            await self._wait_until(due - LOOK_AHEAD)
            if not await self._may_begin(due):
                return False
        await self._wait_until(due)
        return not self.is_given_up or await self._may_begin(due)

    async def _has_place(self) -> bool:
        """Wait for its place among those that begin; whether it is still to begin then."""
        began = time.monotonic()
        await self._places.take(self.id)
        is_stale = time.monotonic() - began > LOOK_AGAIN.total_seconds()
        return not (is_stale or self.is_given_up) or await self._may_begin(datetime.now(UTC))

    async def _wait_until(self, moment: datetime) -> None:
        """Wait for a moment; no longer once it is given up."""
        seconds = (moment - datetime.now(UTC)).total_seconds()
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._given_up.wait(), seconds)

    async def _may_begin(self, due: datetime) -> bool:
        """Ask Prefect whether it is still to run; hand it back where this worker does not begin it any more."""
        try:
            state = (await self._client.read_flow_run(self.id)).state
        except ObjectNotFound:
            return False
        if state is not None and (state.is_cancelling() or (self._is_unwanted and not state.is_final())):
            await self._set(Cancelled(message="The run was cancelled before it began"))
            return False
        if state is None or not state.is_pending():
            return False
        if self._leaving.is_asked:
            await self._give_back(max(datetime.now(UTC), due))
            return False
        return True

    async def _execute(self, flow: Flow[..., Any], campaign_key: str | None) -> BaseException | None:
        # The engine listens for suspensions of runs that belong to a deployment, of which RunControl tells it. Before
        # the flow begins it reads the run anew, deployment and all.
        flow_run = self.flow_run.model_copy(update={"deployment_id": None})
        here = asyncio.get_running_loop()
        control = RunControl(self._leaving, on_begin=lambda: here.call_soon_threadsafe(self._places.leave, self.id))
        control.is_unwanted = self._is_unwanted
        # Prefect's engine alone has the others, which are short.
        self._control = control if flow.name == CAMPAIGN_FLOW_NAME else None

        async def work() -> object:
            subject = about(campaign=campaign_key, run=flow_run.name, run_id=str(flow_run.id))
            with subject, controlled_by(control):
                return await run_flow_async(
                    flow, flow_run=flow_run, parameters=flow_run.parameters, return_type="state"
                )

        self._running = self._loop.start(work)
        if self._is_unwanted:
            self.cancel()
        ended = await self._running.wait()
        if self._leaving.is_over and self._control is None:
            await self._give_back_upkeep()
        # A run that is suspended comes back when somebody resumes it.
        return None if isinstance(ended, Pause) else ended

    async def _give_back_upkeep(self) -> None:
        """Let another worker do what the engine calls Crashed, because this one has cancelled it."""
        state = (await self._client.read_flow_run(self.id)).state
        if state is not None and state.is_crashed():
            await self._give_back(datetime.now(UTC), even_crashed=True)

    async def _give_back(self, due: datetime, *, even_crashed: bool = False) -> None:
        with suppress(ObjectNotFound):
            await give_back(self._client, self.id, why=self._leaving.in_words, due=due, even_crashed=even_crashed)
