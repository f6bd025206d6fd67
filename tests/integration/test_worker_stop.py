"""What becomes of a run when its worker is told to stop: it ends, its money is booked, and somebody hears of it."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from campaign_files import PROSPECT
from driving import until

from prefect_campaigns.blocks.store_types import AttemptState, Lease


@pytest.mark.parametrize(
    ("sign", "sends", "said"),
    [
        (signal.SIGTERM, False, "broken off while its request was under way"),
        (signal.SIGINT, True, "broken off while its request was under way: mails may have gone out"),
    ],
)
async def test_a_worker_that_stops_in_the_middle_of_a_run_says_so(driver, engines, in_stack, sign, sends, said) -> None:
    address = f"{sign.name.lower()}@example.com"
    engines.hang_next(PROSPECT)
    deployment = await driver.deploy(
        f"Stopped By {sign.name}",
        engines.url,
        only=1,
        steps={"prospecting": {"estimatedCost": "0.25", "sends": sends}},
        notifications={"onFailure": {"email": address}},
    )
    flow_run = await driver.start(deployment)

    async def asked() -> bool:
        return bool(engines.requests)

    await until(asked, "a request")
    await asyncio.to_thread(in_stack.stop_worker, sign)
    try:
        ended = await driver.ended(flow_run.id)
        assert ended.state.name == "Crashed"
        why = f"The worker was stopped while the run was going\nStep 'prospecting' failed: {said}\n"
        assert ended.state.message.startswith(why)
        record = await driver.store.get_run(str(flow_run.id))
        assert (record.state_name, record.status, record.steps[0].error) == ("Crashed", "failed", said)
        (attempt,) = await driver.store.attempts(str(flow_run.id), "prospecting")
        assert (attempt.state, attempt.booked) == (AttemptState.UNCONFIRMED, Decimal("0.25"))
        next_one = await driver.store.acquire_lease(
            f"stopped-by-{sign.name.lower()}",
            run_id="next",
            run_name="next",
            holder="next",
            ttl_seconds=1,
            waiting_since=datetime.now(UTC),
        )
        assert isinstance(next_one, Lease), "the next run need not wait for it"

        async def mailed() -> bool:
            return any(address in mail.recipients for mail in in_stack.mail.messages)

        await until(mailed, "the mail about the crash")
    finally:
        await asyncio.to_thread(in_stack.start_worker)
