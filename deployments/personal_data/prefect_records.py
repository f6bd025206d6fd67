"""What Prefect's server keeps of runs: states, parameters, logs and artifacts. It goes with the run, as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    LogFilter,
    LogFilterTextSearch,
)
from prefect.client.schemas.objects import TERMINAL_STATES, Artifact, FlowRun, Log, TaskRun
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort, TaskRunSort
from prefect.exceptions import ObjectNotFound

from prefect_campaigns.flows.approval import EXPIRE_FLOW_NAME
from prefect_campaigns.flows.paused_deployment import CAMPAIGN_FLOW_NAME, RESUME_FLOW_NAME
from prefect_campaigns.personal_data import Address

_PAGE = 200
_DELETED_AT_ONCE = 50
"""How many runs Prefect deletes in one request."""

_ASKED_AT_ONCE = 8
_LONGEST_QUERY = 190

_OURS = FlowFilter(name=FlowFilterName(any_=[CAMPAIGN_FLOW_NAME, RESUME_FLOW_NAME, EXPIRE_FLOW_NAME]))
_ENDED = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(TERMINAL_STATES)))
_PROGRESS = ArtifactFilter(key=ArtifactFilterKey(like_="progress-"))

T = TypeVar("T")


class PrefectRecords:
    """Asks Prefect's server what it keeps of our runs, and has it forget.

    Every method may raise PrefectException and httpx.HTTPError: Prefect is not there.
    """

    def __init__(self, client: PrefectClient) -> None:
        self._client = client

    async def ended_before(self, instant: datetime) -> list[UUID]:
        """Return the runs of campaigns, and of what serves them, that ended before then."""
        wanted = FlowRunFilter(state=_ENDED, end_time=FlowRunFilterEndTime(before_=instant))
        return [run.id async for run in self._runs(wanted)]

    async def mentioning(self, address: Address) -> tuple[set[UUID], set[UUID]]:
        """Return the runs in whose record the address stands, and the artifacts: in parameters, states, logs."""
        runs = {
            run.id
            async for run in self._runs(FlowRunFilter())
            if address.is_in([run.parameters, (run.state and run.state.message) or ""])
        }
        async for task_run in self._task_runs():
            if task_run.flow_run_id is not None and task_run.state and address.is_in(task_run.state.message):
                runs.add(task_run.flow_run_id)
        artifacts = set()
        async for artifact in self._artifacts(_PROGRESS):
            if address.is_in([artifact.description, artifact.data]):
                artifacts.add(artifact.id)
        return runs | await self._logged(address), artifacts

    async def unended(self, runs: Collection[UUID]) -> list[FlowRun]:
        """Return those of the runs that have not ended."""
        found = [
            run for some in _batches(runs) async for run in self._runs(FlowRunFilter(id=FlowRunFilterId(any_=some)))
        ]
        return [run for run in found if run.state is None or not run.state.is_final()]

    async def delete(self, runs: Collection[UUID], *, on_progress: Callable[[int], object] = lambda done: None) -> int:
        """Delete runs that have ended, with their states, task runs, logs and artifacts; return how many."""
        done = 0
        for some in _batches(runs):
            of_these = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=some))
            await self.delete_artifacts([artifact.id async for artifact in self._artifacts(of_these)])
            # One that somebody retries at this moment has not ended any more.
            wanted = FlowRunFilter(id=FlowRunFilterId(any_=some), state=_ENDED).model_dump(mode="json")
            # Prefect's client knows every path but this one.
            path: Any = "/flow_runs/bulk_delete"
            answer = await self._client.request("POST", path, json={"flow_runs": wanted})
            done += len(answer.json()["deleted"])
            on_progress(done)
        return done

    async def delete_artifacts(self, artifacts: Collection[UUID]) -> None:
        """Delete artifacts."""
        turns = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def delete(artifact: UUID) -> None:
            # Of a run that goes on it may be gone, and another be there.
            async with turns:
                with suppress(ObjectNotFound):
                    await self._client.delete_artifact(artifact)

        await asyncio.gather(*map(delete, artifacts))

    async def events_mentioning(self, address: Address) -> int | None:
        """Return how many of Prefect's events hold the address: nobody can delete one. None where it cannot search."""
        count = 0
        for query in _queries(address):
            wanted = {"filter": {"text": {"query": query}}, "limit": 1}
            try:
                found = await self._client.request("POST", "/events/filter", json=wanted)
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.INTERNAL_SERVER_ERROR:
                    raise
                return None
            count += found.json()["total"]
        return count

    async def _logged(self, address: Address) -> set[UUID]:
        """Return the runs in whose logs the address stands."""
        try:
            return {
                run
                for query in _queries(address)
                async for run in self._logged_in(LogFilter(text=LogFilterTextSearch(query=query)), address)
            }
        except httpx.HTTPStatusError as error:
            # A server whose SQLite is older than 3.44 fails at each search.
            if error.response.status_code != httpx.codes.INTERNAL_SERVER_ERROR:
                raise
            return {run async for run in self._logged_in(LogFilter(), address)}

    async def _logged_in(self, wanted: LogFilter, address: Address) -> AsyncIterator[UUID]:
        async for log in self._logs(wanted):
            if log.flow_run_id is not None and address.is_in(log.message):
                yield log.flow_run_id

    def _logs(self, wanted: LogFilter) -> AsyncIterator[Log]:
        return _pages(lambda offset: self._client.read_logs(wanted, limit=_PAGE, offset=offset))

    def _runs(self, wanted: FlowRunFilter) -> AsyncIterator[FlowRun]:
        return _pages(
            lambda offset: self._client.read_flow_runs(
                flow_filter=_OURS, flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=offset
            )
        )

    def _task_runs(self) -> AsyncIterator[TaskRun]:
        return _pages(
            lambda offset: self._client.read_task_runs(
                flow_filter=_OURS, sort=TaskRunSort.ID_DESC, limit=_PAGE, offset=offset
            )
        )

    def _artifacts(self, wanted: ArtifactFilter) -> AsyncIterator[Artifact]:
        return _pages(
            lambda offset: self._client.read_artifacts(
                artifact_filter=wanted, sort=ArtifactSort.ID_DESC, limit=_PAGE, offset=offset
            )
        )


async def _pages(read: Callable[[int], Awaitable[Sequence[T]]]) -> AsyncIterator[T]:
    """Yield what is read a page at a time; nothing of it may be deleted meanwhile."""
    offset = 0
    while True:
        page = await read(offset)
        for one in page:
            yield one
        if len(page) < _PAGE:
            return
        offset += _PAGE


def _batches(runs: Collection[UUID]) -> Iterator[list[UUID]]:
    left = iter(runs)
    while some := list(islice(left, _DELETED_AT_ONCE)):
        yield some


def _queries(address: Address) -> Iterator[str]:
    """Yield what Prefect's search is asked for, which takes a text between quotes, and no more than 200 characters."""
    for form in address.forms:
        escaped = form[:_LONGEST_QUERY].replace("\\", "\\\\").replace('"', '\\"')
        yield f'"{escaped}"'[:200]
