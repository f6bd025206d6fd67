"""What goes when personal data has to go, and the books stay: the part of the Protocol of all stores about that.

What ``store`` says holds here: instants are aware and in UTC, and every method may raise StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class RunWords:
    """What a run's record says in the words of engines; no cent, count or instant is among it.

    Attributes:
        message: the run's.
        steps: by the step's name, what the store keeps of it as JSON (``results.step_detail``), as text.
        earlier: of a run from before this package, which has no steps: its columns of JSON by their names, as text.
    """

    run_id: str
    message: str | None
    steps: Mapping[str, str]
    earlier: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Mentions:
    """What a look through some runs has found.

    Attributes:
        found: the runs in whose words one of the texts stands, by their ids.
        after: the id of the last run that was looked at; None where there are no more.
    """

    found: Sequence[RunWords]
    after: str | None


class PersonalDataStore(Protocol):
    """Forgets what engines said."""

    async def uncleared_runs(self, *, ended_before: datetime, limit: int = 50) -> Sequence[RunWords]:
        """Return what runs say that ended before then and are not cleared; those that ended first come first."""
        ...

    async def runs_mentioning(self, texts: Collection[str], *, after: str = "", limit: int = 200) -> Mentions:
        """Look through so many runs, by their ids, for texts in their words, in any case of their ASCII letters.

        Args:
            texts: in lower case; as JSON writes them, in ASCII.
            after: the id of the run that came last before these.
        """
        ...

    async def replace_words(self, old: RunWords, new: RunWords, *, cleared: bool = False) -> bool:
        """Let a run say the new words, if the old ones are what it says now.

        Args:
            cleared: whether nothing of what engines said is left in them; of a run that has ended only, and until it
                begins anew or one of its steps is written.

        Returns:
            Whether they were; otherwise nothing is changed.
        """
        ...

    async def remove_mails(self, *, before: datetime, to: str | None = None) -> int:
        """Remove the records of mails that are not owed any more, and that became owed before then; return how many.

        Args:
            to: of this recipient alone, in any case of its ASCII letters.
        """
        ...

    async def overwrite_removed(self) -> bool:
        """Let nothing be left of what was removed in the files that the store itself writes.

        Returns:
            Whether that could be done; otherwise somebody reads or writes at this moment.
        """
        ...
