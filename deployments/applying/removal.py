"""Deleting a campaign: its runs, its deployment, and what tells people of it and of no other campaign."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from prefect_campaigns.blocks.email import CampaignEmail
from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AuditAction, CampaignRecord
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.applying.alone import alone
from prefect_campaigns.deployments.applying.campaign_changes import Applied
from prefect_campaigns.deployments.applying.notifiers import Notifiers
from prefect_campaigns.deployments.applying.saved_secrets import blocks_of_automations, remove_unused_secrets
from prefect_campaigns.deployments.compile import MailRecipient, compile_campaign
from prefect_campaigns.deployments.driving.artifacts import delete_artifacts_of
from prefect_campaigns.deployments.driving.audit import record as record_audit
from prefect_campaigns.deployments.driving.cancelling import end_runs, unended_runs
from prefect_campaigns.deployments.driving.lookup import read_deployments
from prefect_campaigns.deployments.driving.strays import NOT_IN_BOOKS, campaign_of_stray
from prefect_campaigns.errors import UnknownCampaign, WrongState
from prefect_campaigns.flows.paused_deployment import read_deployment
from prefect_campaigns.flows.pausing import BEING_DELETED, pause_for_deletion
from prefect_campaigns.flows.resuming import resume_after_deletion
from prefect_campaigns.models import Campaign

_DELETED_AT_ONCE = 50


async def delete_campaign(client: PrefectClient, store: CampaignStore, record: CampaignRecord, *, actor: str) -> None:
    """Delete a campaign, wherever it is known; its ledger and the audit stay.

    What goes on is cancelled first. Then its deployment and its runs go, in Prefect and in the books, and the
    automations and recipients' blocks that no other campaign needs. Safe to repeat: its row goes last, by which a
    deletion that broke off in the middle is found again.

    Raises:
        UnknownCampaign: somebody else has deleted it meanwhile.
        ServerError: another apply or delete does not end.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    async with alone(store, doing="delete"):
        await delete_while_alone(client, store, record, actor=actor)


async def delete_while_alone(
    client: PrefectClient, store: CampaignStore, record: CampaignRecord, *, actor: str
) -> None:
    """Do what ``delete_campaign`` does, for whoever lets nobody else apply or delete meanwhile."""
    # What an apply has written since it was read counts.
    record = await store.get_campaign(record.key)
    deployment = await read_deployment(client, record)
    if deployment is not None:
        # Prefect's scheduler would go on making runs, and workers taking them up.
        with suppress(ObjectNotFound):
            await pause_for_deletion(client, store, record, deployment, now=current_clock().now())
    # Runs keep the id of a deployment that is gone.
    for deployment_id in filter(None, {record.deployment_id, deployment.id if deployment else None}):
        await _delete_deployment(client, store, deployment_id, actor=actor)
    await _delete_flow_runs(client, _resumptions(record.key))
    await _remove_notifiers(client, record.campaign)
    detail = {"name": record.campaign.name, "id": str(record.id)}
    # Before the row goes: that it was deleted must not be lost to a crash in between.
    await record_audit(
        client, store, actor=actor, action=AuditAction.CAMPAIGN_DELETED, campaign_key=record.key, detail=detail
    )
    await store.delete_campaign(record.key)


async def delete_stray(client: PrefectClient, store: CampaignStore, stray: DeploymentResponse, *, actor: str) -> None:
    """Delete a deployment that the books do not know, with its runs and what tells people of it and of nothing else.

    Raises:
        WrongState: an apply has taken it into the books meanwhile.
        ServerError: another apply or delete does not end.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    async with alone(store, doing="delete"):
        if any(record.key == stray.name for record in await store.list_campaigns()):
            raise WrongState(f"{stray.name} is in the books by now; delete it again if you still want to")
        with suppress(ObjectNotFound):
            await client.pause_deployment(stray.id)
        await _delete_deployment(client, store, stray.id, actor=actor)
        await _delete_flow_runs(client, _resumptions(stray.name))
        await _remove_notifiers(client, campaign_of_stray(stray))
        detail = {"state": NOT_IN_BOOKS, "deployment": str(stray.id)}
        await record_audit(
            client, store, actor=actor, action=AuditAction.CAMPAIGN_DELETED, campaign_key=stray.name, detail=detail
        )


async def take_back_deletions(client: PrefectClient, store: CampaignStore, applied: list[Applied]) -> list[Applied]:
    """Resume those campaigns that only a deletion which broke off has paused: whoever applies one wants it.

    What a person, the budget or the emergency stop has paused stays paused.

    Raises:
        ServerError: another apply or delete does not end.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    begun = {one.compiled.slug for one in applied if one.pause is not None and one.pause.reason == BEING_DELETED}
    if not begun:
        return applied
    resumed: set[str] = set()
    # A deletion that goes on is none that broke off.
    async with alone(store, doing="apply"):
        for key in begun:
            with suppress(UnknownCampaign):
                if await resume_after_deletion(client, store, key, now=current_clock().now()):
                    resumed.add(key)
    return [
        replace(one, pause=None, resumed=f"{one.compiled.slug} is resumed; its deletion had begun, and never ended")
        if one.compiled.slug in resumed
        else one
        for one in applied
    ]


async def _delete_deployment(client: PrefectClient, store: CampaignStore, deployment_id: UUID, *, actor: str) -> None:
    """Delete a deployment, and all runs that it ever had."""
    await end_runs(client, store, await unended_runs(client, deployment_id=deployment_id), actor=actor)
    with suppress(ObjectNotFound):
        await client.delete_deployment(deployment_id)
    # Its runs keep its id, and are found by it when the deployment is gone.
    await _delete_flow_runs(client, FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id])))


def _resumptions(key: str) -> FlowRunFilter:
    """Return what finds the runs that were to resume the campaign."""
    return FlowRunFilter(
        name=FlowRunFilterName(any_=[f"resume-{key}"]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )


async def _delete_flow_runs(client: PrefectClient, wanted: FlowRunFilter) -> None:
    """Delete flow runs with their logs and artifacts, as many at a time as Prefect's API does."""
    while found := await client.read_flow_runs(flow_run_filter=wanted, limit=_DELETED_AT_ONCE):
        ids = [run.id for run in found]
        await delete_artifacts_of(client, ids)
        these = FlowRunFilter(id=FlowRunFilterId(any_=ids))
        answer = await client.request(
            "POST",
            # Missing from the paths that Prefect's client knows by type.
            "/flow_runs/bulk_delete",  # type: ignore[arg-type]
            json={"flow_runs": these.model_dump(mode="json", exclude_unset=True)},
        )
        if not answer.json()["deleted"]:
            return


async def _remove_notifiers(client: PrefectClient, campaign: Campaign | None) -> None:
    """Delete the automations that no deployment asks for, and the blocks that only the campaign needed."""
    notifiers = Notifiers(client, load_settings())
    await notifiers.look()
    await notifiers.remove_unused({tag for deployment in await read_deployments(client) for tag in deployment.tags})
    in_use = await blocks_of_automations(client)
    automations = compile_campaign(campaign).automations if campaign else ()
    for recipient in {automation.recipient for automation in automations}:
        if isinstance(recipient, MailRecipient):
            await _delete_block(client, recipient, in_use)
    await remove_unused_secrets(client)


async def _delete_block(client: PrefectClient, recipient: MailRecipient, in_use: set[UUID]) -> None:
    slug = CampaignEmail.get_block_type_slug()
    with suppress(ObjectNotFound):
        document = await client.read_block_document_by_name(recipient.block_name, slug, include_secrets=False)
        if document.id not in in_use:
            await client.delete_block_document(document.id)
