"""``campaigns db import`` carries the books over to Supabase, and ``campaigns setup`` leaves none behind."""

from __future__ import annotations

import asyncio
import json
import os
import pty
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from campaign_files import campaign
from clocks import SettableClock
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound
from processes import CAMPAIGNS, user_environment
from pydantic import SecretStr
from spending import lose_an_answer, spend
from supabase_rig import Project

from prefect_campaigns.blocks.journal import Journal, JournalEntry
from prefect_campaigns.blocks.sqlite.closing import HeldBooks
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.supabase_credentials import SupabaseCredentials

NOWHERE = "http://127.0.0.1:9"
KEY = "spring-outreach"


async def spend_in(path: Path, cost: str) -> str:
    async with SqliteStore(path) as books:
        await books.save_campaign(campaign("Spring Outreach", NOWHERE, budget={"daily": 5}))
        return await spend(books, KEY, cost)


def project_env(project: Project) -> dict[str, str]:
    return {
        "SUPABASE_URL": project.url,
        "SUPABASE_KEY": project.secret_key,
        "SUPABASE_DB_URL": project.database_url,
    }


def database(project: Project) -> dict[str, str]:
    return {"SUPABASE_DB_URL": project.database_url}


@pytest.mark.timeout(300)
async def test_the_books_go_on_in_supabase_and_the_file_is_closed(
    alone, clean_supabase: Project, tmp_path: Path
) -> None:
    await spend_in(tmp_path / "campaigns.db", "5")
    env = project_env(clean_supabase)
    imported = await alone("db", "import", "campaigns.db", env=env)
    assert (imported.code, imported.err) == (0, ""), imported.text
    done, closed = imported.out.splitlines()
    assert done.startswith("✓ 127.0.0.1:") and "goes on with campaigns.db: 1 campaign, 1 run, 2 ledger lines" in done
    assert done.endswith(", 5.00 USD spent in all.") and "The file is closed" in closed
    assert "postgres:" not in imported.text, "no password is shown"

    again, as_json, budget, old_budget, old_pause, backup = await asyncio.gather(
        alone("db", "import", "campaigns.db", env=env),
        alone("db", "import", "campaigns.db", "--json", env=env),
        alone("budget", KEY, "--json", env=env),
        alone("budget", KEY, "--verify"),
        alone("budget", "--account", "--daily", "9"),
        alone("db", "backup", "copy.db"),
    )
    assert again.code == 0 and "was carried over to 127.0.0.1:" in again.out
    assert again.out.endswith(" UTC already; nothing was changed.\n")
    body = json.loads(as_json.out)
    assert body.pop("database").startswith("127.0.0.1:") and body.pop("newestLineAt")
    assert body == {
        "success": True,
        "store": "campaigns.db",
        "carriedOverBefore": True,
        "campaigns": 1,
        "runs": 1,
        "ledgerLines": 2,
        "spent": "5.00",
        "keptCampaigns": [],
        "keptLimits": [],
    }
    assert json.loads(budget.out)["limits"][0]["spent"] == "5.00", budget.out
    assert (old_budget.code, backup.code) == (0, 0), old_budget.text + backup.text
    assert old_pause.code == 1 and old_pause.err.endswith(
        "refused what it was told: these books are closed: they were carried over to another store\n"
    )


async def test_what_cannot_be_carried_over_is_said(alone, supabase: Project, tmp_path: Path) -> None:
    await spend_in(tmp_path / "campaigns.db", "1")
    with supabase.database() as empty:
        no_url, no_tables, no_file = await asyncio.gather(
            alone("db", "import", "campaigns.db"),
            alone("db", "import", "campaigns.db", "--json", env=database(empty)),
            alone("db", "import", "nothing.db", env=database(empty)),
        )
    assert no_url.code == 1 and no_url.err.startswith("✗ SUPABASE_DB_URL, the URL of the database that campaigns.db")
    assert no_tables.code == 1 and "run `campaigns db migrate`" in json.loads(no_tables.out)["error"]
    assert no_file.code == 1 and no_file.err == "✗ there is no campaign store at nothing.db\n"
    other = {"SUPABASE_URL": "https://one.supabase.co", "SUPABASE_KEY": "sb_secret_swordfish"}
    other["SUPABASE_DB_URL"] = "postgres://postgres:s3cret@db.two.supabase.co:5432/postgres"
    mixed_up = await alone("db", "import", "campaigns.db", env=other)
    assert mixed_up.code == 1 and mixed_up.err == (
        "✗ SUPABASE_URL names one.supabase.co, and SUPABASE_DB_URL the database of another, two.supabase.co\n"
    )
    await spend_in(tmp_path / "campaigns.db", "1")


async def test_what_an_engine_charged_while_the_file_was_away_is_settled_first(
    alone, clean_supabase: Project, tmp_path: Path
) -> None:
    path = tmp_path / "campaigns.db"
    async with SqliteStore(path) as books:
        await books.save_campaign(campaign("Spring Outreach", NOWHERE))
        await lose_an_answer(books, KEY, "2")
        (lost,) = await books.unconfirmed(KEY)
        journal = Journal(tmp_path / "prefect" / "campaigns-journal")
        await journal.write(JournalEntry(books=books.books, reservation=lost, amount=lost.estimate / 4, step=None))
    imported = await alone("db", "import", "campaigns.db", env=database(clean_supabase))
    assert imported.code == 0 and "0.50 USD spent in all" in imported.out, imported.text
    assert await journal.is_empty()


async def test_an_answer_that_waits_for_a_later_attempt_is_settled_first_too(
    alone, clean_supabase: Project, tmp_path: Path
) -> None:
    path = tmp_path / "campaigns.db"
    journal = Journal(tmp_path / "prefect" / "campaigns-journal")
    clock = SettableClock(datetime.now(UTC) - timedelta(hours=1))
    async with SqliteStore(path, clock=clock) as books:
        await books.save_campaign(campaign("Spring Outreach", NOWHERE))
        lease = await books.acquire_lease(
            KEY, run_id=str(uuid4()), run_name="killed", holder="x", ttl_seconds=60, waiting_since=clock.now()
        )
        attempts = []
        for attempt in (1, 2):
            reserved = await books.reserve(
                lease, step="find", attempt=attempt, estimated_cost=Decimal(1), hold_seconds=60
            )
            attempts.append(await books.mark_sent(lease, reserved))
        await journal.write(JournalEntry(books=books.books, reservation=attempts[0], amount=Decimal(3), step=None))
    imported = await alone("db", "import", "campaigns.db", env=database(clean_supabase))
    assert imported.code == 0 and "4.00 USD spent in all" in imported.out, imported.text
    assert await journal.is_empty()


async def test_a_backup_is_not_taken_for_the_books_in_use(alone, clean_supabase: Project, tmp_path: Path) -> None:
    await spend_in(tmp_path / "campaigns.db", "1")
    assert (await alone("db", "backup", "copy.db")).code == 0
    refused = await alone("db", "import", "copy.db", env=database(clean_supabase))
    assert (
        refused.code == 1 and f"the books in use are in {tmp_path / 'campaigns.db'}, and not in copy.db" in refused.err
    )
    assert clean_supabase.rows("select count(*) from public.campaign_ledger") == [(0,)]


async def test_a_terminal_is_told_how_far_it_is(clean_supabase: Project, tmp_path: Path) -> None:
    await spend_in(tmp_path / "campaigns.db", "1")
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(CAMPAIGNS, "db", "import", "campaigns.db"),
        env=user_environment(TERM="xterm", PREFECT_HOME=str(tmp_path), **database(clean_supabase)),
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)

    def printed() -> str:
        shown = b""
        try:
            while piece := os.read(ours, 10_000):
                shown += piece
        except OSError:
            # What a terminal says when nobody is left on its other side.
            pass
        return shown.decode()

    shown = await asyncio.to_thread(printed)
    os.close(ours)
    assert await process.wait() == 0, shown
    assert "totals verified" in shown and "goes on with campaigns.db" in shown


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("no_blocks")
async def test_setup_leaves_no_books_behind(
    campaigns, client: PrefectClient, clean_supabase: Project, tmp_path: Path
) -> None:
    path = tmp_path / "my books.db"
    env = {**project_env(clean_supabase), "CAMPAIGNS_DATABASE": str(path)}
    mail_too = {**env, "SMTP_PORT": "9"}
    await spend_in(path, "1.25")
    refused, both = await asyncio.gather(campaigns("setup", env=env), campaigns("setup", "--json", env=mail_too))
    what, nothing = refused.err.splitlines()
    assert (refused.code, refused.out, nothing) == (1, "", "✗ nothing was saved")
    assert what == (
        f"✗ the books are in {path} until now (1 campaign, 1.25 USD spent), and would be left behind; carry them over"
        f" to {clean_supabase.url}: campaigns db import '{path}', or begin with empty books there: campaigns setup"
        " --new-books"
    )
    mail, left, _ = json.loads(both.out)["error"].splitlines()
    assert both.code == 1 and mail.startswith("the mail server cannot be used: ") and left == what[2:]
    with pytest.raises(ObjectNotFound):
        await client.read_block_document_by_name("campaigns-supabase", SupabaseCredentials.get_block_type_slug())

    new = await campaigns("setup", "--new-books", env=env)
    assert new.code == 0, new.text
    # Whoever is there already changes no books.
    again = await campaigns("setup", env=env)
    assert again.code == 0, again.text


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("no_blocks")
async def test_setup_goes_on_when_the_books_are_carried_over_or_there_are_none(
    campaigns, clean_supabase: Project, tmp_path: Path
) -> None:
    path = tmp_path / "campaigns.db"
    env = {**project_env(clean_supabase), "CAMPAIGNS_DATABASE": str(path)}
    (tmp_path / "poem.db").write_text("shall I compare thee")
    poem = await campaigns("setup", env={**env, "CAMPAIGNS_DATABASE": str(tmp_path / "poem.db")})
    assert poem.code == 1 and "file is not a database; if it holds no books of yours: campaigns setup" in poem.err

    await spend_in(path, "1.25")
    imported = await campaigns("db", "import", str(path), env=env)
    assert imported.code == 0, imported.text
    assert (await campaigns("setup", env=env)).code == 0


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("no_blocks")
async def test_setup_asks_the_project_whether_closed_books_have_arrived(
    campaigns, clean_supabase: Project, tmp_path: Path
) -> None:
    path = tmp_path / "campaigns.db"
    env = {**project_env(clean_supabase), "CAMPAIGNS_DATABASE": str(path)}
    await spend_in(path, "1.25")
    async with HeldBooks(path) as held:
        await held.close_for("abc.supabase.co", id=uuid4())
    refused = await campaigns("setup", env=env)
    closed = f"✗ the books in {path} (1 campaign, 1.25 USD spent) were closed for abc.supabase.co, and"
    assert refused.code == 1 and refused.err.startswith(f"{closed} would be left behind; carry them over to")


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("no_blocks")
async def test_setup_does_not_go_from_one_project_to_another_by_the_way(
    campaigns, client: PrefectClient, clean_supabase: Project, tmp_path: Path
) -> None:
    env = {**project_env(clean_supabase), "CAMPAIGNS_DATABASE": str(tmp_path / "none.db")}
    saved = SupabaseCredentials(url="https://abc.supabase.co", key=SecretStr("sb_secret_swordfish"))
    await saved.asave("campaigns-supabase", client=client)
    refused = await campaigns("setup", env=env)
    assert refused.code == 1 and "✗ the books are in https://abc.supabase.co until now;" in refused.err
    assert (await campaigns("setup", "--new-books", env=env)).code == 0


@pytest.mark.usefixtures("no_blocks")
async def test_setup_makes_no_file_by_looking(campaigns, clean_supabase: Project, tmp_path: Path) -> None:
    env = {**project_env(clean_supabase), "CAMPAIGNS_DATABASE": str(tmp_path / "none.db")}
    assert (await campaigns("setup", env=env)).code == 0
    assert os.listdir(tmp_path) == []
