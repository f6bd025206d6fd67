"""The sentences of reports, the same wherever a report is shown."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from zoneinfo import ZoneInfo

from prefect_campaigns.figures import LimitFigures, PeriodFigures, RunFigures, StepFigures
from prefect_campaigns.forecast import LikelyCost
from prefect_campaigns.instants import duration, local_time, when
from prefect_campaigns.money import format_money


def heading(figures: RunFigures) -> str:
    """Return what a report is called: ``Completed: Weekly Restaurant Outreach (azure-fox)``."""
    return f"{figures.state_name}: {figures.campaign_name} ({figures.run_name})"


def span(figures: RunFigures) -> str:
    """Say when a run began and how long it took, by the campaign's clocks."""
    began = local_time(figures.started_at, figures.zone, now=figures.made_at)
    took = "it goes on" if figures.duration_seconds is None else f"took {duration(figures.duration_seconds)}"
    return f"{'Scheduled' if figures.trigger_type == 'scheduled' else 'Started by hand'}, {began}, {took}"


def cost(figures: RunFigures) -> str:
    """Say what a run cost, and how much of that no engine has said."""
    said = f"{format_money(figures.cost)} USD"
    if not figures.unconfirmed_requests:
        return said
    requests = "1 request" if figures.unconfirmed_requests == 1 else f"{figures.unconfirmed_requests} requests"
    return f"{said}, of which {format_money(figures.unconfirmed)} unconfirmed ({requests})"


def per_lead(figures: RunFigures | PeriodFigures) -> str | None:
    """Say what a lead cost, against what it may; None where no engine counted leads."""
    if figures.leads is None:
        return None
    each = "no lead was found" if figures.cost_per_lead is None else f"{format_money(figures.cost_per_lead)} USD"
    if figures.per_lead is None:
        return each
    return f"{each}; {'passes the limit of' if figures.is_too_dear else 'of at most'} {format_money(figures.per_lead)}"


def requests(step: StepFigures) -> str:
    """Say how many requests a step made."""
    if step.is_taken_over:
        return "an earlier run's result"
    return "" if not step.attempts else "1 request" if step.attempts == 1 else f"{step.attempts} requests"


def left(limit: LimitFigures) -> str:
    """Say what is left of a limit: ``3.20 left of 5.00``."""
    return f"{format_money(limit.left)} left of {format_money(limit.limit)}"


def resets(limit: LimitFigures, figures: RunFigures) -> str:
    """Say when a limit's window ends; nothing of a limit that has none."""
    if limit.resets_at is None:
        return ""
    return f"resets {when(limit.resets_at, ZoneInfo(limit.timezone), now=figures.made_at)}"


def outlook(figures: RunFigures) -> Iterator[str]:
    """Say what the next run will cost, and when it is due."""
    if figures.likely is None:
        yield "What the next run will cost is not known: none has cost anything, and no step says."
    else:
        yield f"The next run will likely cost {format_money(figures.likely.amount)} USD: {basis(figures.likely)}."
    if figures.next_run is not None:
        yield f"It is due {when(figures.next_run, figures.zone, now=figures.made_at)} ({figures.timezone})."


def basis(likely: LikelyCost) -> str:
    """Say what a likely cost is made of."""
    if likely.runs == 0:
        return "the sum of its steps' estimates"
    if likely.runs == 1:
        return "what the last one did"
    low, high = format_money(likely.lowest), format_money(likely.highest)
    spread = f" ({low} to {high})" if low != high else ""
    return f"the median of {likely.runs} runs{spread}"


def outcomes(figures: PeriodFigures) -> str:
    """Say how many runs there were, and how they ended: ``9 runs: 7 Completed, 2 Failed``."""
    count = "no run" if not figures.runs else "1 run" if figures.runs == 1 else f"{figures.runs:,} runs"
    ended = ", ".join(f"{number:,} {name}" for name, number in figures.outcomes.items())
    return f"{count}: {ended}" if ended else count


def spent_of(figures: PeriodFigures) -> str:
    """Say what a period cost, against its limit."""
    spent = f"{format_money(figures.cost)} USD"
    return spent if figures.limit is None else f"{spent} of {format_money(figures.limit)}"


def second_tries(figures: PeriodFigures) -> Iterator[str]:
    """Say what was done again, and what was not."""
    if figures.repeated_requests:
        rescued = figures.rescued_runs
        which = f"; {_runs(rescued)} completed thanks to that" if rescued else ""
        again = "1 request was" if figures.repeated_requests == 1 else f"{figures.repeated_requests:,} requests were"
        yield f"{again} made again after a failure{which}."
    if figures.steps_taken_over:
        steps = "1 step was" if figures.steps_taken_over == 1 else f"{figures.steps_taken_over:,} steps were"
        yield (
            f"{steps} not done again, for an earlier run's results were used, which saved"
            f" {format_money(figures.saved)} USD."
        )
    if not figures.repeated_requests and not figures.steps_taken_over:
        yield "Nothing had to be done again."


def share(part: Decimal | None) -> str:
    """Return a share in percent: ``80 %``, ``<1 %``; nothing of nothing."""
    if part is None:
        return ""
    percent = part * 100
    return "<1 %" if 0 < percent < 1 else f"{int(percent)} %"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"
