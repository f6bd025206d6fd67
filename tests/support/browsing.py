"""A real browser that looks at pages, and what it has to complain of."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
"""The system's own; None where it has none."""

WIDE, PHONE = (1200, 800), (390, 844)


class Looking:
    """A page that somebody looks at.

    Attributes:
        complaints: errors of the page in the browser's console, and requests to other machines.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in ("127.0.0.1", "localhost"):
            self.complaints.append(f"asks {url}")

    async def obstacles(self) -> list[str]:
        """Return what axe finds that keeps people out, of its kinds serious and critical; a line each."""
        found = await Axe().run(self.page)
        return [
            f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:3]}"
            for one in found.response["violations"]
            if one["impact"] in ("serious", "critical")
        ]


@asynccontextmanager
async def a_browser() -> AsyncIterator[Browser]:
    """Start the system's Chromium."""
    async with async_playwright() as playwright:
        # A container's root has no sandbox, and what is looked at is ours.
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def looking(
    browser: Browser, url: str, *, size: tuple[int, int] = WIDE, dark: bool = False
) -> AsyncIterator[Looking]:
    """Open a page in a window of its own."""
    width, height = size
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        is_mobile=size == PHONE,
        locale="en-GB",
    )
    try:
        seen = Looking(await context.new_page())
        await seen.page.goto(url)
        yield seen
    finally:
        await context.close()
