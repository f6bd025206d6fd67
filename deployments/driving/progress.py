"""How far the step of a run is, as it says itself: by the progress artifacts that it leaves in Prefect."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterType
from prefect.exceptions import PrefectException


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """What a step last said of itself.

    Attributes:
        percent: from 0 to 100.
        message: what it was doing; empty where it did not say.
    """

    percent: float
    message: str

    def describe(self) -> str:
        """Return it in words: ``40 % Blue Door Bistro``."""
        return f"{self.percent:.0f} % {self.message}".strip()


class Progress:
    """What the steps of one run last said of themselves."""

    def __init__(self, by_key: Mapping[str, StepProgress]) -> None:
        self._by_key = by_key

    def of(self, step_name: str) -> StepProgress | None:
        """Return what a step said; None where it said nothing."""
        ending = f"-{re.sub(r'[^a-z0-9]+', '-', step_name.lower()).strip('-')}"
        return next((said for key, said in self._by_key.items() if key.endswith(ending)), None)


NO_PROGRESS = Progress({})


async def read_progress(client: PrefectClient, flow_run_ids: Collection[UUID]) -> Mapping[UUID, Progress]:
    """Return what the steps of these runs said; of whichever cannot be asked for, nothing: it is an ornament."""
    if not flow_run_ids:
        return {}
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=list(flow_run_ids)), type=ArtifactFilterType(any_=["progress"])
    )
    try:
        artifacts = await client.read_artifacts(artifact_filter=wanted)
    except (httpx.HTTPError, PrefectException):
        return {}
    found: dict[UUID, dict[str, StepProgress]] = {}
    for artifact in artifacts:
        percent = _percent(artifact.data)
        if artifact.key and artifact.flow_run_id and percent is not None:
            said = StepProgress(percent=percent, message=artifact.description or "")
            found.setdefault(artifact.flow_run_id, {})[artifact.key] = said
    return {run_id: Progress(by_key) for run_id, by_key in found.items()}


def _percent(data: object) -> float | None:
    """Return how far somebody says to be; None where that is no number."""
    try:
        percent = float(str(data or 0))
    except ValueError:
        return None
    return min(max(percent, 0.0), 100.0) if math.isfinite(percent) else None
