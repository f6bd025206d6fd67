"""The process of the embedded server: ``prefect server start``, its garbage collected on a thread of its own.

On SQLite, Prefect's server stands still for sixty seconds now and then where Python collects garbage as usual, in
whatever thread happens to allocate. A statement that failed with "database is locked" leaves its cursor in a cycle
with the exception. Freeing the cursor takes the mutex of its SQLite connection. Meanwhile another statement on that
connection may be waiting for the database's lock, holding the mutex, and whoever has the lock waits for the event
loop, in whose thread the garbage is being collected: nobody moves until SQLite's busy timeout has passed.
"""

from __future__ import annotations

import gc
import runpy
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

COLLECT_SECONDS = 0.1
FULL_SECONDS = 60.0
"""At most how often everything is looked through, which takes some tenths of a second."""


@contextmanager
def collecting_aside() -> Iterator[None]:
    """Collect cyclic garbage on a thread of its own while the block runs, about as often as Python would."""
    ended = threading.Event()
    thread = threading.Thread(target=_collect, args=(ended,), name="garbage-collector", daemon=True)
    gc.disable()
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        gc.enable()


def _collect(ended: threading.Event) -> None:
    waited = 0.0
    while not ended.wait(COLLECT_SECONDS):
        waited += COLLECT_SECONDS
        due = [count > threshold for count, threshold in zip(gc.get_count(), gc.get_threshold(), strict=True)]
        if due[2] and waited >= FULL_SECONDS:
            waited = 0.0
            gc.collect(2)
        elif due[1]:
            gc.collect(1)
        elif due[0]:
            gc.collect(0)


def main() -> None:
    """Be ``prefect server start``, with the options that this process was given."""
    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    with collecting_aside():
        runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
