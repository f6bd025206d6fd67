"""Hearing at once of runs that somebody asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from uuid import UUID

from driving import Driver, until
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate

from prefect_campaigns.deployments.compile import WORK_POOL, WORK_POOL_TYPE
from prefect_campaigns.deployments.running.announcements import Announcement, announcements

LOGGER = logging.getLogger(__name__)


async def deploy_to_pool(driver: Driver, pool: str, name: str, url: str) -> UUID:
    """Deploy a campaign to a work pool of its own."""
    await driver.client.create_work_pool(WorkPoolCreate(name=pool, type=WORK_POOL_TYPE))
    deployment_id = await driver.deploy(name, url, only=1)
    await driver.client.update_deployment(deployment_id, DeploymentUpdate(work_pool_name=pool))
    return deployment_id


@asynccontextmanager
async def hearing(work_pool: str) -> AsyncIterator[list[Announcement]]:
    """Collect the announcements of runs of a pool that are asked for."""
    heard: list[Announcement] = []

    async def listen() -> None:
        async with aclosing(announcements(work_pool, logger=LOGGER)) as announced:
            async for one in announced:
                heard.append(one)

    listening = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_a_run_that_is_asked_for_is_announced_to_its_own_work_pool_only(driver) -> None:
    ours = await driver.deploy("Announced", "http://127.0.0.1:9")
    theirs = await deploy_to_pool(driver, "theirs", "Announced To Others", "http://127.0.0.1:9")
    async with hearing(WORK_POOL) as heard_by_us, hearing("theirs") as heard_by_them:

        async def both_listen() -> bool:
            for deployment in (ours, theirs):
                await driver.start_later(deployment)
            await asyncio.sleep(0.2)
            return bool(heard_by_us and heard_by_them)

        await until(both_listen, "announcements to both")
        before = len(heard_by_us), len(heard_by_them)

        async def we_heard() -> bool:
            await driver.start_later(ours)
            await asyncio.sleep(0.2)
            return len(heard_by_us) >= before[0] + 3

        await until(we_heard, "three more announcements to us")
        # One that was under way when we stopped to count is theirs.
        assert len(heard_by_them) <= before[1] + 1


async def test_a_worker_that_polls_every_hour_takes_up_a_run_when_it_is_asked_for(driver, engines, in_stack) -> None:
    deployment = await deploy_to_pool(driver, "seldom-polled", "Taken Up At Once", engines.url)
    with in_stack.worker_of("seldom-polled", PREFECT_WORKER_QUERY_SECONDS="3600"):
        for _ in range(3):
            assert (await driver.run(deployment)).state.name == "Completed"
