"""Make what a release leaves on a machine: its books and its Prefect server's database, in the middle of its work.

    cd tests/support
    PYTHONPATH=. RELEASE/.venv/bin/python releases/make_release.py releases/0.1.0

It is run by the Python of an installed release, whose real server, commands and workers do everything, with books in a
file, and once more with books in Supabase. What they leave is kept as SQL (see ``earlier_release``), so that each later
release is tried on it. It takes five minutes.

Engines and mail server have an address of the loopback network that nobody else uses, so that the same campaign files
hold on every machine.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled
from supabase_rig import Project, start_project
from supabase_rig.requirements import postgres_installation

from prefect_campaigns.deployments.demo.engines import ANALYZE, PROSPECT, SEND, DemoEngines
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.demo.smtp_sink import SmtpSink
from prefect_campaigns.deployments.running.server import EmbeddedServer, free_port

T = TypeVar("T")

HOST, ENGINES_PORT, MAIL_PORT = "127.61.0.1", 23010, 22525
ENGINES = f"http://{HOST}:{ENGINES_PORT}"

TOLD = {"onComplete": {"email": "done@example.com"}, "onFailure": {"email": "ops@example.com"}}
SECRET = "Bearer made-up-0123456789"
ESTIMATE = {"estimatedCost": 0.25}

_STEPS: dict[str, dict[str, Any]] = {
    "prospecting": {"engine": "prospecting", "endpoint": f"{ENGINES}{PROSPECT}", "params": {"count": 5}},
    "analysis": {
        "engine": "analysis",
        "endpoint": f"{ENGINES}{ANALYZE}",
        "params": {"runId": "{{ steps.prospecting.runId }}", "prospects": "{{ steps.prospecting.prospects }}"},
    },
    "sending": {
        "engine": "sender",
        "endpoint": f"{ENGINES}{SEND}",
        "params": {"leads": "{{ steps.analysis.leads }}"},
        "estimatedCost": 0,
    },
}

LIMITS = {"daily": 5, "weekly": 20, "monthly": 80}


def campaign(name: str, *, steps: dict[str, dict[str, Any]] | None = None, only: int = 3, **fields: Any) -> Any:
    """Return a campaign file's content; ``steps`` has what is different, by step name."""
    written = [{"name": step, **values, **(steps or {}).get(step, {})} for step, values in list(_STEPS.items())[:only]]
    return {"name": name, "steps": written, "notifications": TOLD, **fields}


def campaigns(midnight_in: str) -> dict[str, Any]:
    """Return all campaigns, by what becomes of a run of theirs.

    Args:
        midnight_in: the timezone in which the next day is near.
    """
    hanging = {"analysis": ESTIMATE}
    return {
        "routine": campaign(
            "Upgraded Routine",
            schedule={"cron": "0 9 1 1 *", "timezone": "America/New_York"},
            budget=LIMITS,
            steps={"prospecting": {"headers": {"Authorization": SECRET}}},
        ),
        "failed": campaign("Upgraded Failed", only=1),
        "unconfirmed": campaign(
            "Upgraded Unconfirmed", only=1, steps={"prospecting": {"sends": True, "timeout": 1000, **ESTIMATE}}
        ),
        "suspended": campaign("Upgraded Suspended", steps={"sending": {"approval": {"timeout": 7 * 86_400_000}}}),
        "scheduled": campaign("Upgraded Scheduled", only=2, budget=LIMITS),
        "killed": campaign("Upgraded Killed", steps=hanging, budget=LIMITS),
        "killed-sending": campaign("Upgraded Killed Sending"),
        "handed-back": campaign("Upgraded Handed Back", steps=hanging),
        "budget": campaign(
            "Upgraded Budget",
            only=2,
            budget={"daily": 0.01},
            schedule={"cron": "0 9 1 1 *", "timezone": midnight_in},
        ),
        "paused": campaign("Upgraded Paused", only=1),
    }


class Machine:
    """A machine on which the release works."""

    def __init__(self, root: Path, server: EmbeddedServer, *, project: Project | None) -> None:
        self.root = root
        books = {"CAMPAIGNS_DATABASE": str(root / "campaigns.db")}
        if project is not None:
            books = {"SUPABASE_URL": project.url, "SUPABASE_KEY": project.secret_key}
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CAMPAIGNS_"))},
            "PREFECT_API_URL": server.api_url,
            "PREFECT_HOME": str(root / "prefect"),
            **books,
            "SMTP_HOST": HOST,
            "SMTP_PORT": str(MAIL_PORT),
            "SMTP_TYPE": "INSECURE",
            "SMTP_FROM": "campaigns@example.com",
            "CAMPAIGNS_GRACE_SECONDS": "1",
            "DO_NOT_TRACK": "1",
        }

    async def command(self, *arguments: str) -> Any:
        """Run ``campaigns …`` of the release, and return what it says."""
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("campaigns")), *arguments, "--json"),
            env=self.environment,
            cwd=self.root,
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate()
        said = json.loads(out)
        # What it cannot do itself it says how to do.
        if not said["success"] and "command" not in said:
            raise RuntimeError(f"campaigns {' '.join(arguments)}: {said}")
        return said

    @contextmanager
    def worker(self, sign: signal.Signals) -> Iterator[None]:
        """Run a worker of the release, which is ended by that signal."""
        with (self.root / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [
                    *("env", "--default-signal", sys.executable, "-m", "prefect", "worker", "start"),
                    *("--pool", "campaigns", "--type", "campaign", "--name", "of this release"),
                ],
                env=self.environment,
                stdout=log,
                stderr=log,
                cwd=self.root,
                start_new_session=True,
            )
        try:
            yield
        finally:
            worker.send_signal(sign)
            worker.wait(60)


async def until(look: Callable[[], Awaitable[T | None]], what: str) -> T:
    """Look again and again until there is something to see."""
    try:
        async with asyncio.timeout(120):
            while True:
                if found := await look():
                    return found
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise RuntimeError(f"not within two minutes: {what}") from None


class Making:
    """Lets the release work until each run is where it is wanted."""

    def __init__(self, machine: Machine, client: PrefectClient, engines: DemoEngines) -> None:
        self.machine = machine
        self.client = client
        self.engines = engines
        self.runs: dict[str, UUID] = {}
        self.keys: dict[str, str | None] = {}
        """By which Idempotency-Key the request was made that a run waited for in vain."""

    async def run(self, what: str, *, state: str | None = None) -> FlowRun | None:
        """Run a campaign, and wait until it is in that state."""
        said = await self.machine.command("run", f"upgraded-{what}")
        self.runs[what] = UUID(said["runId"])
        return await self.in_state(what, state) if state else None

    async def in_state(self, what: str, state: str) -> FlowRun:
        async def look() -> FlowRun | None:
            run = await self.client.read_flow_run(self.runs[what])
            return run if run.state and run.state.name == state else None

        return await until(look, f"run of {what} in state {state}")

    async def asked(self, path: str, count: int) -> None:
        async def look() -> bool:
            return len(self.engines.requests_to(path)) >= count

        await until(look, f"{count} requests to {path}")

    async def work(self, midnight_in: str) -> None:
        """Do all of it."""
        folder = self.machine.root / "my-campaigns"
        folder.mkdir()
        for name, content in campaigns(midnight_in).items():
            (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
        await self.machine.command("apply", str(folder))
        await self.machine.command("budget", "--account", "--daily", "50", "--monthly", "500")
        await self.machine.command("pause", "upgraded-paused", "--reason", "holidays")
        with self.machine.worker(signal.SIGKILL):
            await self.run("routine", state="Completed")
            await self.run("suspended", state="Suspended")
            await self.run("budget", state="BudgetExceeded")
            self.engines.fail_next(PROSPECT, status=400, error="no such city", cost=0.001)
            await self.run("failed", state="Failed")
            self.engines.hang_next(PROSPECT)
            await self.run("unconfirmed", state="Failed")
            await self.run("routine", state="Completed")
            await self._hang(SEND, "killed-sending")
            await self._hang(ANALYZE, "killed")
            # What it says to Prefect is said in a moment; then it dies.
            await asyncio.sleep(3)
        with self.machine.worker(signal.SIGTERM):
            await self._hang(ANALYZE, "handed-back")
        await self.in_state("handed-back", "HandedBack")

    async def _hang(self, path: str, what: str) -> None:
        """Run a campaign until an engine lets it wait."""
        asked = len(self.engines.requests_to(path))
        self.engines.hang_next(path)
        await self.run(what)
        await self.asked(path, asked + 1)
        self.keys[what] = self.engines.requests_to(path)[-1].idempotency_key

    async def schedule(self) -> datetime:
        """Ask for a run shortly after the budget's resumption; return when that is due."""
        runs = await self.client.read_flow_runs()
        (resumption,) = (
            run for run in runs if run.name.startswith("resume") and run.state and run.state.is_scheduled()
        )
        due = resumption.next_scheduled_start_time
        if due is None:
            raise RuntimeError("no resumption is due")
        self.runs["resumption"] = resumption.id
        deployment = await self.client.read_deployment_by_name("campaign/upgraded-scheduled")
        later = Scheduled(scheduled_time=due + timedelta(seconds=5))
        self.runs["scheduled"] = (await self.client.create_flow_run_from_deployment(deployment.id, state=later)).id
        return due


def zone_of_next_midnight(now: datetime) -> str:
    """Return a timezone in which the day ends soon, but not within ten minutes."""
    end = (now + timedelta(minutes=10)).hour
    hours = (23 - end) if 23 - end <= 14 else -1 - end
    return f"Etc/GMT{-hours:+d}" if hours else "Etc/UTC"


def dump(database: Path, *, root: Path, leave_out: tuple[str, ...] = ()) -> str:
    """Return a SQLite database as SQL, without what it has in some tables, and without names of this machine."""
    with closing(sqlite3.connect(database)) as db:
        for table in leave_out:
            db.execute(f'DELETE FROM "{table}"')  # noqa: S608
        ids = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        lines = [f"PRAGMA application_id = {ids[0]};", f"PRAGMA user_version = {ids[1]};", *db.iterdump()]
    # A campaign's origin is its machine's name and its folder.
    text = "\n".join(lines).replace(f"{socket.gethostname()}:{root}", "@HOST@:@ROOT@")
    return text.replace(str(root), "@ROOT@") + "\n"


async def work(root: Path, *, project: Project | None) -> dict[str, Any]:
    """Let the release work at ``root``; return what it knows at the end.

    Args:
        project: where the books are; None for a file.
    """
    server = EmbeddedServer(home=root / "prefect", port=free_port(), log=root / "server.log")
    mail = SmtpSink(port=MAIL_PORT)
    mail.host = HOST
    midnight_in = zone_of_next_midnight(datetime.now(UTC))
    engines = DemoEngines()
    async with serve(engines, host=HOST, port=ENGINES_PORT), server:
        with mail, temporary_settings({PREFECT_API_URL: server.api_url}):
            async with get_client() as client:
                machine = Machine(root, server, project=project)
                making = Making(machine, client, engines)
                await making.work(midnight_in)
                due = await making.schedule()
                audit = (await machine.command("audit", "--limit", "1000"))["count"]
                if project is not None:
                    await copy_books(machine, project)
                # The server writes down what it has heard of.
                await asyncio.sleep(10)
    return {
        "runs": {what: str(id) for what, id in making.runs.items()},
        "keys": making.keys,
        "resumptionDue": due.isoformat(),
        "audit": audit,
    }


async def copy_books(machine: Machine, project: Project) -> None:
    """Copy the books in Supabase into a file, as the release tells people to."""
    command = (await machine.command("db", "backup", "supabase.sql"))["command"]
    path = f"{postgres_installation() / 'bin'}:{os.environ['PATH']}"
    environment = {"PATH": path, "SUPABASE_DB_URL": project.database_url}
    process = await asyncio.create_subprocess_shell(command, env=environment, cwd=machine.root)
    if await process.wait():
        raise RuntimeError("the books in Supabase were not copied")


def make(root: Path, target: Path) -> None:
    """Let the release work twice below ``root``, and keep what it leaves in ``target``."""
    machine, with_supabase = root / "machine", root / "with-supabase"
    for folder in (machine, with_supabase):
        folder.mkdir()
    facts = asyncio.run(work(machine, project=None))
    with start_project() as project:
        project.migrate()
        there = asyncio.run(work(with_supabase, project=project))
        names = [name for (name,) in project.rows("select name from public.campaign_migrations order by 1")]
    keep(machine, target, facts)
    copy = (with_supabase / "supabase.sql").read_text().replace(str(with_supabase), "/srv")
    (target / "supabase.sql.gz").write_bytes(gzip.compress(copy.encode(), 9, mtime=0))
    (target / "supabase-facts.json").write_text(json.dumps({**there, "migrations": names}, indent=2) + "\n")


def keep(root: Path, target: Path, facts: Mapping[str, Any]) -> None:
    """Write what the release leaves at ``root`` into ``target``, in the place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copytree(root / "my-campaigns", target / "my-campaigns")
    shutil.make_archive(str(target / "storage"), "gztar", root / "prefect" / "storage")
    (target / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")
    (target / "campaigns.sql").write_text(dump(root / "campaigns.db", root=root))
    server = dump(root / "prefect" / "prefect.db", root=root, leave_out=("log",))
    (target / "prefect.sql.gz").write_bytes(gzip.compress(server.encode(), 9, mtime=0))


if __name__ == "__main__":
    with TemporaryDirectory(prefix="release-", ignore_cleanup_errors=True) as made_at:
        make(Path(made_at), Path(sys.argv[1]).absolute())
