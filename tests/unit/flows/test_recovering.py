"""What is told from a run's states and from its record when nobody executes it any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.schemas.objects import State, StateType

from prefect_campaigns.flows.leaving import RECOVERING
from prefect_campaigns.flows.recovering import names_since_a_person_began_it, state_of
from prefect_campaigns.results import RunReport, RunStatus

NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)


def states(*names: str) -> list[State[None]]:
    return [
        State(type=StateType.RUNNING, name=name, timestamp=NOON + timedelta(seconds=second))
        for second, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("names", "since"),
    [
        (["Scheduled", "Pending", "Running"], ["Scheduled", "Pending", "Running"]),
        # A retry by a person begins anew what a crash may do once.
        (["Running", "Crashed", RECOVERING, "Failed", "AwaitingRetry", "Running"], ["AwaitingRetry", "Running"]),
        (["AwaitingRetry", "Running", "AwaitingRetry", RECOVERING], ["AwaitingRetry", RECOVERING]),
        ([], []),
    ],
)
def test_what_was_before_a_person_began_it_anew_does_not_count(names: list[str], since: list[str]) -> None:
    assert names_since_a_person_began_it(states(*names)[::-1]) == since


@pytest.mark.parametrize(
    ("status", "name", "type", "said"),
    [
        (RunStatus.COMPLETED, "Completed", StateType.COMPLETED, "Completed"),
        (RunStatus.PARTIAL, "Partial", StateType.COMPLETED, "Partial"),
        (RunStatus.FAILED, "Failed", StateType.FAILED, "Failed"),
        (RunStatus.FAILED, "Crashed", StateType.CRASHED, "Crashed"),
        (RunStatus.ABORTED, "BudgetExceeded", StateType.CANCELLED, "BudgetExceeded"),
        (RunStatus.ABORTED, "Paused", StateType.CANCELLED, "Paused"),
        (RunStatus.ABORTED, "NotApproved", StateType.CANCELLED, "NotApproved"),
        (RunStatus.ABORTED, "Stopped", StateType.CANCELLED, "Stopped"),
        (RunStatus.ABORTED, "Cancelled", StateType.CANCELLED, "Cancelled"),
        (RunStatus.ABORTED, "Skipped", StateType.COMPLETED, "Skipped"),
        # Of a run from before states were recorded.
        (RunStatus.FAILED, None, StateType.FAILED, "Failed"),
    ],
)
def test_a_run_ends_in_prefect_as_it_has_ended_in_the_books(
    status: RunStatus, name: str | None, type: StateType, said: str
) -> None:
    report = RunReport(
        run_id="1",
        run_name="azure-fox",
        campaign_key="one",
        campaign_name="One",
        status=status,
        state_name=name,
        message="All is said.",
        started_at=NOON,
    )
    state = state_of(report)
    assert (state.type, state.name, state.message) == (type, said, "All is said.")
