"""What Prefect's server keeps of runs: states, parameters, logs and artifacts. It goes with the run, as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    LogFilter,
    LogFilterTextSearch,
)
from prefect.client.schemas.objects import TERMINAL_STATES, Artifact, FlowRun, Log, State, TaskRun
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort, TaskRunSort

from prefect_campaigns.blocks.report_markdown import unescaped
from prefect_campaigns.deployments.compile import CAMPAIGN_TAG
from prefect_campaigns.deployments.driving.artifacts import delete_artifacts, delete_artifacts_of
from prefect_campaigns.flows.approval import EXPIRE_FLOW_NAME
from prefect_campaigns.flows.paused_deployment import CAMPAIGN_FLOW_NAME, RESUME_FLOW_NAME
from prefect_campaigns.flows.reporting import REPORT_KEY
from prefect_campaigns.personal_data import Address

_PAGE = 200
_DELETED_AT_ONCE = 50
"""How many runs Prefect deletes in one request."""

_ASKED_AT_ONCE = 8
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

_LOGS_COME_WITHIN = timedelta(seconds=10)
"""After a run's end: its process sends them every two seconds (PREFECT_LOGGING_TO_API_BATCH_INTERVAL)."""

_LONGEST_QUERY = 190

_ENDED = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(TERMINAL_STATES)))

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Mentioned:
    """What of Prefect's records holds an address.

    Attributes:
        runs: of campaigns, and of what serves them.
        others: how many runs of other flows, which are not ours to delete.
    """

    runs: frozenset[UUID]
    others: int


class PrefectRecords:
    """Asks Prefect's server what it keeps of our runs, and has it forget.

    Ours are the runs of campaigns (by flow and tag, since others may call a flow so), and of the flows that serve them.
    Every method may raise PrefectException and httpx.HTTPError: Prefect is not there.
    """

    def __init__(self, client: PrefectClient) -> None:
        self._client = client
        self._can_search: bool | None = None

    async def now(self) -> datetime:
        """Return what time it is by the server's clock."""
        answer = await self._client.request("GET", "/health")
        return parsedate_to_datetime(answer.headers["date"])

    async def ended_before(self, instant: datetime) -> list[UUID]:
        """Return our runs that ended before then."""
        wanted = FlowRunFilter(state=_ENDED, end_time=FlowRunFilterEndTime(before_=instant))
        return [run.id async for run in self._runs(wanted)]

    async def mentioning(self, address: Address) -> Mentioned:
        """Return the runs in whose record the address stands: in parameters, labels, states, logs and artifacts.

        An artifact that a deleted run has left is deleted at once.
        """
        ours: set[UUID] = set()
        found: set[UUID] = set()
        async for run in self._runs(FlowRunFilter()):
            ours.add(run.id)
            if address.is_in([run.parameters, run.labels, _said(run.state)]) or (
                run.run_count > 1 and _any_said(address, await self._client.read_flow_run_states(run.id))
            ):
                found.add(run.id)
        async for task in self._task_runs():
            if task.flow_run_id is None or task.flow_run_id not in ours or task.flow_run_id in found:
                continue
            if address.is_in(_said(task.state)) or (
                task.run_count > 1 and _any_said(address, await self._client.read_task_run_states(task.id))
            ):
                found.add(task.flow_run_id)
        orphans: dict[UUID, UUID] = {}
        for key in ("progress-", REPORT_KEY):
            async for artifact in self._artifacts(ArtifactFilter(key=ArtifactFilterKey(like_=key))):
                said = [artifact.description, artifact.data, unescaped(str(artifact.data))]
                if not address.is_in(said):
                    continue
                if artifact.flow_run_id in ours:
                    found.add(artifact.flow_run_id)
                elif artifact.id is not None and artifact.flow_run_id is not None:
                    orphans[artifact.id] = artifact.flow_run_id
        # Prefect keeps the artifacts of a run that it has deleted, and nobody else keeps any under such a key.
        there = {run.id for some in _batches(set(orphans.values())) async for run in self._all(_with_ids(some))}
        await delete_artifacts(self._client, [id for id, run in orphans.items() if run not in there])
        logged = await self._logged(address)
        others = [run.id for some in _batches(logged - ours) async for run in self._all(_with_ids(some))]
        return Mentioned(runs=frozenset(found | (logged & ours)), others=len(others))

    async def lost_logs(self, address: Address) -> set[UUID]:
        """Return runs that are deleted, and in whose logs the address stands still."""
        logged = await self._logged(address)
        return logged - {run.id for some in _batches(logged) async for run in self._all(_with_ids(some))}

    async def unended(self, runs: Collection[UUID]) -> list[FlowRun]:
        """Return those of the runs that have not ended."""
        wanted = map(_with_ids, _batches(runs))
        found = [run for these in wanted async for run in self._runs(these)]
        return [run for run in found if run.state is None or not run.state.is_final()]

    async def delete(self, runs: Collection[UUID], *, on_progress: Callable[[int], object] = lambda done: None) -> int:
        """Delete runs of ours that have ended, with states, task runs, logs and artifacts; return how many."""
        done = 0
        for some in _batches(runs):
            found = [run async for run in self._runs(_with_ids(some, state=_ENDED))]
            if not found:
                continue
            await self._wait_for_last_words(max(run.end_time or _LONG_AGO for run in found))
            ended = [run.id for run in found]
            await delete_artifacts_of(self._client, ended)
            # One that somebody retries at this moment has not ended any more.
            wanted = _with_ids(ended, state=_ENDED).model_dump(mode="json")
            # Prefect's client knows every path but this one.
            path: Any = "/flow_runs/bulk_delete"
            answer = await self._client.request("POST", path, json={"flow_runs": wanted})
            done += len(answer.json()["deleted"])
            on_progress(done)
        return done

    async def wait_for_last_words(self) -> None:
        """Wait for what our runs have logged that ended just now."""
        now = await self.now()
        lately = FlowRunFilter(end_time=FlowRunFilterEndTime(after_=now - _LOGS_COME_WITHIN))
        ended = [run.end_time async for run in self._runs(lately) if run.end_time is not None]
        await self._wait_for_last_words(max(ended, default=_LONG_AGO))

    async def _wait_for_last_words(self, ended_at: datetime) -> None:
        """Wait for what a run has logged that ended then: what comes after it is deleted nobody can delete."""
        ago = await self.now() - ended_at
        left = _LOGS_COME_WITHIN - max(ago, timedelta())
        await asyncio.sleep(max(left.total_seconds(), 0))

    async def events_mentioning(self, address: Address) -> int | None:
        """Return how many of Prefect's events hold the address: nobody can delete one. None where it cannot search."""
        if not await self._is_searchable():
            return None
        count = 0
        for query in _queries(address):
            wanted = {"filter": {"text": {"query": query}}, "limit": 1}
            count += (await self._client.request("POST", "/events/filter", json=wanted)).json()["total"]
        return count

    async def _is_searchable(self) -> bool:
        """Whether the server can search: one whose SQLite is older than 3.44 fails, and logs what was looked for."""
        if self._can_search is None:
            try:
                await self._client.read_logs(LogFilter(text=LogFilterTextSearch(query="anything")), limit=1)
                self._can_search = True
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.INTERNAL_SERVER_ERROR:
                    raise
                self._can_search = False
        return self._can_search

    async def _logged(self, address: Address) -> set[UUID]:
        """Return the runs, of whatever flow, in whose logs the address stands."""
        wanted = [LogFilter()]
        if await self._is_searchable():
            wanted = [LogFilter(text=LogFilterTextSearch(query=query)) for query in _queries(address)]
        return {
            log.flow_run_id
            for one in wanted
            async for log in self._logs(one)
            if log.flow_run_id is not None and address.is_in(log.message)
        }

    def _logs(self, wanted: LogFilter) -> AsyncIterator[Log]:
        return _pages(lambda offset: self._client.read_logs(wanted, limit=_PAGE, offset=offset))

    async def _runs(self, wanted: FlowRunFilter) -> AsyncIterator[FlowRun]:
        """Yield those of ours."""
        tagged = wanted.model_copy(update={"tags": FlowRunFilterTags(all_=[CAMPAIGN_TAG])})
        for flows, runs in (((CAMPAIGN_FLOW_NAME,), tagged), ((RESUME_FLOW_NAME, EXPIRE_FLOW_NAME), wanted)):
            async for run in self._all(runs, FlowFilter(name=FlowFilterName(any_=list(flows)))):
                yield run

    def _all(self, wanted: FlowRunFilter, flows: FlowFilter | None = None) -> AsyncIterator[FlowRun]:
        return _pages(
            lambda offset: self._client.read_flow_runs(
                flow_filter=flows, flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=offset
            )
        )

    def _task_runs(self) -> AsyncIterator[TaskRun]:
        ours = FlowFilter(name=FlowFilterName(any_=[CAMPAIGN_FLOW_NAME, RESUME_FLOW_NAME, EXPIRE_FLOW_NAME]))
        return _pages(
            lambda offset: self._client.read_task_runs(
                flow_filter=ours, sort=TaskRunSort.ID_DESC, limit=_PAGE, offset=offset
            )
        )

    def _artifacts(self, wanted: ArtifactFilter) -> AsyncIterator[Artifact]:
        return _pages(
            lambda offset: self._client.read_artifacts(
                artifact_filter=wanted, sort=ArtifactSort.ID_DESC, limit=_PAGE, offset=offset
            )
        )


def _said(state: State[Any] | None) -> str:
    return (state and state.message) or ""


def _any_said(address: Address, states: Iterable[State[Any]]) -> bool:
    return any(address.is_in(_said(state)) for state in states)


def _with_ids(runs: Collection[UUID], *, state: FlowRunFilterState | None = None) -> FlowRunFilter:
    return FlowRunFilter(id=FlowRunFilterId(any_=list(runs)), state=state)


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
