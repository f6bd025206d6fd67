"""``campaigns up``: one command that starts everything, and one Ctrl-C that ends it."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import httpx
import pytest
import readme
from campaign_files import campaign_json
from driving import until
from prefect_api import Api
from processes import CAMPAIGNS, LongRunning

from prefect_campaigns.deployments.server import free_port, port_is_free

pytestmark = pytest.mark.timeout(400)

INTERRUPTED = 130


def assert_nothing_is_left(process: LongRunning, port: int) -> None:
    assert process.left_behind() == {}
    assert port_is_free(port)
    assert "Traceback" not in process.output


async def test_one_command_starts_everything_as_the_readme_shows_and_one_ctrl_c_ends_it(start, write, engines) -> None:
    (shown,) = readme.blocks("console")
    write("my-campaigns/first.json", re.sub(r"http://localhost:\d+", engines.url, readme.blocks("json")[0]))
    command, *lines = shown.splitlines()
    port = free_port()
    # With the address that other terminals are given, too.
    named = f"http://localhost:{port}/api"
    up = start(CAMPAIGNS, *command.split()[2:], "--port", str(port), PREFECT_API_URL=named)
    await up.printed("Campaign worker is waiting for runs.")
    # Rich fills the cells of a table.
    assert [line.rstrip() for line in up.output.splitlines()] == [line.replace("4200", str(port)) for line in lines]

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api", timeout=30) as http:
        api = Api(http)
        deployment_id = await api.deployment_id("my-first-campaign")
        await api.post(f"/deployments/{deployment_id}/create_flow_run", {})
        run = await api.first_that_ended(deployment_id, seconds=90)
    assert run["state_name"] == "Completed", up.output
    assert len(engines.mails) == 20

    assert len(up.left_behind()) == 2, "the command with its worker, and the server"
    up.signal()
    assert await up.ended(seconds=60) == INTERRUPTED
    assert_nothing_is_left(up, port)


async def test_it_can_be_ended_while_it_starts(start, tmp_path: Path) -> None:
    # Ctrl-C, and impatiently once more; docker stop or systemctl stop; the terminal window is closed.
    ways = [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP]]
    ports = [free_port() for _ in ways]
    ups = [start(CAMPAIGNS, "up", "--port", str(port), PREFECT_HOME=str(tmp_path / str(port))) for port in ports]
    for up, port, signals in zip(ups, ports, ways, strict=True):

        async def server_is_starting(up: LongRunning = up) -> bool:
            return any("server_process" in command for command in up.left_behind().values())

        await until(server_is_starting, "a process for the server", seconds=90)
        for number in signals:
            up.signal(number)
        assert await up.ended(seconds=60) == INTERRUPTED, signals
        assert_nothing_is_left(up, port)


async def test_what_cannot_be_started_is_told_and_leaves_nothing(start, write) -> None:
    write("mine/one.json", campaign_json("Nowhere To Listen", "http://127.0.0.1:9"))
    write("broken/one.json", json.dumps({"name": "Broken"}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        nowhere = start(CAMPAIGNS, "up", "mine", "--port", str(port))
        broken = start(CAMPAIGNS, "up", "broken", "--port", str(free_port()))
        other = start(CAMPAIGNS, "up", "--port", "4317", PREFECT_API_URL=f"http://127.0.0.1:{port}/api")
        silent = start(CAMPAIGNS, "up", PREFECT_API_URL=f"http://127.0.0.2:{port}/api")
        ups = (nowhere, broken, other, silent)
        assert [await up.ended() for up in ups] == [1, 1, 1, 1]
    assert nowhere.output == f"✗ port {port} is taken, and the Prefect server wants it; choose another with --port\n"
    assert broken.output.startswith("✗ broken/one.json:1:1: ")
    assert other.output == (
        f"✗ PREFECT_API_URL names http://127.0.0.1:{port}/api, and --port 4317 asks for another server; unset one of"
        " them\n"
    )
    assert silent.output.startswith(f"✗ no Prefect API answers at http://127.0.0.2:{port}/api: ")
    assert [up.left_behind() for up in ups] == [{}, {}, {}, {}]
