"""Which runs share results: one that began at a later step, the run whose results it took over, and so on.

What one of them has sent, none of the others may send: they are about the same people. That is asked before each
request that sends, by the run that holds the campaign's lease, so that nothing can have been sent in between: neither
by another ``--from`` that was typed at the same time, nor by a run that has gone on from this one since.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AttemptState
from prefect_campaigns.errors import SendMayHaveHappened
from prefect_campaigns.flows.run import CampaignRun
from prefect_campaigns.models import Step
from prefect_campaigns.results import RunReport

NEVER_LEFT = (AttemptState.HELD, AttemptState.RELEASED)

FIRST_LOOK = 50
"""How many runs are looked at first; the more, the longer ago the results were."""

CLOCKS_DIFFER = timedelta(days=1)
"""A run takes over results of one that began earlier, or so the clocks of the workers say."""


async def refuse_to_send_again(run: CampaignRun, step: Step) -> None:
    """See that no other run has sent with the results that this run has.

    An Idempotency-Key does not help here: each run has its own.

    Raises:
        SendMayHaveHappened: one has, or may have, and nobody said that it is to be sent again.
        StoreUnavailable: the store is not there.
    """
    # A run that has all its results from itself, and had no earlier execution, gave nobody time to take them.
    if not step.sends_something or run.send_again or not (run.is_resumed or run.start_at):
        return
    for run_id, name in (await relatives(run.store, run.run_id)).items():
        attempts = await run.store.attempts(run_id, step.name)
        if any(attempt.state not in NEVER_LEFT for attempt in attempts):
            raise SendMayHaveHappened(
                f"run {name} has sent with the same results already, or may have. If it is to be sent again:"
                f" campaigns run {run.campaign.slug} --from {step.name} --send-again"
            )


async def relatives(store: CampaignStore, run_id: str) -> dict[str, str]:
    """Return the names, by id, of the runs that a run has results of, and of all that have results of any of these.

    Raises:
        StoreUnavailable: the store is not there.
    """
    found, oldest = dict[str, str](), None
    wanted: str | None = run_id
    while wanted is not None and wanted not in found:
        report = await store.get_run(wanted)
        found[wanted] = report.run_name if report else wanted
        oldest = report or oldest
        wanted = taken_from(report) if report else None
    if oldest is not None:
        later = await _runs_since(store, oldest.campaign_key, oldest.started_at - CLOCKS_DIFFER)
        while new := [one for one in later if one.run_id not in found and taken_from(one) in found]:
            found |= {one.run_id: one.run_name for one in new}
    return {one: name for one, name in found.items() if one != run_id}


def taken_from(report: RunReport) -> str | None:
    """Return the run whose results a run has taken over; None where all results are its own."""
    return next((step.taken_from for step in report.steps if step.taken_from is not None), None)


async def _runs_since(store: CampaignStore, campaign_key: str, moment: datetime) -> Sequence[RunReport]:
    limit = FIRST_LOOK
    while True:
        runs = await store.list_runs(campaign_key, limit=limit)
        if len(runs) < limit or runs[-1].started_at < moment:
            return runs
        limit *= 4
