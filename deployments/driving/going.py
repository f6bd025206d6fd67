"""What goes on at this moment: the run of a campaign, the step that it is at, and how far that is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from prefect.client.orchestration import PrefectClient

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.deployments.driving.lookup import as_uuid
from prefect_campaigns.deployments.driving.progress import NO_PROGRESS, Progress, StepProgress, read_progress
from prefect_campaigns.results import RunReport, RunStatus, StepStatus

_RUNS_LOOKED_AT = 5


@dataclass(frozen=True, kw_only=True)
class Going:
    """A run that goes on.

    Attributes:
        step: the name of the step that it is at; None between two.
        number: which step that is, from 1; of a run between two steps, the next one.
        progress: what that step says of itself.
        waits: whether the run waits for somebody to approve the step.
    """

    run: RunReport
    step: str | None
    number: int
    progress: StepProgress | None
    waits: bool

    @property
    def percent(self) -> float:
        """How far the whole run is, each step being as long as any other."""
        done = self.run.steps_completed + (self.progress.percent / 100 if self.progress else 0)
        return min(done / max(len(self.run.steps), 1) * 100, 100)

    def describe(self) -> str:
        """Return it in words: ``step 2 of 4: analysis, 40 % Blue Door Bistro``."""
        total = len(self.run.steps)
        if self.waits:
            return f"waits for approval before step {self.number} of {total}"
        if self.step is None:
            return f"before step {self.number} of {total}" if total else "begins"
        said = f", {self.progress.describe()}" if self.progress else ""
        return f"step {self.number} of {total}: {self.step}{said}"


async def read_going(
    client: PrefectClient | None, store: CampaignStore, campaign_keys: Collection[str]
) -> Mapping[str, Going]:
    """Return what goes on of these campaigns, by key.

    Args:
        client: None where Prefect cannot be asked how far a step is.
    """
    wanted = {key for key in (await store.running_runs()).values() if key in campaign_keys}
    runs: dict[str, RunReport] = {}
    for key in wanted:
        newest = await store.run_outlines(campaign_key=key, limit=_RUNS_LOOKED_AT)
        going = next((run for run in newest if run.status is RunStatus.RUNNING), None)
        if going is not None:
            runs[key] = going
    ids = [run_id for run in runs.values() if (run_id := as_uuid(run.run_id)) is not None]
    progress = await read_progress(client, ids) if client is not None else {}
    said = {str(run_id): told for run_id, told in progress.items()}
    return {key: _going(run, said.get(run.run_id, NO_PROGRESS)) for key, run in runs.items()}


def _going(run: RunReport, progress: Progress) -> Going:
    steps = list(enumerate(run.steps, start=1))
    at = next((found for found in steps if found[1].status is StepStatus.RUNNING), None)
    following = next((number for number, step in steps if step.status is StepStatus.PENDING), len(steps))
    return Going(
        run=run,
        step=at[1].name if at else None,
        number=at[0] if at else following,
        progress=progress.of(at[1].name) if at else None,
        waits=run.state_name is not None,
    )
