"""What ``campaigns db …`` does. Its help stands in ``main``, which imports this when it is run."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from rich.markup import escape

from prefect_campaigns.blocks.journal import Journal, settle_journal
from prefect_campaigns.blocks.settings import Settings, load_settings
from prefect_campaigns.blocks.sqlite.backup import Figures, Restored, backup, figures_of, restore
from prefect_campaigns.blocks.sqlite.closing import left_behind, successor_of
from prefect_campaigns.blocks.sqlite.schema import MIGRATIONS
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.stores import SqliteChoice, choose_store, open_chosen
from prefect_campaigns.blocks.supabase.importing import Imported, Progress, import_books
from prefect_campaigns.blocks.supabase.migrate import migrate, migrations, project_name, whole_sql
from prefect_campaigns.deployments.cli.asking import agreed
from prefect_campaigns.deployments.cli.main import EXIT_FAILED, EXIT_OK, AsJson, err, out, print_json, say
from prefect_campaigns.deployments.cli.printing import plain_table
from prefect_campaigns.deployments.running.interrupts import cancel_on_signals
from prefect_campaigns.errors import CampaignsError, SettingsError
from prefect_campaigns.money import format_money

SUPABASE_TABLES = (
    "campaigns",
    "campaign_runs",
    "campaign_run_steps",
    "campaign_leases",
    "campaign_lease_queue",
    "campaign_reservations",
    "campaign_ledger",
    "campaign_totals",
    "campaign_account",
    "campaign_alerts",
    "campaign_imports",
    "campaign_stop",
    "campaign_approvals",
    "campaign_audit",
    "campaign_workers",
    "campaign_mails",
    "campaign_engines",
)
"""What a backup of the books in Supabase is made of; which migrations were applied is not part of it."""

_APPEND_ONLY = ("campaign_ledger", "campaign_audit")
_REPLACE = "Replace what the store holds now?"
_ADD_YES = "restoring replaces what the store holds now; add --yes to do it"
_WHERE = "the dashboard shows it under Connect"
_DASHBOARD = "Supabase keeps daily backups of its own: in the dashboard, under Database, Backups"


async def migrate_command(*, sql: bool = False, json: AsJson = False) -> int:
    """Make or upgrade the tables.

    Parameters
    ----------
    sql
        Print the SQL, and do nothing.
    """
    cancel_on_signals()
    settings = load_settings()
    if sql:
        if json:
            print_json({"success": True, "sql": whole_sql()})
        else:
            print(whole_sql())
        return EXIT_OK
    # Whoever names the database wants it migrated, whatever else is set yet.
    if settings.supabase_db_url is not None:
        return await _migrate_supabase(settings.supabase_db_url, as_json=json)
    choice = await _sqlite(settings)
    if choice is None:
        raise SettingsError(
            "the books are in Supabase, and SUPABASE_DB_URL, its database's URL, is not set. Set it"
            f" ({_WHERE}), or paste what campaigns db migrate --sql prints into the dashboard's SQL editor"
        )
    async with open_chosen(choice):
        version = len(MIGRATIONS)
    if json:
        print_json({"success": True, "store": str(choice.path), "applied": [], "version": version})
    else:
        say(f"[green]✓[/] {escape(str(choice))} is at version {version}; it upgrades itself when it is opened.")
    return EXIT_OK


async def _migrate_supabase(database_url: SecretStr, *, as_json: bool) -> int:
    applied = await migrate(database_url.get_secret_value())
    host = urlsplit(database_url.get_secret_value()).hostname
    if as_json:
        print_json({"success": True, "store": host, "applied": applied, "version": len(migrations())})
        return EXIT_OK
    for name in applied:
        say(f"[green]✓[/] {name}")
    done = "is up to date now" if applied else "was up to date already"
    say(f"[green]✓[/] The database at {host} {done}, at version {len(migrations())}.")
    return EXIT_OK


async def backup_command(file: Path, /, *, json: AsJson = False) -> int:
    """Back the SQLite file up.

    Parameters
    ----------
    file
        Where to; it must not exist yet.
    """
    cancel_on_signals()
    choice = await _sqlite(load_settings())
    if choice is None:
        why = "The books are in Supabase, and this command copies SQLite files only. This copies them"
        besides = f"SUPABASE_DB_URL is the URL of the database: {_WHERE}. {_DASHBOARD}"
        return _say_what_to_do(why, pg_dump_command(file), besides, as_json=json)
    figures = await backup(choice.path, file)
    if json:
        print_json({"success": True, "store": str(choice.path), "backup": str(file), **_figures_json(figures)})
        return EXIT_OK
    say(f"[green]✓[/] {escape(str(file))} is a copy of {escape(str(choice.path))}: {_said(figures)}.")
    return EXIT_OK


async def restore_command(file: Path, /, *, yes: bool = False, json: AsJson = False) -> int:
    """Restore the SQLite file.

    Parameters
    ----------
    file
        The backup.
    yes
        Do it without asking.
    """
    cancel_on_signals()
    choice = await _sqlite(load_settings())
    if choice is None:
        why = "The books are in Supabase, and this command restores SQLite files only. End all workers, and this does"
        besides = f"It takes what pg_dump made (see campaigns db backup). {_DASHBOARD}"
        return _say_what_to_do(why, psql_command(file), besides, as_json=json)
    source = await figures_of(file)
    present = await figures_of(choice.path) if choice.path.exists() else None
    if not json:
        _print_comparison(choice.path, present, file, source)
    if not yes and not await agreed(_REPLACE, otherwise=_ADD_YES, may_ask=not json):
        if not json:
            say("Nothing was changed.")
        return EXIT_FAILED
    restored = await restore(choice.path, file)
    if json:
        print_json({"success": True, **_restored_json(choice.path, file, restored)})
        return EXIT_OK
    say(f"[green]✓[/] {escape(str(choice.path))} holds what {escape(str(file))} held.")
    if restored.kept is not None:
        say(f"  What it held before is kept in {escape(str(restored.kept))}.")
    say("  Its limits, pauses and campaigns hold now, too; campaigns apply makes Prefect agree with them.")
    return EXIT_OK


async def import_command(file: Path, /, *, json: AsJson = False) -> int:
    """Carry the SQLite file over to Supabase.

    Parameters
    ----------
    file
        The SQLite file that has kept the books until now.
    """
    cancel_on_signals()
    settings = load_settings()
    if settings.supabase_db_url is None:
        raise SettingsError(
            f"SUPABASE_DB_URL, the URL of the database that {file} goes to, is not set. Set it ({_WHERE})"
        )
    database_url = settings.supabase_db_url.get_secret_value()
    _check_it_is_one_project(settings, database_url)
    await _check_it_is_in_use(settings.database_path, file)
    if await successor_of(file) is None:
        await _settle_answers(Journal(settings.journal_folder), file)
    with _showing_progress() as progress:
        imported = await import_books(file, database_url, progress=progress)
    if json:
        print_json({"success": True, "store": str(file), **_imported_json(imported)})
        return EXIT_OK
    if imported.earlier is not None:
        say(
            f"[green]✓[/] {escape(str(file))} was carried over to {escape(imported.books)} at"
            f" {_instant(imported.earlier.at)} UTC already; nothing was changed."
        )
        return EXIT_OK
    say(f"[green]✓[/] {escape(imported.books)} goes on with {escape(str(file))}: {_said(imported.figures)}.")
    for what, kept in (("campaign", imported.kept), ("limit of the account", imported.kept_limits)):
        if kept:
            say(f"[yellow]![/] The database had these already, and keeps its own {what}: {escape(', '.join(kept))}.")
    say("  The totals agree with the ledger. The file is closed: it can be read, and nothing is spent by it any more.")
    return EXIT_OK


def _check_it_is_one_project(settings: Settings, database_url: str) -> None:
    """Refuse to close books for one project when another will be asked for them, as far as names tell."""
    project, database = urlsplit(settings.supabase_url or "").hostname or "", project_name(database_url)
    if project != database and project.endswith(".supabase.co") and database.endswith(".supabase.co"):
        raise SettingsError(f"SUPABASE_URL names {project}, and SUPABASE_DB_URL the database of another, {database}")


async def _check_it_is_in_use(in_use: Path, file: Path) -> None:
    """Refuse a backup while the books that it was made of are there: what they hold since could never follow."""
    if await asyncio.to_thread(lambda: not file.exists() or (in_use.exists() and file.samefile(in_use))):
        return
    books = await left_behind(in_use)
    if books is not None and books.successor is None:
        raise CampaignsError(
            f"the books in use are in {in_use}, and not in {file}; import those, or set CAMPAIGNS_DATABASE to {file} if"
            " it is the one that campaigns have run by"
        )


async def _settle_answers(journal: Journal, file: Path) -> None:
    """Settle what engines charged while the file was away: afterwards nobody could.

    Raises:
        CampaignsError: some of it cannot be settled.
    """
    store = SqliteStore(file)
    if not await journal.entries(store.books):
        return
    async with store:
        # What has expired is seen to first: an answer waits for the end of a later attempt.
        await store.account_status()
        await settle_journal(journal, store)
    if left := await journal.entries(store.books):
        runs = ", ".join(sorted({entry.reservation.run_id for entry in left}))
        raise CampaignsError(
            f"{journal.folder} holds answers of engines that are not in these books, of runs {runs}, and nothing was"
            " changed; campaigns doctor says more"
        )


@contextmanager
def _showing_progress() -> Iterator[Progress]:
    if not err.is_terminal:
        yield lambda what, done, total: None
        return
    with err.status("Waiting for the books") as status:
        yield lambda what, done, total: status.update(f"{done:,} of {total:,} {what}")


def _imported_json(imported: Imported) -> dict[str, Any]:
    return {
        "database": imported.books,
        "carriedOverBefore": imported.earlier is not None,
        **_figures_json(imported.figures),
        "keptCampaigns": list(imported.kept),
        "keptLimits": list(imported.kept_limits),
    }


def _print_comparison(path: Path, present: Figures | None, file: Path, source: Figures) -> None:
    numbers = ("Campaigns", "Runs", "Ledger lines", "Spent (USD)")
    table = plain_table("", *numbers, "Last line (UTC)", right=numbers)
    for name, figures in (("store now", present), ("backup", source)):
        if figures is not None:
            counts = map(str, (figures.campaigns, figures.runs, figures.ledger_lines))
            table.add_row(name, *counts, format_money(figures.spent), _instant(figures.newest_line_at))
    out.print(f"Store:  {escape(str(path))}\nBackup: {escape(str(file))}", soft_wrap=True)
    out.print(table)
    if present is None:
        say("There is no store yet: nothing would be lost.")
    elif present.newest_line_at and (not source.newest_line_at or present.newest_line_at > source.newest_line_at):
        say("[yellow]![/] The store has been written to since: what is newer than the backup would be gone.")


def _instant(instant: datetime | None) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M}" if instant else "none"


def _said(figures: Figures) -> str:
    counts = {"campaign": figures.campaigns, "run": figures.runs, "ledger line": figures.ledger_lines}
    counted = ", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items())
    newest = f", the last at {_instant(figures.newest_line_at)} UTC" if figures.newest_line_at else ""
    return f"{counted}{newest}, {format_money(figures.spent)} USD spent in all"


def _figures_json(figures: Figures) -> dict[str, Any]:
    return {
        "campaigns": figures.campaigns,
        "runs": figures.runs,
        "ledgerLines": figures.ledger_lines,
        "spent": format_money(figures.spent),
        "newestLineAt": figures.newest_line_at.isoformat() if figures.newest_line_at else None,
    }


def _restored_json(path: Path, file: Path, restored: Restored) -> dict[str, Any]:
    return {
        "store": str(path),
        "backup": str(file),
        "restored": _figures_json(restored.source),
        "replaced": _figures_json(restored.present) if restored.present else None,
        "kept": str(restored.kept) if restored.kept else None,
    }


async def _sqlite(settings: Settings) -> SqliteChoice | None:
    """Return the SQLite file that keeps the books; None when Supabase does."""
    choice = await choose_store(settings)
    return choice if isinstance(choice, SqliteChoice) else None


def pg_dump_command(file: Path) -> str:
    """Return the shell command that copies the books in Supabase into a file."""
    tables = "|".join(SUPABASE_TABLES)
    return f"pg_dump --data-only --table='public.({tables})' --file={shlex.quote(str(file))} \"$SUPABASE_DB_URL\""


def psql_command(file: Path) -> str:
    """Return the shell command that puts such a file in the place of the books: all of it, or nothing."""
    lines = (
        'psql "$SUPABASE_DB_URL" --single-transaction --set=ON_ERROR_STOP=on',
        # These let nobody take anything out of them.
        *(f"--command='ALTER TABLE public.{table} DISABLE TRIGGER USER'" for table in _APPEND_ONLY),
        f"--command='TRUNCATE {', '.join(f'public.{table}' for table in SUPABASE_TABLES)}'",
        f"--file={shlex.quote(str(file))}",
        *(f"--command='ALTER TABLE public.{table} ENABLE TRIGGER USER'" for table in _APPEND_ONLY),
    )
    return " \\\n  ".join(lines)


def _say_what_to_do(why: str, command: str, besides: str, *, as_json: bool) -> int:
    """Say how to do by hand what this program does not."""
    if as_json:
        print_json({"success": False, "error": f"{why}. {besides}", "command": command})
        return EXIT_FAILED
    say(f"[red]✗[/] {why}:\n", to=err)
    # Whole, so that it can be copied.
    err.print(command, markup=False, soft_wrap=True)
    say(f"\n  {besides}.", to=err)
    return EXIT_FAILED
