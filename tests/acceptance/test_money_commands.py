"""``campaigns budget``: what is spent, what is left, what is not known; and the limits of the account."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from campaign_files import campaign
from prefect.client.orchestration import PrefectClient
from spending import lose_an_answer, spend

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import PausedBy
from prefect_campaigns.budget import AccountBudget
from prefect_campaigns.clock import SystemClock
from prefect_campaigns.deployments.cli.money_commands import Asked
from prefect_campaigns.errors import UsageError
from prefect_campaigns.flows.pausing import pause_for_budget

NOWHERE = "http://127.0.0.1:9"
NIGHTLY = {"cron": "30 3 * * *", "timezone": "America/New_York"}


async def test_budget_shows_what_is_spent_left_and_to_come(alone, books: SqliteStore) -> None:
    nightly = campaign("Spring Outreach", NOWHERE, schedule=NIGHTLY, budget={"weekly": 0.5})
    await books.save_campaign(nightly, deployment_id=uuid4(), applied_schedule_active=True)
    await spend(books, "spring-outreach", "0.3")
    shown, as_json = await asyncio.gather(
        alone("budget", "Spring Outreach"), alone("budget", "spring-outreach", "--json")
    )
    assert shown.code == 0
    assert re.search(r"^weekly   █+░+│░+   60 %  resets Sun \d+ \w+ 00:00, in ", shown.out, re.MULTILINE), shown.out
    assert "         0.30 spent, 0.20 left of 0.50\n" in shown.out
    assert re.search(r"^It is due \w{3} \d+ \w{3} 03:30, in ", shown.out, re.MULTILINE)
    # On a Saturday the next run falls into a new week.
    assert re.search(r"^At that pace weekly stops the (next|2nd) run, ", shown.out, re.MULTILINE)
    assert shown.err.startswith("! Whether somebody paused it in Prefect is not known: no Prefect API answers at")

    body = json.loads(as_json.out)
    assert (as_json.code, as_json.err, body["success"], body["likelyCost"]["runs"]) == (0, "", True, 1)
    weekly = next(limit for limit in body["limits"] if limit["name"] == "weekly")
    assert (weekly["spent"], weekly["left"]) == ("0.30", "0.20")
    assert body["serverProblem"].startswith("no Prefect API answers")


async def test_books_that_are_in_order_are_said_to_be_and_others_are_shown(
    alone, books: SqliteStore, tmp_path: Path
) -> None:
    await books.save_campaign(campaign("Spring Outreach", NOWHERE))
    await spend(books, "spring-outreach", "0.3")
    of_campaign, of_account = await asyncio.gather(
        alone("budget", "spring-outreach", "--verify"), alone("budget", "--account", "--verify", "--json")
    )
    in_order = "✓ The books of spring-outreach are in order: the totals agree with the ledger.\n"
    assert (of_campaign.code, of_campaign.out) == (0, in_order)
    assert (of_account.code, json.loads(of_account.out)) == (0, {"success": True, "differences": []})

    with closing(sqlite3.connect(tmp_path / "campaigns.db")) as db, db:
        db.execute("UPDATE totals SET spent = spent + 1")
    of_campaign, of_account = await asyncio.gather(
        alone("budget", "spring-outreach", "--verify"), alone("budget", "--account", "--verify", "--json")
    )
    assert (of_campaign.code, of_campaign.out) == (1, "")
    assert all(line.startswith("✗ ") for line in of_campaign.err.splitlines())
    body = json.loads(of_account.out)
    assert (of_account.code, body["success"], len(body["differences"])) == (1, False, 3)
    assert body["error"].splitlines() == body["differences"]


async def test_what_nobody_knows_the_cost_of_is_listed_and_corrected_by_its_reference(
    alone, books: SqliteStore, tmp_path: Path
) -> None:
    await books.save_campaign(campaign("Spring Outreach", NOWHERE))
    first = await lose_an_answer(books, "spring-outreach", "0.5")
    # Two runs that happen to have one name, and a step whose name has a slash and a space in it.
    second = await lose_an_answer(books, "spring-outreach", "0.25", run_name="quick-owl", step="find / more")
    third = await lose_an_answer(books, "spring-outreach", "0.75", run_name="quick-owl", step="find / more")
    listed, as_json, shown = await asyncio.gather(
        alone("budget", "spring-outreach", "--unconfirmed"),
        alone("budget", "spring-outreach", "--unconfirmed", "--json"),
        alone("budget", "spring-outreach"),
    )
    assert "3 bookings are unconfirmed, 1.50 in all; listed by\n" in shown.out
    assert "campaigns budget spring-outreach --unconfirmed\n" in shown.out
    assert (listed.code, listed.err) == (0, "")
    assert re.search(rf"^azure-fox/find/1 +{first[:8]} +0\.50 +\w{{3}} \d", listed.out, re.MULTILINE), listed.out
    assert "campaigns budget spring-outreach --settle REFERENCE --amount" in listed.out
    body = json.loads(as_json.out)
    assert [(one["reference"], one["runId"], one["booked"]) for one in body["unconfirmed"]] == [
        ("azure-fox/find/1", first, "0.50"),
        ("quick-owl/find / more/1", second, "0.25"),
        ("quick-owl/find / more/1", third, "0.75"),
    ]

    by_name, ambiguous, unknown = await asyncio.gather(
        alone("budget", "spring-outreach", "--settle", "azure-fox/find/1", "--amount", "0.05", "--note", "invoice 12"),
        alone("budget", "spring-outreach", "--settle", "quick-owl/find / more/1", "--amount", "0"),
        alone("budget", "spring-outreach", "--settle", "azure-fax/find/1", "--amount", "0"),
    )
    by_id = await alone(
        "budget", "spring-outreach", "--settle", f"{second[:8]}/find / more/1", "--amount", "0", "--json"
    )
    assert by_name.code == 0 and by_name.out.startswith("✓ azure-fox/find/1 is booked at 0.05, and no longer at 0.50.")
    assert ambiguous.code == 1 and f"{second[:8]}/find / more/1 or {third[:8]}/find / more/1" in ambiguous.err
    assert by_id.code == 0 and json.loads(by_id.out)["booked"] == "0.00"
    assert unknown.code == 1 and "is not among what is unconfirmed; " in unknown.err
    assert [one.run_id for one in await books.unconfirmed("spring-outreach")] == [third]
    with closing(sqlite3.connect(tmp_path / "campaigns.db")) as db:
        rows = db.execute("SELECT * FROM ledger WHERE run_id = ?", (first,)).fetchall()
    (corrected,) = (row for row in rows if "invoice 12" in row)
    assert any("@" in str(value) for value in corrected), "who and why are on record"


async def test_limits_of_the_account_are_set_shown_and_lifted(alone, books: SqliteStore) -> None:
    await books.save_campaign(campaign("Spring Outreach", NOWHERE))
    await spend(books, "spring-outreach", "0.3")
    # One in which it is the same day as in UTC, in which the spending was booked.
    name = "Asia/Tokyo" if SystemClock().now().hour < 14 else "America/New_York"
    zone = {"CAMPAIGNS_TIMEZONE": name}
    set_ = await alone("budget", "--account", "--daily", "50", "--monthly", "1.5", env=zone)
    assert (set_.code, set_.err) == (0, "")
    assert set_.out.startswith(f"All campaigns together  {name}\n")
    assert "         0.30 spent, 49.70 left of 50.00\n" in set_.out
    lifted = await alone("budget", "--account", "--daily", "none", "--json", env=zone)
    limits = {limit["period"]: limit["limit"] for limit in json.loads(lifted.out)["limits"]}
    assert limits == {"daily": None, "weekly": None, "monthly": "1.50"}
    # Looking changes nothing; another timezone counts from when a limit is set.
    shown = await alone("budget", "--account")
    assert "! CAMPAIGNS_TIMEZONE is UTC here; it counts from when a limit is set again." in shown.out
    budget = await books.account_budget()
    assert (str(budget.monthly), budget.daily, budget.timezone) == ("1.500000", None, name)


async def test_what_a_limit_of_the_account_has_paused_goes_on_when_it_is_lifted(
    campaigns, write, client: PrefectClient, books: SqliteStore, tmp_path: Path
) -> None:
    mine = {"CAMPAIGNS_DATABASE": str(tmp_path / "campaigns.db")}
    write("mine/one.json", campaign("Stopped By The Account", NOWHERE, only=1).model_dump(mode="json", by_alias=True))
    assert (await campaigns("apply", "mine", env=mine)).code == 0
    await spend(books, "stopped-by-the-account", "0.3")
    await books.set_account_budget(AccountBudget(weekly=Decimal("0.1")))
    reached = (await books.budget_status("stopped-by-the-account")).reached
    await pause_for_budget(client, books, "stopped-by-the-account", reached, now=SystemClock().now())
    record = await books.get_campaign("stopped-by-the-account")
    assert record.pause is not None and record.pause.by is PausedBy.BUDGET

    still = await campaigns("budget", "--account", "--weekly", "0.2", env=mine)
    assert still.code == 0 and "! stopped-by-the-account stays paused until " in still.out
    lifted = await campaigns("budget", "--account", "--weekly", "none", env=mine)
    assert lifted.code == 0 and "! stopped-by-the-account is resumed; " in lifted.out
    assert (await books.get_campaign("stopped-by-the-account")).pause is None


# What is asked for together, and what is said of it.
CONTRADICTIONS = [
    ({"name": None}, "which campaign? campaigns budget NAME shows one, campaigns budget --account all of them"),
    ({"account": True}, "--account is about all campaigns together; leave out 'spring', or --account"),
    ({"daily": "5"}, "--daily sets a limit of the account (with --account); a campaign's own limits stand in its file"),
    ({"verify": True, "unconfirmed": True}, "--verify and --unconfirmed are two commands; give one of them"),
    ({"name": None, "account": True, "verify": True, "weekly": "5"}, "--verify and --weekly are two commands"),
    (
        {"name": None, "account": True, "unconfirmed": True},
        "--unconfirmed is about one campaign: campaigns budget NAME",
    ),
    ({"name": None, "account": True, "settle": "a/b/1", "amount": "1"}, "--settle is about one campaign"),
    ({"settle": "a/b/1"}, "what did it cost? Add --amount, in US dollars: --amount 0.05, or --amount 0"),
    ({"amount": "1"}, "--amount belongs to --settle REF"),
    ({"note": "why"}, "--note belongs to --settle REF"),
]


def refuse(name: str | None = "spring", **asked: Any) -> None:
    Asked(**asked).refuse_contradictions(name)


@pytest.mark.parametrize(("asked", "said"), CONTRADICTIONS)
def test_options_that_do_not_go_together_are_refused_in_one_sentence(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as error:
        refuse(**asked)
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"verify": True},
        {"settle": "a/b/1", "amount": "0", "note": "why"},
        {"name": None, "account": True},
        {"name": None, "account": True, "daily": "5", "weekly": "none"},
        {"name": None, "account": True, "verify": True},
    ],
)
def test_options_that_go_together_are_taken(asked: dict[str, Any]) -> None:
    refuse(**asked)


async def test_what_is_no_amount_or_no_campaign_is_said_in_one_sentence(alone, books: SqliteStore) -> None:
    await books.save_campaign(campaign("Spring Outreach", NOWHERE))
    refusals = [
        (
            ("budget", "--account", "--daily", "-5"),
            "--daily is '-5'; an amount in US dollars is not negative, and 'none'",
        ),
        (("budget", "--account", "--daily", "ten"), "--daily is 'ten'; an amount in US dollars is a number such as 5"),
        (("budget", "spring-outreach", "--settle", "a/b/1", "--amount", "1e-9"), "--amount is '1e-9'; an amount in US"),
        (("budget", "sprong-outreach"), "there is no campaign 'sprong-outreach'; did you mean spring-outreach?"),
    ]
    ended = await asyncio.gather(*(alone(*arguments) for arguments, _ in refusals))
    for one, (arguments, sentence) in zip(ended, refusals, strict=True):
        code = 1 if "there is no campaign" in sentence else 2
        assert (one.code, one.out, one.err.count("\n")) == (code, "", 1), arguments
        assert one.err.startswith(f"✗ {sentence}"), one.err
