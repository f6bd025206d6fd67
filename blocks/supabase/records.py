"""Campaigns' rows, among them those that were in the project before this package."""

from __future__ import annotations

import json
from collections.abc import Iterable

from prefect.logging import get_logger
from slugify import slugify

from prefect_campaigns.blocks.rows import Row, campaign_record, pause
from prefect_campaigns.blocks.store_types import CampaignRecord
from prefect_campaigns.errors import StoreError
from prefect_campaigns.models import Campaign

_logger = get_logger("campaigns.store")

NAMELESS = "campaign"
"""The key, before it is numbered, of a campaign from before whose name has neither letter nor digit."""


def slugs_of(rows: Iterable[Row]) -> dict[str, str]:
    """Return the slug of each row's name by the row's id; the database sees to it that keys differ."""
    return {row["id"]: slugify(row["name"]) or NAMELESS for row in rows}


def config_text(campaign: Campaign) -> str:
    """Return the campaign as the JSON that its row keeps.

    Raises:
        StoreError: it holds a character that PostgreSQL's JSON cannot.
    """
    text = json.dumps(campaign.model_dump(mode="json", by_alias=True), ensure_ascii=False)
    if "\\u0000" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise StoreError(
            f"campaign {campaign.slug!r} holds the character U+0000 or half of a surrogate pair, which Supabase cannot"
            " keep; take it out of the campaign's params, description or metadata"
        )
    return text


def record(row: Row) -> CampaignRecord:
    """Return the row as a record.

    Raises:
        StoreError: its campaign cannot be used.
    """
    return campaign_record(row, pause=None if row["pause"] is None else pause(row["pause"]))


class Records:
    """Reads lists of rows, and remembers of which it has complained."""

    def __init__(self) -> None:
        self._complained: set[str] = set()

    def readable(self, rows: Iterable[Row]) -> list[CampaignRecord]:
        """Return all rows as records.

        A row from before that was never applied, and that this version cannot read, is left out with a warning: it
        cannot run, and must not hide the others. It is there again when a campaign of its name is applied.

        Raises:
            StoreError: one that was applied cannot be used.
        """
        found = []
        for row in rows:
            try:
                found.append(record(row))
            except StoreError as error:
                if row["deployment_id"] is not None:
                    raise
                if row["id"] not in self._complained:
                    self._complained.add(row["id"])
                    _logger.warning("%s; apply a campaign of that name to replace it", error)
        return found
