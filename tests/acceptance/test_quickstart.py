"""A newcomer's walk through the Quickstart, command by command, in a clean copy of the project."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from documentation import PAGES, PROJECT
from driving import until
from processes import LongRunning, user_environment

from prefect_campaigns.deployments.running.server import free_port, port_is_free

LEFT_OUT = (
    *(".git", ".venv", ".uv", ".env", "build", "dist", "site", "logs", "node_modules", "__pycache__"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", "*.egg-info", ".import_linter_cache"),
)
STEP_SECONDS = 400.0
END = "-- the command has ended with "

FENCED = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """What the page has between its fences."""

    language: str
    title: str
    text: str


class Terminal:
    """A terminal in which commands are typed one after the other."""

    def __init__(self, shell: asyncio.subprocess.Process) -> None:
        self._shell = shell

    async def type(self, commands: str) -> str:
        """Type commands, and return what they printed; each has to end well."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        printed = ""
        for command in commands.strip().splitlines():
            self._shell.stdin.write(f"{command} < /dev/null\necho '{END}'$?\n".encode())
            said = ""
            async with asyncio.timeout(STEP_SECONDS):
                while END not in said:
                    line = await self._shell.stdout.readline()
                    assert line, f"the shell has ended:\n{said}"
                    said += line.decode()
            said, _, code = said.partition(END)
            assert code.strip() == "0", f"{command}\n{said}"
            printed += said
        return printed


@asynccontextmanager
async def a_terminal(folder: Path, **variables: str) -> AsyncIterator[Terminal]:
    shell = await asyncio.create_subprocess_exec(
        "bash",
        cwd=folder,
        env=user_environment(**variables),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Terminal(shell)
    finally:
        if shell.stdin is not None:
            shell.stdin.close()
        try:
            async with asyncio.timeout(20):
                await shell.wait()
        except TimeoutError:
            shell.kill()
            await shell.wait()


def ported(text: str, ports: dict[str, str]) -> str:
    """Return a text with other ports than those that everybody uses: another test may have them."""
    return re.sub("|".join(ports), lambda found: ports[found[0]], text)


@pytest.mark.timeout(900)
async def test_it_ends_with_ones_own_engine_called(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns(*LEFT_OUT))
    if (PROJECT / ".uv").exists():
        # What `pip install uv` has brought; a machine that has none is asked for it once.
        (project / ".uv").symlink_to((PROJECT / ".uv").resolve())
    blocks = [Block(*found) for found in FENCED.findall(PAGES["docs/quickstart.md"])]
    ports = {usual: str(free_port()) for usual in ("3010", "4200", "3020")}
    home = tmp_path / "home"
    home.mkdir()
    variables = {
        "HOME": str(home),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{ports['4200']}/api",
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv")),
    }
    mine = project / "mine"
    background: list[LongRunning] = []
    watched: list[str] = []

    def in_the_background(command: str) -> LongRunning:
        activated = {"PATH": f"{project / '.venv' / 'bin'}:{os.environ['PATH']}"}
        started = LongRunning(
            ["bash", "-c", f"exec {command}"], env=user_environment(**{**variables, **activated}), cwd=mine
        )
        background.append(started)
        return started

    try:
        async with a_terminal(project, **variables) as terminal:
            for block in blocks:
                text = ported(block.text, ports)
                if block.language in ("json", "python"):
                    (mine / block.title).write_text(text)
                elif block.title == "a second terminal":
                    in_the_background(text.strip())
                    await until(taken(int(ports["3010"])), "the engine")
                elif block.language == "console":
                    (command, *_) = text.splitlines()
                    up = in_the_background(
                        f"{command.removeprefix('$ ')} --port {ports['4200']} --api-port {ports['3020']}"
                    )
                    await up.printed("Campaign worker is waiting for runs.")
                elif block.language == "bash":
                    said = await terminal.type(text)
                    watched += [said] if "--watch" in text else []
                else:
                    assert block.language == "text"
                    told = block.text.strip().splitlines()[-1]
                    assert told.split("0.024  ")[1] in watched[-1]
        assert "50 prospects generated" in watched[-1]
        engine, up = background
        assert engine.output.count("POST /api/prospect") == 2
        async with httpx.AsyncClient(timeout=30) as browser:
            page = (await browser.get(f"http://127.0.0.1:{ports['3020']}/")).text
        assert "My First Campaign" in page
        assert "0.048 of 5.00" in page
        for process in reversed(background):
            process.signal()
        assert await up.ended(seconds=90) == 130
        assert up.left_behind() == {}
    finally:
        for process in background:
            process.kill()


def taken(port: int) -> Callable[[], asyncio.Future[bool]]:
    async def look() -> bool:
        return not port_is_free(port)

    return lambda: asyncio.ensure_future(look())
