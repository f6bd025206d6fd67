"""The emergency stop: nothing begins, everything is paused, and what goes on is cancelled if asked; and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AuditAction, CampaignRecord, PausedBy, Stop
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.driving.audit import record as record_audit
from prefect_campaigns.deployments.driving.cancelling import ASKED_AT_ONCE, end_runs, unended_runs
from prefect_campaigns.errors import CampaignsError, UnknownCampaign
from prefect_campaigns.flows.pausing import pause_by_stop
from prefect_campaigns.flows.resuming import Outcome, resume_after_budget, resume_after_stop

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
        cancelled: the runs that were cancelled.
        still_going: the runs that have not ended; without ``cancel_running`` they go on to their end.
        problems: what could not be done, a sentence each. Saying it again tries these again.
    """

    stop: Stop
    stood_before: bool
    paused: Sequence[str]
    cancelled: Sequence[FlowRun]
    still_going: Sequence[FlowRun]
    problems: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Started:
    """What the end of the emergency stop came to.

    Attributes:
        ended: the stop that stood; None where none did, and what an earlier start has left was finished.
        resumed: the campaigns that the stop had paused, and that go on now.
        resumed_after_budget: those that the budget had paused and whose time has come meanwhile.
        paused: those that stay paused, by a person or by the budget.
        problems: what could not be done, a sentence each. Saying it again tries these again.
    """

    ended: Stop | None
    resumed: Sequence[str]
    resumed_after_budget: Sequence[str]
    paused: Sequence[str]
    problems: Sequence[str]


async def stop_all(
    client: PrefectClient, store: CampaignStore, *, actor: str, reason: str | None, cancel_running: bool
) -> Stopped:
    """Stop everything: from now on no run begins, and every campaign that is not paused is paused.

    That the stop stands comes first, and is what a run looks at before it begins; then runs are cancelled, if asked,
    and campaigns paused. A campaign that cannot be
    paused, and a run that cannot be cancelled, hold up no other. Safe to repeat, which finishes what broke off.

    Args:
        cancel_running: also cancel what is going, waiting, suspended, or asked for and not begun.

    Raises:
        StoreError: the store is not there; nothing is stopped then.
    """
    now = current_clock().now()
    wanted = Stop(by=actor, reason=" ".join((reason or NO_REASON).split()), since=now)
    before = await store.set_stop(wanted)
    stop = before or wanted
    problems: list[str] = []

    async def pause(record: CampaignRecord) -> str | None:
        return record.key if await pause_by_stop(client, store, record, stop, now=now) else None

    # First what costs money now; what begins meanwhile finds that everything is stopped.
    cancelled = await _cancel_all(client, store, actor, problems) if cancel_running else ()
    paused = await _each(await store.list_campaigns(), pause, "could not be paused in Prefect", problems)
    still_going = await _still_going(client, problems)
    detail = {
        "reason": stop.reason,
        "cancelRunning": cancel_running,
        "paused": len(paused),
        "cancelled": len(cancelled),
        "problems": len(problems),
    }
    await record_audit(client, store, actor=actor, action=AuditAction.ALL_STOPPED, detail=detail)
    return Stopped(
        stop=stop,
        stood_before=before is not None,
        paused=paused,
        cancelled=cancelled,
        still_going=still_going,
        problems=problems,
    )


async def start_all(client: PrefectClient, store: CampaignStore, *, actor: str) -> Started:
    """End the emergency stop, and resume what it has paused, and nothing else.

    What the budget had paused resumes where its time has come meanwhile. What a person paused stays paused. Safe to
    repeat, which finishes what broke off.

    Raises:
        EverythingStopped: somebody has stopped everything again meanwhile.
        StoreError: the store is not there.
    """
    ended = await store.set_stop(None)
    problems: list[str] = []

    async def resume(record: CampaignRecord) -> str | None:
        return record.key if await resume_after_stop(client, store, record.key, now=current_clock().now()) else None

    async def look_again(record: CampaignRecord) -> str | None:
        resumption = await resume_after_budget(client, store, record.key, now=current_clock().now())
        return record.key if resumption.outcome is Outcome.RESUMED else None

    records = await store.list_campaigns()
    of_stop, of_budget = (_paused_by(by, records) for by in (PausedBy.STOP, PausedBy.BUDGET))
    resumed = await _each(of_stop, resume, "could not be resumed in Prefect", problems)
    after_budget = await _each(of_budget, look_again, "could not be looked at in Prefect", problems)
    paused = [record.key for record in await store.list_campaigns() if record.pause is not None]
    detail = {"resumed": len(resumed), "resumedAfterBudget": len(after_budget), "problems": len(problems)}
    await record_audit(client, store, actor=actor, action=AuditAction.ALL_STARTED, detail=detail)
    return Started(
        ended=ended,
        resumed=resumed,
        resumed_after_budget=after_budget,
        paused=paused,
        problems=problems,
    )


def _paused_by(by: PausedBy, records: Sequence[CampaignRecord]) -> list[CampaignRecord]:
    return [record for record in records if record.pause is not None and record.pause.by is by]


async def _each(
    records: Sequence[CampaignRecord],
    work: Callable[[CampaignRecord], Awaitable[str | None]],
    failure: str,
    problems: list[str],
) -> list[str]:
    """Do something to each campaign, several at a time; one that fails is a problem and holds up no other."""
    turns = asyncio.Semaphore(ASKED_AT_ONCE)

    async def do(record: CampaignRecord) -> str | None:
        async with turns:
            try:
                return await work(record)
            except UnknownCampaign:
                # Deleted meanwhile.
                return None
            except (httpx.HTTPError, PrefectException, CampaignsError) as error:
                problems.append(f"{record.key} {failure}: {_one_line(error)}")
                return None

    return [key for key in await asyncio.gather(*map(do, records)) if key is not None]


def _is_going(flow_run: FlowRun) -> bool:
    """Whether a run goes on, or was asked for; what Prefect's scheduler has planned is planned again anyway."""
    state = flow_run.state
    return state is not None and not (state.is_scheduled() and flow_run.auto_scheduled and flow_run.run_count == 0)


async def _cancel_all(
    client: PrefectClient, store: CampaignStore, actor: str, problems: list[str]
) -> Sequence[FlowRun]:
    cancelled: dict[object, FlowRun] = {}
    try:
        for _ in range(_ROUNDS):
            going = [run for run in await unended_runs(client) if _is_going(run) and run.id not in cancelled]
            if not going:
                break
            cancelled |= {run.id: run for run in await end_runs(client, store, going, actor=actor)}
    except (httpx.HTTPError, PrefectException, CampaignsError) as error:
        problems.append(f"not all runs could be cancelled: {_one_line(error)}")
    return [run for run in cancelled.values() if run.state is not None and run.state.is_cancelled()]


async def _still_going(client: PrefectClient, problems: list[str]) -> Sequence[FlowRun]:
    try:
        return [run for run in await unended_runs(client) if _is_going(run)]
    except (httpx.HTTPError, PrefectException) as error:
        problems.append(f"not known which runs are still going: {_one_line(error)}")
        return []


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
