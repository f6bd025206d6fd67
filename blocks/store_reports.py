"""What reports and pages read: the part of the Protocol of all stores about that.

What ``store`` says holds here: amounts are US dollars as Decimal, instants are aware and in UTC, and every method may
raise StoreUnavailable. None of these costs more because more was done long ago.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from prefect_campaigns.blocks.store_types import RunBrief
from prefect_campaigns.budget import BudgetStatus
from prefect_campaigns.results import RunReport, RunStatus


class ReportStore(Protocol):
    """Reads what is shown of many runs at once."""

    async def latest_runs(
        self, *, limit: int, campaign_keys: Collection[str] | None = None
    ) -> Mapping[str, Sequence[RunBrief]]:
        """Return the newest runs of each campaign, newest first, by its key; of these campaigns, or of all."""
        ...

    async def last_outcomes(self) -> Mapping[str, RunStatus]:
        """Return where the newest run of each campaign stands, or how it ended, by key; of those that have run."""
        ...

    async def run_outlines(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        campaign_key: str | None = None,
        limit: int,
    ) -> Sequence[RunReport]:
        """Return the newest runs that began from ``since`` on and before ``until``, without what engines answered.

        Newest first; of one campaign, or of all that have a row. The ``result`` of each step is None.
        """
        ...

    async def spent_by_day(
        self, *, since: date, until: date, campaign_key: str | None = None
    ) -> Mapping[date, Decimal]:
        """Return what was spent on each local day from ``since`` to ``until``, both included.

        The days are those of the windows that the money was booked in: of the campaign's timezone, or, of all
        campaigns together (None), of the account's. A day on which nothing was spent may be left out.
        """
        ...

    async def budget_statuses(self, campaign_keys: Collection[str] | None = None) -> Mapping[str, BudgetStatus]:
        """Return what ``budget_status`` does, of these campaigns or of all, at one moment, by key.

        Reservations that have expired are seen to first. What has no row, or one whose budget cannot be read, is left
        out.
        """
        ...
