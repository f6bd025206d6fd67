"""Which runs share results: one that began at a later step, the run whose results it took over, and so on.

What one of them has sent, none of the others may send: they are about the same people. That is asked before each
request that sends, by the run that holds the campaign's lease, so that nothing can have been sent in between: neither
by another ``--from`` that was typed at the same time, nor by a run that has gone on from this one since.

What has sent is known by more than the step's name, which whoever edits the campaign may change: a step that has sent,
and that is not in the campaign as it was written then, may be any of those that send now.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AttemptState
from prefect_campaigns.errors import SendMayHaveHappened
from prefect_campaigns.flows.run import CampaignRun
from prefect_campaigns.models import Campaign, Step
from prefect_campaigns.results import RunReport
from prefect_campaigns.versions import request_of

_NEVER_LEFT = (AttemptState.HELD, AttemptState.RELEASED)

FIRST_LOOK = 50
"""How many runs are looked at first; the more, the longer ago the results were."""

CLOCKS_DIFFER = timedelta(days=1)
"""A run takes over results of one that began earlier, or so the clocks of the workers say."""


async def refuse_to_send_again(run: CampaignRun, step: Step) -> None:
    """See that no other run has sent with the results that this run has, nor this run by a step of another name.

    An Idempotency-Key does not help here: each run has its own, and each step.

    Raises:
        SendMayHaveHappened: one has, or may have, and nobody said that it is to be sent again.
        StoreUnavailable: the store is not there.
    """
    # A run that has all its results from itself, and had no earlier execution, gave nobody time to take them.
    if not step.sends_something or run.send_again or not (run.is_resumed or run.start_at):
        return
    for run_id, report in (await family(run.store, run.run_id)).items():
        names = may_have_sent(run.campaign, step, report)
        if run_id == run.run_id and not _is_unrecorded(report, step.name):
            # Whether its own request may be repeated, the step looks at itself.
            names.remove(step.name)
        for name in names:
            if await has_left(run.store, run_id, name, report=report):
                by = "" if name == step.name else f", by its step {name!r}, which is not in the campaign as it was then"
                raise SendMayHaveHappened(
                    f"run {report.run_name if report else run_id} has sent with the same results already, or may"
                    f" have{by}. If it is to be sent again: campaigns run {run.campaign.slug} --from {step.name}"
                    " --send-again"
                )


def may_have_sent(campaign: Campaign, step: Step, report: RunReport | None) -> list[str]:
    """Return the names of the steps of a run that may have sent what a step of the campaign sends now.

    These are the step of that name, and those that were to send then, or may have been, and are not in the campaign as
    they were written.
    """
    present = {(one.name, request_of(one)) for one in campaign.steps if one.sends_something}
    steps = [one for one in (report.steps if report else ()) if one.name != step.name]
    begun = [one for one in steps if one.sent_as is not None or one.is_unrecorded]
    return [step.name, *(one.name for one in begun if (one.name, one.sent_as) not in present)]


async def has_left(store: CampaignStore, run_id: str, step_name: str, *, report: RunReport | None) -> bool:
    """Whether a request of a step may have left in a run, by its record and by its attempts."""
    if _is_unrecorded(report, step_name):
        return True
    return any(attempt.state not in _NEVER_LEFT for attempt in await store.attempts(run_id, step_name))


def _is_unrecorded(report: RunReport | None, step_name: str) -> bool:
    return report is not None and any(one.is_unrecorded for one in report.steps if one.name == step_name)


async def family(store: CampaignStore, run_id: str) -> dict[str, RunReport | None]:
    """Return, by id, the run, those that it has results of, and all that have results of any of these.

    Raises:
        StoreUnavailable: the store is not there.
    """
    found, oldest = dict[str, RunReport | None](), None
    wanted: str | None = run_id
    while wanted is not None and wanted not in found:
        report = found[wanted] = await store.get_run(wanted)
        oldest = report or oldest
        wanted = taken_from(report) if report else None
    if oldest is not None:
        later = await _runs_since(store, oldest.campaign_key, oldest.started_at - CLOCKS_DIFFER)
        while new := [one for one in later if one.run_id not in found and taken_from(one) in found]:
            found |= {one.run_id: one for one in new}
    return found


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
