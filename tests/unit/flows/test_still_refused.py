"""Whether what the budget paused would be refused again, and what a person who resumes it hears then."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from prefect_campaigns.blocks.store_types import Pause, PausedBy
from prefect_campaigns.budget import BudgetStatus, LimitStatus, Scope, windows
from prefect_campaigns.flows.resuming import _refusal, _refusing_still

NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 5, 14, tzinfo=UTC)
DAY = windows(NOON, UTC)[0]


def limit(of: str, spent: str, reserved: str = "0", *, scope: Scope = Scope.CAMPAIGN) -> LimitStatus:
    return LimitStatus(scope=scope, window=DAY, limit=Decimal(of), spent=Decimal(spent), reserved=Decimal(reserved))


PASSED = limit("0.05", "0.048")
ACCOUNT = limit("5", "3", "1.5", scope=Scope.ACCOUNT)

# What stopped it, how that stands now, and whether it refuses still.
STANDS = [
    (PASSED, PASSED, True),
    (ACCOUNT, ACCOUNT, True),
    # More is spent, or what was reserved then.
    (PASSED, limit("0.05", "0.049"), True),
    (ACCOUNT, limit("5", "4.5", scope=Scope.ACCOUNT), True),
    # The limit was raised, or lowered.
    (PASSED, limit("0.06", "0.048"), False),
    (PASSED, limit("0.049", "0.048"), True),
    # What was unconfirmed has cost less.
    (PASSED, limit("0.05", "0.024"), False),
    (ACCOUNT, limit("5", "3", scope=Scope.ACCOUNT), False),
    # It is the account's limit that would have been passed, not the campaign's own of the same amount.
    (ACCOUNT, limit("5", "4.5"), False),
    # Reached is reached, whatever the reason of the pause.
    (PASSED, limit("0.05", "0.05"), False),
]


@pytest.mark.parametrize(("before", "now", "refuses"), STANDS)
def test_a_limit_that_would_have_been_passed_refuses_while_no_more_is_left(
    before: LimitStatus, now: LimitStatus, refuses: bool
) -> None:
    pause = Pause(by=PausedBy.BUDGET, reason=before.describe(), since=NOON, until=MIDNIGHT)
    status = BudgetStatus(at=NOON, limits=(now,))
    assert _refusing_still(pause, status, now=NOON) == ((now,) if refuses else ())
    assert _refusing_still(pause, status, now=MIDNIGHT) == (), "in the next window it is tried"


# The limits that refuse, and what is said.
SAID = [
    (
        (PASSED,),
        "any run before 2026-05-14 00:00 UTC may be refused: budget: daily 0.05 would be passed, spent 0.048."
        " To have it run, raise the limit in its file and apply.",
    ),
    (
        (limit("0", "0"),),
        "every run will be refused: budget: daily 0.00 reached, spent 0.00."
        " To have it run, raise the limit in its file and apply.",
    ),
    (
        (limit("5", "5"), limit("9", "9", scope=Scope.ACCOUNT)),
        "any run before 2026-05-14 00:00 UTC will be refused: budget: daily 5.00 reached, spent 5.00;"
        " budget: account daily 9.00 reached, spent 9.00. To have it run, raise the limit in its file and apply,"
        " and raise the account's with campaigns budget --account.",
    ),
]


@pytest.mark.parametrize(("limits", "said"), SAID)
def test_what_a_person_hears(limits: tuple[LimitStatus, ...], said: str) -> None:
    assert _refusal(limits) == said
