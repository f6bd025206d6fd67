"""Which version of a campaign a run does: never the steps of one and the budget of another.

A deployment's parameters and the store's row are changed one after the other, and whoever changes them may be broken
off in between. So a run that was made from a version of the file does what stands in the row, steps and budget, and
says so in its own parameters; there a later retry finds the steps that it began with.

A run whose parameters a person has edited (they do not make the version that stands beside them) does these steps,
under the row's budget.
"""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.errors import CampaignsError
from prefect_campaigns.flows.run import RunLogger
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import StepStatus
from prefect_campaigns.versions import version_of, written


def parameters_of(campaign: Campaign) -> dict[str, Any]:
    """Return the flow's parameters for a campaign: as it is written, and its version."""
    return {"campaign": written(campaign), "version": version_of(campaign)}


async def take_version(
    store: CampaignStore, campaign: Campaign, version: str | None, flow_run: FlowRun, *, logger: RunLogger
) -> Campaign:
    """Return the campaign that the run does, with the budget that stands in the store.

    To be asked when the run has its turn: while it waits for that, another version may come.

    Raises:
        UnknownCampaign: the store has no such campaign.
        PrefectException, httpx.HTTPError: Prefect is not there to be told that it is a newer version than the run was
            made from.
    """
    row = (await store.get_campaign(campaign.slug)).campaign
    if version != version_of(campaign) or await _has_begun(store, flow_run):
        return campaign.model_copy(update={"budget": row.budget})
    in_force = version_of(row)
    if version != in_force:
        logger.warning("The run was made from version %s, and does version %s, which is in force", version, in_force)
        async with get_client() as client:
            parameters = {**flow_run.parameters, **parameters_of(row)}
            (await client.update_flow_run(flow_run.id, parameters=parameters)).raise_for_status()
    return row


async def _has_begun(store: CampaignStore, flow_run: FlowRun) -> bool:
    """Whether an earlier execution of the run has done, or tried, any of its steps."""
    earlier = await store.get_run(str(flow_run.id))
    return earlier is not None and any(step.status is not StepStatus.PENDING for step in earlier.steps)


async def refuse_another(campaign: Campaign, version: str | None, flow_run: FlowRun) -> None:
    """Let no run be edited into another campaign's, whose turn it would take and whose budget it would spend.

    Raises:
        CampaignsError: it was.
        PrefectException, httpx.HTTPError: Prefect is not there to be asked.
    """
    if flow_run.deployment_id is None or version == version_of(campaign):
        return
    async with get_client() as client:
        name = (await client.read_deployment(flow_run.deployment_id)).name
    if name != campaign.slug:
        raise CampaignsError(f"this is a run of campaign {name!r}, and its parameters are those of {campaign.slug!r}")
