"""Removing what engines said of people, from wherever it lies: when it is old, or when a person asks for it.

The books stay: that a run was, when, how it ended, what was counted and what it cost. Prefect keeps nothing of a run
whose record there has to go. Whatever is done here may be done again, and goes on where it was broken off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import anyio
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.settings import get_current_settings

from prefect_campaigns.blocks.journal import Journal
from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.settings_checks import MIN_RETENTION_DAYS
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import MailState
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.personal_data import files
from prefect_campaigns.deployments.personal_data.prefect_records import PrefectRecords
from prefect_campaigns.deployments.personal_data.run_words import cleared, cleared_step, step_without, without
from prefect_campaigns.errors import CampaignsError
from prefect_campaigns.personal_data import Address

Say = Callable[[str], object]
"""Takes what is being done at this moment."""

CLOCKS_DIFFER_AT_MOST = timedelta(minutes=10)
"""By how much this machine's clock and that of Prefect's server may differ, for what is old to be known."""

_PAGE = 10
"""How many runs are cleared at once; each may hold some answers of many megabytes."""

_LOOKED_AT = 200
_NAMED = 5
_GOING_SECONDS = 10.0
"""How long Prefect has for removing the logs of the runs that it has deleted."""


@dataclass(frozen=True, kw_only=True)
class OnDisk:
    """What was removed from this machine's disk.

    Attributes:
        results: files in which Prefect kept what a task returned.
        answers: answers of engines in the journal, of which what they said is gone, and what they cost is not.
        log_lines: lines of ``orchestrator.log`` and ``error.log``.
        problems: what could not be removed, and why, in a sentence each.
    """

    results: int
    answers: int
    log_lines: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What was removed.

    Attributes:
        runs: runs in the books that say less than before.
        mails: records of mails that were sent, or given up.
        prefect_runs: runs that Prefect's server has nothing of any more.
        again: what could not be removed now, in a sentence each: it takes another go.
        kept: what is still there, why, and what does something about it; a sentence each.
    """

    runs: int
    mails: int
    prefect_runs: int
    disk: OnDisk
    again: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.describe())

    def describe(self) -> str:
        """Return what was removed in one line, such as "the words of 3 runs, 2 runs from Prefect"."""
        counts = (
            (self.runs, "the words of {} run{s}"),
            (self.mails, "{} record{s} of mails"),
            (self.prefect_runs, "{} run{s} from Prefect"),
            (self.disk.results, "{} result{s} of tasks"),
            (self.disk.answers, "the words of {} unsettled answer{s}"),
            (self.disk.log_lines, "{} line{s} of logs"),
        )
        return ", ".join(words.format(f"{count:,}", s="s" * (count != 1)) for count, words in counts if count)


async def purge(
    client: PrefectClient, store: CampaignStore, settings: Settings, *, before: datetime, say: Say = lambda what: None
) -> Removed:
    """Remove what engines said in runs that ended before then, and what Prefect and this machine keep of them.

    Raises:
        CampaignsError: this machine's clock is wrong, or Prefect's server's is; nothing has been removed.
        StoreUnavailable: the store, or the journal, is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    records = PrefectRecords(client)
    await _check_clock(records)
    say("the books")
    runs, unchanged = await _purge_books(store, before, say)
    mails = await store.remove_mails(before=before)
    await store.overwrite_removed()
    say("Prefect")
    old = await records.ended_before(before)
    prefect_runs = await records.delete(old, on_progress=lambda done: say(f"Prefect: {done:,} of {len(old):,} runs"))
    say("this machine's disk")
    disk = await purge_disk(settings, before=before)
    again = (*map(_changed, unchanged), *disk.problems)
    return Removed(runs=runs, mails=mails, prefect_runs=prefect_runs, disk=disk, again=again)


async def _check_clock(records: PrefectRecords) -> None:
    """Refuse to take for old what a wrong clock calls so: what is removed cannot be had back."""
    theirs, ours = await records.now(), current_clock().now()
    if abs(ours - theirs) > CLOCKS_DIFFER_AT_MOST:
        raise CampaignsError(
            f"by this machine's clock it is {ours:%Y-%m-%d %H:%M} UTC, and by that of Prefect's server"
            f" {theirs:%Y-%m-%d %H:%M}; one is wrong, and nothing was removed"
        )


async def _purge_books(store: CampaignStore, before: datetime, say: Say) -> tuple[int, list[str]]:
    """Return how many runs are cleared, and those that are not, since somebody wrote to them meanwhile."""
    runs = 0
    while found := await store.uncleared_runs(ended_before=before, limit=_PAGE):
        # In a thread: an answer may be large, and other runs go on.
        new = await asyncio.to_thread(lambda some: [cleared(old) for old in some], found)
        done = [await store.replace_words(*words, cleared=True) for words in zip(found, new, strict=True)]
        runs += sum(done)
        if not any(done):
            return runs, [old.run_id for old in found]
        say(f"the books: {runs:,} runs")
    return runs, []


async def purge_disk(settings: Settings, *, before: datetime) -> OnDisk:
    """Remove what was written to this machine's disk before then; what is to be settled yet stays.

    Raises:
        StoreUnavailable: the journal cannot be written.
    """
    problems: list[str] = []
    return OnDisk(
        results=await asyncio.to_thread(files.remove_results, problems, before=before),
        answers=await Journal(settings.journal_folder).rewrite(cleared_step, set_aside_before=before),
        log_lines=await asyncio.to_thread(files.remove_log_lines, settings.campaigns_logs, problems, before=before),
        problems=tuple(problems),
    )


async def erase(
    client: PrefectClient,
    store: CampaignStore,
    settings: Settings,
    address: Address,
    *,
    now: datetime,
    say: Say = lambda what: None,
) -> Removed:
    """Remove a person, however old it is what was said of them; nothing says afterwards who it was.

    Raises:
        StoreUnavailable: the store, or the journal, is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    say("the books")
    changed, unchanged = await _erase_from_books(store, address, say)
    mails = await store.remove_mails(before=now - timedelta(days=MIN_RETENTION_DAYS), to=address.text)
    is_overwritten = await store.overwrite_removed()
    say("Prefect")
    records = PrefectRecords(client)
    await records.wait_for_last_words()
    mentioned = await records.mentioning(address)
    # Those whose ids are Prefect's; books from before this package have others, of runs that have long ended.
    running = {UUID(run_id) for run_id in await store.running_runs() if _is_uuid(run_id)}
    # What has crashed in Prefect may be about to go on: the books say whether it has ended.
    prefect_runs = await records.delete(mentioned.runs - running)
    said_less = {run_id for run_id in running if str(run_id) in changed}
    unended = {run.id: run for run in await records.unended(mentioned.runs | said_less)}
    say("this machine's disk")
    disk = await _erase_from_disk(settings, address)
    lost_logs = await _wait_for_logs(records, address)
    going = [
        *(run.name for run in unended.values() if run.id in mentioned.runs or run.state_type is not StateType.PAUSED),
        *(str(run_id)[:8] for run_id in (mentioned.runs & running) - unended.keys()),
    ]
    again = [
        *(f"run {name} has not ended, and may say it again" for name in going[:_NAMED]),
        *([f"so may {len(going) - _NAMED} more runs"] if len(going) > _NAMED else []),
        *map(_changed, unchanged),
        *([] if is_overwritten else [f"{store.books} is in use, and its log may hold what was removed"]),
        *([_lost(lost_logs)] if lost_logs else []),
        *disk.problems,
    ]
    kept = await _kept(store, records, address)
    if mentioned.others:
        kept.append(f"logs of {mentioned.others} runs of other flows in Prefect name it, which are not ours to delete")
    return Removed(
        runs=len(changed), mails=mails, prefect_runs=prefect_runs, disk=disk, again=tuple(again), kept=tuple(kept)
    )


async def _erase_from_disk(settings: Settings, address: Address) -> OnDisk:
    problems: list[str] = []
    return OnDisk(
        results=await asyncio.to_thread(files.remove_results_mentioning, address, problems),
        answers=await Journal(settings.journal_folder).rewrite(lambda step: step_without(step, address)),
        log_lines=await asyncio.to_thread(
            files.remove_log_lines_mentioning, settings.campaigns_logs, address, problems
        ),
        problems=tuple(problems),
    )


async def _wait_for_logs(records: PrefectRecords, address: Address) -> int:
    """Wait until Prefect has removed the logs of deleted runs, which takes a moment; return of how many it has not."""
    deadline = anyio.current_time() + _GOING_SECONDS
    while True:
        left = await records.lost_logs(address)
        if not left or anyio.current_time() > deadline:
            return len(left)
        await asyncio.sleep(1)


def _lost(runs: int) -> str:
    return (
        f"Prefect still has logs of {runs} runs that are deleted: its server removes them where"
        " PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,orphans is set there"
    )


def _is_uuid(text: str) -> bool:
    with suppress(ValueError):
        return bool(UUID(text))
    return False


def _changed(run_id: str) -> str:
    return f"run {run_id} was written to meanwhile"


async def _erase_from_books(store: CampaignStore, address: Address, say: Say) -> tuple[set[str], list[str]]:
    """Return the runs that say less than before, and those that somebody wrote to meanwhile."""
    changed: set[str] = set()
    unchanged: list[str] = []
    # What is not ASCII a store does not look for in any case of its letters.
    texts = address.forms if address.text.isascii() else ("",)
    after: str | None = ""
    looked_at = 0
    while after is not None:
        mentions = await store.runs_mentioning(texts, after=after, limit=_LOOKED_AT)
        for old in mentions.found:
            new = await asyncio.to_thread(without, old, address)
            if new == old:
                continue
            if await store.replace_words(old, new):
                changed.add(old.run_id)
            else:
                unchanged.append(old.run_id)
        after = mentions.after
        looked_at += _LOOKED_AT
        say(f"the books: {looked_at:,} runs looked at")
    return changed, unchanged


async def _kept(store: CampaignStore, records: PrefectRecords, address: Address) -> list[str]:
    """Return what nothing here removes, and what does."""
    kept = [
        f"campaign {record.key} itself names it: change its file, and apply it"
        for record in await store.list_campaigns()
        if address.is_in(record.campaign.model_dump(mode="json", by_alias=True))
    ]
    mails = [mail for state in MailState for mail in await store.list_mails(state, limit=100_000)]
    if young := sum(address.is_in([mail.recipient, mail.subject, mail.error]) for mail in mails):
        kept.append(f"{young} records of mails of the last days name it: purge removes them when they are old")
    for trouble in await store.engine_troubles():
        if address.is_in(trouble.error):
            kept.append(f"what is known of the engine {trouble.endpoint} names it until that works again")
    if (events := await records.events_mentioning(address)) != 0:
        those = "Prefect's events may name it" if events is None else f"{events} of Prefect's events name it"
        days = get_current_settings().server.events.retention_period.days
        kept.append(
            f"{those}: the server lets go of each by itself, after {days} days unless"
            " PREFECT_SERVER_EVENTS_RETENTION_PERIOD there says otherwise"
        )
    return kept
