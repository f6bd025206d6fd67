"""What the figures of a run and of a period say of themselves, and the sentences that tell them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from prefect_campaigns import report_words
from prefect_campaigns.advice import what_to_do
from prefect_campaigns.figures import LimitFigures, PeriodFigures, RunFigures
from prefect_campaigns.forecast import LikelyCost
from prefect_campaigns.results import RunStatus

NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)


def run(**changes: Any) -> RunFigures:
    return RunFigures(
        **{
            "campaign_key": "spring",
            "campaign_name": "Spring",
            "timezone": "America/New_York",
            "run_id": "id",
            "run_name": "azure-fox",
            "trigger_type": "scheduled",
            "status": RunStatus.COMPLETED,
            "state_name": "Completed",
            "started_at": NOON,
            "completed_at": NOON + timedelta(seconds=72),
            "cost": Decimal("0.25"),
            "counts": {"prospects_generated": 20.0},
            "made_at": NOON + timedelta(seconds=72),
            **changes,
        }
    )


def period(**changes: Any) -> PeriodFigures:
    return PeriodFigures(
        **{
            "campaign_key": "spring",
            "name": "Spring",
            "timezone": "UTC",
            "since": date(2026, 5, 10),
            "until": date(2026, 5, 16),
            "cost": Decimal("1.5"),
            "made_at": NOON,
            **changes,
        }
    )


def test_figures_survive_the_way_through_json_to_the_millionth() -> None:
    figures = run(cost=Decimal("0.123457"), likely=LikelyCost(amount="0.1", lowest="0.1", highest="0.2", runs=2))
    assert RunFigures.model_validate_json(figures.model_dump_json()) == figures


@pytest.mark.parametrize(
    ("cost", "found", "per_lead", "said", "dear"),
    [
        ("0.25", 20, None, "0.0125 USD", False),
        ("0.25", 20, "0.0125", "0.0125 USD; of at most 0.0125", False),
        ("0.25", 20, "0.01", "0.0125 USD; passes the limit of 0.01", True),
        ("0.25", 0, "0.01", "no lead was found; passes the limit of 0.01", True),
        ("0", 0, "0.01", "no lead was found; of at most 0.01", False),
        ("0.25", None, "0.01", None, False),
    ],
)
def test_a_lead_costs_what_it_may_or_more(
    cost: str, found: int | None, per_lead: str | None, said: str | None, dear: bool
) -> None:
    counts = {} if found is None else {"prospects_generated": float(found)}
    figures = run(cost=cost, counts=counts, per_lead=per_lead)
    assert (report_words.per_lead(figures), figures.is_too_dear) == (said, dear)


def test_of_a_limit_never_less_than_nothing_is_left() -> None:
    limit = LimitFigures(name="daily", limit="5", spent="5.02", reserved="0.1")
    assert (limit.left, limit.used) == (0, Decimal("1.024"))
    assert report_words.left(limit) == "0.00 left of 5.00"
    assert LimitFigures(name="daily", limit="0", spent="0").used == 1


def test_a_report_tells_when_by_the_campaigns_clocks_and_what_is_unconfirmed() -> None:
    assert report_words.span(run()) == "Scheduled, Wed 13 May 08:00, took 1 min 12 s"
    by_hand = run(trigger_type="manual", completed_at=None)
    assert report_words.span(by_hand) == "Started by hand, Wed 13 May 08:00, it goes on"
    assert report_words.cost(run()) == "0.25 USD"
    unsure = run(unconfirmed="0.05", unconfirmed_requests=1)
    assert report_words.cost(unsure) == "0.25 USD, of which 0.05 unconfirmed (1 request)"


def test_the_outlook_says_what_the_next_run_costs_and_when_it_is_due() -> None:
    assert list(report_words.outlook(run())) == [
        "What the next run will cost is not known: none has cost anything, and no step says."
    ]
    likely = LikelyCost(amount="0.25", lowest="0.2", highest="0.3", runs=5)
    assert list(report_words.outlook(run(likely=likely, next_run=NOON + timedelta(days=1)))) == [
        "The next run will likely cost 0.25 USD: the median of 5 runs (0.20 to 0.30).",
        "It is due Thu 14 May 08:00, in 1 d (America/New_York).",
    ]


def test_a_period_says_how_its_runs_ended_and_what_was_done_again() -> None:
    assert report_words.outcomes(period()) == "no run"
    some = period(runs=3, outcomes={"Completed": 2, "Failed": 1}, limit="10")
    assert report_words.outcomes(some) == "3 runs: 2 Completed, 1 Failed"
    assert report_words.spent_of(some) == "1.50 USD of 10.00"
    assert list(report_words.second_tries(some)) == ["Nothing had to be done again."]
    again = period(repeated_requests=3, rescued_runs=1, steps_taken_over=2, saved="0.104")
    assert list(report_words.second_tries(again)) == [
        "3 requests were made again after a failure; 1 run completed thanks to that.",
        "2 steps were not done again, for an earlier run's results were used, which saved 0.104 USD.",
    ]


def test_a_lead_of_a_period_costs_what_its_runs_did_and_not_what_was_booked_besides() -> None:
    some = period(cost="9", cost_of_runs="1", counts={"prospects_generated": 20.0}, per_lead="0.06")
    assert (some.cost_per_lead, some.is_too_dear) == (Decimal("0.05"), False)
    cut = some.model_copy(update={"is_cut": True})
    assert (cut.cost_per_lead, cut.is_too_dear) == (None, False)


@pytest.mark.parametrize(
    ("part", "said"), [(None, ""), ("0", "0 %"), ("0.004", "<1 %"), ("0.8", "80 %"), ("1.024", "102 %")]
)
def test_a_share_in_percent(part: str | None, said: str) -> None:
    assert report_words.share(None if part is None else Decimal(part)) == said


# Errors as runs have them, and a word of what is to be done about each.
ERRORS = [
    ("broken off while its request was under way: mails may have gone out", "Ask the engine what went out"),
    ("no connection to http://127.0.0.1:3010/api/prospect: All connection attempts failed", "Start the engine"),
    ("POST http://x/ answered 401: Unauthorized", "Correct the key"),
    ("POST http://x/ answered 404: Not Found", "endpoint or method"),
    ("POST http://x/ answered 422: count must be positive", "campaigns run spring --dry-run"),
    ("POST http://x/ answered 503: Service Unavailable", "busy or broken"),
    ("POST http://x/ answered 429: slow down", "busy or broken"),
    ("no whole answer within 30 seconds", "timeoutSeconds"),
    ("http://x/ may not be asked: its host is none of CAMPAIGNS_ALLOWED_HOSTS (a)", "CAMPAIGNS_ALLOWED_HOSTS"),
    ("steps.find.leads: the step 'find' left no result", "A step before"),
    ("budget: daily 5.00 would be passed, spent 4.98", "Raise the limit"),
    ("something that nobody has foreseen", "campaigns logs azure-fox"),
]


@pytest.mark.parametrize(("error", "said"), ERRORS, ids=[said for _, said in ERRORS])
def test_of_an_error_it_is_said_what_to_do(error: str, said: str) -> None:
    advice = what_to_do(error, campaign_key="spring", run="azure-fox", step="send")
    assert said in advice
    assert "{" not in advice
