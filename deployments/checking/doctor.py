"""Is everything there that campaigns need? One small check for each part, and what to do where it is not well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import prefect
from prefect.blocks.abstract import NotificationError
from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect_email.credentials import SMTPServer

from prefect_campaigns.blocks.email import CampaignEmail, check_mail_server
from prefect_campaigns.blocks.journal import Journal
from prefect_campaigns.blocks.settings import ENV_FILE, Settings, load_settings, misspelt_settings
from prefect_campaigns.blocks.sqlite.schema import MIGRATIONS
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import MailRecord, MailState
from prefect_campaigns.blocks.stores import DEFAULT_API_URL, StoreChoice, SupabaseChoice, choose_store, open_chosen
from prefect_campaigns.blocks.supabase.migrate import migrations
from prefect_campaigns.blocks.supabase_credentials import SupabaseCredentials, key_kind
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.applying.saved_mail import SMTP_BLOCK_NAME, MailServer, load_mail, mail_in_use
from prefect_campaigns.deployments.checking.api_access import check_api_access
from prefect_campaigns.deployments.checking.campaigns_checks import (
    check_api_keys,
    check_engines,
    check_hosts,
    check_secrets,
    check_stop,
    left_alone,
)
from prefect_campaigns.deployments.checking.findings import Finding, broken, doubtful, well
from prefect_campaigns.deployments.compile import WORK_POOL, WORK_POOL_TYPE
from prefect_campaigns.deployments.driving.lookup import read_deployments
from prefect_campaigns.deployments.driving.strays import strays_among
from prefect_campaigns.deployments.running.server import EVENT_ORDER, configured_api_url, connect
from prefect_campaigns.errors import ServerError, SettingsError, StoreError, StoreUnavailable
from prefect_campaigns.models import Campaign
from prefect_campaigns.words import hide_login

SERVER_SECONDS = 30.0
"""How long all checks of the server may take."""

MAIL_PATIENCE = timedelta(minutes=5)
"""How long a mail may wait before anybody needs to do something."""

LOST_FOR = timedelta(days=7)
_MAIL_REMEDY = "see whether the mail server takes mail for that address: campaigns test-email --to ADDRESS"

_FORGETFUL_ORDER = "prefect.server.events.ordering.memory"
"""What Prefect's server has of itself."""

VERIFY_SECONDS = 5.0
"""How long adding up the ledger may take; longer than that is not what somebody asks a doctor for."""

OUR_BLOCKS: tuple[type[Block], ...] = (CampaignEmail, SupabaseCredentials)

_START_WORKER = f"start one: prefect worker start --pool {WORK_POOL} --type {WORK_POOL_TYPE} (or campaigns up)"


async def examine() -> list[Finding]:
    """Return what each check finds; what cannot be looked at for want of something else is left out."""
    try:
        settings = load_settings()
    except SettingsError as error:
        remedy = "correct it in the environment or in .env (.env.template says how)"
        return [broken("Settings", fault, remedy) for fault in str(error).splitlines()]
    server = await _examine_server()
    campaigns: list[Campaign] = []
    of_store = [finding async for finding in check_store(settings, server.deployed, campaigns)]
    return [
        *(check_settings(settings), *server.findings, *of_store),
        *await check_engines(campaigns),
        *check_hosts(settings, campaigns),
        *await _examine_secrets(settings, campaigns),
        await check_mail(settings, server.mail),
        *check_api_keys(settings),
    ]


async def _examine_secrets(settings: Settings, campaigns: Sequence[Campaign]) -> list[Finding]:
    try:
        async with asyncio.timeout(SERVER_SECONDS), connect() as client:
            return await check_secrets(client, settings, campaigns)
    except (ServerError, TimeoutError):
        # That the server does not answer has been found already.
        return []


@dataclass(kw_only=True)
class _Server:
    """What the checks of the server find, the mail server that is saved there, and the campaigns that are deployed."""

    findings: list[Finding] = field(default_factory=list)
    mail: MailServer | None = None
    deployed: Sequence[str] = ()


async def _examine_server() -> _Server:
    server = _Server()
    try:
        async with asyncio.timeout(SERVER_SECONDS), connect() as client:
            for check in (check_api, check_api_access, check_blocks, check_automations, check_work_pool, check_workers):
                server.findings.append(await check(client))
            server.mail = await load_mail(client)
            server.deployed = [one.name for one in strays_among(await read_deployments(client), ())]
    except ServerError as error:
        server.findings.append(broken("Prefect API", error))
    except TimeoutError:
        server.findings.append(broken("Prefect API", f"no answer within {SERVER_SECONDS:g} seconds"))
    return server


def check_settings(settings: Settings) -> Finding:
    """Say where settings come from, and which are none; that the others can be used is known by now."""
    path = Path(ENV_FILE).absolute()
    names = ", ".join(sorted(name.upper() for name in settings.model_fields_set if getattr(settings, name) is not None))
    if misspelt := misspelt_settings():
        return doubtful("Settings", "; ".join(misspelt), "campaigns settings lists those there are")
    return well("Settings", f"{path if path.exists() else 'no .env here'}; set: {names or 'nothing'}")


async def check_api(client: PrefectClient) -> Finding:
    """Compare the server's version with the one that is installed here."""
    url = hide_login(configured_api_url() or DEFAULT_API_URL)
    theirs, ours = await client.api_version(), prefect.__version__
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        return doubtful(
            "Prefect API", f"{url}, version {theirs}; here it is {ours}", "install the same version on both sides"
        )
    return well("Prefect API", f"{url}, version {theirs}")


async def check_blocks(client: PrefectClient) -> Finding:
    """See whether the server knows our types of blocks."""
    missing = []
    for block in OUR_BLOCKS:
        try:
            await client.read_block_type_by_slug(block.get_block_type_slug())
        except ObjectNotFound:
            missing.append(block.get_block_type_name())
    if missing:
        return broken(
            "Blocks",
            f"the server does not know {' and '.join(missing)}, so that it mails nobody",
            "install prefect-campaigns beside the Prefect server, and start that again",
        )
    return well("Blocks", f"the server knows {' and '.join(block.get_block_type_name() for block in OUR_BLOCKS)}")


async def check_automations(client: PrefectClient) -> Finding:
    """See whether the server's automations look at once at what happens after it has been restarted."""
    # Prefect's client knows every path but this one.
    path: Any = "/admin/settings"
    settings = (await client.request("GET", path)).json()
    order = settings.get("server", {}).get("events", {}).get("causal_ordering")
    if order is None:
        return well("Automations", "not known when they look at what happens after a restart of the server")
    if order == _FORGETFUL_ORDER:
        return doubtful(
            "Automations",
            "what happens within minutes of a restart of the server, people may hear a quarter of an hour late",
            f"where the server is started, set {'='.join(EVENT_ORDER)}",
        )
    return well("Automations", "wait for nothing that happened before a restart of the server")


async def check_work_pool(client: PrefectClient) -> Finding:
    """See whether the work pool is there, and of our type."""
    try:
        pool = await client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        return broken("Work pool", f"there is no work pool {WORK_POOL}", "campaigns apply makes it")
    if pool.is_paused:
        return broken("Work pool", f"{WORK_POOL} is paused", f"prefect work-pool resume {WORK_POOL}")
    if pool.type != WORK_POOL_TYPE:
        return doubtful(
            "Work pool",
            f"{WORK_POOL} is of type {pool.type}, so that every run is slow to start",
            f"end its worker; prefect work-pool delete {WORK_POOL}; campaigns apply",
        )
    return well("Work pool", f"{WORK_POOL}, type {pool.type}")


async def check_workers(client: PrefectClient) -> Finding:
    """See whether a worker lives that takes up runs."""
    try:
        workers = await client.read_workers_for_work_pool(WORK_POOL)
    except PrefectHTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        workers = []
    live = [worker for worker in workers if worker.status is WorkerStatus.ONLINE]
    beats = [worker.last_heartbeat_time for worker in (live or workers) if worker.last_heartbeat_time]
    ago = f", last heard of {_ago(current_clock().now() - max(beats))} ago" if beats else ""
    if not live:
        return broken("Worker", f"none is alive in work pool {WORK_POOL}{ago}", _START_WORKER)
    return well("Worker", f"{len(live)} alive{ago}")


def _ago(passed: timedelta) -> str:
    seconds = max(round(passed.total_seconds()), 0)
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


async def check_store(settings: Settings, deployed: Sequence[str], campaigns: list[Campaign]) -> AsyncIterator[Finding]:
    """Open the store that keeps the books of what is deployed, and add the books up where that is quick.

    Args:
        campaigns: takes up the campaigns that the store knows.
    """
    try:
        choice = await choose_store(settings)
    except StoreError as error:
        yield broken("Store", error)
        return
    try:
        async with open_chosen(choice) as store:
            records = await store.list_campaigns()
            campaigns += [record.campaign for record in records]
            counted = f"{len(records)} campaign{'s' * (len(records) != 1)}"
            yield well("Store", f"{choice}, {_details(choice)}, {counted}")
            if unknown := sorted(set(deployed).difference(row.key for row in records)):
                yield _unknown_campaigns(unknown)
            if (stop := await store.read_stop()) is not None:
                yield check_stop(stop)
            yield await check_books(store)
            yield await check_journal(Journal(settings.journal_folder), store.books)
            yield await check_owed_mails(store)
            if settings.campaigns_breaker_runs:
                for finding in left_alone(await store.engine_troubles(), now=current_clock().now()):
                    yield finding
    except StoreUnavailable as error:
        yield broken("Store", f"{choice}: {error}", _reach(choice))
    except StoreError as error:
        yield broken("Store", f"{choice}: {error}")


def _unknown_campaigns(names: Sequence[str]) -> Finding:
    shown = ", ".join(names[:3]) + ("" if len(names) <= 3 else f" and {len(names) - 3} more")
    return broken(
        "Store",
        f"the Prefect server has deployments of campaigns that these books do not know: {shown}",
        "if these are the wrong books, correct SUPABASE_URL or CAMPAIGNS_DATABASE; if others came before them, carry"
        " those over: campaigns db import; else campaigns apply, or campaigns delete NAME",
    )


def _reach(choice: StoreChoice) -> str:
    if isinstance(choice, SupabaseChoice):
        return "see in the Supabase dashboard whether the project is up, and whether this machine reaches it"
    return "see whether the file's disk is there and has room, and whether some program holds the file"


def _details(choice: StoreChoice) -> str:
    """Say what is known of a store that opens: its tables are of the newest version, or it would not."""
    if isinstance(choice, SupabaseChoice):
        kind = key_kind(choice.credentials.key.get_secret_value())
        return f"{kind} key, version {len(migrations())}"
    return f"version {len(MIGRATIONS)}"


async def check_books(store: CampaignStore) -> Finding:
    """Add up the whole ledger, if that is done in five seconds."""
    command = "campaigns budget --account --verify"
    try:
        async with asyncio.timeout(VERIFY_SECONDS):
            differences = await store.verify_totals(None)
    except TimeoutError:
        return doubtful("Books", f"not added up within {VERIFY_SECONDS:g} seconds", f"with more time: {command}")
    if differences:
        return broken("Books", f"{len(differences)} totals differ from the ledger", f"which they are: {command}")
    return well("Books", "in order: the totals of all campaigns agree with the ledger")


async def check_journal(journal: Journal, books: str) -> Finding:
    """See whether anything that engines charged has not come into the books from this machine."""
    content = await journal.content()
    if content.contradicting or content.unreadable:
        odd = len(content.contradicting) + len(content.unreadable)
        return broken(
            "Journal",
            f"{_answers(odd, 'lie')} in {journal.folder}, contradicting the books or unreadable",
            "compare them with the engine's bill; delete the files when that is done",
        )
    if elsewhere := {of: count for of, count in content.waiting.items() if of != books}:
        where = ", ".join(f"{count} in {of}" for of, count in sorted(elsewhere.items()))
        return broken(
            "Journal",
            f"{_answers(sum(elsewhere.values()), 'wait')} for another store: {where}",
            "let a worker run on this machine with that store for half a minute; of books that are closed, correct what"
            " they were carried over to: campaigns budget NAME --settle",
        )
    if waiting := content.waiting.get(books, 0):
        return doubtful("Journal", f"{_answers(waiting, 'wait')} to be settled", "a worker on this machine does it")
    return well("Journal", "empty: all that engines charged runs of this machine is in the books")


async def check_owed_mails(store: CampaignStore) -> Finding:
    """See whether everybody was told who had to be: mails that wait to be sent, and those given up within a week."""
    now = current_clock().now()
    waiting = await store.list_mails(MailState.OWED)
    owed = [mail for mail in waiting if now - mail.owed_since > MAIL_PATIENCE]
    lost = [mail for mail in await store.list_mails(MailState.GIVEN_UP) if now - mail.owed_since < LOST_FOR]
    if lost:
        return broken("Mails", f"never sent, and given up after a day: {_shown(lost)}", _MAIL_REMEDY)
    if owed:
        return doubtful("Mails", f"waiting to be sent: {_shown(owed)}", _MAIL_REMEDY)
    if waiting:
        return well("Mails", f"owed, and to be sent soon: {_shown(waiting)}")
    return well("Mails", "none waits to be sent")


def _shown(mails: Sequence[MailRecord]) -> str:
    newest = mails[0]
    more = "" if len(mails) == 1 else f", and {len(mails) - 1} more"
    return f"to {newest.recipient} ({newest.subject}){more}{f'; {newest.error}' if newest.error else ''}"


def _answers(count: int, verb: str) -> str:
    return f"1 answer of an engine {verb}s" if count == 1 else f"{count} answers of engines {verb}"


async def check_mail(settings: Settings, saved: MailServer | None) -> Finding:
    """Greet the mail server that the settings name, or else the one that was saved, and log in."""
    mail = mail_in_use(settings, saved)
    if mail is None:
        return doubtful("Mail", "no mail server is set up, so nobody is mailed", "set SMTP_HOST; campaigns setup")
    where = f"block {SMTP_BLOCK_NAME}" if settings.smtp is None else "SMTP_HOST"
    try:
        await check_mail_server(mail.credentials)
    except NotificationError as error:
        remedy = "see whether it is up; if it is another one, correct the SMTP_… settings: campaigns setup saves them"
        return broken("Mail", f"{error.log} ({where})", remedy)
    if mail.sender is None:
        return broken("Mail", f"nobody says who mails come from ({where})", "set SMTP_FROM; campaigns setup")
    server = mail.credentials.smtp_server
    host = server.value if isinstance(server, SMTPServer) else server
    # Not as whom: some providers take an access token for a user name.
    login = "logs in" if mail.credentials.username else "wants no login"
    return well("Mail", f"{host}:{mail.credentials.smtp_port}, {login}, from {mail.sender} ({where})")
