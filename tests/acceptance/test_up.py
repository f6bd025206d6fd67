"""``campaigns up``: one command that starts everything, and one Ctrl-C that ends it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from pathlib import Path

import httpx
import pytest
from campaign_files import ANALYZE, PROSPECT, campaign_json
from documentation import blocks
from driving import until
from prefect_api import Api
from processes import CAMPAIGNS, PREFECT, LongRunning, run_campaigns, user_environment
from real_stack import Stack

from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.running.server import free_port, port_is_free

pytestmark = pytest.mark.timeout(400)

INTERRUPTED = 130


def assert_nothing_is_left(process: LongRunning, port: int) -> None:
    assert process.left_behind() == {}
    assert port_is_free(port)
    assert "Traceback" not in process.output


async def test_one_command_starts_everything_as_it_is_shown_and_one_ctrl_c_ends_it(start, write, engines) -> None:
    shown = next(one for one in blocks("console") if one.startswith("$ campaigns up "))
    write("campaigns/first.json", re.sub(r"http://localhost:\d+", engines.url, blocks("json", "README.md")[0]))
    command, *lines = shown.splitlines()
    port, api_port = free_port(), free_port()
    # With the address that other terminals are given, too.
    named = f"http://localhost:{port}/api"
    ports = ("--port", str(port), "--api-port", str(api_port))
    up = start(CAMPAIGNS, *command.split()[2:], *ports, PREFECT_API_URL=named)
    await up.printed("Campaign worker is waiting for runs.")
    # Where commands look by themselves nothing has to be set, and nothing is said of it.
    server, *rest = [line.replace("4200", str(port)).replace("3020", str(api_port)) for line in lines]
    elsewhere = f"  In other terminals: export PREFECT_API_URL=http://127.0.0.1:{port}/api"
    assert up.output.splitlines() == [server, elsewhere, *rest]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api_port}/api", timeout=30) as http:
        assert [one["slug"] for one in (await http.get("/campaigns")).json()["campaigns"]] == ["my-first-campaign"]
        assert (await http.get("/health")).json()["status"] == "healthy"

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


async def test_a_second_ctrl_c_waits_for_no_run_and_the_next_start_goes_on_with_it(start, write, engines) -> None:
    write("campaigns/one.json", campaign_json("Goes On", engines.url, only=2))
    engines.hang_next(ANALYZE)
    port = free_port()
    arguments = (CAMPAIGNS, "up", "--port", str(port), "--api-port", str(free_port()))
    up = start(*arguments, CAMPAIGNS_GRACE_SECONDS="300")
    await up.printed("Campaign worker is waiting for runs.")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api", timeout=30) as http:
        deployment_id = await Api(http).deployment_id("goes-on")
        await Api(http).post(f"/deployments/{deployment_id}/create_flow_run", {})

    async def is_under_way() -> bool:
        return len(engines.requests_to(ANALYZE)) == 1

    await until(is_under_way, "the request that is never answered")
    up.signal()
    await up.printed("Waiting 300 seconds at the most for 1 run to end; what is left is handed back")
    up.signal()
    assert await up.ended(seconds=60) == INTERRUPTED
    assert_nothing_is_left(up, port)

    again = start(*arguments)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api", timeout=30) as http:
        await again.printed("Campaign worker is waiting for runs.")
        run = await Api(http).first_that_ended(deployment_id, seconds=90)
    assert (run["state_name"], run["run_count"]) == ("Completed", 2)
    assert len(engines.requests_to(PROSPECT)) == 1, "what had ended is not done again"
    again.signal()
    assert await again.ended(seconds=60) == INTERRUPTED


async def test_off_loopback_the_api_has_a_password_and_everything_of_ours_knows_it(
    start, write, engines, tmp_path
) -> None:
    write("campaigns/one.json", campaign_json("Seen From Elsewhere", engines.url))
    port = free_port()
    up = start(CAMPAIGNS, "up", "--port", str(port), "--host", "0.0.0.0")
    await up.printed("Campaign worker is waiting for runs.")
    path = tmp_path / "prefect" / "campaigns-api-password"
    password = path.read_text().strip()
    assert f"Other machines may reach its API, which wants a password: it lies in {path}\n" in up.output

    url = f"http://127.0.0.1:{port}/api"
    async with httpx.AsyncClient(base_url=url, timeout=30, auth=tuple(password.split(":"))) as http:
        assert (await http.post("/flows/filter", json={}, auth=("campaigns", "guessed"))).status_code == 401
        assert (await http.post("/flows/filter", json={}, auth=None)).status_code == 401
        assert (await http.post("/flows/filter", json={})).status_code == 200
        # The pages ask for it, and find the API wherever they were opened.
        of_pages = (await http.get(f"http://127.0.0.1:{port}/ui-settings")).json()
        assert (of_pages["auth"], of_pages["api_url"]) == ("BASIC", "/api")
        api = Api(http)
        deployment_id = await api.deployment_id("seen-from-elsewhere")
        await api.post(f"/deployments/{deployment_id}/create_flow_run", {})
        run = await api.first_that_ended(deployment_id, seconds=90)

        async def logged() -> bool:
            return bool((await http.post("/logs/filter", json={})).json())

        await until(logged, "what the run logged, in the Prefect UI")
    assert run["state_name"] == "Completed", up.output
    # The worker heard of the run by the server's events.
    assert "events are not there" not in up.output
    variables = {"PREFECT_API_URL": url, "PREFECT_HOME": str(tmp_path / "prefect")}
    known, unknown = await asyncio.gather(
        run_campaigns(
            "list", "--json", env=user_environment(**variables, PREFECT_API_AUTH_STRING=password), cwd=tmp_path
        ),
        run_campaigns("list", "--json", env=user_environment(**variables), cwd=tmp_path),
    )
    assert known.code == 0 and "seen-from-elsewhere" in known.out, known.text
    assert unknown.code == 1 and "developer.mozilla.org" not in unknown.text
    assert "wants a password, or another one: set PREFECT_API_AUTH_STRING" in unknown.text
    up.signal()
    assert await up.ended(seconds=60) == INTERRUPTED
    assert_nothing_is_left(up, port)
    secret = password.partition(":")[2]
    assert secret not in up.output
    assert not [log for log in tmp_path.rglob("*.log") if secret in log.read_text()]


async def test_what_cannot_be_started_is_told_and_leaves_nothing(start, write) -> None:
    write("mine/one.json", campaign_json("Nowhere To Listen", "http://127.0.0.1:9"))
    write("broken/one.json", json.dumps({"name": "Broken"}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        nowhere = start(CAMPAIGNS, "up", "mine", "--port", str(port))
        broken = start(CAMPAIGNS, "up", "broken", "--port", str(free_port()))
        other = start(CAMPAIGNS, "up", "--port", "4317", PREFECT_API_URL=f"http://127.0.0.1:{port}/api")
        silent = start(CAMPAIGNS, "up", PREFECT_API_URL=f"http://127.0.0.2:{port}/api")
        wrong = start(CAMPAIGNS, "up", LOG_LEVEL="wran")
        # With a server that it would ask, or Prefect starts one for the moment.
        options = ("--pool", WORK_POOL, "--type", "campaign")
        named = f"http://127.0.0.2:{port}/api"
        worker = start(PREFECT, "worker", "start", *options, LOG_LEVEL="wran", PREFECT_API_URL=named)
        api_taken = start(CAMPAIGNS, "up", "--port", str(free_port()), "--api-port", str(port))
        ups = (nowhere, broken, other, silent, wrong, worker, api_taken)
        assert [await up.ended() for up in ups] == [1] * len(ups)
    assert nowhere.output == f"✗ port {port} is taken, and the Prefect server wants it; choose another with --port\n"
    assert broken.output.startswith("✗ broken/one.json:1:1: ")
    assert other.output == (
        f"✗ PREFECT_API_URL names http://127.0.0.1:{port}/api, and --port 4317 asks for another server; unset one of"
        " them\n"
    )
    assert silent.output.startswith(f"✗ no Prefect API answers at http://127.0.0.2:{port}/api: ")
    level = "LOG_LEVEL is 'wran' in the environment; allowed are error, warn, info, debug; nearest is warn"
    assert wrong.output == f"✗ {level}\n"
    assert worker.output.rstrip().endswith(level) and "Traceback" not in worker.output
    # Before a server was started.
    assert api_taken.output.startswith(f"✗ port {port} is taken, and the REST API wants it; choose another with ")
    assert [up.left_behind() for up in ups] == [{}] * len(ups)


async def test_with_json_logs_stderr_is_json_to_its_end_and_what_is_for_people_is_on_stdout(
    start, stack: Stack, tmp_path: Path
) -> None:
    port = free_port()
    serve = f"exec {CAMPAIGNS} api --port {port} 2> "
    api = start("bash", "-c", f"{serve} served.txt", **{**stack.environment, "LOG_FORMAT": "json"})
    await api.printed("Ctrl-C ends it.")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api", timeout=30) as http:
        assert (await http.put("/campaigns/nobody-of-that-name/pause")).status_code == 404
    second = start("bash", "-c", f"{serve} refused.txt", **{**stack.environment, "LOG_FORMAT": "json"})
    assert await second.ended() == 1
    api.signal()
    assert await api.ended() == INTERRUPTED
    for output, name, level, said in (
        (api.output, "served.txt", "info", "PUT '/api/campaigns/nobody-of-that-name/pause' by local: refused with 404"),
        (second.output, "refused.txt", "error", f"port {port} is taken, and the REST API wants it"),
    ):
        lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        assert [line["level"] for line in lines if said in line["message"]] == [level], lines
        assert said not in output
    assert api.output.startswith("✓ REST API at ") and second.output == ""
