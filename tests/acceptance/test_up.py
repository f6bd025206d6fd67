"""``campaigns up``: one command that starts everything, and one Ctrl-C that ends it."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import httpx
import pytest
from campaign_files import campaign_json
from driving import until
from processes import CAMPAIGNS, LongRunning

from prefect_campaigns.deployments.server import free_port, port_is_free

pytestmark = pytest.mark.timeout(400)

INTERRUPTED = 130


async def assert_nothing_is_left(process: LongRunning, port: int) -> None:
    assert process.left_behind() == {}
    assert port_is_free(port)
    assert "Traceback" not in process.output


async def test_one_command_starts_everything_and_one_ctrl_c_ends_it(start, write, engines) -> None:
    write("mine/one.json", campaign_json("Upped", engines.url))
    port = free_port()
    up = start(CAMPAIGNS, "up", "mine", "--port", str(port))
    await up.printed("Campaign worker is waiting for runs. Ctrl-C ends everything.")
    assert f"✓ Prefect server at http://127.0.0.1:{port}\n" in up.output
    assert "created  campaign/upped  by hand" in up.output

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api", timeout=30) as api:
        deployment = (await api.get("/deployments/name/campaign/upped")).json()
        run = (await api.post(f"/deployments/{deployment['id']}/create_flow_run", json={})).json()

        async def ended() -> str | None:
            state = (await api.get(f"/flow_runs/{run['id']}")).json()["state"]
            return state["name"] if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

        assert await until(ended, "the end of the run", seconds=90) == "Completed"
    assert len(engines.mails) == 5

    assert len(up.left_behind()) == 2, "the command with its worker, and the server"
    up.signal()
    assert await up.ended(seconds=60) == INTERRUPTED
    await assert_nothing_is_left(up, port)


@pytest.mark.parametrize(
    "number",
    [
        # Ctrl-C.
        signal.SIGINT,
        # docker stop, systemctl stop, kill.
        signal.SIGTERM,
        # The terminal window is closed.
        signal.SIGHUP,
    ],
)
async def test_it_can_be_ended_while_it_starts(start, write, tmp_path: Path, number: signal.Signals) -> None:
    write("mine/one.json", campaign_json("Never Upped", "http://127.0.0.1:9"))
    port = free_port()
    up = start(CAMPAIGNS, "up", "mine", "--port", str(port))

    async def server_is_starting() -> bool:
        return len(up.left_behind()) == 2

    await until(server_is_starting, "a process for the server", seconds=90)
    up.signal(number)
    assert await up.ended(seconds=60) == INTERRUPTED
    await assert_nothing_is_left(up, port)


async def test_an_impatient_second_ctrl_c_leaves_no_server_behind(start) -> None:
    port = free_port()
    up = start(CAMPAIGNS, "up", "--port", str(port))

    async def server_is_starting() -> bool:
        return len(up.left_behind()) == 2

    await until(server_is_starting, "a process for the server", seconds=90)
    up.signal()
    up.signal()
    assert await up.ended(seconds=60) == INTERRUPTED

    async def all_gone() -> bool:
        return not up.left_behind()

    await until(all_gone, "the server's end")
    await assert_nothing_is_left(up, port)


async def test_a_port_that_is_taken_is_named_and_nothing_is_started(start, write) -> None:
    write("mine/one.json", campaign_json("Nowhere To Listen", "http://127.0.0.1:9"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        up = start(CAMPAIGNS, "up", "mine", "--port", str(port))
        assert await up.ended() == 1
    assert up.output == (f"✗ port {port} is taken, and the Prefect server wants it; choose another with --port\n")
    assert up.left_behind() == {}


async def test_a_broken_file_is_told_before_anything_is_started(start, write) -> None:
    write("mine/one.json", json.dumps({"name": "Broken"}))
    up = start(CAMPAIGNS, "up", "mine", "--port", str(free_port()))
    assert await up.ended() == 1
    assert up.output.startswith("✗ mine/one.json:1:1: ")
    assert up.left_behind() == {}
