"""One flow run in a worker's hands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import uuid4

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus, StateAcceptDetails
from prefect.states import Pending

from prefect_campaigns.deployments.running.result_storage import ResultStorage
from prefect_campaigns.deployments.running.run_loop import RunLoop
from prefect_campaigns.deployments.running.taken_run import TakenRun
from prefect_campaigns.flows.control import Leaving

NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)


class ServerAtNoon:
    """Takes whatever state it is given, at noon by its clock."""

    async def set_flow_run_state(self, *_: object) -> OrchestrationResult[None]:
        state: State[None] = Pending(timestamp=NOON)
        return OrchestrationResult(status=SetStateStatus.ACCEPT, details=StateAcceptDetails(), state=state)


@pytest.mark.parametrize(("seconds_after", "is_cancelled"), [(-1, False), (0, True), (1, True)])
async def test_a_cancellation_that_is_heard_late_is_of_the_execution_before(
    seconds_after: float, is_cancelled: bool
) -> None:
    taken = TakenRun(
        FlowRun(flow_id=uuid4(), name="azure-fox"),
        leaving=Leaving("worker"),
        client=cast(PrefectClient, ServerAtNoon()),
        loop=RunLoop(),
        storage=ResultStorage(),
    )
    assert await taken.claim()
    taken.cancel_for_a_person(since=NOON + timedelta(seconds=seconds_after))
    assert await taken.claim() is not is_cancelled, "one that is cancelled is claimed no more"
