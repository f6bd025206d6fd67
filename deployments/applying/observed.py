"""What the Prefect server and the store have of campaigns, read once and changed by nobody here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord
from prefect_campaigns.deployments.compile import UPKEEP_DEPLOYMENTS, WORK_POOL
from prefect_campaigns.deployments.driving.lookup import read_deployments


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What is there.

    Attributes:
        pool_type: the type of our work pool; None where there is none.
        upkeep: the deployments of our own flows that are not campaigns, by full name.
        deployments: those of campaigns, by name, which is the campaign's key.
        rows: the store's, by key.
    """

    pool_type: str | None
    upkeep: Mapping[str, DeploymentResponse]
    deployments: Mapping[str, DeploymentResponse]
    rows: Mapping[str, CampaignRecord]


async def observe(client: PrefectClient, store: CampaignStore) -> Observed:
    """Read all of it.

    Raises:
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    deployments, rows, pool_type, upkeep = await asyncio.gather(
        read_deployments(client), store.list_campaigns(), _pool_type(client), _read_upkeep(client)
    )
    return Observed(
        pool_type=pool_type,
        upkeep=upkeep,
        deployments={deployment.name: deployment for deployment in deployments},
        rows={row.key: row for row in rows},
    )


async def _pool_type(client: PrefectClient) -> str | None:
    try:
        return (await client.read_work_pool(WORK_POOL)).type
    except ObjectNotFound:
        return None


async def _read_upkeep(client: PrefectClient) -> dict[str, DeploymentResponse]:
    found = {}
    for wanted in UPKEEP_DEPLOYMENTS:
        with suppress(ObjectNotFound):
            found[wanted.full_name] = await client.read_deployment_by_name(wanted.full_name)
    return found
