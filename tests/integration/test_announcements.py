"""Hearing at once of runs that somebody asks for."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from driving import until

from prefect_campaigns.deployments.announcements import announced_runs
from prefect_campaigns.deployments.compile import WORK_POOL

LOGGER = logging.getLogger(__name__)


async def test_a_run_that_is_asked_for_is_announced_to_its_own_work_pool(driver) -> None:
    deployment = await driver.deploy("Announced", "http://127.0.0.1:9")
    async with (
        aclosing(announced_runs(WORK_POOL, logger=LOGGER)) as ours,
        aclosing(announced_runs("another", logger=LOGGER)) as others,
    ):
        told, others_told = (asyncio.ensure_future(anext(one)) for one in (ours, others))
        try:

            async def heard() -> bool:
                await driver.start_later(deployment)
                await asyncio.sleep(0.2)
                return told.done()

            await until(heard, "an announcement")
            assert not others_told.done()
        finally:
            for waiting in (told, others_told):
                waiting.cancel()
            await asyncio.gather(told, others_told, return_exceptions=True)
