"""A Supabase project for the tests: a database like a hosted one, and the API before it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

from supabase_rig.lite import Lite
from supabase_rig.postgres import API, SUPERUSER, Postgres
from supabase_rig.proxy import Proxy

NEVER = 4102444800
"""When the JWT keys expire: 2100."""


@contextmanager
def start_project() -> Iterator[Project]:
    """Run PostgreSQL with one project in it."""
    postgres = Postgres()
    try:
        with _project(postgres) as project:
            yield project
    finally:
        postgres.stop()


@contextmanager
def _project(postgres: Postgres) -> Iterator[Project]:
    project = Project(postgres)
    try:
        yield project
    finally:
        project.stop()


class Project:
    """What a person has who made a project at Supabase, and what a test may do behind its back.

    Attributes:
        secret_key: the key with all rights (``sb_secret_…``, role ``service_role``).
        publishable_key: the key for browsers (``sb_publishable_…``, role ``anon``).
    """

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._name = postgres.create_database()
        self._api: Lite | None = None
        self._jwt_secret = secrets.token_urlsafe(32)
        self.secret_key = f"sb_secret_{secrets.token_urlsafe(24)}"
        self.publishable_key = f"sb_publishable_{secrets.token_urlsafe(24)}"

    @property
    def url(self) -> str:
        """Where the API is. It is started when this is first asked for, and knows what is in the database then."""
        return self._started_api().url

    @property
    def database_url(self) -> str:
        """Where the database is, for its owner, who may not do everything; with the password."""
        return self._postgres.url(self._name)

    def jwt(self, role: str) -> str:
        """Return a JWT of the project with that role: an older key (see ``legacy_api``), or a user's token."""
        head = _base64_json({"alg": "HS256", "typ": "JWT"})
        claims = _base64_json({"iss": "supabase", "role": role, "exp": NEVER})
        signature = hmac.new(self._jwt_secret.encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()
        return f"{head}.{claims}.{_base64(signature)}"

    def sql(self, script: str, *values: Any) -> None:
        """Run SQL as the database's owner: one statement with values (``$1``), or several without."""
        self._postgres.execute(self.database_url, script, *values)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of one query, as the database's owner sees them; jsonb comes as text."""
        return self._postgres.rows(self.database_url, query, *values)

    def superuser_sql(self, script: str) -> None:
        """Run SQL as nobody can at Supabase: what a test breaks."""
        self._as_superuser(script)

    def migrate(self) -> None:
        """Apply the package's migrations. What they put into the tables survives ``clean``."""
        migrations = resources.files("prefect_campaigns.blocks.supabase") / "migrations"
        for name in sorted(file.name for file in migrations.iterdir() if file.name.endswith(".sql")):
            self.sql((migrations / name).read_text("utf-8"))
        self._as_superuser("select rig.remember()")
        self.restart_api()

    def clean(self) -> None:
        """Empty all tables, append-only or not, but for what ``migrate`` left there."""
        self._as_superuser("select rig.clean()")

    def restart_api(self) -> None:
        """Make the API see tables and functions that were made since it started."""
        if self._api is not None:
            self._api.restart()

    @contextmanager
    def legacy_api(self) -> Iterator[str]:
        """Run a second API of this project, which takes the older keys (``jwt("service_role")``); yield its URL."""
        api = self._start_api(f"{self._name}-legacy", secret_key="", publishable_key="")
        try:
            yield api.url
        finally:
            api.stop()

    @contextmanager
    def proxy(self) -> Iterator[Proxy]:
        """Put a network before the API that can be disturbed."""
        with Proxy(self._postgres.loop, self._started_api().port) as proxy:
            yield proxy

    @contextmanager
    def database(self) -> Iterator[Project]:
        """Make another, empty project on the same PostgreSQL."""
        with _project(self._postgres) as project:
            yield project

    def stop(self) -> None:
        """End the API; the database goes with PostgreSQL."""
        if self._api is not None:
            self._api.stop()

    def _started_api(self) -> Lite:
        if self._api is None:
            self._api = self._start_api(self._name, secret_key=self.secret_key, publishable_key=self.publishable_key)
        return self._api

    def _start_api(self, name: str, *, secret_key: str, publishable_key: str) -> Lite:
        return Lite(
            folder=self._postgres.folder,
            name=name,
            database_url=self._postgres.url(self._name, API),
            jwt_secret=self._jwt_secret,
            secret_key=secret_key,
            publishable_key=publishable_key,
        )

    def _as_superuser(self, statement: str) -> None:
        self._postgres.execute(self._postgres.url(self._name, SUPERUSER), statement)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _base64_json(value: Any) -> str:
    return _base64(json.dumps(value).encode())
