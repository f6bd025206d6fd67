"""Finding a campaign by what people call it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.responses import DeploymentResponse
from slugify import slugify

from prefect_campaigns.errors import UnknownCampaign
from prefect_campaigns.flows.campaign import FLOW_NAME

_PAGE = 200


async def read_deployments(client: PrefectClient) -> list[DeploymentResponse]:
    """Return the deployments of all campaigns on the server."""
    found: list[DeploymentResponse] = []
    while True:
        page = await client.read_deployments(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW_NAME])), limit=_PAGE, offset=len(found)
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
    raise UnknownCampaign(f"there is no campaign {name!r}; {hint}")


async def find_deployment(client: PrefectClient, name: str) -> DeploymentResponse:
    """Return the deployment of a campaign by its name or slug.

    Raises:
        UnknownCampaign: the server has none.
    """
    deployments = {deployment.name: deployment for deployment in await read_deployments(client)}
    return deployments[match_name(name, list(deployments))]
