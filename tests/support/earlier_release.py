"""What an earlier release has left on a machine (see ``releases``), laid where this release finds it.

The machine is this one, and the release has stopped a moment ago: names of folders and of the machine are this one's,
and all that has happened is moved in time so that the budget's resumption is due now. The ledger's days are of long
ago, so that no limit of a day holds any more on whatever day it is.
"""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import json
import re
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from real_stack import Stack
from releases.make_release import ENGINES_PORT, HOST, MAIL_PORT
from supabase_rig import Project
from supabase_rig.requirements import postgres_installation

from prefect_campaigns.blocks.supabase.migrate import migrations
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.demo.serving import serve

RELEASES = Path(__file__).parent / "releases"

# Durations count from 1970 in Prefect's database.
_INSTANT = re.compile(r"(?<![\d-])20\d\d-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?")
_DAY = re.compile(r"(?<=')(20\d\d)(?=-\d\d-\d\d')|(?<=ly:)(20\d\d)(?=-\d\d-\d\d)")

SAME_WEEKDAYS_YEARS = 28
"""After so many years each day is the same weekday again, and in the same week and month as its neighbours."""


@dataclass(frozen=True, kw_only=True)
class Left:
    """What the release knew at its end.

    Attributes:
        runs: its runs, by what has become of them.
        keys: by which Idempotency-Key runs have asked for what they waited for in vain.
        audit: how many lines its audit had.
        resumption_due: when the budget's resumption was due.
    """

    runs: dict[str, UUID]
    keys: dict[str, str]
    audit: int
    resumption_due: datetime


def lay_down(version: str, home: Path) -> Left:
    """Lay everything into a folder: ``campaigns.db``, ``my-campaigns``, and ``prefect``, which is Prefect's home."""
    release = RELEASES / version
    facts: dict[str, Any] = json.loads((release / "facts.json").read_text())
    left = _left(facts)
    moved_by = datetime.now(UTC) - left.resumption_due
    # What is written by the minute is cut off, and not rounded.
    moved_by -= moved_by % timedelta(minutes=1)
    shutil.copytree(release / "my-campaigns", home / "my-campaigns")
    shutil.unpack_archive(release / "storage.tar.gz", home / "prefect" / "storage")
    books = _DAY.sub(_long_ago, (release / "campaigns.sql").read_text())
    server = gzip.decompress((release / "prefect.sql.gz").read_bytes()).decode()
    for sql, path in ((books, home / "campaigns.db"), (server, home / "prefect" / "prefect.db")):
        local = sql.replace("@ROOT@", str(home)).replace("@HOST@", socket.gethostname())
        with closing(sqlite3.connect(path)) as db:
            db.executescript(_INSTANT.sub(partial(_moved, moved_by), local))
    return left


def lay_down_in(project: Project, version: str) -> Left:
    """Lay the books that the release has left in Supabase into an empty project, with no later migrations than its.

    Nothing in them is moved in time.
    """
    release = RELEASES / version
    facts: dict[str, Any] = json.loads((release / "supabase-facts.json").read_text())
    for migration in migrations():
        if migration.name in facts["migrations"]:
            project.sql(migration.sql)
    for table, rows in rows_in(project).items():
        if rows:
            # What the migrations have put there is in the copy, too.
            project.sql(f"delete from public.{table}")  # noqa: S608
    copy = gzip.decompress((release / "supabase.sql.gz").read_bytes())
    psql = [str(postgres_installation() / "bin" / "psql"), project.database_url, "--set=ON_ERROR_STOP=on", "--quiet"]
    subprocess.run(psql, input=copy, capture_output=True, check=True, timeout=60)
    return _left(facts)


def rows_in(project: Project) -> dict[str, list[dict[str, Any]]]:
    """Return all that the tables of a project hold, by table, but which migrations it has seen."""
    tables = project.rows("select tablename::text from pg_tables where schemaname = 'public' order by 1")
    names = [name for (name,) in tables if name != "campaign_migrations"]
    return {
        name: [json.loads(row) for (row,) in project.rows(f"select to_jsonb(t)::text from public.{name} t")]  # noqa: S608
        for name in names
    }


def _left(facts: dict[str, Any]) -> Left:
    runs = {what: UUID(id) for what, id in facts["runs"].items()}
    due = datetime.fromisoformat(facts["resumptionDue"])
    return Left(runs=runs, keys=facts["keys"], audit=facts["audit"], resumption_due=due)


def _moved(by: timedelta, found: re.Match[str]) -> str:
    """Return an instant of UTC moved, with as many digits as it was written with."""
    written = found.group()
    moved = (datetime.fromisoformat(written) + by).isoformat(sep=written[10], timespec="microseconds")
    return moved[: len(written)]


def _long_ago(found: re.Match[str]) -> str:
    return str(int(found.group()) - SAME_WEEKDAYS_YEARS)


def rows_of(books: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all that a SQLite file holds, by table."""
    with closing(sqlite3.connect(books)) as db:
        db.row_factory = sqlite3.Row
        names = [row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: [dict(row) for row in db.execute(f'SELECT * FROM "{name}"')] for name in names}  # noqa: S608


@asynccontextmanager
async def upgraded_machine(home: Path) -> AsyncIterator[tuple[Stack, DemoEngines]]:
    """Run server, mail server and engines of this release where those of an earlier one were; no worker yet."""
    stack, engines = Stack(home), DemoEngines()
    stack.mail.host, stack.mail.port = HOST, MAIL_PORT
    with (Path(tempfile.gettempdir()) / f"prefect-campaigns-{ENGINES_PORT}.lock").open("w") as lock:
        # The addresses are the same for all tests of this machine.
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        async with serve(engines, host=HOST, port=ENGINES_PORT), stack.server:
            with stack.mail:
                try:
                    yield stack, engines
                finally:
                    await asyncio.to_thread(stack.stop_worker)
