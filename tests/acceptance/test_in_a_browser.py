"""The pages in a real browser: live, pressed, and fit for everybody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from browsing import CHROMIUM, PHONE, WIDE, a_browser, looking
from campaign_files import ANALYZE
from driving import Driver, until
from history import fill, made_up
from playwright.async_api import Browser, expect
from prefect.states import Cancelling
from real_stack import Stack
from rest_api import served

from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.flows.paused_deployment import read_deployment

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.timeout(300),
]

SOON = 30_000
"""How long a page has for something to be seen, in milliseconds, also on a busy machine."""


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with a_browser() as started:
        yield started


@pytest.fixture
async def api(in_stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with served() as client:
        yield client


async def test_a_run_is_seen_live_its_campaign_is_paused_resumed_and_run_and_its_run_opened_in_prefect(
    browser: Browser, api: httpx.AsyncClient, driver: Driver, engines: DemoEngines
) -> None:
    engines.pace = 1
    await driver.deploy("Driven In A Browser", engines.url)
    async with looking(browser, f"{api.base_url}/?q=driven+in+a") as seen:
        page = seen.page
        await page.get_by_role("link", name="Driven In A Browser").click()
        await page.get_by_role("button", name="Run now").click()
        await expect(page.get_by_text("is started.")).to_be_visible(timeout=SOON)
        # What stays as it is shows that nothing was loaded anew.
        await page.evaluate("window.isTheSame = true")
        await expect(page.get_by_text("step 1 of 4: prospecting")).to_be_visible(timeout=SOON)
        await expect(page.get_by_text("step 2 of 4: analysis")).to_be_visible(timeout=SOON)
        assert await page.evaluate("window.isTheSame")

        await page.get_by_role("textbox", name="Why it is paused").fill("seen in a browser")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_text("is paused until somebody resumes it.")).to_be_visible(timeout=SOON)
        record = await driver.store.get_campaign("driven-in-a-browser")
        deployment = await read_deployment(driver.client, record)
        assert deployment is not None
        assert deployment.paused
        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator(".state", has_text="active")).to_be_visible(timeout=SOON)
        deployment = await read_deployment(driver.client, record)
        assert deployment is not None
        assert not deployment.paused

        await page.evaluate("window.isTheSame = true")
        engines.pace = 0
        await expect(page.get_by_text("✓ Completed")).to_be_visible(timeout=SOON)
        assert await page.evaluate("window.isTheSame")
        assert seen.complaints == []
        (run,) = await driver.store.list_runs("driven-in-a-browser")
        await page.get_by_role("link", name=f"{run.run_name} in Prefect").click()
        await expect(page.get_by_text(run.run_name).first).to_be_visible(timeout=SOON)
        assert run.run_id in page.url


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
async def test_pages_keep_nobody_out_and_have_nothing_to_complain_of(
    browser: Browser,
    in_stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    dark: bool,
) -> None:
    some = [made_up(number) for number in range(25)]
    await fill(tmp_path / "25.db", some, runs=20, now=datetime.now(UTC))
    for name in ("25.db", "none.db"):
        monkeypatch.setenv("CAMPAIGNS_DATABASE", str(tmp_path / name))
        async with served() as client:
            key = some[0].slug
            runs = f"/api/campaigns/{key}/runs?limit=1"
            paths = ["/", "/campaigns/nobody"]
            if name == "25.db":
                run_id = (await client.get(runs)).json()["runs"][0]["id"]
                paths += ["/?show=failed", "/?q=nothing", f"/campaigns/{key}", f"/campaigns/{key}/runs/{run_id}"]
            for path in paths:
                async with looking(browser, f"{client.base_url}{path}", size=size, dark=dark) as seen:
                    assert await seen.obstacles() == [], path
                    is_an_error = path.endswith("nobody")
                    assert [one for one in seen.complaints if not (is_an_error and "404" in one)] == [], path
                    width = await seen.page.evaluate("document.documentElement.scrollWidth")
                    assert width <= size[0], f"{path} has to be moved sideways"


async def test_who_has_a_key_logs_in_by_keyboard_alone(
    browser: Browser, in_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGNS_API_KEY", "ada:full:a-key-for-a-browser-0123456789")
    async with served() as client, looking(browser, f"{client.base_url}/") as seen:
        page = seen.page
        assert await seen.obstacles() == []
        await page.keyboard.type("a-key-for-a-browser-0123456789")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Log out")).to_be_visible(timeout=SOON)
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "To the content"
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_label("A key that CAMPAIGNS_API_KEY names")).to_be_visible(timeout=SOON)
        assert seen.complaints == []


async def test_a_server_that_goes_away_is_said_and_comes_back_without_a_reload(
    browser: Browser, in_stack: Stack, driver: Driver, engines: DemoEngines
) -> None:
    engines.hang_next(ANALYZE)
    flow_run = await driver.start(await driver.deploy("Goes On Unseen", engines.url))

    async def is_asked() -> bool:
        return len(engines.requests) >= 2

    await until(is_asked, "the second request")
    async with served() as client, looking(browser, f"{client.base_url}/campaigns/goes-on-unseen") as seen:
        page = seen.page
        await page.evaluate("window.isTheSame = true")
        await page.route("**/*", lambda route: route.abort())
        await expect(page.get_by_text("The server does not answer")).to_be_visible(timeout=SOON)
        await page.unroute_all()
        await expect(page.get_by_text("The server does not answer")).to_be_hidden(timeout=SOON)
        assert await page.evaluate("window.isTheSame")
    await driver.client.set_flow_run_state(flow_run.id, Cancelling())
    await driver.ended(flow_run.id)
