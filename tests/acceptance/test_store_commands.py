"""``campaigns db``: the SQLite file is copied and put back; of Supabase is said what to do, and that is true."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from campaign_files import campaign
from pydantic import SecretStr
from spending import spend
from supabase_rig import Project
from supabase_rig.requirements import postgres_installation

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import AuditAction, AuditEntry, Stop
from prefect_campaigns.blocks.supabase.migrate import migrations
from prefect_campaigns.blocks.supabase_credentials import SupabaseCredentials
from prefect_campaigns.deployments.cli.store_commands import SUPABASE_TABLES

NOWHERE = "http://127.0.0.1:9"


async def test_a_backup_is_put_back_and_what_it_replaces_is_kept(alone, tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "campaigns.db") as books:
        await books.save_campaign(campaign("Spring Outreach", NOWHERE))
        await spend(books, "spring-outreach", "0.3")
        copied = await alone("db", "backup", "copy.db")
        assert (copied.code, copied.err) == (0, "")
        assert "1 campaign, 1 run, 2 ledger lines" in copied.out and "0.30 USD spent in all" in copied.out
        await spend(books, "spring-outreach", "0.4")

        again, refused = await asyncio.gather(alone("db", "backup", "copy.db"), alone("db", "restore", "copy.db"))
        assert again.code == 1 and again.err.startswith("✗ copy.db exists already")
        assert refused.code == 1 and "add --yes to do it" in refused.err
        rows = [line.split() for line in refused.out.splitlines()]
        assert ["store", "now", "1", "2", "4", "0.70"] in [row[:6] for row in rows]
        assert ["backup", "1", "1", "2", "0.30"] in [row[:5] for row in rows]
        assert "The store has been written to since" in refused.out
        assert await books.run_cost("none") == 0, "nothing was changed"

    restored = await alone("db", "restore", "copy.db", "--yes", "--json")
    body = json.loads(restored.out)
    assert (restored.code, body["restored"]["spent"], body["replaced"]["spent"]) == (0, "0.30", "0.70")
    async with SqliteStore(tmp_path / "campaigns.db") as books, SqliteStore(Path(body["kept"])) as kept:
        assert len(await books.list_runs("spring-outreach")) == 1
        assert len(await kept.list_runs("spring-outreach")) == 2


async def test_what_is_no_backup_is_refused_and_where_there_is_no_store_one_is_made(alone, tmp_path: Path) -> None:
    (tmp_path / "poem.txt").write_text("shall I compare thee")
    async with SqliteStore(tmp_path / "copy.db"):
        pass
    missing, poem, nothing_yet = await asyncio.gather(
        alone("db", "restore", "missing.db", "--yes"),
        alone("db", "restore", "poem.txt", "--yes"),
        alone("db", "backup", "b.db"),
    )
    for refused in (missing, poem, nothing_yet):
        assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1), refused.text
    made = await alone("db", "restore", "copy.db", "--yes")
    assert made.code == 0 and "There is no store yet: nothing would be lost." in made.out
    assert (tmp_path / "campaigns.db").exists()


async def test_a_sqlite_file_migrates_itself(alone) -> None:
    ended = await alone("db", "migrate")
    assert ended.code == 0 and "it upgrades itself when it is opened" in ended.out


async def test_the_sql_is_printed_for_the_dashboard(alone) -> None:
    printed, as_json = await asyncio.gather(alone("db", "migrate", "--sql"), alone("db", "migrate", "--sql", "--json"))
    assert (printed.code, printed.err) == (0, "")
    assert all(migration.sql in printed.out for migration in migrations())
    assert json.loads(as_json.out)["sql"] == printed.out.removesuffix("\n")


async def test_without_the_database_url_it_is_said_what_to_do(alone) -> None:
    env = {"SUPABASE_URL": "https://abcdefgh.supabase.co", "SUPABASE_KEY": "sb_secret_swordfish"}
    ended = await alone("db", "migrate", env=env)
    assert ended.code == 1 and "SUPABASE_DB_URL, its database's URL, is not set" in ended.err
    assert "campaigns db migrate --sql" in ended.err


async def test_the_tables_are_made_in_supabase_once(alone, supabase: Project) -> None:
    with supabase.database() as empty:
        env = {"SUPABASE_DB_URL": empty.database_url}
        first, second = await alone("db", "migrate", env=env), await alone("db", "migrate", "--json", env=env)
        assert first.code == 0 and "✓ 0001_tables\n" in first.out and "is up to date now" in first.out
        assert json.loads(second.out)["applied"] == []
        names = {name for (name,) in empty.rows("select name from public.campaign_migrations")}
        assert names == {migration.name for migration in migrations()}
        tables = {name for (name,) in empty.rows("select tablename from pg_tables where schemaname = 'public'")}
        assert set(SUPABASE_TABLES) == tables - {"campaign_migrations"}, "all of them are backed up"
        assert "postgres:" not in first.text, "no password is shown"


def run_in_shell(command: str, database_url: str, cwd: Path) -> None:
    """Run a command as a person who has PostgreSQL's programs."""
    env = {"PATH": f"{postgres_installation() / 'bin'}:{os.environ['PATH']}", "SUPABASE_DB_URL": database_url}
    done = subprocess.run(
        ["bash", "-c", command], env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)
async def test_the_commands_for_supabase_that_are_shown_copy_the_books_and_put_them_back(
    alone, clean_supabase: Project, tmp_path: Path
) -> None:
    project = clean_supabase
    env = {"SUPABASE_URL": project.url, "SUPABASE_KEY": project.secret_key}
    credentials = SupabaseCredentials(url=project.url, key=SecretStr(project.secret_key))
    async with credentials.store() as books:
        await books.save_campaign(campaign("Spring Outreach", NOWHERE))
        await spend(books, "spring-outreach", "0.3")
        stopped = Stop(by="ada", reason="the list is wrong", since=datetime(2026, 5, 13, 12, tzinfo=UTC))
        done = AuditEntry(at=stopped.since, actor="ada", action=AuditAction.ALL_STOPPED)
        await books.set_stop(stopped)
        await books.record_audit(done)
        backup = await alone("db", "backup", "my copy.sql", "--json", env=env)
        assert backup.code == 1
        run_in_shell(json.loads(backup.out)["command"], project.database_url, tmp_path)

        await spend(books, "spring-outreach", "0.4")
        await books.set_stop(None)
        await books.record_audit(done)
        restore, in_words = await asyncio.gather(
            alone("db", "restore", "my copy.sql", "--json", env=env), alone("db", "restore", "my copy.sql", env=env)
        )
        command = json.loads(restore.out)["command"]
        assert command in in_words.err, "whole, to be copied"
        run_in_shell(command, project.database_url, tmp_path)

        (run,) = await books.list_runs("spring-outreach")
        assert str(run.total_cost) == "0.300000"
        assert (await books.read_stop(), list(await books.list_audit())) == (stopped, [done])
        assert [*await books.verify_totals(None), *await books.verify_totals("spring-outreach")] == []
        # And it goes on from there.
        await spend(books, "spring-outreach", "0.1")
        await books.record_audit(done)
        assert await books.verify_totals(None) == []
