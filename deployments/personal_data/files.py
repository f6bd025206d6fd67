"""What lies on this machine's disk: results of tasks, answers that are not settled yet, and logs."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import portalocker
from concurrent_log_handler import ConcurrentRotatingFileHandler
from prefect.settings import get_current_settings

from prefect_campaigns.blocks.journal import keep_owner
from prefect_campaigns.deployments.running.logs import ALL, ERRORS
from prefect_campaigns.personal_data import Address

_RESULT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-")
"""How the name begins of the file of a step's result: with its flow run's id."""

_UNNAMED, _OUR_ERROR = re.compile(r"[0-9a-f]{32}"), '{\\"__exc_type__\\": \\"prefect_campaigns.'
"""What a task has failed with lies in a file without a name, as do results of other people's flows."""

_HEAD_BYTES = 8192
"""Within which it is seen whose it is."""

_STAMP = re.compile(r'(?:\{"time": ")?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)')
"""How a line of a log begins; one that does not belongs to the line before it."""


LOCK_SECONDS = 10.0
"""How long is waited for whoever writes to a log."""


def remove_results(problems: list[str], *, before: datetime) -> int:
    """Remove the results that were written before then; return how many. What cannot be removed is a problem."""
    return _remove(lambda path: _written_at(path) < before and _is_ours(path), problems)


def remove_results_mentioning(address: Address, problems: list[str]) -> int:
    """Remove the results that mention somebody; return how many. What cannot be removed is a problem.

    What a run goes on with, its record in the books has.
    """
    return _remove(
        lambda path: _is_ours(path) and any(address.is_in(_text_of(file)) for file in _files_in(path)), problems
    )


def _remove(goes: Callable[[Path], bool], problems: list[str]) -> int:
    """Remove what goes of the files, or folders of files, in which Prefect keeps results of tasks on this machine."""
    number = 0
    for path in _entries_of(get_current_settings().results.local_storage_path):
        try:
            if goes(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                number += 1
        except FileNotFoundError:
            # Another process has removed the same.
            continue
        except OSError as error:
            problems.append(f"{path} cannot be removed: {error.strerror}")
    return number


def _entries_of(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return [Path(entry.path) for entry in os.scandir(folder)]
    return []


def _is_ours(path: Path) -> bool:
    """Whether it is a result of ours: others keep theirs in the same folder."""
    if _RESULT.match(path.name):
        return True
    return _UNNAMED.fullmatch(path.name) is not None and path.is_file() and _OUR_ERROR in _text_of(path, _HEAD_BYTES)


def _files_in(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file())
    else:
        yield path


def _written_at(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _text_of(path: Path, limit: int = -1) -> str:
    with path.open("rb") as file:
        return file.read(limit).decode("utf-8", errors="replace")


def remove_log_lines(folder: Path, problems: list[str], *, before: datetime) -> int:
    """Remove the lines of the logs that were written before then; return how many."""
    limit = f"{before.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{before.microsecond // 1000:03d}Z"
    return _rewrite_all(folder, lambda stamp, entry: stamp < limit, problems)


def remove_log_lines_mentioning(folder: Path, address: Address, problems: list[str]) -> int:
    """Remove the lines of the logs that mention somebody; return how many."""
    return _rewrite_all(folder, lambda stamp, entry: address.is_in(entry), problems)


def _rewrite_all(folder: Path, goes: Callable[[str, str], bool], problems: list[str]) -> int:
    number = 0
    for path in _log_files(folder):
        try:
            number += _rewrite(path, goes)
        except OSError as error:
            problems.append(f"{path} cannot be written: {error.strerror or error}")
    return number


def _log_files(folder: Path) -> list[Path]:
    return sorted(path for name in (ALL, ERRORS) for path in folder.glob(f"{name}*") if path.is_file())


def _rewrite(path: Path, goes: Callable[[str, str], bool]) -> int:
    """Write a log without the entries that go, while no process can write to it or rotate it; return how many lines."""
    name = ALL if path.name.startswith(ALL) else ERRORS
    lock = Path(*ConcurrentRotatingFileHandler.baseLockFilename(str(path.with_name(name))))
    # Whoever logs takes the same lock, and looks afterwards whether the file is still the one that it has open.
    try:
        with portalocker.Lock(lock, mode="a", timeout=LOCK_SECONDS):
            return _rewrite_alone(path, goes)
    except portalocker.LockException as error:
        raise TimeoutError(f"{path} is written by somebody else for {LOCK_SECONDS:g} s") from error


def _rewrite_alone(path: Path, goes: Callable[[str, str], bool]) -> int:
    draft, removed = path.with_name(f".{path.name}.draft"), 0
    try:
        source = path.open(encoding="utf-8", errors="surrogateescape", newline="")
    except FileNotFoundError:
        # Rotated away meanwhile.
        return 0
    with source, draft.open("w", encoding="utf-8", errors="surrogateescape", newline="") as target:
        shutil.copymode(path, draft)
        keep_owner(path, draft)
        for entry in _entries(source):
            stamp = _STAMP.match(entry[0])
            if goes(stamp[1] if stamp else "", "".join(entry)):
                removed += len(entry)
            else:
                target.writelines(entry)
    if removed:
        draft.replace(path)
    else:
        draft.unlink()
    return removed


def _entries(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield each line with those that belong to it."""
    entry: list[str] = []
    for line in lines:
        if entry and _STAMP.match(line):
            yield entry
            entry = []
        entry.append(line)
    if entry:
        yield entry
