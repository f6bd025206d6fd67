"""The account's alerts: all campaigns bring them about together, and people hear of each once."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from driving import Driver
from mails import mails_to
from real_stack import Stack
from run_process import RunProcess

from prefect_campaigns.budget import AccountBudget
from prefect_campaigns.deployments.demo.engines import DemoEngines

pytestmark = pytest.mark.usefixtures("no_worker")

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=100)
"""Of a day on which no other test spends anything."""

COST = Decimal("0.012")
"""Of a run: five prospects."""

TOLD = "account@example.com"


@pytest.fixture
async def account_limit(driver: Driver) -> AsyncIterator[None]:
    """A limit of which one run spends three tenths, and three do not reach it."""
    await driver.store.set_account_budget(AccountBudget(daily=COST / Decimal("0.3")))
    yield
    await driver.store.set_account_budget(AccountBudget())


def forget_that_people_were_told(stack: Stack) -> int:
    """Do to the books what a crash does between the telling and its being written down."""
    with closing(sqlite3.connect(stack.database)) as books, books:
        forgetting = "UPDATE alerts SET told_at = NULL WHERE alert_key = ?"
        return books.execute(forgetting, (f"account daily:{NOON:%Y-%m-%d} 0.3",)).rowcount


@pytest.mark.usefixtures("account_limit")
async def test_an_alert_of_the_account_that_several_campaigns_run_into_is_mailed_once(
    driver: Driver, engines: DemoEngines, runner: RunProcess, in_stack: Stack
) -> None:
    async def run(name: str) -> None:
        """Run a campaign, and wait for the mail of its end: by then a mail of its alert would have come."""
        end = f"{name}@example.com"
        deployment = await driver.deploy(
            f"Account Alert {name}",
            engines.url,
            only=1,
            budget={"alertAt": [0.3]},
            notifications={"onBudget": {"email": TOLD}, "onComplete": {"email": end}},
        )
        ended = await runner.run((await driver.start(deployment)).id, now=NOON)
        assert ended.name == "Completed", ended.message
        await mails_to(in_stack, end, 1)

    await run("first")
    (mail,) = await mails_to(in_stack, TOLD, 1)
    assert mail.message["Subject"].startswith("Budget alert: Account Alert first")
    assert "30 % of the account daily limit of 0.04 USD is spent: 0.012 USD" in mail.text
    await run("second")
    assert len(await mails_to(in_stack, TOLD, 1)) == 1
    assert forget_that_people_were_told(in_stack) == 1
    await run("third")
    assert len(await mails_to(in_stack, TOLD, 1)) == 1, "told again, and the server knows it"
