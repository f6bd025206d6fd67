"""What engines charged, on this machine's disk, until the store has it.

An answer that has been paid for is written here before it is settled, and taken out afterwards. When the store is away
at that moment, or the process dies, it is settled later: by the run itself, by the next run on this machine, or by the
worker, which looks now and then.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect.logging import get_logger
from pydantic import TypeAdapter

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AttemptState, Reservation
from prefect_campaigns.blocks.values import amount_micros
from prefect_campaigns.errors import StoreError, StoreUnavailable
from prefect_campaigns.money import format_money, from_micros
from prefect_campaigns.results import StepResult

_SUFFIX = ".json"
_CONTRADICTS = ".contradicts"
_logger = get_logger("campaigns.journal")


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """One answer of an engine that is to be settled.

    Attributes:
        books: the store it belongs to (``CampaignStore.books``); it is settled nowhere else.
        amount: what the engine charged, in US dollars.
        step: the finished step; None when the request failed.
    """

    books: str
    reservation: Reservation
    amount: Decimal
    step: StepResult | None


# Through the json module, whose escapes hold what an engine may say and UTF-8 cannot.
_ENTRY = TypeAdapter(JournalEntry)


@dataclass(frozen=True, kw_only=True)
class JournalContent:
    """What lies in a journal.

    Attributes:
        waiting: how many entries are to be settled in which store.
        contradicting: entries that were set aside.
        unreadable: files that should be entries.
    """

    waiting: Mapping[str, int]
    contradicting: tuple[Path, ...]
    unreadable: tuple[Path, ...]


class Journal:
    """A folder with one file for each entry. Every method does its work in a thread."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; the first entry makes it, readable by its owner only."""
        self.folder = folder

    async def write(self, entry: JournalEntry) -> None:
        """Keep an entry. When this returns it is on the disk, and outlives the process and the machine's power.

        Raises:
            StoreUnavailable: the disk does not take it.
        """
        try:
            await asyncio.to_thread(self._write, entry)
        except OSError as error:
            raise StoreUnavailable(f"the journal {self.folder} cannot be written: {error.strerror}") from error

    async def remove(self, entry: JournalEntry) -> None:
        """Forget an entry that has been settled; one that is not there is forgotten already.

        One that the disk does not let go of is settled again some day, which changes nothing.
        """
        try:
            await asyncio.to_thread(self._path(entry).unlink, missing_ok=True)
        except OSError as error:
            _logger.error("%s cannot be removed: %s", self._path(entry), error)

    async def set_aside(self, entry: JournalEntry) -> Path:
        """Keep an entry that contradicts the books where it is settled no more; return where."""
        path = self._path(entry)
        try:
            return await asyncio.to_thread(path.rename, path.with_suffix(_CONTRADICTS))
        except OSError as error:
            _logger.error("%s cannot be renamed: %s", path, error)
            return path

    async def is_empty(self) -> bool:
        """Whether there is nothing to settle, in any store."""
        return not await asyncio.to_thread(lambda: any(self.folder.glob(f"*{_SUFFIX}")))

    async def entries(self, books: str) -> list[JournalEntry]:
        """Return the entries that belong to a store, oldest first."""
        return await asyncio.to_thread(lambda: [entry for entry in self._read() if entry.books == books])

    async def rewrite(self, change: Callable[[Any], Any], *, set_aside_before: datetime | None = None) -> int:
        """Let the steps of entries say what ``change`` makes of them, and what they cost stay.

        Args:
            change: takes and returns a step as JSON has it.
            set_aside_before: of those that were set aside before then, and of none that is to be settled; None is all.

        Returns:
            How many entries are other than before.

        Raises:
            StoreUnavailable: the disk does not take them.
        """
        try:
            return await asyncio.to_thread(self._rewrite, change, set_aside_before)
        except OSError as error:
            raise StoreUnavailable(f"the journal {self.folder} cannot be written: {error.strerror}") from error

    def _rewrite(self, change: Callable[[Any], Any], set_aside_before: datetime | None) -> int:
        number = 0
        paths = [*self.folder.glob(f"*{_CONTRADICTS}")]
        if set_aside_before is None:
            paths += self.folder.glob(f"*{_SUFFIX}")
        for path in paths:
            if set_aside_before is not None and _changed_at(path) >= set_aside_before.timestamp() * 1e9:
                continue
            try:
                entry = json.loads(path.read_text("ascii"))
                step = entry["step"] and change(entry["step"])
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                # Settled by somebody else meanwhile, or what ``content`` calls unreadable.
                continue
            if step != entry["step"]:
                self._put(path, {**entry, "step": step})
                number += 1
        return number

    async def content(self) -> JournalContent:
        """Return what lies in it, for all stores."""
        return await asyncio.to_thread(self._content)

    def _content(self) -> JournalContent:
        unreadable: list[Path] = []
        waiting = Counter(entry.books for entry in self._read(unreadable.append))
        return JournalContent(
            waiting=waiting,
            contradicting=tuple(sorted(self.folder.glob(f"*{_CONTRADICTS}"))),
            unreadable=tuple(unreadable),
        )

    def _path(self, entry: JournalEntry) -> Path:
        what = f"{entry.books}\0{entry.reservation.run_id}\0{entry.reservation.step}\0{entry.reservation.attempt}"
        return self.folder / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}{_SUFFIX}"

    def _write(self, entry: JournalEntry) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._put(self._path(entry), _ENTRY.dump_python(entry, mode="json"))

    def _put(self, path: Path, content: Any) -> None:
        draft = path.with_suffix(f".{uuid4().hex}.draft")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            keep_owner(path, draft)
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            # The name, too, has to reach the disk.
            os.fsync(folder)
        finally:
            os.close(folder)

    def _read(self, note_unreadable: Callable[[Path], object] | None = None) -> Iterator[JournalEntry]:
        files = sorted(self.folder.glob(f"*{_SUFFIX}"), key=lambda path: (_changed_at(path), path.name))
        for path in files:
            try:
                yield _ENTRY.validate_python(json.loads(path.read_text("ascii")))
            except FileNotFoundError:
                # Settled by somebody else meanwhile.
                continue
            except (OSError, ValueError) as error:
                _logger.error("%s cannot be read and is left where it is: %s", path, error)
                if note_unreadable is not None:
                    note_unreadable(path)


def keep_owner(path: Path, draft: Path) -> None:
    """Give what is to replace a file to the file's owner: whoever else may write it, that one has to go on with it."""
    with suppress(FileNotFoundError, PermissionError):
        owner = path.stat()
        os.chown(draft, owner.st_uid, owner.st_gid)


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


_STILL_OPEN = (AttemptState.SENT, AttemptState.UNCONFIRMED)


async def settle_journal(journal: Journal, store: CampaignStore) -> int:
    """Settle what the journal holds for a store, and return how many entries were settled.

    What a later request of the same step may yet speak for stays in the journal, to be tried again.

    Raises:
        StoreUnavailable: the store is away, still or again.
    """
    settled = 0
    for entry in await journal.entries(store.books):
        reservation = entry.reservation
        try:
            now = await store.settle_late(reservation, entry.amount, step=entry.step)
            if now.state in _STILL_OPEN:
                continue
            is_in_the_books = await _is_in_the_books(store, entry, now)
        except StoreUnavailable:
            raise
        except StoreError as error:
            _logger.error(
                "%s USD for step %r of run %s stay in the journal: %s",
                format_money(entry.amount),
                reservation.step,
                reservation.run_id,
                error,
            )
            continue
        if is_in_the_books:
            await journal.remove(entry)
            settled += 1
            continue
        _logger.error(
            "step %r of run %s is booked at %s, and the engine said %s before; a person may look at %s",
            reservation.step,
            reservation.run_id,
            format_money(now.booked or Decimal(0)),
            format_money(entry.amount),
            await journal.set_aside(entry),
        )
    return settled


async def _is_in_the_books(store: CampaignStore, entry: JournalEntry, now: Reservation) -> bool:
    """Whether what an entry says is booked, for its own attempt or for a later one that spoke for it."""
    # As the books round it: an engine's cost may be finer than they are.
    if now.booked == from_micros(amount_micros(entry.amount)):
        return True
    if entry.step is None or now.state is not AttemptState.CORRECTED or now.booked:
        return False
    # What a later answer with the same key has spoken for was charged once, and is booked there. Where there is no
    # such answer, a person has said that it cost nothing, and the engine says otherwise.
    return any(
        later.state is AttemptState.SETTLED or (later.state is AttemptState.CORRECTED and later.booked)
        for later in await store.attempts(now.run_id, now.step)
        if later.attempt > now.attempt
    )
