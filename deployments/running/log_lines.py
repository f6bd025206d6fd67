"""A log record as a line: what it is about, what it may show, and how it reads, as text or as JSON."""

from __future__ import annotations

import ast
import json
import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from prefect_campaigns.errors import CampaignsError
from prefect_campaigns.flows.budget import check_budget, reach_store
from prefect_campaigns.words import without_secrets

_NO_STEPS = (reach_store.name, check_budget.name)
"""The tasks of a campaign's run that are none of its steps."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a line is about, as far as that is known.

    Attributes:
        campaign: the campaign's key.
        run: the run's name.
        run_id: the id of its Prefect flow run.
        step: the step's name.
    """

    campaign: str | None = None
    run: str | None = None
    run_id: str | None = None
    step: str | None = None


_about: ContextVar[Subject] = ContextVar("logs_are_about", default=Subject())  # noqa: B039 - it is frozen


@contextmanager
def about(*, campaign: str | None = None, run: str | None = None, run_id: str | None = None) -> Iterator[None]:
    """Let whatever is logged in the block, and in the tasks it starts, be about this campaign and run."""
    token = _about.set(replace(_about.get(), campaign=campaign, run=run, run_id=run_id))
    try:
        yield
    finally:
        _about.reset(token)


def subject_of(record: logging.LogRecord) -> Subject:
    """Return what a record is about, by what was logged beside it and by ``about``.

    To be asked where the record was logged: elsewhere the context is another one.
    """
    around = _about.get()
    task = getattr(record, "task_name", None)
    return Subject(
        campaign=getattr(record, "campaign", None) or around.campaign,
        run=getattr(record, "flow_run_name", None) or around.run,
        run_id=getattr(record, "flow_run_id", None) or around.run_id,
        step=None if task in _NO_STEPS else task,
    )


def without_urls_secrets(text: str) -> str:
    """Return the text with the logins, queries and webhook paths of its URLs taken out."""
    return _URL.sub(lambda found: without_secrets(found[0]), text) if "://" in text else text


@dataclass(frozen=True, kw_only=True)
class Line:
    """A record on its way to where it is written; nothing of it depends any more on where it was logged.

    Attributes:
        traceback: of the exception that was logged with it, if there was one.
        is_ours: whether that exception is one of this package, whose message says all there is to say.
    """

    at: datetime
    level: str
    logger: str
    subject: Subject
    message: str
    traceback: str | None = None
    is_ours: bool = False


def line_of(record: logging.LogRecord) -> Line:
    """Make a line of a record; to be called where it was logged."""
    message, trace = record.getMessage(), None
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        trace = without_urls_secrets("".join(traceback.format_exception(error)).rstrip())
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        # Prefect shows exceptions as they are written in Python.
        message = message.replace(repr(error), said)
        if str(error) not in message:
            message = f"{message.rstrip(': ')}: {said}"
    return Line(
        at=datetime.fromtimestamp(record.created, UTC),
        level=level_name(level_of(record)),
        logger=record.name,
        subject=subject_of(record),
        message=without_urls_secrets(message),
        traceback=trace,
        is_ours=isinstance(error, CampaignsError),
    )


_NO_FAILURES = ("Suspended", "Skipped", "Paused")


def level_of(record: logging.LogRecord) -> int:
    """Return the record's level; Prefect takes each end that is not Completed for an error, also to wait for a yes."""
    finished = _FINISHED.search(record.getMessage())
    return logging.INFO if finished is not None and finished["state"] in _NO_FAILURES else record.levelno


def level_name(number: int) -> str:
    """Return the level as ``LOG_LEVEL`` calls it."""
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warn"
    return "info" if number >= logging.INFO else "debug"


def printable(text: str) -> str:
    """Return the text as a terminal and a log can take it; what goes on in a second line is indented.

    What an engine says can neither colour the terminal nor pass for a line of the log.
    """
    lines = (
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        for line in text.split("\n")
    )
    return "\n    ".join(line for line in lines if line)


_FINISHED = re.compile(r"Finished in state (?P<state>\w+)\((?P<message>.*)\)", re.DOTALL)


def for_people(line: Line) -> str | None:
    """Return what somebody who looks on wants to read; None for what Prefect says once more, and of its own affairs."""
    if line.logger == "prefect.flow_runs.worker" and line.level == "info":
        return None
    message = line.message.removeprefix(f"{line.subject.step}: ")
    if (finished := _FINISHED.fullmatch(message)) is None:
        return message
    if line.logger == "prefect.task_runs":
        # Of a step that failed its error has been told, and of one that did not what it cost.
        return None
    try:
        said = ast.literal_eval(finished["message"] or "''")
    except (SyntaxError, ValueError):
        return message
    return ": ".join(filter(None, (finished["state"], str(said))))


def as_text(line: Line, *, with_traceback: bool) -> str:
    """Return a line of a text file: ``2026-05-14T09:00:01.204Z info  [campaign NAME, run NAME, step NAME] message``."""
    about_it = ", ".join(
        f"{name} {value}"
        for name, value in (
            ("campaign", line.subject.campaign),
            ("run", line.subject.run),
            ("step", line.subject.step),
        )
        if value
    )
    where = f"[{about_it}] " if about_it else f"{line.logger}: "
    text = f"{_stamp(line.at)} {line.level:<5} {printable(where + line.message)}"
    return f"{text}\n    {printable(line.traceback)}" if with_traceback and line.traceback else text


def as_json(line: Line, *, with_traceback: bool) -> str:
    """Return a line of a JSON Lines file; what a line is not about has no key."""
    known: dict[str, Any] = {
        "time": _stamp(line.at),
        "level": line.level,
        "logger": line.logger,
        "campaign": line.subject.campaign,
        "run": line.subject.run,
        "runId": line.subject.run_id,
        "step": line.subject.step,
        "message": line.message,
        "exception": line.traceback if with_traceback else None,
    }
    # ASCII, since there are characters that some programs take for the end of a line.
    return json.dumps({name: value for name, value in known.items() if value is not None}, default=str)


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
