"""Noticing runs that nobody executes any more, and workers that have vanished.

Each worker says in the store, every few seconds, that it lives; each run that goes on renews its lease there. Who does
neither is watched for half a minute before anything is done, so that a store that was away, and has come back, finds
everybody alive again. Prefect's own heartbeats decide nothing: when its server was away, they are missing of those that
live, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import PrefectException

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import WorkerRecord
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.deployments.running.taken_run import taken_up_by
from prefect_campaigns.deployments.running.upkeep import WorkerLogger
from prefect_campaigns.errors import CampaignsError, StoreUnavailable
from prefect_campaigns.flows.lease import LEASE_SECONDS, RENEW_SECONDS, if_alone
from prefect_campaigns.flows.recovering import recover
from prefect_campaigns.flows.silence import Watch

LOOK_SECONDS = 10.0
"""How often a worker looks who lives."""

WATCHED_SECONDS = 30.0
"""How long somebody has to be silent before our eyes: whoever lives renews its lease within fifteen seconds."""

SOON_SECONDS = LEASE_SECONDS - RENEW_SECONDS - LOOK_SECONDS
"""A lease that expires so soon was not renewed when it was time."""

_PAGE = 200


class Zombies:
    """What one worker does about runs that nobody executes.

    Args:
        own_id: the worker's own process, which lives.
    """

    def __init__(self, client: PrefectClient, *, own_id: UUID, work_pool: str, logger: WorkerLogger) -> None:
        self._client = client
        self._own_id = own_id
        self._work_pool = work_pool
        self._logger = logger
        self._runs = Watch(WATCHED_SECONDS)
        self._workers = Watch(WATCHED_SECONDS)

    async def look_for_ever(self) -> None:
        """Look every ten seconds; what fails is tried at the next look."""
        while True:
            try:
                async with open_store(load_settings()) as store:
                    await self.look(store)
            except Exception as error:
                # Of any kind: nobody else would notice that this task has ended.
                self._runs.forget()
                self._workers.forget()
                self._logger.warning("Not known which runs nobody executes: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, store: CampaignStore) -> None:
        """Look who has been silent for long enough, and see to that.

        Raises:
            StoreError: the store is not there.
            PrefectException, httpx.HTTPError: Prefect is not there.
        """
        runs = {UUID(one.run_id): one for one in await store.unattended_runs(within_seconds=SOON_SECONDS)}
        pool = [one for one in await store.list_workers() if one.pool == self._work_pool]
        workers = {one.id: one for one in pool if one.id != self._own_id}
        # A run that waits for somebody to take it up is nobody's; whoever has just done so begins at once.
        going = {one.id: one for one in await self._read(runs) if _should_be_executed(one)}
        words = {id: (runs[id].lease_expires_at, one.state and one.state.id) for id, one in going.items()}
        self._runs.look(words)
        self._workers.look({id: worker.expires_at for id, worker in workers.items()})
        lost = [one for id, one in going.items() if runs[id].has_expired and self._runs.is_silent(id)]
        gone = [worker for worker in workers.values() if worker.has_expired and self._workers.is_silent(worker.id)]
        if not lost and not gone:
            return
        async with if_alone(store, "recover", who=str(self._own_id), logger=self._logger) as is_alone:
            if not is_alone:
                return
            # Of those that a worker took with it, it is known what has become of whoever executed them.
            for worker in gone:
                await self._see_to_worker(store, worker)
            for flow_run in lost:
                await self._see_to(store, flow_run, gone="whoever executed it has vanished")

    async def _read(self, run_ids: Iterable[UUID]) -> list[FlowRun]:
        ids, found = list(run_ids), list[FlowRun]()
        for start in range(0, len(ids), _PAGE):
            wanted = FlowRunFilter(id=FlowRunFilterId(any_=ids[start : start + _PAGE]))
            found += await self._client.read_flow_runs(flow_run_filter=wanted, limit=_PAGE)
        return found

    async def _see_to_worker(self, store: CampaignStore, worker: WorkerRecord) -> None:
        """See to all runs that a worker took with it; forget it at the look that finds none any more."""
        said = taken_up_by(worker.name, worker.id)
        has_runs = False
        for flow_run in await self._going():
            if await self._was_taken_up(flow_run, said):
                has_runs = True
                await self._see_to(store, flow_run, gone=f"worker {worker.name!r} has vanished")
        if not has_runs:
            await store.remove_worker(worker.id)

    async def _going(self) -> list[FlowRun]:
        """Return the work pool's runs that somebody should be executing."""
        going = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
        found: list[FlowRun] = []
        while True:
            page = await self._client.read_flow_runs(
                flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=going))),
                work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[self._work_pool])),
                sort=FlowRunSort.ID_DESC,
                limit=_PAGE,
                offset=len(found),
            )
            found += page
            if len(page) < _PAGE:
                return found

    async def _was_taken_up(self, flow_run: FlowRun, said: str) -> bool:
        """Whether it was this worker that took the run up last."""
        if flow_run.state is not None and flow_run.state.is_pending():
            return flow_run.state.message == said
        states = await self._client.read_flow_run_states(flow_run.id)
        claims = [state for state in states if state.is_pending()]
        return bool(claims) and max(claims, key=lambda state: state.timestamp).message == said

    async def _see_to(self, store: CampaignStore, flow_run: FlowRun, *, gone: str) -> None:
        """See to a run; one that cannot be seen to is in no other's way."""
        try:
            done = await recover(self._client, store, flow_run, gone=gone)
        except (StoreUnavailable, httpx.TransportError):
            raise
        except (CampaignsError, PrefectException, httpx.HTTPError) as error:
            self._logger.error("Run %s: %s, and it cannot be seen to: %s", flow_run.name, gone, error)
            return
        if done:
            self._logger.warning("Run %s: %s; %s", flow_run.name, gone, done)


def _should_be_executed(flow_run: FlowRun) -> bool:
    """Whether somebody should be executing a run that the books have going, or somebody was when it crashed.

    One that is Pending its worker has; what of a vanished one's is Pending is found by the worker.
    """
    state = flow_run.state
    return state is not None and (state.is_running() or state.is_cancelling() or state.is_crashed())
