"""What reports and pages read, in a Supabase project: a part of the store there."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol

from prefect_campaigns.blocks import rows
from prefect_campaigns.blocks.store_types import RunBrief
from prefect_campaigns.blocks.supabase import values
from prefect_campaigns.blocks.values import optional_instant_text
from prefect_campaigns.budget import BudgetStatus
from prefect_campaigns.results import RunReport, RunStatus


def _keys_text(keys: Collection[str] | None) -> str | None:
    return None if keys is None else json.dumps([values.storable_text(key) for key in keys])


class _Calls(Protocol):
    async def _value(self, function: str, **arguments: Any) -> Any: ...

    def _now(self) -> str | None: ...


class ReportReading:
    """The methods of ReportStore, for a class that calls the functions of the project's database."""

    async def latest_runs(
        self: _Calls, *, limit: int, campaign_keys: Collection[str] | None = None
    ) -> Mapping[str, Sequence[RunBrief]]:
        found: dict[str, list[RunBrief]] = {}
        for row in await self._value("campaigns_latest_runs", p_limit=max(limit, 0), p_keys=_keys_text(campaign_keys)):
            found.setdefault(row["campaign_key"], []).append(rows.brief(row, Decimal))
        return found

    async def last_outcomes(self: _Calls) -> Mapping[str, RunStatus]:
        found = await self._value("campaigns_last_outcomes")
        return {key: rows.run_status(status) for key, status in found.items()}

    async def run_outlines(
        self: _Calls,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        campaign_key: str | None = None,
        limit: int,
    ) -> Sequence[RunReport]:
        found = await self._value(
            "campaigns_run_outlines",
            p_campaign_key=values.optional_storable_text(campaign_key),
            p_since=optional_instant_text(since),
            p_until=optional_instant_text(until),
            p_limit=max(limit, 0),
        )
        return [rows.outline(row, Decimal, steps=row["steps"]) for row in found]

    async def spent_by_day(
        self: _Calls, *, since: date, until: date, campaign_key: str | None = None
    ) -> Mapping[date, Decimal]:
        found = await self._value(
            "campaigns_spent_by_day",
            p_campaign_key=values.optional_storable_text(campaign_key),
            p_since=since.isoformat(),
            p_until=until.isoformat(),
        )
        return {date.fromisoformat(day): Decimal(spent) for day, spent in found.items()}

    async def budget_statuses(self: _Calls, campaign_keys: Collection[str] | None = None) -> Mapping[str, BudgetStatus]:
        found = await self._value("campaigns_budget_statuses", p_keys=_keys_text(campaign_keys), p_now=self._now())
        return {key: values.budget_status(row) for key, row in found.items()}
