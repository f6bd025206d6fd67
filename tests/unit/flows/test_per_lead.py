"""When a run costs too much per lead."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from campaign_files import campaign

from prefect_campaigns.flows.budget import per_lead_excess
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus


@pytest.mark.parametrize(
    ("limit", "leads", "cost", "expected"),
    [
        (None, 10, "99", None),
        # Exactly the limit is not over it.
        ("0.10", 10, "1.00", None),
        ("0.10", 10, "1.01", "budget: perLead 0.10 passed, 1.01 spent on 10 leads, 0.101 each"),
        # Money for nothing.
        ("0.10", 0, "0.02", "budget: perLead 0.10 passed, 0.02 spent on no lead at all"),
        ("0.10", 0, "0", None),
        # Before leads are counted nothing can be said.
        ("0.10", None, "5.00", None),
    ],
)
def test_cost_per_lead_against_its_limit(limit: str | None, leads: int | None, cost: str, expected: str | None) -> None:
    counts = {} if leads is None else {"prospects_generated": leads}
    step = StepResult(name="find", engine="prospecting", position=0, status=StepStatus.COMPLETED, counts=counts)
    report = RunReport(
        run_id="r",
        run_name="r",
        campaign_key="c",
        campaign_name="c",
        status=RunStatus.RUNNING,
        started_at=datetime(2026, 3, 1, tzinfo=UTC),
        total_cost=Decimal(cost),
        steps=(step,),
    )
    budget = {} if limit is None else {"perLead": limit}
    assert per_lead_excess(campaign("c", "http://127.0.0.1:9", budget=budget), report) == expected
