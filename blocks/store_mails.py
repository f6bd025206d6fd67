"""What is known of who was mailed: the part of the Protocol of all stores that is about mails.

What ``store`` says holds here: instants are aware and in UTC, and every method may raise StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

from prefect_campaigns.blocks.store_types import MailRecord, MailState


class MailStore(Protocol):
    """Keeps, per event and recipient, which mail is owed and which was sent."""

    async def record_mails(self, records: Sequence[MailRecord]) -> None:
        """Insert or replace the records of these mails, all or none of them."""
        ...

    async def mails_about(self, event_ids: Collection[UUID]) -> Sequence[MailRecord]:
        """Return the mails about these events."""
        ...

    async def list_mails(self, state: MailState, *, limit: int = 200) -> Sequence[MailRecord]:
        """Return the mails that stand so, by how long they are owed: the newest first."""
        ...
