"""A PostgreSQL database for a Prefect server. It needs more than the one that comes as a package has: pg_trgm."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from supabase_rig.postgres import SUPERUSER, Postgres

DEBIAN = Path("/usr/lib/postgresql")


def system_postgres() -> Path | None:
    """Return the folder of the programs of this machine's own PostgreSQL, the newest; None where it has none."""
    found = shutil.which("pg_config")
    folders = [*DEBIAN.glob("*/bin"), *([Path(found).resolve().parent] if found else [])]
    with_server = [folder for folder in folders if (folder / "postgres").exists()]
    return max(with_server, key=lambda folder: _number(folder.parent.name), default=None)


def _number(version: str) -> int:
    return int(version) if version.isdecimal() else 0


@contextmanager
def prefect_postgres(*, is_durable: bool = False) -> Iterator[tuple[Postgres, Mapping[str, str]]]:
    """Yield a server, and the environment in which a Prefect server keeps its database there.

    Raises:
        FileNotFoundError: this machine has no PostgreSQL of its own.
    """
    binaries = system_postgres()
    if binaries is None:
        raise FileNotFoundError("a Prefect server on PostgreSQL needs the system's own: apt-get install postgresql")
    postgres = Postgres(binaries=binaries, is_project=False, is_durable=is_durable)
    try:
        url = postgres.url(postgres.create_database(), SUPERUSER)
        yield postgres, {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url.replace("postgresql", "postgresql+asyncpg", 1)}
    finally:
        postgres.stop()
