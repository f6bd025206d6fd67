"""Take the pictures of docs/img (make pictures): the pages in Chromium, over a real Prefect server.

The campaigns and their past are made up.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from browsing import CHROMIUM, PHONE, WIDE, a_browser, looking
from history import fill, made_up
from playwright.async_api import Browser
from prefect.client.orchestration import get_client

from prefect_campaigns.blocks.settings import load_settings, without_env_file
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import Lease
from prefect_campaigns.deployments.api.serving import Listener, running_api
from prefect_campaigns.deployments.applying.apply import apply
from prefect_campaigns.deployments.driving.pausing import pause_campaign
from prefect_campaigns.deployments.running.server import EmbeddedServer, free_port, using
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus

IMAGES = Path(__file__).parents[2] / "docs" / "img"
RUNS = {0: 0, 1: 40, 25: 60, 500: 200}
"""How many runs each campaign has had, by how many campaigns there are."""

GOING, RESTING = 4, 14
"""Which of the campaigns has a run that goes on, and which a person has paused."""


@asynccontextmanager
async def an_agency(folder: Path, count: int) -> AsyncIterator[tuple[str, Sequence[Campaign]]]:
    """Yield the address of an API over books with so many campaigns, and these."""
    path, now = folder / f"{count}.db", datetime.now(UTC)
    campaigns = [made_up(number) for number in range(count)]
    await fill(path, campaigns, runs=RUNS[count], now=now)
    settings = load_settings().model_copy(update={"campaigns_database": path})
    async with SqliteStore(path) as store:
        if campaigns:
            await apply(campaigns, store=store, settings=settings)
        if count > RESTING:
            await _begin(store, campaigns[GOING], now)
            async with get_client() as client:
                record = await store.get_campaign(campaigns[RESTING].slug)
                await pause_campaign(client, store, record, reason="the client is on holiday", actor="ada", now=now)
    listener = Listener(settings, port=free_port())
    async with running_api(listener):
        yield listener.url, campaigns


async def _begin(store: SqliteStore, campaign: Campaign, now: datetime) -> None:
    run_id = "00000000-0000-4000-8000-000000000001"
    lease = await store.acquire_lease(
        campaign.slug, run_id=run_id, run_name="brisk-otter", holder="x", ttl_seconds=600, waiting_since=now
    )
    assert isinstance(lease, Lease)
    found, looking_at = StepStatus.COMPLETED, StepStatus.RUNNING
    steps = [
        StepResult(name=step.name, engine=step.engine, position=place, status=StepStatus.PENDING)
        for place, step in enumerate(campaign.steps)
    ]
    steps[0] = steps[0].model_copy(update={"status": found, "attempts": 1, "counts": {"prospects_generated": 20.0}})
    steps[1] = steps[1].model_copy(update={"status": looking_at, "attempts": 1, "started_at": now})
    report = RunReport(
        run_id=run_id,
        run_name="brisk-otter",
        campaign_key=campaign.slug,
        campaign_name=campaign.name,
        status=RunStatus.RUNNING,
        trigger_type="scheduled",
        started_at=now - timedelta(seconds=40),
        steps=tuple(steps),
    )
    await store.start_run(lease, report)
    held = await store.reserve(lease, step=steps[0].name, attempt=1, estimated_cost=Decimal("0.048"), hold_seconds=600)
    await store.settle(lease, await store.mark_sent(lease, held), Decimal("0.048"))
    await store.reserve(lease, step=steps[1].name, attempt=1, estimated_cost=Decimal("0.05"), hold_seconds=600)


async def take(
    browser: Browser, url: str, name: str, *, size: tuple[int, int] = WIDE, dark: bool = False, whole: bool = False
) -> None:
    """Take a picture of a page, and make sure that there is nothing to complain of."""
    async with looking(browser, url, size=size, dark=dark) as seen:
        await seen.page.wait_for_timeout(500)
        found = [*seen.complaints, *await seen.obstacles()]
        if found:
            raise RuntimeError(f"{name}: {found}")
        await seen.page.screenshot(path=IMAGES / f"{name}.png", full_page=whole)
    print(f"docs/img/{name}.png", flush=True)


async def main() -> None:
    """Take all pictures."""
    if CHROMIUM is None:
        sys.exit("needs Chromium: apt-get install chromium")
    IMAGES.mkdir(parents=True, exist_ok=True)
    os.environ["CAMPAIGNS_TIMEZONE"] = "America/New_York"
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(without_env_file())
        server = EmbeddedServer(home=folder / "prefect", port=free_port(), log=folder / "server.log")
        await stack.enter_async_context(server)
        stack.enter_context(using(server))
        browser = await stack.enter_async_context(a_browser())
        for count in RUNS:
            async with an_agency(folder, count) as (url, campaigns):
                await take(browser, url, f"money-{count}")
                if count != 25:
                    continue
                await take(browser, url, "dark", dark=True)
                await take(browser, url, "phone", size=PHONE)
                page = f"{url}/campaigns/{campaigns[0].slug}"
                await take(browser, page, "campaign", size=(1200, 1250))
                async with SqliteStore(folder / "25.db") as store:
                    runs = await store.run_outlines(campaign_key=campaigns[0].slug, limit=30)
                failed = next(run for run in runs if run.status is RunStatus.FAILED)
                done = next(run for run in runs if run.status is RunStatus.COMPLETED)
                await take(browser, f"{page}/runs/{done.run_id}", "report", whole=True)
                await take(browser, f"{page}/runs/{failed.run_id}", "report-failed", whole=True)


if __name__ == "__main__":
    asyncio.run(main())
