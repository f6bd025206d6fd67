"""``campaigns setup`` saves what works, and ``campaigns doctor`` says what does not."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from campaign_files import campaign_json
from operating import but_strays
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound
from processes import Ended
from supabase_rig import Project

from prefect_campaigns.blocks.journal import Journal, JournalEntry
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import AttemptState, Reservation

NOWHERE = "http://127.0.0.1:9"
STORE_BLOCK = ("campaigns-supabase", "supabase-credentials")


def project_env(project: Project) -> dict[str, str]:
    # Not the stack's books, which nobody carries over.
    return {"SUPABASE_URL": project.url, "SUPABASE_KEY": project.secret_key, "CAMPAIGNS_DATABASE": "none.db"}


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("no_blocks")
async def test_what_setup_has_saved_is_what_everybody_uses(
    campaigns, client: PrefectClient, clean_supabase: Project
) -> None:
    first = await campaigns("setup", env=project_env(clean_supabase))
    assert (first.code, first.err) == (0, "")
    for saved in (
        f"block supabase-credentials/campaigns-supabase, the Supabase project {clean_supabase.url}\n",
        "block email-server-credentials/campaigns-smtp, the mail server 127.0.0.1:",
    ):
        assert f"✓ created: {saved}" in first.out
    assert clean_supabase.secret_key not in first.out
    again = await campaigns("setup", "--json", env=project_env(clean_supabase))
    assert [(one["block"], one["change"]) for one in json.loads(again.out)["blocks"]] == [
        ("supabase-credentials/campaigns-supabase", "unchanged"),
        ("email-server-credentials/campaigns-smtp", "unchanged"),
    ]

    nothing_set = {"CAMPAIGNS_DATABASE": "", "SMTP_HOST": "", "SMTP_FROM": ""}
    set_, doctor = await asyncio.gather(
        campaigns("budget", "--account", "--daily", "7", env=nothing_set),
        campaigns("doctor", "--json", env=nothing_set),
    )
    assert set_.code == 0, set_.text
    assert clean_supabase.rows("select daily::text from public.campaign_account") == [("7.000000",)]
    # The first of each part: the stack's server knows deployments that these books do not.
    found = {one["part"]: one["found"] for one in reversed(json.loads(doctor.out)["findings"])}
    assert found["Store"].startswith(f"Supabase project {clean_supabase.url} (block campaigns-supabase), secret key")
    assert found["Mail"].endswith(", from campaigns@example.com (block campaigns-smtp)")


@pytest.mark.usefixtures("no_blocks")
async def test_what_does_not_work_is_not_saved_nor_is_anything_else(campaigns, client: PrefectClient) -> None:
    broken = {"SUPABASE_URL": NOWHERE, "SUPABASE_KEY": "sb_secret_swordfish", "SMTP_PORT": "9"}
    broken["CAMPAIGNS_DATABASE"] = "none.db"
    ended = await campaigns("setup", env=broken)
    assert (ended.code, ended.out) == (1, "")
    store, mail, nothing = ended.err.splitlines()
    assert store.startswith(f"✗ Supabase at {NOWHERE} did not answer")
    assert mail.startswith("✗ the mail server cannot be used: 127.0.0.1:9, connecting: ")
    assert nothing == "✗ nothing was saved"
    with pytest.raises(ObjectNotFound):
        await client.read_block_document_by_name(*STORE_BLOCK)


async def test_where_nothing_is_set_there_is_nothing_to_save(alone) -> None:
    ended = await alone("setup")
    assert ended.code == 1 and ended.err.startswith("✗ there is nothing to save: set SUPABASE_URL and SUPABASE_KEY")


def parts(ended: Ended) -> dict[str, dict[str, Any]]:
    return {one["part"]: one for one in json.loads(ended.out)["findings"]}


async def test_books_that_do_not_know_what_is_deployed_are_no_quiet_beginning(
    campaigns, driver, write, tmp_path
) -> None:
    url = "http://127.0.0.1:9"
    ours = await driver.client.read_deployment(await driver.deploy("Of Other Books", url))
    foreign = await driver.client.create_deployment(ours.flow_id, "a-foreign-one", entrypoint="marketing.py:campaign")
    elsewhere = {"CAMPAIGNS_DATABASE": str(tmp_path / "other.db")}
    doctor = await campaigns("doctor", "--json", env=elsewhere)
    await driver.client.delete_deployment(foreign)
    broken = " ".join(one["found"] for one in json.loads(doctor.out)["findings"] if one["health"] == "broken")
    assert doctor.code == 1 and "deployments of campaigns that these books do not know" in broken
    assert "a-foreign-one" not in broken
    write("one.json", campaign_json("Of Other Books", url))
    first, second = [await campaigns("apply", "one.json", "--json", env=elsewhere) for _ in range(2)]
    (note,) = but_strays(json.loads(first.out)["notes"])
    assert "other.db did not know of-other-books, which the Prefect server did" in note
    assert but_strays(json.loads(second.out)["notes"]) == []


async def test_what_engines_charged_and_no_books_hold_is_said(alone, books: SqliteStore, tmp_path) -> None:
    journal = Journal(tmp_path / "prefect" / "campaigns-journal")

    async def said() -> tuple[str, str]:
        found = parts(await alone("doctor", "--json"))["Journal"]
        return found["health"], found["found"]

    assert (await said())[0] == "well"
    await journal.write(charged("ours", books.books))
    assert await said() == ("doubtful", "1 answer of an engine waits to be settled")
    await journal.write(charged("theirs", "/elsewhere/campaigns.db"))
    assert await said() == ("broken", "1 answer of an engine waits for another store: 1 in /elsewhere/campaigns.db")
    await journal.set_aside(charged("ours", books.books))
    odd = f"1 answer of an engine lies in {journal.folder}, contradicting the books or unreadable"
    assert await said() == ("broken", odd)


def charged(run_id: str, books: str) -> JournalEntry:
    now = datetime.now(UTC)
    reservation = Reservation(
        campaign_key="a-campaign",
        run_id=run_id,
        step="prospecting",
        attempt=1,
        state=AttemptState.SENT,
        estimate=Decimal(1),
        booked=None,
        reserved_at=now,
        expires_at=now,
    )
    return JournalEntry(books=books, reservation=reservation, amount=Decimal(1), step=None)


async def test_what_is_broken_is_said_with_what_to_do(alone, tmp_path) -> None:
    (tmp_path / "poem.db").write_text("shall I compare thee")
    mail = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": "9", "SMTP_FROM": "ops@example.com"}
    nothing, poem, setting = await asyncio.gather(
        alone("doctor"),
        alone("doctor", "--json", env={"CAMPAIGNS_DATABASE": str(tmp_path / "poem.db"), **mail}),
        alone("doctor", "--json", env={"SMTP_PORT": "many"}),
    )
    assert nothing.code == 1
    assert "✗ Prefect API no Prefect API answers at http://127.0.0.1:9/api" in nothing.out
    assert "→ set SMTP_HOST; campaigns setup" in nothing.out
    assert poem.code == 1 and parts(poem)["Store"]["health"] == "broken"
    assert f"Store: {parts(poem)['Store']['found']}" in json.loads(poem.out)["error"].splitlines()
    assert parts(poem)["Mail"]["found"].startswith("127.0.0.1:9, connecting: ")
    # Without settings there is nothing else to look at.
    assert (setting.code, list(parts(setting))) == (1, ["Settings"])


async def test_a_wrong_key_and_missing_tables_are_said_by_every_command(alone, supabase: Project) -> None:
    wrong_key = {"SUPABASE_URL": supabase.url, "SUPABASE_KEY": supabase.publishable_key}
    with supabase.database() as empty:
        for env, said in ((wrong_key, "is the publishable key, which is made"), (project_env(empty), "db migrate")):
            doctor, listed, budget = await asyncio.gather(
                alone("doctor", "--json", env=env),
                alone("list", env=env),
                alone("budget", "--account", env=env),
            )
            assert (listed.code, budget.code) == (1, 1)
            assert said in listed.err and said in budget.err and said in parts(doctor)["Store"]["found"]
