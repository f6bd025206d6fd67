"""Where the embedded server's garbage is collected."""

from __future__ import annotations

import gc
import threading
import time

from prefect_campaigns.deployments.running.server_process import collecting_aside


class Cycle:
    def __init__(self, freed_in: list[str]) -> None:
        self._itself = self
        self._freed_in = freed_in

    def __del__(self) -> None:
        self._freed_in.append(threading.current_thread().name)


def test_garbage_is_freed_while_others_work_and_never_in_their_threads() -> None:
    freed_in: list[str] = []
    with collecting_aside():
        deadline = time.monotonic() + 10
        while not freed_in and time.monotonic() < deadline:
            for _ in range(1000):
                Cycle(freed_in)
        assert set(freed_in) == {"garbage-collector"}
    assert gc.isenabled()
