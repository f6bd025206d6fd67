"""How a command is told to end: Ctrl-C, a service manager's SIGTERM, a terminal whose window is closed.

The first of these signals counts. A later one ends the waiting for runs, where something waits for them, and changes
nothing else: an impatient second Ctrl-C would raise in the middle of whatever goes on, between starting a server and
noting that it has to be ended, or while a run writes down what became of its money. Each part of ending has a time
limit of its own.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_told = threading.Event()
_patient: list[Callable[[], None]] = []
"""What is called at a second signal."""


def interrupt_on_signals() -> None:
    """Let the first signal raise KeyboardInterrupt, as Ctrl-C does."""
    for number in SIGNALS:
        # Whoever starts a command with nohup wants SIGHUP ignored. A shell starts what it runs in the background deaf
        # to Ctrl-C too; there SIGINT is what another process sends on purpose.
        if number is signal.SIGINT or signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


@contextmanager
def hurried_by_signals(hurry: Callable[[], None]) -> Iterator[None]:
    """Let a second signal, and any later one, call this while the block runs."""
    _patient.append(hurry)
    try:
        yield
    finally:
        _patient.remove(hurry)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    if not _told.is_set():
        _told.set()
        raise KeyboardInterrupt


def cancel_on_signals() -> None:
    """From now on let the first signal cancel the current task.

    Raises:
        KeyboardInterrupt: a signal has come already, and what it interrupted, an import perhaps, made nothing of it.
    """
    if _told.is_set():
        raise KeyboardInterrupt
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def end() -> None:
        if _told.is_set():
            for hurry in _patient:
                hurry()
        elif task is not None:
            _told.set()
            task.cancel()

    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            loop.add_signal_handler(number, end)


def ignore_signals() -> None:
    """Let nothing interrupt the end of the process, now that everything is cleaned up."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
