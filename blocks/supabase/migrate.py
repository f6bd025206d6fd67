"""Bringing the database of a Supabase project to the newest version: the SQL files beside this module.

A file is one statement that does nothing where it has been applied: see the first of them. One that only adds says so
(see 0017), and processes of older releases go on.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from urllib.parse import urlsplit

import asyncpg

from prefect_campaigns.blocks.supabase.faults import MIGRATE
from prefect_campaigns.blocks.supabase_credentials import is_loopback
from prefect_campaigns.errors import OlderWorkers, StoreError, StoreMisconfigured, StoreUnavailable

CONNECT_SECONDS = 15.0
STATEMENT_SECONDS = 300.0
"""How long one file may take; widening the columns of many old rows takes a while."""

_URL_HELP = (
    "use the connection string that the Supabase dashboard shows under Connect (session pooler or direct connection),"
    " with the database's password in place of [YOUR-PASSWORD], its special characters percent-encoded"
)

# Of two that migrate at once the second waits, and finds nothing left to do. "camp" in ASCII, and 2 for migrating.
_LOCK = "SELECT pg_advisory_xact_lock(1667329392, 2)"


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One file of SQL; its name is what the table of migrations knows it by."""

    name: str
    sql: str


@cache
def migrations() -> Sequence[Migration]:
    """Return all migrations in their order."""
    folder = resources.files("prefect_campaigns.blocks.supabase") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return tuple(Migration(name=file.name.removesuffix(".sql"), sql=file.read_text("utf-8")) for file in files)


def whole_sql() -> str:
    """Return all migrations as one text, to be pasted into the SQL editor; what has been applied does nothing."""
    return "\n".join(migration.sql for migration in migrations())


def check_schema(url: str, applied: Collection[str], additions: Collection[str]) -> None:
    """Compare the migrations of a database with ours.

    Args:
        applied: those that a release has to know to use the database.
        additions: those that only add: an older release goes on without knowing them.

    Raises:
        StoreMisconfigured: it lacks some, or has some of a newer version.
    """
    ours = [migration.name for migration in migrations()]
    if missing := [name for name in ours if name not in applied and name not in additions]:
        raise StoreMisconfigured(
            f"the campaign tables in Supabase at {url} are of an older version ({', '.join(missing)} missing);"
            f" {MIGRATE}"
        )
    if newer := sorted(set(applied).difference(ours)):
        raise StoreMisconfigured(
            f"the campaign tables in Supabase at {url} are of a newer prefect-campaigns ({newer[-1]}); upgrade this one"
        )


async def pending(database_url: str) -> list[str]:
    """Return the names of the migrations that the database lacks.

    Raises:
        StoreMisconfigured: the URL cannot be used, or the database does not let us in.
        StoreUnavailable: the database does not answer.
    """
    async with connected(database_url) as connection:
        return await pending_in(connection)


async def migrate(database_url: str) -> list[str]:
    """Apply what the database lacks, all of it or nothing, and return the names.

    Raises:
        StoreMisconfigured: the URL cannot be used, or the database does not let us in.
        StoreUnavailable: the database does not answer.
        OlderWorkers: workers that live could not go on with it; nothing has been changed.
        StoreError: the database refuses a migration; nothing has been changed.
    """
    async with connected(database_url) as connection, connection.transaction():
        await connection.execute(_LOCK)
        missing = await pending_in(connection)
        for migration in migrations():
            if migration.name in missing:
                await _apply(connection, migration)
        await _refuse_while_older_work(connection, missing, host=_host(database_url))
        return missing


async def _refuse_while_older_work(connection: asyncpg.Connection, applied: Sequence[str], *, host: str) -> None:
    """Raise OlderWorkers, and so undo what was applied, while workers live that could not go on with it."""
    live = await connection.fetch(
        "SELECT w.name FROM public.campaign_workers w WHERE w.expires_at > clock_timestamp() AND EXISTS ("
        "SELECT FROM public.campaign_migrations m WHERE m.name = ANY ($1) AND NOT m.only_adds) ORDER BY w.name",
        list(applied),
    )
    if live:
        raise OlderWorkers(f"the database at {host}", [row["name"] for row in live])


async def pending_in(connection: asyncpg.Connection) -> list[str]:
    """Return what ``pending`` does."""
    applied: set[str] = set()
    if await connection.fetchval("SELECT to_regclass('public.campaign_migrations') IS NOT NULL"):
        applied = {row["name"] for row in await connection.fetch("SELECT name FROM public.campaign_migrations")}
    return [migration.name for migration in migrations() if migration.name not in applied]


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    try:
        await connection.execute(migration.sql)
    except asyncpg.PostgresError as error:
        parts = (error.args[0], getattr(error, "detail", None), getattr(error, "hint", None))
        said = " ".join(str(part) for part in parts if part)
        raise StoreError(f"migration {migration.name} was refused, and nothing has been changed: {said}") from error


@asynccontextmanager
async def connected(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection; every error names the host and never the password.

    Raises:
        StoreMisconfigured: the URL cannot be used, or the database does not let us in.
        StoreUnavailable: the database does not answer, or no more.
        StoreError: the database refuses what it is told.
    """
    host = _host(database_url)
    try:
        connection = await asyncpg.connect(
            database_url,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            # The pooler of Supabase hands each transaction to another connection.
            statement_cache_size=0,
            # The password goes nowhere unencrypted unless the URL says so, or stays on this machine.
            ssl=None if "sslmode=" in database_url or is_loopback(host) else "require",
        )
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise StoreMisconfigured(f"the database at {host} does not accept user and password; {_URL_HELP}") from error
    except asyncpg.PostgresError as error:
        raise StoreMisconfigured(f"the database at {host} cannot be opened: {error.args[0]}; {_URL_HELP}") from error
    except (OSError, TimeoutError, asyncpg.InternalClientError, ssl.SSLError) as error:
        reason = f"no connection within {CONNECT_SECONDS:g} s" if isinstance(error, TimeoutError) else _words(error)
        raise StoreUnavailable(f"the database at {host} does not answer: {reason}") from error
    except (ValueError, asyncpg.InterfaceError):
        # What asyncpg says of a URL that it cannot read may repeat parts of it.
        raise _unusable_url() from None
    try:
        yield connection
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as error:
        raise StoreUnavailable(f"the database at {host} stopped answering: {_words(error)}") from error
    except asyncpg.PostgresError as error:
        raise StoreError(f"the database at {host} refused what it was told: {error.args[0]}") from error
    finally:
        try:
            await connection.close(timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()


def project_name(database_url: str) -> str:
    """Return what a project's database is called, the same by its pooler as directly: ``abcdefgh.supabase.co``.

    Raises:
        StoreMisconfigured: the URL cannot be used.
    """
    host = _host(database_url)
    url = urlsplit(database_url)
    found = re.fullmatch(r"db\.(\w+)\.supabase\.co", host)
    if host.endswith(".pooler.supabase.com"):
        found = re.fullmatch(r"\w+\.(\w+)", url.username or "")
    if found is not None:
        return f"{found[1]}.supabase.co"
    return f"{host}:{url.port or 5432}{url.path}"


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _host(database_url: str) -> str:
    try:
        url = urlsplit(database_url)
        # Reading the port tells of one that is none.
        usable = url.scheme in ("postgres", "postgresql") and bool(url.hostname) and url.port != 0
        # A password with a slash in it ends the host's part too early.
        usable = usable and "@" not in url.path
    except ValueError:
        usable = False
    if not usable or "[YOUR-PASSWORD]" in database_url:
        raise _unusable_url()
    return str(url.hostname)


def _unusable_url() -> StoreMisconfigured:
    return StoreMisconfigured(f"the URL of the database cannot be used; {_URL_HELP}")
