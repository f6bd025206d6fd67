"""What ``campaigns setup`` and ``campaigns doctor`` do. Their help stands in ``main``, which imports this."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect.blocks.abstract import NotificationError
from prefect.client.orchestration import PrefectClient
from prefect_email import EmailServerCredentials
from rich.markup import escape
from rich.table import Table

from prefect_campaigns.blocks.email import CampaignEmail, check_mail_server
from prefect_campaigns.blocks.settings import Settings, load_settings
from prefect_campaigns.blocks.sqlite.closing import Successor, left_behind
from prefect_campaigns.blocks.stores import SupabaseChoice, forget_saved_store, open_chosen
from prefect_campaigns.blocks.supabase_credentials import STORE_BLOCK_NAME, SupabaseCredentials
from prefect_campaigns.deployments.applying.saved_blocks import Saving, load_block, save_if_changed
from prefect_campaigns.deployments.applying.saved_mail import SMTP_BLOCK_NAME, load_mail, save_mail
from prefect_campaigns.deployments.checking.doctor import examine
from prefect_campaigns.deployments.checking.findings import Finding, Health
from prefect_campaigns.deployments.cli.main import EXIT_FAILED, EXIT_OK, AsJson, error_json, out, print_json, say
from prefect_campaigns.deployments.cli.printing import Entry, Listing, PlainTable
from prefect_campaigns.deployments.cli.settings_view import Origin, SavedSettings, SettingView, list_settings
from prefect_campaigns.deployments.driving.trial_mail import send_trial_mail
from prefect_campaigns.deployments.running.interrupts import cancel_on_signals
from prefect_campaigns.deployments.running.server import configured_api_url, connect
from prefect_campaigns.errors import CampaignsError, ServerError, SettingsError, StoreError
from prefect_campaigns.money import format_money
from prefect_campaigns.words import hide_login

SAVED_SECONDS = 10.0
"""How long the Prefect server may take to say what is saved there."""

_NOTHING = (
    "there is nothing to save: set SUPABASE_URL and SUPABASE_KEY, or SMTP_HOST, in the environment or in .env"
    " (.env.template says what they mean)"
)


@dataclass(frozen=True, kw_only=True)
class _Saved:
    """A block that was saved, and what it is of, in words."""

    block: str
    what: str
    saving: Saving


async def setup_command(*, new_books: bool = False, json: AsJson = False) -> int:
    """Save what .env says as blocks on the Prefect server.

    Parameters
    ----------
    new_books
        Begin with empty books in Supabase, whatever a SQLite file holds.
    """
    cancel_on_signals()
    settings = load_settings()
    if settings.supabase is None and settings.smtp is None:
        raise SettingsError(_NOTHING)
    faults = await _faults(settings)
    try:
        async with connect() as client:
            if settings.supabase is not None and not new_books:
                faults += await _books_left_behind(settings.supabase, settings.database_path)
            if faults:
                raise _nothing_saved(faults)
            for block_type in (CampaignEmail, SupabaseCredentials):
                await block_type.register_type_and_schema(client=client)
            saved = await _save(client, settings)
    except ServerError as error:
        if not faults:
            raise
        raise _nothing_saved([*faults, str(error)]) from error
    forget_saved_store()
    if json:
        blocks = [{"block": one.block, "change": one.saving.value, "of": one.what} for one in saved]
        print_json({"success": True, "blocks": blocks})
        return EXIT_OK
    for one in saved:
        sign = "[dim]=[/]" if one.saving is Saving.UNCHANGED else "[green]✓[/]"
        say(f"{sign} {one.saving}: block {one.block}, {escape(one.what)}")
    server = configured_api_url()
    say(
        f"Whoever uses {f'the Prefect API at {hide_login(server)}' if server else 'this Prefect server'} needs no"
        " .env for these."
    )
    return EXIT_OK


async def _save(client: PrefectClient, settings: Settings) -> list[_Saved]:
    saved = []
    if settings.supabase is not None:
        saving = (await save_if_changed(settings.supabase, STORE_BLOCK_NAME)).saving
        block = f"{SupabaseCredentials.get_block_type_slug()}/{STORE_BLOCK_NAME}"
        saved.append(_Saved(block=block, what=f"the Supabase project {settings.supabase.url}", saving=saving))
    if (smtp := settings.smtp) is not None:
        saving = await save_mail(client, smtp)
        block = f"{EmailServerCredentials.get_block_type_slug()}/{SMTP_BLOCK_NAME}"
        what = f"the mail server {smtp.host}:{smtp.port}; mails come from {smtp.sender}"
        saved.append(_Saved(block=block, what=what, saving=saving))
    return saved


async def _faults(settings: Settings) -> list[str]:
    """Try everything out before anything is saved, and return all that does not work."""
    faults = []
    if settings.supabase is not None:
        choice = SupabaseChoice(credentials=settings.supabase, chosen_by="SUPABASE_URL")
        try:
            async with open_chosen(choice) as store:
                await store.account_budget()
        except StoreError as error:
            faults.append(str(error))
    if settings.smtp is not None:
        try:
            await check_mail_server(settings.smtp.credentials())
        except NotificationError as error:
            faults.append(f"the mail server cannot be used: {error.log}")
    return faults


async def _books_left_behind(project: SupabaseCredentials, path: Path) -> list[str]:
    """Return a fault if saving the project would leave spending behind, in a SQLite file or another project."""
    saved = await load_block(SupabaseCredentials, STORE_BLOCK_NAME)
    if saved is not None:
        if saved.url == project.url:
            return []
        return [
            f"the books are in {saved.url} until now; take them along as campaigns db backup says, or begin with others"
            f" in {project.url}: campaigns setup --new-books"
        ]
    try:
        books = await left_behind(path)
        if books is None or (books.successor is not None and await _have_arrived(project, books.successor)):
            return []
    except StoreError as error:
        return [f"{error}; if it holds no books of yours: campaigns setup --new-books"]
    campaigns = f"{books.figures.campaigns} campaign{'s' * (books.figures.campaigns != 1)}"
    held = f"{campaigns}, {format_money(books.figures.spent)} USD spent"
    where = (
        f"the books are in {path} until now ({held})"
        if books.successor is None
        else f"the books in {path} ({held}) were closed for {books.successor.books}"
    )
    return [
        f"{where}, and would be left behind; carry them over to {project.url}: campaigns db import"
        f" {shlex.quote(str(path))}, or begin with empty books there: campaigns setup --new-books"
    ]


async def _have_arrived(project: SupabaseCredentials, successor: Successor) -> bool:
    async with project.store() as store:
        return await store.was_imported(successor.id)


def _nothing_saved(faults: Sequence[str]) -> CampaignsError:
    return CampaignsError("\n".join([*faults, "nothing was saved"]))


async def test_email_command(*, to: str | None = None, json: AsJson = False) -> int:
    """Send a mail.

    Parameters
    ----------
    to
        Whom to; by default the address that the mails come from.
    """
    cancel_on_signals()
    settings, saved = load_settings(), None
    if settings.smtp is None:
        async with connect() as client:
            saved = await load_mail(client)
    recipient = await send_trial_mail(settings, saved, to=to)
    if json:
        print_json({"success": True, "to": recipient})
    else:
        say(f"[green]✓[/] The mail server took a mail to {escape(recipient)}. See whether it arrives.")
    return EXIT_OK


async def settings_command(*, json: AsJson = False) -> int:
    """List all settings."""
    cancel_on_signals()
    settings = load_settings()
    saved, problem = await _saved_settings()
    views = list_settings(settings, saved)
    if json:
        rows = [
            {"name": one.name, "value": one.value, "from": one.origin.value, "where": one.where, "meaning": one.meaning}
            for one in views
        ]
        print_json({"success": True, "settings": rows, "notes": [problem] if problem else []})
        return EXIT_OK
    out.print(Listing("Setting", "Value", "From", "Meaning", first=2, entries=[_listed(one) for one in views]))
    if problem:
        say(f"[yellow]![/] {escape(problem)}")
    return EXIT_OK


def _listed(one: SettingView) -> Entry:
    where = " ".join(filter(None, (one.origin.value, one.where)))
    return Entry(
        cells=(one.name, one.value or "", where, one.meaning),
        beneath=f"{one.meaning} ({where})",
        style="dim" if one.origin is Origin.DEFAULT else "",
    )


async def _saved_settings() -> tuple[SavedSettings, str | None]:
    """Return what is saved on the Prefect server, or why nobody knows."""
    try:
        async with asyncio.timeout(SAVED_SECONDS), connect() as client:
            mail = await load_mail(client)
            return SavedSettings(mail=mail, supabase=await load_block(SupabaseCredentials, STORE_BLOCK_NAME)), None
    except ServerError as error:
        return SavedSettings(), f"what is saved on the Prefect server is not known: {error}"
    except TimeoutError:
        return SavedSettings(), f"what is saved on the Prefect server is not known: no answer in {SAVED_SECONDS:g} s"


_SIGNS = {Health.WELL: "[green]✓[/]", Health.DOUBTFUL: "[yellow]![/]", Health.BROKEN: "[red]✗[/]"}


async def doctor_command(*, json: AsJson = False) -> int:
    """Look at each part."""
    cancel_on_signals()
    findings = await examine()
    broken = [f"{one.part}: {one.found}" for one in findings if one.health is Health.BROKEN]
    if json:
        listed = [_finding_json(finding) for finding in findings]
        print_json({"success": not broken, **error_json(broken), "findings": listed})
    else:
        out.print(_findings_table(findings))
    return EXIT_FAILED if broken else EXIT_OK


def _findings_table(findings: Sequence[Finding]) -> Table:
    # Without a header, and in columns so that a line that is broken goes on where it began.
    table = PlainTable.grid(padding=(0, 1, 0, 0))
    for finding in findings:
        table.add_row(_SIGNS[finding.health], finding.part, escape(finding.found))
        if finding.remedy:
            table.add_row("", "", f"→ {escape(finding.remedy)}")
    return table


def _finding_json(finding: Finding) -> dict[str, str | None]:
    return {
        "part": finding.part,
        "health": finding.health.value,
        "found": finding.found,
        "remedy": finding.remedy,
    }
