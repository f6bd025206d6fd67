"""What is removed from this machine's disk, and what has to stay there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.deployments.personal_data import files
from prefect_campaigns.deployments.running.logs import writing_logs
from prefect_campaigns.personal_data import Address

BOB = Address("bob@example.com")
NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)
RUN = "0c8f9a3e-5b1d-4c43-9d63-0f6f5a0a6a11"
OUR_ERROR = (
    r'{"result":"{\"__exc_type__\": \"prefect_campaigns.errors.EngineRefused\", \"message\": \"bob@example.com\"}"}'
)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path / "storage"}):
        yield tmp_path / "storage"


def put(path: Path, text: str, *, at: datetime = NOW) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def test_of_results_those_go_that_are_ours_and_old(storage: Path) -> None:
    old = NOW - timedelta(seconds=1)
    put(storage / f"{RUN}-find", "{}", at=old)
    put(storage / f"{RUN}-a" / "b", "{}", at=old)
    os.utime(storage / f"{RUN}-a", (old.timestamp(), old.timestamp()))
    put(storage / ("0" * 32), OUR_ERROR, at=old)
    new = put(storage / f"{RUN}-use", "{}")
    others = [put(storage / name, '{"result": 1}', at=old) for name in ("f" * 32, "some-flow", f"{RUN}")]
    assert files.remove_results([], before=NOW) == 3
    assert sorted(storage.iterdir()) == sorted([new, *others])


def test_of_results_those_go_that_are_ours_and_mention_somebody(storage: Path) -> None:
    put(storage / f"{RUN}-find", '{"result":"[{\\"email\\": \\"Bob@Example.com\\"}]"}')
    put(storage / f"{RUN}-a" / "b", "bob%40example.com")
    put(storage / ("0" * 32), OUR_ERROR)
    kept = [
        put(storage / f"{RUN}-use", "jim-bob@example.com"),
        put(storage / ("f" * 32), "bob@example.com, of another flow"),
    ]
    assert files.remove_results_mentioning(BOB, []) == 3
    assert sorted(storage.iterdir()) == sorted(kept)


@pytest.mark.usefixtures("storage")
def test_where_nothing_was_ever_kept_there_is_nothing_to_remove(tmp_path: Path) -> None:
    assert files.remove_results([], before=NOW) == files.remove_results_mentioning(BOB, []) == 0
    assert files.remove_log_lines(tmp_path / "logs", [], before=NOW) == 0


TEXT = """\
2026-05-13T11:59:59.999Z error prefect: old, and
    what goes on beneath it
2026-05-13T12:00:00.000Z info  [campaign a, step find] said to bob@example.com
    and beneath it
2026-05-13T12:00:00.001Z info  prefect: new, and
    bob@example.com beneath it
2026-05-13T12:00:00.002Z info  prefect: new
"""
JSON = """\
{"time": "2026-05-13T11:59:59.999Z", "message": "old"}
{"time": "2026-05-13T12:00:00.000Z", "message": "to bob@example.com"}
{"time": "2026-05-13T12:00:00.001Z", "message": "new"}
"""


@pytest.mark.parametrize("name", ["orchestrator.log", "orchestrator.log.1", "error.log", "error.log.5"])
def test_of_a_log_the_old_lines_go_with_what_is_beneath_them(tmp_path: Path, name: str) -> None:
    log = put(tmp_path / name, TEXT)
    assert files.remove_log_lines(tmp_path, [], before=NOW) == 2
    assert log.read_text() == TEXT[TEXT.index("2026-05-13T12:00:00.000Z") :]
    assert files.remove_log_lines(tmp_path, [], before=NOW) == 0
    assert files.remove_log_lines(tmp_path, [], before=NOW + timedelta(hours=1)) == 5
    assert log.read_text() == ""


def test_of_a_log_the_lines_go_that_mention_somebody(tmp_path: Path) -> None:
    text, json = put(tmp_path / "orchestrator.log", TEXT), put(tmp_path / "error.log", JSON)
    other = put(tmp_path / "another.log", TEXT)
    mode = text.stat().st_mode
    assert files.remove_log_lines_mentioning(tmp_path, BOB, []) == 5
    lines = TEXT.splitlines(keepends=True)
    assert text.read_text() == "".join([*lines[:2], lines[6]])
    assert json.read_text() == "".join(line for line in JSON.splitlines(keepends=True) if "bob" not in line)
    assert other.read_text() == TEXT
    assert text.stat().st_mode == mode


def test_what_is_logged_meanwhile_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNS_LOGS", str(tmp_path))
    ended = Event()

    def rewrite() -> None:
        while not ended.is_set():
            files.remove_log_lines_mentioning(tmp_path, BOB, [])

    rewriting = Thread(target=rewrite)
    with writing_logs(load_settings(), console=False):
        rewriting.start()
        for number in range(500):
            logging.getLogger("prefect").warning("line %d of alma@example.com", number)
            logging.getLogger("prefect").warning("line %d of bob@example.com", number)
    ended.set()
    rewriting.join()
    files.remove_log_lines_mentioning(tmp_path, BOB, [])
    text = (tmp_path / "orchestrator.log").read_text()
    assert "bob@example.com" not in text
    assert [line.rpartition("line ")[2] for line in text.splitlines()] == [
        f"{n} of alma@example.com" for n in range(500)
    ]


def test_what_cannot_be_removed_is_said_and_the_rest_goes(storage: Path, tmp_path: Path) -> None:
    put(storage / f"{RUN}-find", "bob@example.com")
    put(tmp_path / "logs" / "orchestrator.log", TEXT)
    (tmp_path / "logs" / ".orchestrator.log.draft").mkdir()
    (storage / ("0" * 32)).mkdir()
    problems: list[str] = []
    assert files.remove_results_mentioning(BOB, problems) == 1
    assert problems == []
    assert files.remove_log_lines_mentioning(tmp_path / "logs", BOB, problems) == 0
    (problem,) = problems
    assert problem.startswith(f"{tmp_path / 'logs' / 'orchestrator.log'} cannot be written")
