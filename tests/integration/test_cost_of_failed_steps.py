"""What a failed step cost counts: it is looked at before the next step, and people hear of it."""

from __future__ import annotations

from decimal import Decimal

from campaign_files import ANALYZE, COMPOSE, PROSPECT
from mails import mails_to


async def test_a_failed_step_that_makes_the_leads_too_dear_stops_the_run_at_the_next_step(driver, engines) -> None:
    # Five leads cost 0.0024 each, which is within the limit, and 0.0064 with what the failure cost.
    engines.fail_next(ANALYZE, status=500, error="out of tokens", cost=0.02)
    steps = {"analysis": {"onFailure": "continue"}, "outreach": {"params": {"count": 5}}}
    deployment = await driver.deploy("Dear Failure", engines.url, only=3, steps=steps, budget={"perLead": "0.003"})
    flow_run = await driver.run(deployment)
    assert flow_run.state.name == "BudgetExceeded"
    first, second, *_ = flow_run.state.message.splitlines()
    assert first == "budget: perLead 0.003 passed, 0.032 spent on 5 leads, 0.0064 each"
    assert second.startswith("Step 'analysis' failed: ") and "out of tokens" in second
    assert len(engines.requests_to(PROSPECT)) == 1 and engines.requests_to(COMPOSE) == []
    report = await driver.store.get_run(str(flow_run.id))
    assert report.total_cost == Decimal("0.032")
    assert [str(step.status) for step in report.steps] == ["completed", "failed", "pending"]


async def test_a_failed_step_that_brings_the_spending_near_a_limit_is_told_of(driver, engines, in_stack) -> None:
    """By that very run, which ends with this step: the next one may be a week away."""
    engines.fail_next(PROSPECT, status=500, cost=0.04)
    told = {"onBudget": {"email": "dear-failure@example.com"}}
    deployment = await driver.deploy(
        "Failure Near A Limit", engines.url, only=1, budget={"weekly": "0.05"}, notifications=told
    )
    assert (await driver.run(deployment)).state.name == "Failed"
    (mail,) = await mails_to(in_stack, "dear-failure@example.com", 1)
    assert mail.message["Subject"].startswith("Budget alert: Failure Near A Limit")
    assert "80 % of the weekly limit of 0.05 USD is spent: 0.04 USD" in mail.text
