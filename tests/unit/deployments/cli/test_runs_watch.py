"""The runs of a campaign as they are watched, at a terminal of eighty columns."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from rich.console import Console

from prefect_campaigns.deployments.cli.runs_watch import runs_view
from prefect_campaigns.deployments.driving.going import Going
from prefect_campaigns.deployments.driving.progress import StepProgress
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus

NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)


def run(number: int, status: RunStatus, cost: str) -> RunReport:
    done = StepStatus.COMPLETED if status is RunStatus.COMPLETED else StepStatus.RUNNING
    return RunReport(
        run_id=str(number),
        run_name=f"run-{number}",
        campaign_key="spring",
        campaign_name="Spring",
        status=status,
        state_name=None if status is RunStatus.RUNNING else status.value.capitalize(),
        started_at=NOON + timedelta(hours=number),
        total_cost=Decimal(cost),
        steps=tuple(
            StepResult(name=name, engine="any", position=place, status=done if place == 0 else StepStatus.PENDING)
            for place, name in enumerate(("find", "use"))
        ),
    )


def shown(runs: list[RunReport], going: Going | None) -> list[str]:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    console.print(runs_view(runs, going))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_outcomes_costs_and_how_far_a_run_is_come_above_the_table() -> None:
    runs = [run(2, RunStatus.RUNNING, "0.1"), run(1, RunStatus.FAILED, "0.2"), run(0, RunStatus.COMPLETED, "0.4")]
    going = Going(
        run=runs[0],
        step="find",
        number=1,
        progress=StepProgress(percent=50.0, message="Blue Door Bistro"),
        waits=False,
    )
    lines = shown(runs, going)
    assert lines[:5] == [
        "outcomes  ✓✗▶  oldest first",
        "cost      █▅▃  at the most 0.40 USD",
        "now       ████████░░░░░░░░░░░░░░░░░░░░░░ 25 %  run-2",
        "          step 1 of 2: find, 50 % Blue Door Bistro",
        "",
    ]
    assert lines[5].split() == ["Started", "(UTC)", "Run", "State", "Steps", "Cost", "(USD)"]
    assert max(map(len, lines)) <= 80


def test_before_the_first_run_it_says_so() -> None:
    assert shown([], None) == ["It has not run yet."]
