"""The circuit breaker: an engine by which runs fail, one after the other, is left alone for a while.

A run that would ask it then ends before it spends anything: as EngineDown (type FAILED), of which people are mailed,
where somebody has not been told yet that the engine is left alone, and otherwise as LeftAlone (type FAILED), of which
nobody is. When the time is over the next run tries the engine; if it fails by it, the engine is left alone anew, and
nobody is told a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from prefect import State
from prefect.client.schemas.objects import StateType

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.store_types import EngineTrouble
from prefect_campaigns.errors import EngineError, EngineRefused, EngineReportedFailure, EngineUnreachable
from prefect_campaigns.flows.messages import show_url
from prefect_campaigns.flows.run import CampaignRun
from prefect_campaigns.models import Step
from prefect_campaigns.results import StepStatus

ENGINE_DOWN, LEFT_ALONE = "EngineDown", "LeftAlone"

TOLD = "@engines"
"""Under what the store keeps who has been told of which engine."""

_FAILURE_TAG = "on-failure:"
_SERVER_ERROR = 500


class Breaker:
    """What one run knows, and says, of engines that do not work."""

    def __init__(self, run: CampaignRun, settings: Settings) -> None:
        self._run = run
        self._after_runs = settings.campaigns_breaker_runs
        self._pause_seconds = settings.campaigns_breaker_minutes * 60.0
        self._troubled: set[str] = set()

    async def open(self) -> EngineTrouble | None:
        """Return the trouble of an engine that is left alone and that the run would ask; None where it asks none."""
        if not self._after_runs:
            return None
        troubles = {one.endpoint: one for one in await self._run.patiently(self._run.store.engine_troubles)}
        self._troubled = set(troubles)
        now = self._run.clock.now()
        steps = zip(self._run.campaign.steps, self._run.steps, strict=True)
        left = (show_url(step.endpoint) for step, recorded in steps if recorded.status in _TO_BE_DONE)
        wanted = (troubles[endpoint] for endpoint in left if endpoint in troubles)
        return next((one for one in wanted if one.is_left_alone(now)), None)

    async def state(self, trouble: EngineTrouble) -> State[Any]:
        """Return the state in which a run ends that leaves an engine alone, by whether anybody has to be told yet."""
        tags = [tag for tag in self._run.flow_run.tags if tag.startswith(_FAILURE_TAG)]
        since = f"{trouble.left_alone_since:%Y-%m-%dT%H:%M:%S}"
        keys = [f"{trouble.endpoint} {since} {tag}" for tag in tags]
        untold = await self._run.patiently(lambda: self._run.store.claim_alerts(TOLD, keys)) if keys else ()
        for key in untold:
            # Before it is done: of many runs that are due at once, one tells.
            await self._run.patiently(partial(self._run.store.alert_told, TOLD, key))
        return State(type=StateType.FAILED, name=ENGINE_DOWN if untold else LEFT_ALONE)

    async def note(self, step: Step, error: object) -> None:
        """Write down that a step has failed for good, if that is its engine's fault."""
        if not self._after_runs or not is_engines_fault(error):
            return
        endpoint = show_url(step.endpoint)
        trouble = await self._run.patiently(
            lambda: self._run.store.engine_failed(
                endpoint,
                run_id=self._run.run_id,
                error=str(error) or f"no whole answer within {step.timeout_seconds:g} seconds",
                after_runs=self._after_runs,
                pause_seconds=self._pause_seconds,
            )
        )
        self._troubled.add(endpoint)
        if trouble.left_alone_until is not None:
            self._run.logger.error("%s", in_words(trouble))

    async def note_answer(self, step: Step) -> None:
        """Write down that an engine works, by which runs have failed before."""
        endpoint = show_url(step.endpoint)
        if endpoint in self._troubled:
            await self._run.patiently(lambda: self._run.store.engine_answered(endpoint))
            self._troubled.discard(endpoint)


_TO_BE_DONE = (StepStatus.PENDING, StepStatus.RUNNING, StepStatus.FAILED)


def is_engines_fault(error: object) -> bool:
    """Whether a step failed because its engine does not work, rather than because of what it was asked."""
    if isinstance(error, TimeoutError):
        return True
    if isinstance(error, EngineReportedFailure) or not isinstance(error, EngineError):
        return False
    if isinstance(error, EngineUnreachable):
        return error.retryable
    return not isinstance(error, EngineRefused) or (error.status_code or 0) >= _SERVER_ERROR


def in_words(trouble: EngineTrouble) -> str:
    """Say that an engine is left alone, why and until when."""
    until = f"{trouble.left_alone_until:%H:%M} UTC" if trouble.left_alone_until else "it works"
    return (
        f"The engine at {trouble.endpoint} is left alone until {until}: {trouble.runs} runs have failed by it, one"
        f" after the other, since {trouble.since:%Y-%m-%d %H:%M} UTC; the last one said: {trouble.error}"
    )


def told_once(trouble: EngineTrouble) -> Sequence[str]:
    """Return what a run says that ends because of it."""
    return (
        in_words(trouble),
        "Nothing was asked and nothing spent. Until it works, runs that need it end as LeftAlone, of which nobody is"
        " mailed; the first run after that time tries it again.",
    )
