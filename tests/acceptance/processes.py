"""Processes as a user starts them: what they print, how they end, and what they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from driving import until
from forked import run_forked
from real_stack import SCRUBBED

CAMPAIGNS = str(Path(sys.executable).with_name("campaigns"))
PREFECT = str(Path(sys.executable).with_name("prefect"))

COMMAND_SECONDS = 180.0
_MARK = "ACCEPTANCE_TEST_PROCESS"
_ABOUT_TERMINALS = ("COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


def user_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a user who has set nothing but these variables."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(SCRUBBED) and k not in _ABOUT_TERMINALS}
    return {**inherited, **variables}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that it printed."""
        return self.out + self.err


async def run_campaigns(*arguments: str, env: Mapping[str, str], cwd: Path) -> Ended:
    """Run ``campaigns …`` to its end, its output going into files."""
    code, out, err = await run_forked(arguments, env=_without_terminal(env), cwd=cwd, seconds=COMMAND_SECONDS)
    return _decent(Ended(code=code, out=out, err=err))


def _without_terminal(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in _ABOUT_TERMINALS}


def _decent(ended: Ended) -> Ended:
    """What no command may ever print fails the test here."""
    assert "Traceback" not in ended.text, ended.text
    assert "\x1b" not in ended.text, "colours belong to terminals"
    return ended


async def run(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, seconds: float = COMMAND_SECONDS
) -> Ended:
    """Run a command to its end, its output going into pipes."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=_without_terminal(env),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return _decent(Ended(code=process.returncode, out=out.decode(), err=err.decode()))


class LongRunning:
    """A command that goes on until it is interrupted, as in a terminal: in a process group of its own."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
        self._mark = uuid4().hex
        self._output = cwd / f"output-{self._mark}.txt"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                # Tests that run under nohup would hand down an ignored SIGHUP.
                ["env", "--default-signal", *command],
                env={**env, _MARK: self._mark, "PYTHONUNBUFFERED": "1"},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text()

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    async def printed(self, text: str) -> None:
        """Wait until it has printed something."""

        async def look() -> bool:
            assert text in self.output or not self.has_ended, f"it ended:\n{self.output}"
            return text in self.output

        await until(look, f"{text!r} in the output", seconds=COMMAND_SECONDS)

    def signal(self, number: signal.Signals = signal.SIGINT) -> None:
        """Do what Ctrl-C does at a terminal: the signal reaches the foreground group, and no other session."""
        os.killpg(self._process.pid, number)

    async def ended(self, *, seconds: float = COMMAND_SECONDS) -> int:
        """Wait for its end and return the exit code."""
        return await asyncio.to_thread(self._process.wait, seconds)

    def left_behind(self) -> dict[int, str]:
        """Return the processes that it started, or they did, and that still live: their command lines by their ids."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{_MARK}={self._mark}".encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                # Somebody else's process, or one that has just ended.
                continue
        return found

    def kill(self) -> None:
        """End what a test that failed has left running."""
        for process_id in self.left_behind():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        self._process.wait()
