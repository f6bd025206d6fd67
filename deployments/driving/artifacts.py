"""The artifacts that runs leave in Prefect, which it keeps when it deletes the runs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import ObjectNotFound

_PAGE = 200
_ASKED_AT_ONCE = 10


async def delete_artifacts_of(client: PrefectClient, flow_run_ids: Collection[UUID]) -> None:
    """Delete all artifacts of these runs.

    Raises:
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    if not flow_run_ids:
        return
    of_these = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=list(flow_run_ids)))
    while True:
        found = await client.read_artifacts(artifact_filter=of_these, sort=ArtifactSort.ID_DESC, limit=_PAGE)
        await delete_artifacts(client, [artifact.id for artifact in found if artifact.id is not None])
        if len(found) < _PAGE:
            return


async def delete_artifacts(client: PrefectClient, artifact_ids: Collection[UUID]) -> None:
    """Delete these artifacts; one that is gone already is no trouble.

    Raises:
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    turns = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def delete(artifact_id: UUID) -> None:
        async with turns:
            with suppress(ObjectNotFound):
                await client.delete_artifact(artifact_id)

    await asyncio.gather(*map(delete, artifact_ids))
