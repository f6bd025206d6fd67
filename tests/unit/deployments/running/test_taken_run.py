"""One flow run in a worker's hands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus, StateAcceptDetails
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Cancelled, Completed, Failed, Pending, Running, Scheduled

from prefect_campaigns.deployments.running.places import Places
from prefect_campaigns.deployments.running.result_storage import ResultStorage
from prefect_campaigns.deployments.running.run_loop import RunLoop
from prefect_campaigns.deployments.running.taken_run import TakenRun
from prefect_campaigns.flows.control import Leaving

NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)


class ServerAtNoon:
    """Has one run, and takes whatever state it is given, at noon by its clock.

    Attributes:
        state: of the run.
        answers_are_lost: whether what asks for a change of it hears nothing, although it is made.
    """

    def __init__(self) -> None:
        self.state: State[None] = Scheduled()
        self.answers_are_lost = False
        self.history: list[State[None]] = []

    async def read_flow_run(self, _: UUID) -> FlowRun:
        return FlowRun(flow_id=uuid4(), state=self.state)

    async def read_flow_run_states(self, _: UUID) -> list[State[None]]:
        return self.history

    async def set_flow_run_state(self, _: UUID, state: State[None], **__: bool) -> OrchestrationResult[None]:
        self.history.append(self.state)
        details = state.state_details
        if self.state.is_scheduled() and state.is_pending():
            details = details.model_copy(update={"scheduled_time": self.state.state_details.scheduled_time})
        self.state = state.model_copy(update={"timestamp": NOON, "state_details": details})
        if self.answers_are_lost:
            raise httpx.ReadTimeout("nothing came")
        return OrchestrationResult(status=SetStateStatus.ACCEPT, details=StateAcceptDetails(), state=self.state)


@pytest.fixture
def server() -> Iterator[ServerAtNoon]:
    # Prefect would start a server of its own for what is logged of the run.
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield ServerAtNoon()


def taken_from(server: ServerAtNoon, *, looked_at: float | None = None, places: Places | None = None) -> TakenRun:
    return TakenRun(
        FlowRun(flow_id=uuid4(), name="azure-fox"),
        looked_at=time.monotonic() if looked_at is None else looked_at,
        leaving=Leaving("worker"),
        client=cast(PrefectClient, server),
        loop=RunLoop(),
        storage=ResultStorage(),
        places=places or Places(1, keep_seconds=60),
    )


@pytest.mark.parametrize(("seconds_after", "is_cancelled"), [(-1, False), (0, True), (1, True)])
async def test_a_cancellation_that_is_heard_late_is_of_the_execution_before(
    server: ServerAtNoon, seconds_after: float, is_cancelled: bool
) -> None:
    taken = taken_from(server)
    # Whatever is heard before Prefect has said that it is this worker's is of another execution.
    taken.cancel_for_a_person(since=NOON + timedelta(hours=1))
    assert await taken.claim()
    taken.cancel_for_a_person(since=NOON + timedelta(seconds=seconds_after))
    assert taken.is_given_up is is_cancelled


TAKEN_BY_ANOTHER: State[None] = Pending(message="Taken up by worker 'another'")


@pytest.mark.parametrize("state", [Completed(), Failed(), Running(), Cancelled(), TAKEN_BY_ANOTHER])
async def test_what_another_worker_has_taken_up_or_done_since_is_not_claimed(
    server: ServerAtNoon, state: State[None]
) -> None:
    server.state = state
    taken = taken_from(server, looked_at=time.monotonic() - 1)
    assert not await taken.claim()
    assert not taken.is_claimed
    assert server.state is state


async def test_what_is_still_scheduled_is_claimed_however_long_it_waited(server: ServerAtNoon) -> None:
    assert await taken_from(server, looked_at=time.monotonic() - 60).claim()


async def test_a_claim_whose_answer_is_lost_is_known_again(server: ServerAtNoon) -> None:
    server.answers_are_lost = True
    taken = taken_from(server)
    with pytest.raises(httpx.ReadTimeout):
        await taken.claim()
    assert not taken.is_claimed
    taken.let_be()
    assert await taken.claim(), "Prefect has it as this worker's, and nobody else would hand it back"
    assert taken.is_claimed


async def test_a_claim_of_what_has_ended_whose_answer_is_lost_is_put_back_when_it_is_known_again(
    server: ServerAtNoon,
) -> None:
    server.state = Failed(message="why it failed")
    server.answers_are_lost = True
    taken = taken_from(server)
    with pytest.raises(httpx.ReadTimeout):
        await taken.claim()
    assert server.state.is_pending()
    server.answers_are_lost = False
    assert not await taken.claim()
    assert (server.state.name, server.state.message) == ("Failed", "why it failed")


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_it_begins_when_there_is_a_place_and_if_it_is_still_wanted_then(
    server: ServerAtNoon, is_cancelled: bool
) -> None:
    places = Places(1, keep_seconds=60)
    another = uuid4()
    await places.take(another)
    taken = taken_from(server, places=places)
    assert await taken.claim()
    seeing = asyncio.create_task(taken.see_through())
    await asyncio.sleep(0.05)
    assert server.state.is_pending()
    if is_cancelled:
        taken.cancel_for_a_person()
    places.leave(another)
    await asyncio.wait_for(seeing, 5)
    # It has no deployment, so what begins is refused.
    assert server.state.name == ("Cancelled" if is_cancelled else "Failed")
