"""Pausing a campaign and resuming it as a person does, and writing down who did."""

from __future__ import annotations

from datetime import datetime

from prefect.client.orchestration import PrefectClient

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AuditAction, CampaignRecord
from prefect_campaigns.deployments.driving.audit import record as record_audit
from prefect_campaigns.flows.pausing import pause_by_person
from prefect_campaigns.flows.resuming import Outcome, Resumption, resume_by_person


async def pause_campaign(
    client: PrefectClient,
    store: CampaignStore,
    record: CampaignRecord,
    *,
    reason: str | None,
    actor: str,
    now: datetime,
) -> bool:
    """Pause a campaign until somebody resumes it; return whether that is new.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    is_new = await pause_by_person(client, store, record, reason=reason, now=now)
    if is_new:
        detail = {"reason": reason} if reason else {}
        await record_audit(
            client, store, actor=actor, action=AuditAction.CAMPAIGN_PAUSED, campaign_key=record.key, detail=detail
        )
    return is_new


async def resume_campaign(
    client: PrefectClient, store: CampaignStore, record: CampaignRecord, *, actor: str, now: datetime
) -> Resumption:
    """Resume a campaign, whoever paused it.

    Raises:
        EverythingStopped: the emergency stop stands.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    resumption = await resume_by_person(client, store, record, now=now)
    if resumption.outcome is Outcome.RESUMED:
        await record_audit(client, store, actor=actor, action=AuditAction.CAMPAIGN_RESUMED, campaign_key=record.key)
    return resumption
