"""The emergency stop: nothing begins, everything is paused, and what goes on is cancelled if asked; and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass, field
from typing import TypeVar

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import PrefectException

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AuditAction, CampaignRecord, PausedBy, Stop
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.driving.audit import record as record_audit
from prefect_campaigns.deployments.driving.cancelling import ASKED_AT_ONCE, end_runs, unended_runs
from prefect_campaigns.deployments.driving.strays import read_strays, start_stray, stop_stray
from prefect_campaigns.errors import CampaignsError, StoreError, UnknownCampaign
from prefect_campaigns.flows.pausing import pause_by_stop
from prefect_campaigns.flows.resuming import Outcome, resume_after_budget, resume_after_stop
from prefect_campaigns.words import why_failed

T = TypeVar("T")

Connect = Callable[[], AbstractAsyncContextManager[PrefectClient]]

NO_REASON = "no reason given"

_ROUNDS = 3
"""How often runs are looked for: one that a worker took up a moment before the stop may show a moment after it."""


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """What the emergency stop came to.

    Attributes:
        stop: the stop that stands now.
        stood_before: whether it stood already; then its reason is the one from then.
        paused: the campaigns that are paused by the stop now.
        strays: the deployments that are, and that are not in the books.
        cancelled: the runs that were cancelled.
        still_going: the runs that have not ended; without ``cancel_running`` they go on to their end.
        problems: what could not be done, a sentence each. Saying it again tries these again.
    """

    stop: Stop
    stood_before: bool
    paused: Sequence[str]
    strays: Sequence[str]
    cancelled: Sequence[FlowRun]
    still_going: Sequence[FlowRun]
    problems: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Started:
    """What the end of the emergency stop came to.

    Attributes:
        ended: the stop that stood; None where none did, and what an earlier start has left was finished.
        resumed: the campaigns that the stop had paused, and that go on now.
        strays: the deployments that it had paused, that go on, and that are not in the books.
        resumed_after_budget: those that the budget had paused and whose time has come meanwhile.
        paused: those that stay paused, by a person or by the budget.
        problems: what could not be done, a sentence each. Saying it again tries these again.
    """

    ended: Stop | None
    resumed: Sequence[str]
    strays: Sequence[str]
    resumed_after_budget: Sequence[str]
    paused: Sequence[str]
    problems: Sequence[str]


async def stop_all(
    client: PrefectClient, store: CampaignStore, *, actor: str, reason: str | None, cancel_running: bool
) -> Stopped:
    """Do what ``stop_first`` does, where Prefect has been asked already."""

    def connected() -> AbstractAsyncContextManager[PrefectClient]:
        return nullcontext(client)

    return await stop_first(connected, store, actor=actor, reason=reason, cancel_running=cancel_running)


async def stop_first(
    connect: Connect,
    store: CampaignStore,
    *,
    actor: str,
    reason: str | None,
    cancel_running: bool,
    seconds: float | None = None,
) -> Stopped:
    """Stop everything: from now on no run begins, and every campaign that is not paused is paused.

    Deployments that the books do not know are paused, too: an apply that takes one in must find nothing that runs.

    That the stop stands comes first, before anybody asks whether Prefect is there, and is what a run looks at before it
    begins. Then runs are cancelled, if asked, and campaigns paused. A campaign that cannot be paused, and a run that
    cannot be cancelled, hold up no other; where Prefect is away that is a problem, and so is whatever else goes wrong
    once the stop stands. Safe to repeat, which finishes what broke off.

    Args:
        connect: yields a client of Prefect's API.
        cancel_running: also cancel what is going, waiting, suspended, or asked for and not begun.
        seconds: how long everything after the stop itself may take; None for as long as it takes.

    Raises:
        StoreError: the store is not there; nothing is stopped then.
    """
    now = current_clock().now()
    wanted = Stop(by=actor, reason=" ".join((reason or NO_REASON).split()), since=now)
    before = await store.set_stop(wanted)
    doing = _Stopping(store, actor, before or wanted, cancel_running=cancel_running)
    try:
        async with asyncio.timeout(seconds), connect() as client:
            await doing.carry_out(client)
    except TimeoutError:
        await doing.give_up("it takes too long")
    except (httpx.HTTPError, PrefectException, CampaignsError) as error:
        await doing.give_up(why_failed(error))
    return doing.done(stood_before=before is not None)


@dataclass
class _Stopping:
    """What becomes of everything once the stop stands, and how far that is."""

    store: CampaignStore
    actor: str
    stop: Stop
    _: KW_ONLY
    cancel_running: bool
    is_recorded: bool = False
    paused: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    cancelled: Sequence[FlowRun] = ()
    still_going: Sequence[FlowRun] = ()
    problems: list[str] = field(default_factory=list)

    async def carry_out(self, client: PrefectClient) -> None:
        """Cancel, pause, and write down what was done."""
        now = current_clock().now()

        async def pause(record: CampaignRecord) -> bool:
            return await pause_by_stop(client, self.store, record, self.stop, now=now)

        async def pause_stray(stray: DeploymentResponse) -> bool:
            return await stop_stray(client, self.store, stray, self.stop, now=now)

        # First what costs money now; what begins meanwhile finds that everything is stopped.
        if self.cancel_running:
            self.cancelled = await _cancel_all(client, self.store, self.actor, self.problems)
        records = _by_key(await self.store.list_campaigns())
        await _each(records, pause, "could not be paused in Prefect", self.problems, done=self.paused)
        strays = await _strays(client, self.store, self.problems)
        await _each(strays, pause_stray, "could not be paused in Prefect", self.problems, done=self.strays)
        self.still_going = await _still_going(client, self.problems)
        await self._record(client)

    async def give_up(self, why: str) -> None:
        """Say what went wrong, and write down at least that everything is stopped."""
        self.problems.append(f"not everything could be paused{' and cancelled' * self.cancel_running}: {why}")
        if not self.is_recorded:
            try:
                await self._record(None)
            except StoreError as fault:
                self.problems.append(f"the audit does not say so: {why_failed(fault)}")

    async def _record(self, client: PrefectClient | None) -> None:
        detail = {
            "reason": self.stop.reason,
            "cancelRunning": self.cancel_running,
            "paused": len(self.paused),
            "strays": len(self.strays),
            "cancelled": len(self.cancelled),
            "problems": len(self.problems),
        }
        await record_audit(client, self.store, actor=self.actor, action=AuditAction.ALL_STOPPED, detail=detail)
        self.is_recorded = True

    def done(self, *, stood_before: bool) -> Stopped:
        """Return what it came to."""
        return Stopped(
            stop=self.stop,
            stood_before=stood_before,
            paused=self.paused,
            strays=self.strays,
            cancelled=self.cancelled,
            still_going=self.still_going,
            problems=self.problems,
        )


async def start_all(client: PrefectClient, store: CampaignStore, *, actor: str) -> Started:
    """End the emergency stop, and resume what it has paused, and nothing else.

    Other than the stop, its end needs Prefect: while nobody can say what would begin, everything stays stopped.

    What the budget had paused resumes where its time has come meanwhile. What a person paused stays paused. Safe to
    repeat, which finishes what broke off.

    Raises:
        EverythingStopped: somebody has stopped everything again meanwhile.
        StoreError: the store is not there.
    """
    ended = await store.set_stop(None)
    problems: list[str] = []

    async def resume(record: CampaignRecord) -> bool:
        return await resume_after_stop(client, store, record.key, now=current_clock().now())

    async def resume_stray(stray: DeploymentResponse) -> bool:
        return await start_stray(client, store, stray)

    async def look_again(record: CampaignRecord) -> bool:
        resumption = await resume_after_budget(client, store, record.key, now=current_clock().now())
        return resumption.outcome is Outcome.RESUMED

    records = await store.list_campaigns()
    of_stop, of_budget = (_paused_by(by, records) for by in (PausedBy.STOP, PausedBy.BUDGET))
    resumed = await _each(of_stop, resume, "could not be resumed in Prefect", problems)
    found = await _strays(client, store, problems)
    strays = await _each(found, resume_stray, "could not be resumed in Prefect", problems)
    after_budget = await _each(of_budget, look_again, "could not be looked at in Prefect", problems)
    paused = [record.key for record in await store.list_campaigns() if record.pause is not None]
    detail = {
        "resumed": len(resumed),
        "strays": len(strays),
        "resumedAfterBudget": len(after_budget),
        "problems": len(problems),
    }
    await record_audit(client, store, actor=actor, action=AuditAction.ALL_STARTED, detail=detail)
    return Started(
        ended=ended,
        resumed=resumed,
        strays=strays,
        resumed_after_budget=after_budget,
        paused=paused,
        problems=problems,
    )


def _paused_by(by: PausedBy, records: Sequence[CampaignRecord]) -> dict[str, CampaignRecord]:
    return _by_key([record for record in records if record.pause is not None and record.pause.by is by])


def _by_key(records: Sequence[CampaignRecord]) -> dict[str, CampaignRecord]:
    return {record.key: record for record in records}


async def _strays(client: PrefectClient, store: CampaignStore, problems: list[str]) -> dict[str, DeploymentResponse]:
    try:
        return {stray.name: stray for stray in await read_strays(client, store)}
    except (httpx.HTTPError, PrefectException) as error:
        problems.append(f"not known which deployments are not in the books: {why_failed(error)}")
        return {}


async def _each(
    ones: Mapping[str, T],
    work: Callable[[T], Awaitable[bool]],
    failure: str,
    problems: list[str],
    *,
    done: list[str] | None = None,
) -> list[str]:
    """Do something to each campaign, or stray, several at a time; one that fails is a problem and holds up no other.

    Args:
        ones: by key.
        done: takes the keys of those to which it was done, as soon as it is; they are returned, too.
    """
    turns, done = asyncio.Semaphore(ASKED_AT_ONCE), [] if done is None else done

    async def do(key: str, one: T) -> None:
        async with turns:
            try:
                if await work(one):
                    done.append(key)
            except UnknownCampaign:
                # Deleted meanwhile.
                return
            except (httpx.HTTPError, PrefectException, CampaignsError) as error:
                problems.append(f"{key} {failure}: {why_failed(error)}")

    await asyncio.gather(*(do(key, one) for key, one in ones.items()))
    return done


def _is_going(flow_run: FlowRun) -> bool:
    """Whether a run goes on, or was asked for; what Prefect's scheduler has planned is planned again anyway."""
    state = flow_run.state
    return state is not None and not (state.is_scheduled() and flow_run.auto_scheduled and flow_run.run_count == 0)


async def _cancel_all(
    client: PrefectClient, store: CampaignStore, actor: str, problems: list[str]
) -> Sequence[FlowRun]:
    cancelled: dict[object, FlowRun] = {}
    failure: Exception | None = None
    for _ in range(_ROUNDS):
        try:
            going = [run for run in await unended_runs(client) if _is_going(run) and run.id not in cancelled]
        except (httpx.HTTPError, PrefectException) as error:
            failure = error
            continue
        failure = None
        if not going:
            break
        ended = await end_runs(client, store, going, actor=actor, problems=problems)
        cancelled |= {run.id: run for run in ended}
    if failure is not None:
        problems.append(f"not all runs could be looked for and cancelled: {why_failed(failure)}")
    return [run for run in cancelled.values() if run.state is not None and run.state.is_cancelled()]


async def _still_going(client: PrefectClient, problems: list[str]) -> Sequence[FlowRun]:
    try:
        return [run for run in await unended_runs(client) if _is_going(run)]
    except (httpx.HTTPError, PrefectException) as error:
        problems.append(f"not known which runs are still going: {why_failed(error)}")
        return []
