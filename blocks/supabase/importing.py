"""Carrying the books of a SQLite file over to the database of a Supabase project: all of them, once, or nothing.

Everything is written and added up in one transaction of the database. Then the file is closed, and only then is that
transaction committed: no moment is there at which both may spend. What breaks off before leaves both as they were; what
breaks off in between leaves the file closed, and is finished by importing again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from prefect_campaigns.blocks.rows import mail
from prefect_campaigns.blocks.sqlite import limits, records, stopping
from prefect_campaigns.blocks.sqlite.backup import Figures
from prefect_campaigns.blocks.sqlite.closing import HeldBooks, Successor
from prefect_campaigns.blocks.store_types import CampaignRecord
from prefect_campaigns.blocks.supabase import import_rows
from prefect_campaigns.blocks.supabase.faults import MIGRATE
from prefect_campaigns.blocks.supabase.migrate import STATEMENT_SECONDS, connected, pending_in, project_name
from prefect_campaigns.blocks.supabase.records import config_text, slugs_of
from prefect_campaigns.blocks.supabase.values import (
    difference,
    mails_text,
    optional_storable_text,
    pause_text,
    report_text,
    stop_text,
)
from prefect_campaigns.blocks.values import instant, optional_instant
from prefect_campaigns.budget import limits_of
from prefect_campaigns.clock import Clock
from prefect_campaigns.errors import StoreError, StoreMisconfigured, StoreUnavailable

Progress = Callable[[str, int, int], None]
"""Is told what is being written, how many of it are, and of how many."""


_IS_IMPORTED = "SELECT EXISTS (SELECT FROM public.campaign_imports WHERE id = $1)"
_REMEMBER = "INSERT INTO public.campaign_imports (id, source) VALUES ($1, $2)"
_PATIENCE = f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS:.0f}s'"
_KEEP_ID = """
    UPDATE public.campaigns c SET id = $2, created_at = $3
    WHERE c.key = $1 AND NOT EXISTS (SELECT FROM public.campaigns other WHERE other.id = $2)
"""
_INSERT_RUNS = """
    SELECT r::jsonb ->> 'run_id' FROM unnest($1::text[]) r WHERE NOT public.campaigns_insert_run(r::jsonb) LIMIT 1
"""
_COUNT_RUNS = """
    UPDATE public.campaigns c
    SET total_runs = coalesce(c.total_runs, 0) + $2, last_run_at = greatest(c.last_run_at, $3) WHERE c.key = $1
"""
# The lines that are ours are those after $1: nobody else writes any while the books are locked.
_ADD_TOTALS = """
    INSERT INTO public.campaign_totals AS t (campaign_key, period, first_day, spent, reserved)
    SELECT w.campaign_key, w.period, w.first_day, sum(d.spent), sum(d.reserved)
    FROM (SELECT l.campaign_key, l.campaign_day, l.account_day, sum(l.spent) AS spent, sum(l.reserved) AS reserved
          FROM public.campaign_ledger l WHERE l.id > $1 GROUP BY 1, 2, 3) d
    CROSS JOIN LATERAL public.campaigns_windows(d.campaign_key, d.campaign_day, d.account_day) w
    GROUP BY 1, 2, 3
    ON CONFLICT (campaign_key, period, first_day) DO UPDATE SET
        spent = t.spent + excluded.spent, reserved = t.reserved + excluded.reserved
"""
_ADD_COSTS = """
    UPDATE public.campaigns c SET total_cost = coalesce(c.total_cost, 0) + s.spent
    FROM (SELECT campaign_key, sum(spent) AS spent FROM public.campaign_ledger WHERE id > $1 GROUP BY 1) s
    WHERE c.key = s.campaign_key
"""
_ALERT = """
    INSERT INTO public.campaign_alerts AS a (campaign_key, alert_key, claimed_at, told_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (campaign_key, alert_key) DO UPDATE SET told_at = coalesce(a.told_at, excluded.told_at)
"""
_NEW_KEYS = "SELECT DISTINCT campaign_key FROM public.campaign_ledger WHERE id > $1 ORDER BY 1"


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of an import.

    Attributes:
        books: the database, for people.
        figures: what the file holds.
        earlier: how the same file was carried over before; None when it was now.
        kept: campaigns that the database had already, whose newer definitions stay.
        kept_limits: limits of the account that the database had already, and others.
    """

    books: str
    figures: Figures
    earlier: Successor | None
    kept: tuple[str, ...] = ()
    kept_limits: tuple[str, ...] = ()


async def import_books(
    path: Path,
    database_url: str,
    *,
    clock: Clock | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Imported:
    """Carry the books in the SQLite file at ``path`` over, and close them there.

    Raises:
        StoreMisconfigured: the database cannot be used, or lacks tables.
        StoreUnavailable: the file or the database does not answer.
        StoreError: the file cannot be closed now, or was for another database; or what it holds does not fit to what
            the database holds. Nothing has been changed then.
    """
    books = project_name(database_url)
    async with HeldBooks(path, clock=clock) as held:
        try:
            async with connected(database_url) as connection:
                return await _import_held(held, connection, books, progress)
        except StoreError as error:
            if held.successor is None or held.successor.books != books:
                raise
            raise type(error)(f"{error}; {path} is closed: import it again, until it is carried over") from error


async def _import_held(held: HeldBooks, connection: asyncpg.Connection, books: str, progress: Progress) -> Imported:
    if missing := await pending_in(connection):
        raise StoreMisconfigured(
            f"the database {books} has no campaign tables, or older ones ({', '.join(missing)} missing); {MIGRATE};"
            " then import again"
        )
    earlier = held.successor
    if earlier is not None:
        if await connection.fetchval(_IS_IMPORTED, earlier.id):
            return Imported(books=books, figures=held.figures, earlier=earlier)
        if earlier.books != books:
            raise StoreError(f"{held.path} is closed: its books go on in {earlier.books}, and not in {books}")
    async with connection.transaction():
        writing = _Import(held, connection, progress)
        await writing.write()
        import_id = uuid4() if earlier is None else earlier.id
        await connection.execute(_REMEMBER, import_id, str(held.path))
        if earlier is None:
            await held.close_for(books, id=import_id)
    return Imported(books=books, figures=held.figures, earlier=None, kept=writing.kept, kept_limits=writing.kept_limits)


class _Import:
    """Writes what a file holds, inside a transaction that its caller began.

    Attributes:
        kept, kept_limits: as in Imported, once it is written.
    """

    kept: tuple[str, ...]
    kept_limits: tuple[str, ...]

    def __init__(self, held: HeldBooks, connection: asyncpg.Connection, progress: Progress) -> None:
        self._held = held
        self._connection = connection
        self._progress = progress

    async def write(self) -> None:
        """Write it all and add it up."""
        await self._connection.execute(_PATIENCE)
        try:
            await self._connection.execute("SELECT public.campaigns_lock_books()")
        except asyncpg.LockNotAvailableError as error:
            raise StoreUnavailable("runs are writing to the database; end all workers, and import again") from error
        await self._adopt()
        before: int = await self._connection.fetchval("SELECT coalesce(max(id), 0) FROM public.campaign_ledger")
        await self._write_campaigns()
        await self._write_account()
        await self._write_stop()
        await self._write_reservations()
        await self._write_ledger()
        await self._write_runs()
        await self._connection.execute(_ADD_TOTALS, before)
        await self._connection.execute(_ADD_COSTS, before)
        await self._write_alerts()
        await self._write_approvals()
        await self._write_audit()
        await self._write_mails()
        await self._verify(before)

    async def _adopt(self) -> None:
        """Give rows from before this package their keys first, as the store does when it is opened."""
        opening = await self._call("SELECT public.campaigns_opening()")
        if opening["without_key"] or opening["has_old_runs"]:
            await self._call("SELECT public.campaigns_adopt($1)", json.dumps(slugs_of(opening["without_key"])))

    async def _write_campaigns(self) -> None:
        campaigns = await self._held.read(records.list_campaigns)
        rows = await self._connection.fetch("SELECT key FROM public.campaigns WHERE key IS NOT NULL")
        there = {row["key"] for row in rows}
        for campaign in campaigns:
            if campaign.key not in there:
                await self._insert_campaign(campaign)
            if campaign.pause is not None:
                # Where another pause stands already, that one stays.
                await self._call(
                    "SELECT public.campaigns_set_pause($1, $2, NULL)", campaign.key, pause_text(campaign.pause)
                )
        self.kept = tuple(campaign.key for campaign in campaigns if campaign.key in there)

    async def _insert_campaign(self, campaign: CampaignRecord) -> None:
        await self._call(
            "SELECT public.campaigns_save($1, $2, $3, $4, $5, $6, $7)",
            campaign.key,
            campaign.campaign.name,
            config_text(campaign.campaign),
            campaign.deployment_id,
            campaign.applied_schedule_active,
            campaign.updated_at,
            optional_storable_text(campaign.origin),
        )
        await self._connection.execute(_KEEP_ID, campaign.key, campaign.id, campaign.created_at)

    async def _write_account(self) -> None:
        """Set each limit of the account that the database has not."""
        budget = await self._held.read(limits.account_budget)
        row = await self._connection.fetchrow("SELECT * FROM public.campaign_account")
        ours = dict(limits_of(budget))
        has_none = all(row[period] is None for period in ours)
        await self._call(
            "SELECT public.campaigns_set_account_budget($1, $2, $3, $4)",
            *(limit if row[period] is None else row[period] for period, limit in ours.items()),
            budget.timezone if has_none and row["timezone"] == "UTC" else row["timezone"],
        )
        self.kept_limits = tuple(p for p, limit in ours.items() if limit is not None and row[p] not in (None, limit))

    async def _write_stop(self) -> None:
        """Let the stop of the file stand, unless one stands already."""
        stop = await self._held.read(stopping.read_stop)
        if stop is not None:
            await self._call("SELECT public.campaigns_set_stop($1)", stop_text(stop))

    async def _write_reservations(self) -> None:
        # Before all that are there: what is learned from a step's last costs is learned from the newest.
        base: int = await self._connection.fetchval(
            "SELECT least(coalesce(min(id), 1), 1) FROM public.campaign_reservations"
        )
        base -= 1 + await self._held.read(
            lambda db: int(db.execute("SELECT coalesce(max(id), 0) FROM reservations").fetchone()[0])
        )
        total = await self._held.read(lambda db: int(db.execute("SELECT count(*) FROM reservations").fetchone()[0]))
        done = 0
        try:
            async for rows in self._held.reservations():
                await self._copy(
                    "campaign_reservations",
                    import_rows.RESERVATION,
                    (import_rows.reservation(row, base) for row in rows),
                )
                done += len(rows)
                self._progress("reservations", done, total)
        except asyncpg.UniqueViolationError as error:
            raise self._is_there_already(_run_in(error)) from error

    async def _write_ledger(self) -> None:
        done = 0
        async for rows in self._held.ledger():
            await self._copy("campaign_ledger", import_rows.LINE, map(import_rows.line, rows))
            done += len(rows)
            self._progress("ledger lines", done, self._held.figures.ledger_lines)

    async def _write_runs(self) -> None:
        """Write the runs, whose cost is that of the ledger, and count them in their campaigns."""
        begun: dict[str, list[datetime]] = {}
        done = 0
        async for reports in self._held.runs():
            there = await self._connection.fetchval(_INSERT_RUNS, [report_text(report) for report in reports])
            if there is not None:
                raise self._is_there_already(there)
            for report in reports:
                # One that was skipped has never begun.
                if report.state_name != "Skipped":
                    begun.setdefault(report.campaign_key, []).append(report.started_at)
            done += len(reports)
            self._progress("runs", done, self._held.figures.runs)
        await self._connection.executemany(_COUNT_RUNS, [(key, len(at), max(at)) for key, at in begun.items()])

    async def _write_alerts(self) -> None:
        async for rows in self._held.alerts():
            await self._connection.executemany(
                _ALERT,
                [
                    (
                        row["campaign_key"],
                        row["alert_key"],
                        instant(row["claimed_at"]),
                        optional_instant(row["told_at"]),
                    )
                    for row in rows
                ],
            )

    async def _write_approvals(self) -> None:
        try:
            async for rows in self._held.approvals():
                await self._copy("campaign_approvals", import_rows.APPROVAL, map(import_rows.approval, rows))
        except asyncpg.UniqueViolationError as error:
            raise self._is_there_already(_run_in(error)) from error

    async def _write_audit(self) -> None:
        async for rows in self._held.audit():
            await self._copy("campaign_audit", import_rows.AUDIT, map(import_rows.audit_line, rows))

    async def _write_mails(self) -> None:
        async for found in self._held.mails():
            await self._call("SELECT public.campaigns_record_mails($1)", mails_text(map(mail, found)))

    async def _verify(self, before: int) -> None:
        """Add up the ledger of the account and of every campaign that has new lines."""
        keys = [row["campaign_key"] for row in await self._connection.fetch(_NEW_KEYS, before)]
        for number, key in enumerate([None, *keys], start=1):
            differences = await self._call("SELECT public.campaigns_verify_totals($1)", key)
            if differences:
                raise StoreError(
                    "the books would not add up after the import, and nothing was changed:"
                    f" {difference(key, differences[0])}"
                )
            self._progress("totals verified", number, len(keys) + 1)

    def _is_there_already(self, run: str) -> StoreError:
        return StoreError(
            f"run {run} of {self._held.path} is in the database already, by other means than an import of this file;"
            " nothing was changed"
        )

    async def _copy(self, table: str, columns: Iterable[str], rows: Iterable[tuple[Any, ...]]) -> None:
        await self._connection.copy_records_to_table(
            table, records=rows, columns=list(columns), schema_name="public", timeout=STATEMENT_SECONDS
        )

    async def _call(self, query: str, *arguments: Any) -> Any:
        answer = json.loads(await self._connection.fetchval(query, *arguments))
        if "error" in answer:
            raise StoreError(f"{answer['error']['message']}; nothing was changed")
        return answer["value"]


def _run_in(error: asyncpg.UniqueViolationError) -> str:
    """Return the run that is there already, by what the database says of the row."""
    found = re.search(r"=\(([^,]+), ", error.detail or "")
    return found[1] if found else "of one of its requests"
