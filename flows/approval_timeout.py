"""The flow that ends the waiting for an approval that nobody gave in time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
from prefect import State, flow, get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Failed

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import ApprovalState
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.clock import current_clock
from prefect_campaigns.errors import CampaignsError, StoreUnavailable
from prefect_campaigns.flows.approval import EXPIRE_FLOW_NAME, audit_of, read_resumption, resumed_in_time
from prefect_campaigns.flows.closing import close_ended
from prefect_campaigns.flows.resuming import MOMENT

EXPIRE_ENTRYPOINT = "prefect_campaigns.flows.approval_timeout.expire_approval"

RETRIES = 20
RETRY_SECONDS = 60.0


class NotClosedYet(Exception):
    """The run is ending, or has ended, in Prefect, and the books cannot be told yet; tried again in a minute."""


async def _is_being_cancelled(client: PrefectClient, run_id: UUID) -> bool:
    try:
        state = (await client.read_flow_run(run_id)).state
    except ObjectNotFound:
        return False
    return state is not None and state.is_cancelling()


async def end_waiting(client: PrefectClient, store: CampaignStore, run_id: str, step: str) -> str:
    """Do what the flow does; return what came of it.

    Raises:
        NotClosedYet: see there.
        StoreError: the store is not there.
    """
    approvals = await store.list_approvals(run_id=run_id)
    approval = next((one for one in approvals if one.step == step), None)
    if approval is None:
        return f"nobody has asked for an approval of {step!r} in run {run_id}"
    left = approval.expires_at - current_clock().now()
    if approval.state is ApprovalState.WAITING and timedelta() < left <= MOMENT:
        # Prefect starts a run half a second early or so; nothing would look again.
        await anyio.sleep(left.total_seconds())
        return await end_waiting(client, store, run_id, step)
    if approval.state is ApprovalState.WAITING and left > MOMENT:
        return f"it was asked for anew, and waits until {approval.expires_at:%Y-%m-%d %H:%M} UTC"
    if await _is_being_cancelled(client, UUID(run_id)):
        raise NotClosedYet("the run is being cancelled")
    # Cancelled in Prefect, say, where nobody has told the books.
    closed = await close_ended(client, store, UUID(run_id), actor="the clock")
    if closed is not None and closed.is_held:
        raise NotClosedYet(closed.describe())
    if closed is not None:
        return f"its run has ended; {closed.describe() or f'it is {approval.state}, by {approval.decided_by}'}"
    # The question's end has come: whoever resumes the run after this look resumes it too late.
    if approval.state is ApprovalState.WAITING and resumed_in_time(
        await read_resumption(client, UUID(run_id)), approval
    ):
        return "its run was resumed in time, and writes that down when a worker takes it up"
    if approval.state is ApprovalState.WAITING:
        approval = await store.decide_approval(run_id, step, ApprovalState.EXPIRED, by="the clock")
        if approval.state is ApprovalState.EXPIRED:
            await store.record_audit(audit_of(approval))
    said = f"it is {approval.state}, by {approval.decided_by}"
    if approval.state is ApprovalState.WITHDRAWN:
        return said
    try:
        # Also where whoever wrote it down, an earlier try of this run or a person, was broken off before resuming it.
        answer = await client.resume_flow_run(UUID(run_id))
    except ObjectNotFound:
        return f"{said}; its run has been deleted"
    return f"{said}; {'its run is resumed' if answer.status is SetStateStatus.ACCEPT else 'its run waits no more'}"


@flow(name=EXPIRE_FLOW_NAME, persist_result=False, retries=RETRIES, retry_delay_seconds=RETRY_SECONDS)
async def expire_approval(run_id: str, step: str) -> State[Any]:
    """End the waiting for an approval, unless it was given, or asked for anew since.

    It is safe to run at any time, and twice. The run that waits is resumed, and does what its campaign says.

    Args:
        run_id: the flow run that is suspended.
        step: the step before which it is.
    """
    try:
        async with open_store(load_settings()) as store, get_client() as client:
            message = await end_waiting(client, store, run_id, step)
    except StoreUnavailable:
        # Tried again by Prefect, every minute.
        raise
    except CampaignsError as error:
        get_run_logger().error("%s", error)
        return Failed(message=f"{type(error).__name__}: {error}")
    get_run_logger().info(message)
    return Completed(message=message)
