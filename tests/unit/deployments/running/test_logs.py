"""What the long-running processes log, where it goes, and what it never shows."""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from forked import forkserver, take_over
from prefect.blocks.notifications import SlackWebhook
from prefect.logging import get_logger
from prefect.logging.handlers import PrefectConsoleHandler
from starlette.applications import Starlette

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.running.log_lines import about
from prefect_campaigns.deployments.running.logs import ALL, ERRORS, MAX_BYTES, writing_logs
from prefect_campaigns.errors import EngineRefused, ServerError

logger = get_logger("campaigns.test")

Write = Callable[..., dict[str, list[str]]]


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Write:
    """Log what a function logs, and return the lines of each file."""

    def write_it(log: Callable[[], Any], **variables: str) -> dict[str, list[str]]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with writing_logs(load_settings()):
            log()
        folder = tmp_path / "logs"
        return {name: (folder / name).read_text().splitlines() for name in (ALL, ERRORS)}

    return write_it


def both() -> None:
    with about(campaign="a-campaign", run="azure-fox", run_id="c0ffee"):
        logger.info("it goes well")
        logger.error("it does not", extra={"task_name": "prospecting"})


def test_all_goes_into_one_file_and_errors_into_another_besides(write: Write) -> None:
    files = write(both)
    info, error = files[ALL]
    assert info.endswith("Z info  [campaign a-campaign, run azure-fox] it goes well")
    assert error.endswith("Z error [campaign a-campaign, run azure-fox, step prospecting] it does not")
    assert files[ERRORS] == [error]


def test_json_has_an_object_on_each_line_with_all_that_is_known(write: Write) -> None:
    def log() -> None:
        both()
        logger.warning("two\nlines\u2028or three")

    first, second, third = (json.loads(line) for line in write(log, LOG_FORMAT="json")[ALL])
    time = second.pop("time")
    assert (time[10], time[-1], len(time)) == ("T", "Z", 24)
    assert second == {
        "level": "error",
        "logger": "prefect.campaigns.test",
        "campaign": "a-campaign",
        "run": "azure-fox",
        "runId": "c0ffee",
        "step": "prospecting",
        "message": "it does not",
    }
    assert "step" not in first
    assert set(third) == {"time", "level", "logger", "message"} and third["message"].startswith("two\nlines")


@pytest.mark.parametrize(("level", "expected"), [("error", 1), ("warn", 2), ("info", 3), ("debug", 4)])
def test_the_level_is_the_least_that_is_logged(level: str, expected: int, write: Write) -> None:
    def log() -> None:
        for one in (logger.debug, logger.info, logger.warning, logger.error):
            one("said")

    assert len(write(log, LOG_LEVEL=level)[ALL]) == expected


def fail(error: Exception) -> None:
    try:
        raise error
    except Exception:
        logger.exception("the step failed: %r", error)


def test_what_we_expect_to_go_wrong_needs_no_traceback_and_the_console_shows_none(
    write: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    def log() -> None:
        fail(EngineRefused("it answered 503"))
        fail(ZeroDivisionError("a bug"))

    files = write(log)
    ours, bug, *rest = files[ERRORS]
    assert ours.endswith("the step failed: EngineRefused: it answered 503")
    assert bug.endswith("the step failed: ZeroDivisionError: a bug")
    assert rest[0] == "    Traceback (most recent call last):"
    console = capfd.readouterr().err.splitlines()
    assert [line.partition(" error ")[2] for line in console] == [
        "the step failed: EngineRefused: it answered 503",
        "the step failed: ZeroDivisionError: a bug",
    ]
    assert "".join(write(log, LOG_LEVEL="debug")[ERRORS]).count("Traceback") == 3
    assert capfd.readouterr().err.count("Traceback") == 2


@pytest.mark.parametrize(("log_format", "is_logged"), [("json", True), ("text", False)])
def test_with_json_the_reason_of_the_end_is_a_line_too(
    log_format: str, is_logged: bool, write: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    def log() -> None:
        raise ServerError("the worker has ended\nby itself")

    with pytest.raises(ServerError) as ended:
        write(log, LOG_FORMAT=log_format)
    assert ended.value.is_logged == is_logged, "else the command says it"
    said = [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines()]
    assert said == (["the worker has ended\nby itself"] if is_logged else [])


async def test_no_level_shows_queries_headers_and_logins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOG_LEVEL", "debug")
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    async with serve(Starlette()) as url:
        with writing_logs(load_settings()):
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get(f"{url}/?key=swordfish", headers={"X-Api-Key": "swordfish"})
            logger.error("%s/api?key=swordfish and postgres://ada:swordfish@db.example.com/books", url)
            logger.error("https://hooks.slack.com/services/T0/B0/swordfish")
            SlackWebhook(url="https://chat.example.com/hooks/swordfish")
            fail(ValueError(f"for url '{url}/?key=swordfish'"))
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    text = (tmp_path / "logs" / ALL).read_text()
    assert "swordfish" not in text and "Unparseable URL…" in text
    assert f"{url}/api?… and …@db.example.com/books" in text and "for url" in text
    assert "HTTP Request" not in text and "send_request_headers" not in text


def test_what_an_engine_says_is_no_line_of_its_own_and_colours_nothing(
    write: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    files = write(lambda: logger.error("said: \x1b[31mred\n2026-01-01T00:00:00.000Z info  all is well"))
    assert files[ALL][0].endswith(r"said: \x1b[31mred")
    assert files[ALL][1] == "    2026-01-01T00:00:00.000Z info  all is well"
    assert "\x1b" not in capfd.readouterr().err


def test_a_folder_that_cannot_be_written_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAMPAIGNS_LOGS", "/dev/null/logs")
    with writing_logs(load_settings()):
        logger.info("it goes on")
    warning, on = capfd.readouterr().err.splitlines()
    assert warning.endswith("warn  Nothing is logged into /dev/null/logs: Not a directory")
    assert on.endswith("info  it goes on")


def test_a_file_that_has_become_large_makes_room_for_a_new_one(write: Write, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with (tmp_path / "logs" / ALL).open("wb") as large:
        large.truncate(MAX_BYTES)
    assert len(write(both)[ALL]) == 2
    assert (tmp_path / "logs" / f"{ALL}.1").stat().st_size == MAX_BYTES


def log_much(folder: str) -> None:
    """Run in a process of its own."""
    take_over({"CAMPAIGNS_LOGS": folder}, cwd=folder, out=f"{folder}/out", err=f"{folder}/err")
    with writing_logs(load_settings()):
        for number in range(100):
            logger.warning("%d %s", number, "x" * 5_000)


def test_several_processes_write_the_same_files(tmp_path: Path) -> None:
    processes = [forkserver().Process(target=log_much, args=(str(tmp_path),)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    lines = (tmp_path / ALL).read_text().splitlines()
    numbers = sorted(int(line.split()[-2]) for line in lines)
    assert numbers == sorted(list(range(100)) * 3)
    assert {line.split()[-1] for line in lines} == {"x" * 5_000}


def test_a_disk_that_stands_still_holds_nobody_up(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with (folder / ".__orchestrator.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with writing_logs(load_settings()):
            for _ in range(1_000):
                logger.info("said")
            # As long as the lock is held nothing can have been written: whoever logs did not wait for it.
            assert (folder / ALL).read_text() == ""
            fcntl.flock(lock, fcntl.LOCK_UN)
    assert len((folder / ALL).read_text().splitlines()) == 1_000


def test_each_line_is_written_once_and_afterwards_prefect_logs_as_before(
    write: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    def consoles() -> list[tuple[str, logging.Handler]]:
        loggers = [logging.getLogger(), *(logging.getLogger(name) for name in ("uvicorn", "fastapi"))]
        return [(one.name, h) for one in loggers for h in one.handlers if isinstance(h, PrefectConsoleHandler)]

    before = consoles()

    def log() -> None:
        # A worker within `up`: it finds that the logs are written already.
        with writing_logs(load_settings()):
            logger.warning("once")
            logging.getLogger("uvicorn.error").warning("twice")

    assert [line.split()[-1] for line in write(log)[ALL]] == ["once", "twice"]
    assert [line.split()[-1] for line in capfd.readouterr().err.splitlines()] == ["once", "twice"]
    assert consoles() == before
