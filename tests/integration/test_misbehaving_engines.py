"""Engines that do everything wrong, asked by a real worker: one clear sentence, in time, and in bounded memory.

``pytest -s`` prints what docs/how-it-works/reliability.md has of it.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from pathlib import Path

import pytest
from campaign_files import PROSPECT
from certificates import self_signed
from driving import Driver
from misbehaving import ENGINES, TIMEOUT_SECONDS, Misbehaviour
from raw_http import raw_server
from real_stack import Stack

MORE_BYTES = 300 * 1024 * 1024
"""How much more memory the worker may need for one of them: sixteen megabytes, in all the shapes that JSON takes."""

BEYOND_SECONDS = 12.0
"""How long a run may take beside its step's timeout: the worker's poll, and Prefect, on a busy machine."""


class Memory:
    """How much memory a process has had at its peak since it was last reset."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._before = self.now("VmRSS")

    def reset(self) -> None:
        # What proc(5) has for the peak of the resident set.
        (self._folder / "clear_refs").write_text("5")
        self._before = self.now("VmRSS")

    def now(self, what: str) -> int:
        found = re.search(rf"^{what}:\s+(\d+) kB$", (self._folder / "status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    @property
    def more(self) -> int:
        return self.now("VmHWM") - self._before


@pytest.mark.parametrize("name", ENGINES)
async def test_it_fails_its_own_step_with_one_sentence_in_time_and_in_bounded_memory(
    driver: Driver, in_stack: Stack, name: str, tmp_path: Path
) -> None:
    one: Misbehaviour = ENGINES[name]
    tls: ssl.SSLContext | None = self_signed(tmp_path).server_context if one.tls else None
    async with raw_server(one.handler, tls=tls) as server:
        step = {"timeout": TIMEOUT_SECONDS * 1_000, "endpoint": f"{server.url}{PROSPECT}", "estimatedCost": "0.10"}
        deployment = await driver.deploy(f"Misbehaving {name}", server.url, only=1, steps={"prospecting": step})
        memory = Memory(in_stack.worker_pid)
        if os.access(f"/proc/{in_stack.worker_pid}/clear_refs", os.W_OK):
            memory.reset()
        began = time.monotonic()
        ended = await driver.run(deployment)
        seconds = time.monotonic() - began
    report = await driver.store.get_run(str(ended.id))
    assert report is not None
    (step_result,) = report.steps
    error = step_result.error or ""
    took = step_result.duration_seconds or 0.0
    print(
        f"| {one.engine} | {error.replace(server.url, 'http://localhost:3010')} | {took:.1f} s |"
        f" {memory.more / 1024 / 1024:.0f} MB |"
    )
    assert error.startswith(one.says.format(url=f"{server.url}{PROSPECT}"))
    assert "\n" not in error
    assert ended.state is not None
    assert ended.state.name == "Failed"
    assert took < TIMEOUT_SECONDS + 1
    assert seconds < TIMEOUT_SECONDS + BEYOND_SECONDS
    assert memory.more < MORE_BYTES


def test_the_table_in_the_documentation_has_each_of_them_with_its_sentence() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-it-works" / "reliability.md").read_text(encoding="utf-8")
    for one in ENGINES.values():
        url = f"{'https' if one.tls else 'http'}://localhost:3010{PROSPECT}"
        assert f"| {one.engine} | {one.says.format(url=url)}" in page
