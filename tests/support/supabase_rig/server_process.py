"""A server as a process that cannot outlive the tests."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from prefect_campaigns.deployments.running.server import free_port

SUPERVISE = Path(__file__).with_name("supervise.py")
START_SECONDS = 60.0
STOP_SECONDS = 30.0
PORT_TRIES = 3

T = TypeVar("T")


class ServerEnded(RuntimeError):
    """The server ended by itself, or did not become ready in time; its last words are the message."""


class ServerProcess:
    """A server under supervise.py. Its log lies in ``folder``."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        folder: Path,
        log: str,
        env: Mapping[str, str],
        user: str = "",
        stop_with: signal.Signals = signal.SIGINT,
        owns_folder: bool = False,
    ) -> None:
        self._log = folder / log
        arguments = [str(folder) if owns_folder else "", user, stop_with.name, *map(str, command)]
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                # Isolated and without site: it starts in 20 ms, and the tests' environment is none of its business.
                [sys.executable, "-I", "-S", SUPERVISE, *arguments],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                env=env,
                cwd=folder,
                # Ctrl-C is for the tests: they stop their servers in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process that watches over the server, whose parent it is."""
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until the server is ready.

        Raises:
            ServerEnded: it never was.
        """
        deadline = time.monotonic() + START_SECONDS
        try:
            while not ready():
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise ServerEnded(self._log.read_text(errors="replace")[-3000:])
                time.sleep(0.02)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server, if it has not ended yet."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(STOP_SECONDS)


def on_a_free_port(start: Callable[[int], T]) -> T:
    """Start a server on a port that is free; on another one if somebody else is quicker."""
    for _ in range(PORT_TRIES - 1):
        try:
            return start(free_port())
        except ServerEnded as error:
            if "address already in use" not in str(error).casefold():
                raise
    return start(free_port())
