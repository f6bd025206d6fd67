"""Where the long-running processes log to: the console (stderr), ``orchestrator.log`` (all) and ``error.log`` (errors).

Whoever logs only puts the record into a queue. A thread writes it, so that no disk and no terminal holds up the event
loop of the runs. Several processes may write the same folder: each line is written under a lock, and so are the files
rotated.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from concurrent_log_handler import ConcurrentRotatingFileHandler
from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console
from rich.text import Text

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.settings_checks import LogFormat, LogLevel
from prefect_campaigns.deployments.running.log_lines import (
    Line,
    as_json,
    as_text,
    for_people,
    level_of,
    line_of,
    printable,
)
from prefect_campaigns.deployments.running.webhook_logs import keep_webhooks_out_of_logs
from prefect_campaigns.errors import CampaignsError

ALL, ERRORS = "orchestrator.log", "error.log"

MAX_BYTES = 10_000_000
"""A file that has become so large becomes ``….log.1``, and a new one begins."""

KEPT = 5
"""How many old files there are of each."""

LEVELS: dict[LogLevel, int] = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}

TALKATIVE = ("httpx", "httpcore", "h11", "h2", "hpack", "asyncio", "uvicorn", "websockets", "prefect.events")
"""Below a warning these repeat URLs with their queries, headers, and each event: nothing of that is ever logged."""

_STYLES = {"error": "bold red", "warn": "yellow", "info": "cyan", "debug": "dim"}

_logger = logging.getLogger("prefect_campaigns.logs")

_writing = False


@contextmanager
def writing_logs(settings: Settings, *, console: bool = True) -> Iterator[None]:
    """Log to the console and into the folder of the settings while the block runs; within such a block, do nothing.

    A folder that cannot be written is told as a warning, and nothing else.
    """
    global _writing
    if _writing:
        yield
        return
    _writing = True
    keep_webhooks_out_of_logs()
    try:
        with ExitStack() as stack:
            level = LEVELS[settings.log_level]
            targets: list[logging.Handler] = [_ConsoleHandler(settings)] if console else []
            trouble = _add_files(targets, settings)
            stack.enter_context(_through_a_queue(targets, level))
            if trouble is not None:
                _logger.warning("Nothing is logged into %s: %s", settings.campaigns_logs, trouble)
            with _ending_in_json() if console and settings.log_format == "json" else nullcontext():
                yield
    finally:
        _writing = False


@contextmanager
def _ending_in_json() -> Iterator[None]:
    """Log why the block ends, which else the command says: whoever reads JSON from stderr reads that, too."""
    try:
        yield
    except CampaignsError as error:
        _logger.error("%s", error)
        error.is_logged = True
        raise


def _add_files(targets: list[logging.Handler], settings: Settings) -> str | None:
    """Add the handlers of both files; return why they cannot be written, if they cannot."""
    folder = settings.campaigns_logs
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (ALL, ERRORS):
            with (folder / name).open("ab"):
                pass
        everything, errors = (_FileHandler(folder / name, settings) for name in (ALL, ERRORS))
    except OSError as error:
        return error.strerror or str(error)
    errors.setLevel(logging.ERROR)
    targets += [everything, errors]
    return None


@contextmanager
def _through_a_queue(targets: list[logging.Handler], level: int) -> Iterator[None]:
    """Give what is logged to the handlers, in a thread of their own, instead of to Prefect's console."""
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    entrance = _Entrance(waiting)
    entrance.setLevel(level)
    listener = logging.handlers.QueueListener(waiting, *targets, respect_handler_level=True)
    listener.start()
    root = logging.getLogger()
    try:
        with _without_prefects_console(), _at_least_at(level, "prefect", "prefect_campaigns"):
            root.addHandler(entrance)
            try:
                yield
            finally:
                root.removeHandler(entrance)
    finally:
        listener.stop()
        for target in targets:
            target.close()


@contextmanager
def _without_prefects_console() -> Iterator[None]:
    """Take Prefect's console handlers away, and let those that had one of their own log as all others do."""
    named = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    taken = []
    for logger in (logging.getLogger(), *named):
        for handler in [one for one in logger.handlers if isinstance(one, PrefectConsoleHandler)]:
            taken.append((logger, handler, logger.propagate))
            logger.removeHandler(handler)
            logger.propagate = True
    try:
        yield
    finally:
        for logger, handler, propagated in reversed(taken):
            logger.addHandler(handler)
            logger.propagate = propagated


@contextmanager
def _at_least_at(level: int, *names: str) -> Iterator[None]:
    """Let these loggers say what the level asks for; what they say besides, the Prefect UI shows."""
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(min(level, logging.getLogger(name).getEffectiveLevel()))
    try:
        yield
    finally:
        for name, old in before.items():
            logging.getLogger(name).setLevel(old)


class _Entrance(logging.handlers.QueueHandler):
    """Makes a line of each record where it is logged, and puts it into the queue."""

    def filter(self, record: logging.LogRecord) -> bool:
        is_talk = any(record.name == name or record.name.startswith(f"{name}.") for name in TALKATIVE)
        return not (is_talk and record.levelno < logging.WARNING) and bool(super().filter(record))

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        ready = logging.makeLogRecord({"levelno": level_of(record), "name": record.name})
        ready.line = line_of(record)
        return ready


class _Rendering(logging.Handler):
    """What console and files have in common: they are given lines, and write them as the settings say."""

    log_format: LogFormat
    is_for_debugging: bool

    def format(self, record: logging.LogRecord) -> str:
        line: Line = record.line  # type: ignore[attr-defined]
        # Of our own errors the message says it all.
        with_traceback = self.is_for_debugging or not line.is_ours
        return (as_json if self.log_format == "json" else as_text)(line, with_traceback=with_traceback)


class _FileHandler(_Rendering, ConcurrentRotatingFileHandler):
    def __init__(self, path: Path, settings: Settings) -> None:
        super().__init__(path, maxBytes=MAX_BYTES, backupCount=KEPT, encoding="utf-8", unicode_error_policy="replace")
        self.log_format = settings.log_format
        self.is_for_debugging = settings.log_level == "debug"
        self._told: str | None = None

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once, at the console, why the file is not written, instead of a traceback for each line."""
        problem = str(sys.exc_info()[1])
        if problem != self._told:
            print(f"{self.baseFilename} is not written: {problem}", file=sys.stderr)
        self._told = problem


class _ConsoleHandler(_Rendering):
    """Writes lines for people: the local time, in colours at a terminal, and tracebacks when debugging only."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.log_format = settings.log_format
        self.is_for_debugging = settings.log_level == "debug"
        self._console = Console(stderr=True, highlight=False)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self.log_format == "json":
                print(self.format(record), file=sys.stderr, flush=True)
            elif (text := self._for_people(record.line)) is not None:  # type: ignore[attr-defined]
                self._console.print(text, soft_wrap=True)
        except Exception:
            # Of any kind: it would end the thread that writes the files, too.
            self.handleError(record)

    def _for_people(self, line: Line) -> Text | None:
        message = line.message if self.is_for_debugging else for_people(line)
        if message is None:
            return None
        style = _STYLES[line.level]
        text = Text.assemble((f"{line.at.astimezone():%H:%M:%S} ", "dim"), (f"{line.level:<5} ", style))
        subject = line.subject
        if subject.campaign or subject.run:
            text.append(printable(" ".join(filter(None, (subject.campaign, subject.run)))), style="bold")
            text.append(f" {printable(subject.step)}" if subject.step else "", style="magenta")
            text.append(": ")
        text.append(printable(message))
        if self.is_for_debugging and line.traceback:
            text.append(f"\n    {printable(line.traceback)}", style="dim")
        return text
