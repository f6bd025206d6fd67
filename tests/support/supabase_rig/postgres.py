"""A PostgreSQL server on loopback whose databases are like those of a hosted project."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import asyncpg

from supabase_rig.loop_thread import LoopThread
from supabase_rig.requirements import HERE, postgres_installation
from supabase_rig.server_process import ServerProcess, on_a_free_port
from supabase_rig.supervise import identity

UNPRIVILEGED = "nobody"
"""Who runs the server where the tests are run by root: PostgreSQL refuses to."""

SUPERUSER = "supabase_admin"
OWNER = "postgres"
"""Who owns the databases and migrates them; as on the hosted service no superuser."""

API = "authenticator"

INIT_OPTIONS = ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"]
INIT_SECONDS = 60

OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
    # Nobody needs these databases after a power cut.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
}
FORGETFUL = ("fsync", "synchronous_commit", "full_page_writes", "autovacuum")


class Postgres:
    """One PostgreSQL server, its folder, and the thread in which the rig speaks to it.

    Args:
        binaries: the folder of its programs; those of the package that brings PostgreSQL unless given.
        is_project: whether its databases are like those of a hosted project; otherwise they are empty.
        is_durable: whether it writes to the disk as one does that people depend on, which takes longer.
    """

    def __init__(self, *, binaries: Path | None = None, is_project: bool = True, is_durable: bool = False) -> None:
        self._given_binaries = binaries
        self._is_project = is_project
        self._options = {name: value for name, value in OPTIONS.items() if not (is_durable and name in FORGETFUL)}
        self._user = UNPRIVILEGED if os.geteuid() == 0 else ""
        self.folder = Path(tempfile.mkdtemp(prefix="supabase-rig-", dir=_temporary_folder(self._user)))
        self.loop = LoopThread()
        self._password = secrets.token_hex(12)
        self._server: ServerProcess | None = None
        self._port = 0
        self._numbers = itertools.count(1)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def url(self, database: str, user: str = OWNER) -> str:
        """Return what a client connects to, with the password."""
        return f"postgresql://{user}:{self._password}@127.0.0.1:{self._port}/{database}"

    @property
    def pid(self) -> int:
        """The process that all of the server's descend from."""
        assert self._server is not None
        return self._server.pid

    def create_database(self) -> str:
        """Create a database, by default with what a new hosted project has, and return its name."""
        name = f"project_{next(self._numbers)}"
        owner = OWNER if self._is_project else SUPERUSER
        self.execute(self.url("postgres", SUPERUSER), f"create database {name} owner {owner}")
        return name

    def execute(self, url: str, script: str, *values: Any) -> None:
        """Run SQL: one statement with values, or several without."""
        self.loop.run(_execute(url, script, *values))

    def rows(self, url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of one query."""
        return self.loop.run(_fetch(url, query, *values))

    def stop(self) -> None:
        """End the server and remove its folder."""
        if self._server is not None:
            self._server.stop()
        self.loop.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        binaries = self._binaries()
        password_file = self.folder / "password"
        password_file.write_text(self._password)
        if self._user:
            subprocess.run(["chown", "-R", self._user, self.folder], check=True, timeout=INIT_SECONDS)
        data = self.folder / "data"
        self._run(binaries / "initdb", f"--pgdata={data}", f"--username={SUPERUSER}", f"--pwfile={password_file}")
        self._server = on_a_free_port(lambda port: self._serve([binaries / "postgres", "-D", data], port))
        if self._is_project:
            # Every database is copied from this one.
            project = (HERE / "project.sql").read_text().replace(":password", f"'{self._password}'")
            self.execute(self.url("template1", SUPERUSER), project)

    def _binaries(self) -> Path:
        """Return the folder of the programs; if their user cannot go where they lie, of a copy."""
        if self._given_binaries is not None:
            return self._given_binaries
        installation = postgres_installation()
        if not self._user or _open_to_all(installation / "bin" / "postgres"):
            return installation / "bin"
        # Side by side as they were installed: by that the programs find their libraries.
        site_packages = installation.parents[1]
        for part in ("pgserver/pginstall", "pgserver.libs"):
            shutil.copytree(site_packages / part, self.folder / part, ignore=shutil.ignore_patterns("include", "*.a"))
        return self.folder / "pgserver" / "pginstall" / "bin"

    def _run(self, program: Path, *arguments: str) -> None:
        done = subprocess.run(
            [program, *INIT_OPTIONS, *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=INIT_SECONDS,
            check=False,
            **identity(self._user),
        )
        if done.returncode:
            raise RuntimeError(f"{program.name} failed:\n{done.stdout}{done.stderr}")

    def _serve(self, command: list[str | Path], port: int) -> ServerProcess:
        options = [f"--{name}={value}" for name, value in self._options.items()]
        server = ServerProcess(
            [*command, f"--port={port}", *options],
            folder=self.folder,
            log="postgres.log",
            env=self._environment,
            user=self._user,
            # At once: what it has not written yet, nobody will read.
            stop_with=signal.SIGQUIT,
            owns_folder=True,
        )
        self._port = port
        server.wait_until(self._answers)
        return server

    def _answers(self) -> bool:
        try:
            return self.rows(self.url("postgres", SUPERUSER), "select true") == [(True,)]
        except (OSError, asyncpg.CannotConnectNowError):
            return False

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "LC_ALL": "C"}


async def _execute(url: str, script: str, *values: Any) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute(script, *values)
    finally:
        await connection.close(timeout=10)


async def _fetch(url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return [tuple(record) for record in await connection.fetch(query, *values)]
    finally:
        await connection.close(timeout=10)


def _temporary_folder(user: str) -> str:
    """Return the system's folder for temporary files, which another user must be able to enter."""
    folder = tempfile.gettempdir()
    return folder if not user or _open_to_all(Path(folder)) else "/tmp"


def _open_to_all(path: Path) -> bool:
    """Say whether anybody may enter the folder, or run the program, and enter all folders above."""
    return all(place.stat().st_mode & 0o001 for place in (path, *path.parents))
