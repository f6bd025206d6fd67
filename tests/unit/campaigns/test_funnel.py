"""How many leads are left at each stage, and what one cost."""

from __future__ import annotations

from decimal import Decimal

from prefect_campaigns.funnel import cost_per_lead, funnel

COUNTS = {
    "prospects_generated": 20.0,
    "prospects_verified": 16.0,
    "leads_analyzed": 16.0,
    "grade_a": 6.0,
    "grade_b": 7.0,
    "grade_c": 3.0,
    "emails_composed": 13.0,
    "emails_ready": 12.0,
    "avg_quality": 84.0,
    "emails_sent": 12.0,
    "emails_failed": 1.0,
}


def test_the_stages_come_in_order_with_their_share_of_the_first() -> None:
    stages = funnel(COUNTS)
    assert [(stage.name, stage.count, stage.share) for stage in stages] == [
        ("found", 20, Decimal(1)),
        ("verified", 16, Decimal("0.8")),
        ("analysed", 16, Decimal("0.8")),
        ("composed", 13, Decimal("0.65")),
        ("sent", 12, Decimal("0.6")),
    ]
    assert [stage.describe_grades() for stage in stages] == ["", "", "6 A, 7 B, 3 C", "", ""]


def test_what_nobody_counted_is_no_stage() -> None:
    assert [stage.name for stage in funnel({"emails_sent": 3.0, "leads_analyzed": 5.0})] == ["analysed", "sent"]
    assert not funnel({})


def test_of_nothing_found_there_are_no_shares() -> None:
    assert [(stage.count, stage.share) for stage in funnel({"prospects_generated": 0.0, "emails_sent": 2.0})] == [
        (0, None),
        (2, None),
    ]


def test_a_lead_costs_what_was_spent_by_those_that_were_found() -> None:
    assert cost_per_lead(Decimal("0.25"), COUNTS) == Decimal("0.0125")
    assert cost_per_lead(Decimal("0.1"), {"prospects_generated": 3.0}) == Decimal("0.033333")
    assert cost_per_lead(Decimal("0.1"), {"prospects_generated": 0.0}) is None
    assert cost_per_lead(Decimal("0.1"), {"emails_sent": 3.0}) is None


def test_counts_that_no_engine_can_have_break_nothing() -> None:
    (found,) = funnel({"prospects_generated": float("inf")})
    assert found.count == 10**12
    assert cost_per_lead(Decimal(1), {"prospects_generated": float("inf")}) == 0
