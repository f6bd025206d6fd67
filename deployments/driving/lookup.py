"""Finding a campaign by what people call it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowFilter, FlowFilterName
from prefect.client.schemas.responses import DeploymentResponse
from slugify import slugify

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord
from prefect_campaigns.errors import UnknownCampaign
from prefect_campaigns.flows.campaign import FLOW_NAME

_PAGE = 200


async def read_deployments(
    client: PrefectClient, campaign_keys: Collection[str] | None = None
) -> list[DeploymentResponse]:
    """Return the deployments on the server of these campaigns, or of all."""
    named = None if campaign_keys is None else DeploymentFilter(name=DeploymentFilterName(any_=list(campaign_keys)))
    found: list[DeploymentResponse] = []
    while True:
        page = await client.read_deployments(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW_NAME])),
            deployment_filter=named,
            limit=_PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < _PAGE:
            return found


def match_name(name: str, keys: Sequence[str]) -> str:
    """Return the key that a name or slug means.

    Raises:
        UnknownCampaign: there is none; says the nearest ones.
    """
    key = slugify(name.removeprefix(f"{FLOW_NAME}/"))
    if key in keys:
        return key
    near = difflib.get_close_matches(key, keys, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else "`campaigns apply` makes one of a file"
    raise UnknownCampaign(f"there is no campaign {name!r}; {hint}", near=near)


def match_campaign(name: str, records: Sequence[CampaignRecord]) -> CampaignRecord:
    """Return the campaign that a name, a slug, its id or its deployment's id means.

    Raises:
        UnknownCampaign: there is none; says the nearest ones.
    """
    if (wanted := as_uuid(name)) is not None:
        for record in records:
            if wanted in (record.id, record.deployment_id):
                return record
    by_key = {record.key: record for record in records}
    return by_key[match_name(name, list(by_key))]


async def find_campaign(store: CampaignStore, name: str) -> CampaignRecord:
    """Return the campaign that a name, a slug, its id or its deployment's id means.

    Raises:
        UnknownCampaign: the books have none; says the nearest ones.
        StoreError: the store is not there.
    """
    return match_campaign(name, await store.list_campaigns())


def as_uuid(text: str) -> UUID | None:
    """Return the id that a text is; None where it is none."""
    try:
        return UUID(text.strip())
    except ValueError:
        return None
