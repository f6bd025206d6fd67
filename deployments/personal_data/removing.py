"""Removing what engines said of people, from wherever it lies: when it is old, or when a person asks for it.

The books stay: that a run was, when, how it ended, what was counted and what it cost. Prefect keeps nothing of a run
whose record there has to go. Whatever is done here may be done again, and goes on where it was broken off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.settings import get_current_settings

from prefect_campaigns.blocks.journal import Journal
from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.settings_checks import MIN_RETENTION_DAYS
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.deployments.personal_data import files
from prefect_campaigns.deployments.personal_data.prefect_records import PrefectRecords
from prefect_campaigns.deployments.personal_data.run_words import cleared, cleared_step, step_without, without
from prefect_campaigns.personal_data import Address

Say = Callable[[str], object]
"""Takes what is being done at this moment."""

_PAGE = 50
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class OnDisk:
    """What was removed from this machine's disk.

    Attributes:
        results: files in which Prefect kept what a task returned.
        answers: answers of engines in the journal, of which what they said is gone, and what they cost is not.
        log_lines: lines of ``orchestrator.log`` and ``error.log``.
    """

    results: int
    answers: int
    log_lines: int


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
        StoreUnavailable: the store, or the journal, is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
        OSError: the disk does not let go of something.
    """
    say("the books")
    runs, unchanged = await _purge_books(store, before, say)
    mails = await store.remove_mails(before=before)
    say("Prefect")
    records = PrefectRecords(client)
    old = await records.ended_before(before)
    prefect_runs = await records.delete(old, on_progress=lambda done: say(f"Prefect: {done:,} of {len(old):,} runs"))
    say("this machine's disk")
    disk = await purge_disk(settings, before=before)
    return Removed(runs=runs, mails=mails, prefect_runs=prefect_runs, disk=disk, again=tuple(map(_changed, unchanged)))


async def _purge_books(store: CampaignStore, before: datetime, say: Say) -> tuple[int, list[str]]:
    """Return how many runs are cleared, and those that are not, since somebody wrote to them meanwhile."""
    runs = 0
    while found := await store.uncleared_runs(ended_before=before, limit=_PAGE):
        done = await asyncio.gather(*(store.replace_words(old, cleared(old), cleared=True) for old in found))
        runs += sum(done)
        if not any(done):
            return runs, [old.run_id for old in found]
        say(f"the books: {runs:,} runs")
    return runs, []


async def purge_disk(settings: Settings, *, before: datetime) -> OnDisk:
    """Remove what was written to this machine's disk before then.

    Raises:
        StoreUnavailable, OSError: the disk does not let go of something.
    """
    return OnDisk(
        results=await asyncio.to_thread(files.remove_results, before=before),
        answers=await Journal(settings.journal_folder).rewrite(cleared_step, written_before=before),
        log_lines=await asyncio.to_thread(files.remove_log_lines, settings.campaigns_logs, before=before),
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
        OSError: the disk does not let go of something.
    """
    say("the books")
    changed, unchanged = await _erase_from_books(store, address, say)
    mails = await store.remove_mails(before=now - timedelta(days=MIN_RETENTION_DAYS), to=address.text)
    say("Prefect")
    records = PrefectRecords(client)
    mentioning, artifacts = await records.mentioning(address)
    running = {UUID(run_id) for run_id in await store.running_runs()}
    unended = await records.unended(mentioning | (running & changed))
    await records.delete_artifacts(artifacts)
    prefect_runs = await records.delete(mentioning)
    say("this machine's disk")
    disk = OnDisk(
        results=await asyncio.to_thread(files.remove_results_mentioning, address),
        answers=await Journal(settings.journal_folder).rewrite(lambda step: step_without(step, address)),
        log_lines=await asyncio.to_thread(files.remove_log_lines_mentioning, settings.campaigns_logs, address),
    )
    # One that waits for a person has nothing in memory: it goes on with what the books say.
    going = [run for run in unended if run.id in mentioning or run.state_type is not StateType.PAUSED]
    again = [
        *(f"run {run.name} has not ended, and may say it again" for run in going[:_NAMED]),
        *([f"so may {len(going) - _NAMED} more runs"] if len(going) > _NAMED else []),
        *map(_changed, unchanged),
    ]
    return Removed(
        runs=len(changed),
        mails=mails,
        prefect_runs=prefect_runs,
        disk=disk,
        again=tuple(again),
        kept=tuple(await _kept(store, records, address)),
    )


def _changed(run_id: str) -> str:
    return f"run {run_id} was written to meanwhile"


async def _erase_from_books(store: CampaignStore, address: Address, say: Say) -> tuple[set[UUID], list[str]]:
    """Return the runs that say less than before, and those that somebody wrote to meanwhile."""
    changed: set[UUID] = set()
    unchanged: list[str] = []
    # What is not ASCII a store does not look for in any case of its letters.
    texts = address.forms if address.text.isascii() else ("",)
    after = ""
    while found := await store.runs_mentioning(texts, after=after, limit=_PAGE):
        for old in found:
            new = without(old, address)
            if new == old:
                continue
            if await store.replace_words(old, new):
                changed.add(UUID(old.run_id))
            else:
                unchanged.append(old.run_id)
        after = found[-1].run_id
        say(f"the books: {len(changed):,} runs")
    return changed, unchanged


async def _kept(store: CampaignStore, records: PrefectRecords, address: Address) -> list[str]:
    """Return what nothing here removes, and what does."""
    kept = [
        f"campaign {record.key} itself names it: change its file, and apply it"
        for record in await store.list_campaigns()
        if address.is_in(record.campaign.model_dump(mode="json", by_alias=True))
    ]
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
