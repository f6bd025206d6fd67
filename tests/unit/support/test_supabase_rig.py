"""That the tests' Supabase is what a hosted project is, where it matters to us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from supabase_rig import Project, Proxy
from supabase_rig.supervise import __file__ as supervise

# What is made for the whole module is made in one process.

SCHEMA = """
    create table notes (id int primary key generated always as identity, text text not null);
    alter table notes enable row level security;
    grant select on notes to service_role;

    create table nobodys (id int);
    create table private_notes (id int);
    grant select on private_notes to authenticated;

    create function whoami() returns text language sql as 'select current_user::text';
    create function take_note(note text) returns void language sql security definer as
        'insert into public.notes (text) values (note)';
    create function secret() returns text language sql as $$ select 'secret' $$;
    revoke execute on function secret from public, anon, authenticated;

    create function refuse() returns trigger language plpgsql as $$ begin raise 'notes are for ever'; end $$;
    create trigger append_only before delete or update on notes for each row execute function refuse();
"""


@pytest.fixture(scope="module")
def project(supabase: Project) -> Iterator[Project]:
    """A project with tables of its own, none of ours."""
    with supabase.database() as project:
        project.sql(SCHEMA)
        yield project


@pytest.fixture
def notes(project: Project) -> Callable[[], list[str]]:
    """What has been noted since the test began."""
    project.clean()
    return lambda: [text for (text,) in project.rows("select text from notes order by id")]


@pytest.fixture
def proxy(project: Project, notes: Callable[[], list[str]]) -> Iterator[Proxy]:
    with project.proxy() as proxy:
        yield proxy


def ask(url: str, path: str, key: str, *, token: str | None = None, **body: Any) -> httpx.Response:
    headers = {"apikey": key} | ({"Authorization": f"Bearer {token}"} if token else {})
    with httpx.Client(base_url=f"{url}/rest/v1", headers=headers, timeout=10, trust_env=False) as client:
        return client.post(f"/{path}", json=body) if path.startswith("rpc/") else client.get(f"/{path}")


class TestKeys:
    def test_each_key_has_its_role(self, project: Project) -> None:
        assert ask(project.url, "rpc/whoami", project.secret_key).json() == "service_role"
        assert ask(project.url, "rpc/whoami", project.publishable_key).json() == "anon"

    def test_a_users_token_has_the_role_of_users(self, project: Project) -> None:
        token = project.jwt("authenticated")
        assert ask(project.url, "rpc/whoami", project.publishable_key, token=token).json() == "authenticated"

    @pytest.mark.parametrize("key", ["sb_secret_guessed", "", "eyJhbGciOiJIUzI1NiJ9.e30.AAAA"])
    def test_any_other_key_is_refused(self, project: Project, key: str) -> None:
        assert ask(project.url, "rpc/whoami", key).status_code == 401

    def test_the_legacy_api_takes_older_keys(self, project: Project) -> None:
        with project.legacy_api() as url:
            for role in ("service_role", "anon"):
                key = project.jwt(role)
                assert ask(url, "rpc/whoami", key, token=key).json() == role
            assert ask(url, "rpc/whoami", "any", token=f"{key}x").status_code == 401


class TestPrivileges:
    def test_a_table_is_nobodys_until_it_is_granted(self, project: Project) -> None:
        for key in (project.secret_key, project.publishable_key):
            assert ask(project.url, "nobodys", key).json()["code"] == "42501"
        assert ask(project.url, "notes", project.secret_key).status_code == 200
        assert ask(project.url, "notes", project.publishable_key).json()["code"] == "42501"

    def test_the_api_grants_nothing(self, project: Project) -> None:
        ask(project.url, "notes", project.secret_key)
        granted = project.rows("""
            select c.relname, a.grantee::regrole::text, a.privilege_type
            from pg_class c, aclexplode(c.relacl) a
            where c.relnamespace = 'public'::regnamespace and a.grantee <> c.relowner
            order by 1
        """)
        assert granted == [("notes", "service_role", "SELECT"), ("private_notes", "authenticated", "SELECT")]

    def test_a_function_is_everybodys_until_it_is_revoked(self, project: Project) -> None:
        assert ask(project.url, "rpc/whoami", project.publishable_key).status_code == 200
        assert ask(project.url, "rpc/secret", project.publishable_key).json()["code"] == "42501"
        assert ask(project.url, "rpc/secret", project.secret_key).json() == "secret"

    def test_the_databases_owner_is_no_superuser(self, project: Project) -> None:
        assert project.rows("select rolsuper, rolbypassrls from pg_roles where rolname = current_user") == [
            (False, True)
        ]


class TestDatabase:
    def test_a_function_is_known_after_a_restart(self, project: Project) -> None:
        url = project.url
        project.sql("create function made_later() returns int language sql as 'select 1'")
        assert ask(url, "rpc/made_later", project.secret_key).status_code == 404
        project.restart_api()
        assert ask(url, "rpc/made_later", project.secret_key).json() == 1

    def test_cleaning_empties_what_may_not_be_deleted(self, project: Project, notes: Callable[[], list[str]]) -> None:
        ask(project.url, "rpc/take_note", project.secret_key, note="hello")
        assert notes() == ["hello"]
        project.clean()
        assert notes() == []

    def test_cleaning_leaves_what_the_migrations_put_there(self, clean_supabase: Project) -> None:
        applied = "select count(*) from campaign_migrations"
        assert clean_supabase.rows(applied) > [(0,)]


class TestNetwork:
    async def note(self, proxy: Proxy, project: Project, text: str, *, seconds: float = 10) -> int:
        async with httpx.AsyncClient(timeout=seconds, trust_env=False) as client:
            answer = await client.post(
                f"{proxy.url}/rest/v1/rpc/take_note", json={"note": text}, headers={"apikey": project.secret_key}
            )
            return answer.status_code

    async def test_it_passes_on(self, proxy: Proxy, project: Project, notes: Callable[[], list[str]]) -> None:
        assert await self.note(proxy, project, "passed") == 204
        assert notes() == ["passed"]

    async def test_it_refuses_until_it_passes_on_again(
        self, proxy: Proxy, project: Project, notes: Callable[[], list[str]]
    ) -> None:
        proxy.refuse()
        with pytest.raises(httpx.ConnectError):
            await self.note(proxy, project, "refused")
        proxy.pass_on()
        await self.note(proxy, project, "passed")
        assert notes() == ["passed"]

    async def test_refusing_cuts_a_connection_that_is_open(self, proxy: Proxy, project: Project) -> None:
        async with httpx.AsyncClient(base_url=proxy.url, trust_env=False) as client:
            assert (await client.get("/rest/v1/")).status_code == 401
            proxy.refuse()
            with pytest.raises(httpx.ConnectError):
                await client.get("/rest/v1/")

    async def test_stalled_requests_never_arrive(
        self, proxy: Proxy, project: Project, notes: Callable[[], list[str]]
    ) -> None:
        proxy.stall()
        with pytest.raises(httpx.ReadTimeout):
            await self.note(proxy, project, "stalled", seconds=0.2)
        await proxy.until_held()
        proxy.pass_on()
        await self.note(proxy, project, "passed")
        assert notes() == ["passed"]

    async def test_muted_requests_arrive_and_are_not_answered(
        self, proxy: Proxy, project: Project, notes: Callable[[], list[str]]
    ) -> None:
        proxy.mute()
        with pytest.raises(httpx.ReadTimeout):
            await self.note(proxy, project, "muted", seconds=0.5)
        assert notes() == ["muted"]

    async def test_an_answer_is_cut_once(self, proxy: Proxy, project: Project, notes: Callable[[], list[str]]) -> None:
        proxy.cut(once=True)
        with pytest.raises(httpx.RemoteProtocolError):
            await self.note(proxy, project, "cut")
        assert await self.note(proxy, project, "passed") == 204
        assert notes() == ["cut", "passed"]

    async def test_an_answer_is_late(self, proxy: Proxy, project: Project) -> None:
        proxy.delay(0.2)
        begun = time.monotonic()
        assert await self.note(proxy, project, "late") == 204
        assert time.monotonic() - begun >= 0.2


def test_a_server_ends_with_its_starter_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    pid_file = tmp_path / "pid"
    server = ["sh", "-c", f"echo $$ > {pid_file}.new && mv {pid_file}.new {pid_file} && exec sleep 60"]
    starter = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import subprocess, sys; subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE).wait()",
            *(sys.executable, supervise, str(folder), "", "SIGINT", *server),
        ]
    )
    try:
        wait_until(pid_file.exists)
        server_pid = int(pid_file.read_text())
        assert is_running(server_pid)
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.wait(10)
    wait_until(lambda: not is_running(server_pid) and not folder.exists())


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
