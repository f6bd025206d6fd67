"""``campaigns list``, ``pause`` and ``resume``: how campaigns stand, whoever made them stand so."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from campaign_files import campaign
from driving import Driver
from spending import spend

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import Pause, PausedBy

NOWHERE = "http://127.0.0.1:9"
NIGHTLY = {"cron": "30 3 * * *", "timezone": "America/New_York"}


def block(listed: str, name: str) -> list[str]:
    """Return the lines about a campaign."""
    lines = listed.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"{name}  "))
    end = next((i for i in range(start + 1, len(lines)) if not lines[i].startswith("  ")), len(lines))
    return [line.strip() for line in lines[start:end]]


async def test_a_person_pauses_and_resumes_and_everybody_sees_why(campaigns, driver: Driver) -> None:
    deployment_id = await driver.deploy("Paused By Command", NOWHERE, schedule=NIGHTLY)
    paused = await campaigns("pause", "Paused By Command", "--reason", "the client is on holiday")
    assert (paused.code, paused.err) == (0, "")
    assert paused.out == "paused-by-command is paused until somebody resumes it: campaigns resume paused-by-command\n"
    assert (await driver.client.read_deployment(deployment_id)).paused
    listed, budget = await asyncio.gather(campaigns("list"), campaigns("budget", "paused-by-command"))
    assert block(listed.out, "Paused By Command")[1] == "paused by a person, runs 30 3 * * * America/New_York"
    why = block(listed.out, "Paused By Command")[-1]
    assert why.startswith("Paused by a person since ") and why.endswith(": the client is on holiday")
    assert f"{why}\n" in budget.out

    resumed = await campaigns("resume", "paused-by-command", "--json")
    body = json.loads(resumed.out)
    assert (resumed.code, body["message"], body["state"]) == (0, "paused-by-command is resumed", "active")
    assert body["runsRefused"] is None
    assert not (await driver.client.read_deployment(deployment_id)).paused


async def test_what_is_paused_or_resumed_already_is_left_as_it_is_and_said_to_be_so(campaigns, driver: Driver) -> None:
    deployment_id = await driver.deploy("Paused Twice", NOWHERE, schedule=NIGHTLY)

    async def changed(*command: str) -> bool:
        ended = await campaigns(*command, "--json")
        assert ended.code == 0, ended.text
        return json.loads(ended.out)["changed"]

    active = await campaigns("resume", "paused-twice")
    assert (active.code, active.out) == (0, "paused-twice is not paused\n")
    assert [await changed("pause", "paused-twice", "--reason", "leave") for _ in range(2)] == [True, False]
    again = await campaigns("pause", "paused-twice")
    assert again.code == 0 and again.out.startswith("paused-twice was paused already. Paused by a person since ")
    assert again.out.endswith(": leave\n")
    assert await changed("pause", "paused-twice", "--reason", "moving house"), "another reason is something new"
    assert [await changed("resume", "paused-twice") for _ in range(2)] == [True, False]
    await driver.client.pause_deployment(deployment_id)
    assert not await changed("pause", "paused-twice"), "in Prefect it was paused by a person, too"
    done = [entry.action.value for entry in await driver.store.list_audit(campaign_key="paused-twice")]
    assert done == ["campaign.resumed", "campaign.paused", "campaign.paused", "campaign.created"]


async def test_who_resumes_a_campaign_that_a_limit_holds_hears_that_its_runs_are_refused(
    campaigns, driver: Driver, store: SqliteStore
) -> None:
    deployment_id = await driver.deploy("Held By A Limit", NOWHERE, budget={"monthly": 0.1})
    await spend(store, "held-by-a-limit", "0.2")
    await driver.client.pause_deployment(deployment_id)
    held = await campaigns("resume", "held-by-a-limit")
    assert held.code == 0 and held.out.startswith("held-by-a-limit is resumed, but any run before "), held.text
    assert "will be refused: budget: monthly 0.10 reached, spent 0.20. To have it run, raise the limit" in held.out
    assert not (await driver.client.read_deployment(deployment_id)).paused
    active = json.loads((await campaigns("resume", "held-by-a-limit", "--json")).out)
    assert not active["changed"] and active["message"].startswith("held-by-a-limit is not paused, but any run before ")
    refused = active["runsRefused"]
    assert refused["reason"] == "budget: monthly 0.10 reached, spent 0.20"
    (limit,) = refused["limits"]
    assert (limit["name"], refused["until"]) == ("monthly", limit["resetsAt"])


async def test_what_was_done_in_prefect_is_listed_too(campaigns, driver: Driver) -> None:
    paused = await driver.deploy("Paused In Prefect", NOWHERE, schedule=NIGHTLY)
    await driver.client.pause_deployment(paused)
    switched_off = await driver.deploy("Switched Off In Prefect", NOWHERE, schedule=NIGHTLY)
    (schedule,) = (await driver.client.read_deployment(switched_off)).schedules
    await driver.client.update_deployment_schedule(switched_off, schedule.id, active=False)
    deleted = await driver.deploy("Deleted In Prefect", NOWHERE)
    await driver.client.delete_deployment(deleted)
    await driver.deploy("Not Enabled", NOWHERE, schedule={**NIGHTLY, "enabled": False})
    await driver.deploy("Run By Hand", NOWHERE, budget={"daily": 5})

    listed, as_json = await asyncio.gather(campaigns("list"), campaigns("list", "--json"))
    assert (listed.code, listed.err, as_json.code) == (0, "", 0)
    states = {one["slug"]: one["state"] for one in json.loads(as_json.out)["campaigns"]}
    expected = {
        "paused-in-prefect": "paused by a person",
        "switched-off-in-prefect": "paused by a person",
        "deleted-in-prefect": "not deployed",
        "not-enabled": "not enabled",
        "run-by-hand": "active",
    }
    assert {slug: states[slug] for slug in expected} == expected
    assert block(listed.out, "Run By Hand") == [
        "Run By Hand  campaign/run-by-hand",
        "active, runs by hand",
        "spent 0.00 of 5.00 today, 0.00 this week, 0.00 this month",
        "daily ░░░░░░░░░│░░",
    ]
    assert block(listed.out, "Paused In Prefect")[-1].endswith(": paused in Prefect")
    assert block(listed.out, "Switched Off In Prefect")[-1].endswith("its schedule is switched off in Prefect.")


async def test_where_prefect_is_away_the_store_says_what_it_knows(alone, books: SqliteStore) -> None:
    assert (await alone("list")).out == "There are no campaigns yet. campaigns apply FILE makes one.\n"
    now = datetime.now(UTC)
    pauses: dict[str, Any] = {
        "Going On": None,
        "Stopped": Pause(
            by=PausedBy.BUDGET,
            reason="budget: daily 5.00 reached, spent 5.02",
            since=now,
            until=now + timedelta(hours=5),
        ),
        "On Holiday": Pause(by=PausedBy.PERSON, reason="holidays", since=now),
    }
    for name, pause in pauses.items():
        record = await books.save_campaign(campaign(name, NOWHERE), deployment_id=uuid4(), applied_schedule_active=True)
        await books.set_pause(record.key, pause, replacing=None)
    listed, as_json = await asyncio.gather(alone("list"), alone("list", "--json"))
    assert listed.code == 0
    assert listed.err.startswith("! What was paused in Prefect is not known: no Prefect API answers at ")
    assert [block(listed.out, name)[1].partition(",")[0] for name in pauses] == [
        "active",
        "paused by the budget",
        "paused by a person",
    ]
    body = json.loads(as_json.out)
    stopped = next(one for one in body["campaigns"] if one["slug"] == "stopped")
    assert (stopped["pause"]["by"], stopped["pause"]["reason"]) == ("budget", "budget: daily 5.00 reached, spent 5.02")
    assert body["serverProblem"].startswith("no Prefect API answers")


async def test_pausing_needs_prefect_and_a_campaign(alone, books: SqliteStore, campaigns) -> None:
    await books.save_campaign(campaign("Spring Outreach", NOWHERE))
    away, unknown = await asyncio.gather(alone("pause", "spring-outreach"), campaigns("resume", "zzzzzzzzz"))
    assert away.code == 1 and away.err.startswith("✗ no Prefect API answers at ")
    assert unknown.code == 1 and unknown.err.startswith("✗ there is no campaign 'zzzzzzzzz'")
    assert (await books.get_campaign("spring-outreach")).pause is None


async def test_a_deployment_that_the_books_do_not_know_is_listed_paused_and_deleted_by_its_name(
    campaigns, driver: Driver, store: SqliteStore
) -> None:
    deployment_id = await driver.deploy("Of Lost Books", NOWHERE, only=1, schedule=NIGHTLY)
    await store.delete_campaign("of-lost-books")
    listed, as_json = await asyncio.gather(campaigns("list"), campaigns("list", "--json"))
    assert block(listed.out, "of-lost-books") == [
        "of-lost-books  campaign/of-lost-books",
        "not in the books, runs 30 3 * * * America/New_York",
        "Its runs fail and spend nothing: if its books are others, set SUPABASE_URL or CAMPAIGNS_DATABASE; else"
        " campaigns apply of its file takes it into these, and campaigns delete of-lost-books deletes it.",
    ]
    (one,) = [one for one in json.loads(as_json.out)["notInBooks"] if one["slug"] == "of-lost-books"]
    assert (one["deploymentId"], one["state"], one["paused"]) == (str(deployment_id), "not in the books", False)

    near, run, resume = await asyncio.gather(
        campaigns("delete", "of-lost-bookz", "--yes"),
        campaigns("run", "of-lost-books"),
        campaigns("resume", "of-lost-books"),
    )
    assert near.code == 1 and "did you mean of-lost-books" in near.err
    for refused in (run, resume):
        assert refused.code == 1 and refused.err.startswith("✗ Deployment campaign/of-lost-books is not in the books")
    paused = await campaigns("pause", "Of Lost Books", "--json")
    body = json.loads(paused.out)
    assert (paused.code, body["state"], body["pause"]["by"]) == (0, "not in the books", "person")
    assert (await driver.client.read_deployment(deployment_id)).paused

    asked = await campaigns("delete", str(deployment_id))
    assert asked.code == 1 and "deleting of-lost-books cannot be undone; add --yes to do it" in asked.err
    deleted = await campaigns("delete", str(deployment_id), "--yes")
    said = "✓ Deployment campaign/of-lost-books, which was not in the books, and its runs are deleted.\n"
    assert (deleted.code, deleted.out) == (0, said)
    assert "of-lost-books  " not in (await campaigns("list")).out
