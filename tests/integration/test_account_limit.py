"""One limit for all campaigns, with many runs at once: it is never passed by a cent, and the books agree."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from campaign_files import campaign

from prefect_campaigns.budget import AccountBudget
from prefect_campaigns.results import RunReport

CAMPAIGNS, RUNS_OF_EACH = 10, 3
# What the engines charge for five prospects and for analysing four of them is looked at, and not assumed, below.
ESTIMATES = {"prospecting": {"estimatedCost": "0.012"}, "analysis": {"estimatedCost": "0.02"}}
RUNS_THAT_FIT = Decimal("15.5")


@pytest.mark.timeout(400)
async def test_thirty_runs_of_ten_campaigns_spend_no_cent_more_than_the_account_may(driver, engines) -> None:
    store = driver.store
    before = (await store.account_status()).account[0].spent
    cost_of_a_run = Decimal("0.032")
    limit = before + RUNS_THAT_FIT * cost_of_a_run
    names = [f"Of One Account {number}" for number in range(CAMPAIGNS)]
    deployments = await driver.apply(
        *(campaign(name, engines.url, only=2, steps=ESTIMATES) for name in names),
    )
    await store.set_account_budget(AccountBudget(daily=limit))
    try:
        runs = [await driver.start(deployment) for _ in range(RUNS_OF_EACH) for deployment in deployments]
        ended = await driver.all_ended([run.id for run in runs], seconds=300)
        account = (await store.account_status()).account[0]
    finally:
        await store.set_account_budget(AccountBudget())
    states = Counter(run.state.name for run in ended)
    assert account.spent <= limit and account.reserved == 0
    assert account.spent > limit - cost_of_a_run, "it is used up"
    assert states["Completed"] >= 14 and states["BudgetExceeded"] >= 1, states
    assert set(states) <= {"Completed", "BudgetExceeded", "Paused"}

    reports: list[RunReport] = [await store.get_run(str(run.id)) for run in runs]
    assert engines.charged == account.spent - before
    assert engines.charged == sum((report.total_cost for report in reports), Decimal(0))
    assert engines.charged == sum((step.cost or Decimal(0) for report in reports for step in report.steps), Decimal(0))
    assert all(charge.cost <= Decimal("0.02") for charge in engines.charges), "as the estimates say"
    for one in (*(report.campaign_key for report in reports[:CAMPAIGNS]), None):
        assert await store.verify_totals(one) == []
