"""The REST API as its callers know it: the commands of the orchestrator before, keys, and what Prefect shows of it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from campaign_files import campaign, campaign_json
from driving import Driver, until
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from processes import CAMPAIGNS, run
from real_stack import Stack
from rest_api import NOWHERE, create, forwarding, served

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import Lease
from prefect_campaigns.deployments.applying.apply import apply
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.running.server import free_port, port_is_free

NIGHTLY = {"cron": "0 3 * * *", "timezone": "America/New_York"}
FULL, READ = "swordfish-full", "swordfish-read"

CURL_COMMANDS = r"""
curl -X POST http://localhost:3020/api/campaigns \
  -H "Content-Type: application/json" \
  -d @campaigns/weekly-restaurant.json

curl http://localhost:3020/api/campaigns

curl -X POST http://localhost:3020/api/campaigns/{campaign-id}/run

curl http://localhost:3020/api/campaigns/{campaign-id}/runs

curl -X PUT http://localhost:3020/api/campaigns/{campaign-id}/pause

curl -X PUT http://localhost:3020/api/campaigns/{campaign-id}/resume

curl -X DELETE http://localhost:3020/api/campaigns/{campaign-id}

curl http://localhost:3020/api/health

curl -X POST http://localhost:3020/api/test-email
"""
"""What callers of the orchestrator before were told to type, word for word."""

EXAMPLE = Path(__file__).parents[2] / "campaigns" / "weekly-restaurant.json"
KEYS_OF_A_ROW = {
    *("id", "name", "description", "schedule", "status"),
    *("lastRun", "nextRun", "totalRuns", "totalCost", "createdAt"),
}
KEYS_OF_A_RUN = {
    *("id", "startedAt", "completedAt", "status", "stepsCompleted", "stepsFailed", "totalCost", "triggerType"),
    *("errors", "results", "prospects_generated", "leads_analyzed", "emails_sent"),
}


class Shell:
    """Somebody at a terminal who types what the README said."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self._commands = iter(CURL_COMMANDS.strip().split("\n\n"))
        # Where curl looks for options that are not on its command line.
        (folder / ".curlrc").write_text('silent\nwrite-out = "\\n%{http_code}"\n')

    async def type_next(self, campaign_id: str = "") -> tuple[int, dict[str, Any]]:
        """Type the next command; return the status and the JSON that came."""
        command = next(self._commands).replace("{campaign-id}", campaign_id)
        command = command.replace(":3020/", f":{self._port}/")
        ended = await run(
            ["bash", "-c", command], env={"CURL_HOME": str(self._folder), "PATH": "/usr/bin:/bin"}, cwd=self._folder
        )
        assert ended.code == 0, ended.err
        body, _, status = ended.out.rpartition("\n")
        return int(status), json.loads(body)


async def test_every_curl_of_the_orchestrator_before_gets_its_answer(start, write, stack: Stack, engines) -> None:
    example = json.loads(re.sub(r"http://localhost:\d+", engines.url, EXAMPLE.read_text()))
    write("campaigns/weekly-restaurant.json", example)
    port = 3020 if port_is_free(3020) else free_port()
    env = {**stack.environment, "PORT": str(port)}
    api = start(CAMPAIGNS, "api", **env)
    await api.printed("Ctrl-C ends it.")
    assert f"REST API at http://127.0.0.1:{port}, described at http://127.0.0.1:{port}/docs" in api.output
    shell = Shell(Path(write("x", "")).parent, port)

    status, created = await shell.type_next()
    campaign = created["campaign"]
    assert (status, created["success"]) == (201, True), created
    assert (campaign["name"], campaign["status"], campaign["schedule"]) == (example["name"], "active", "0 9 * * MON")
    assert datetime.fromisoformat(campaign["nextRun"]) > datetime.now(UTC)

    status, listed = await shell.type_next()
    (row,) = [one for one in listed["campaigns"] if one["id"] == campaign["id"]]
    assert (status, listed["count"]) == (200, len(listed["campaigns"]))
    assert set(row) >= KEYS_OF_A_ROW and row["totalCost"] == 0 and row["lastRun"] is None

    status, started = await shell.type_next(campaign["id"])
    assert (status, started["message"], started["campaignId"]) == (200, "Campaign started", campaign["id"])
    async with httpx.AsyncClient(base_url=f"http://localhost:{port}/api") as http:

        async def ended() -> bool:
            runs = (await http.get(f"/campaigns/{campaign['id']}/runs")).json()["runs"]
            assert [one["id"] for one in runs] == [started["runId"]], "from the moment it has been asked for"
            return runs[0]["status"] != "running"

        await until(ended, "the end of the run")

    status, runs = await shell.type_next(campaign["id"])
    (one,) = runs["runs"]
    assert (status, runs["count"], set(one) >= KEYS_OF_A_RUN) == (200, 1, True)
    assert (one["status"], one["triggerType"], one["stepsCompleted"], one["errors"]) == ("completed", "manual", 4, [])
    assert one["results"]["prospecting"]["found"] == one["prospects_generated"] == 20
    assert float(engines.charged) == one["totalCost"] > 0

    assert await shell.type_next(campaign["id"]) == (200, _but(success=True, status="paused"))
    assert await shell.type_next(campaign["id"]) == (200, _but(success=True, status="active"))
    assert await shell.type_next(campaign["id"]) == (200, {"success": True, "message": "Campaign deleted"})
    status, health = await shell.type_next()
    assert (status, health["status"], health["service"]) == (200, "healthy", "pipeline-orchestrator")
    assert {"version", "activeCampaigns", "scheduledRuns", "uptime"} <= set(health)
    status, mailed = await shell.type_next()
    assert (status, mailed["success"]) == (200, True), mailed

    api.signal(signal.SIGINT)
    assert await api.ended(seconds=30) == 130
    assert api.left_behind() == {} and port_is_free(port)
    assert "Traceback" not in api.output


class _but:
    """Equal to whatever has these keys with these values, and others besides."""

    def __init__(self, **wanted: Any) -> None:
        self._wanted = wanted

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and self._wanted.items() <= other.items()

    def __repr__(self) -> str:
        return f"{self._wanted} and more"


@pytest.fixture
async def api(in_stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of the REST API of the stack, open on loopback."""
    async with served() as client:
        yield client


async def status_of(api: httpx.AsyncClient, campaign_id: str) -> str:
    return str((await api.get(f"/api/campaigns/{campaign_id}")).raise_for_status().json()["campaign"]["status"])


async def test_a_campaign_posted_here_is_one_of_prefects_and_a_pause_there_is_one_here(
    api: httpx.AsyncClient, client: PrefectClient, store: SqliteStore
) -> None:
    told = {"onFailure": {"email": "rest-api-only@example.com"}}
    campaign = await create(api, "Posted Here", schedule=NIGHTLY, notifications=told)
    deployment = await client.read_deployment_by_name("campaign/posted-here")
    assert (str(deployment.id), deployment.schedules[0].active) == (campaign["deploymentId"], True)
    assert [one.name for one in await client.read_automations() if "rest-api-only@" in one.name]

    # As the Prefect UI does it: the deployment's switch, and the schedule's.
    await client.pause_deployment(deployment.id)
    assert await status_of(api, campaign["id"]) == "paused"
    listed = (await api.get("/api/campaigns", params={"status": "paused"})).json()["campaigns"]
    assert campaign["id"] in [one["id"] for one in listed]
    refused = await api.post(f"/api/campaigns/{campaign['id']}/run")
    assert (refused.status_code, refused.json()["success"]) == (409, False)
    assert "paused in Prefect" in refused.json()["error"]
    resumed = await api.put(f"/api/campaigns/{campaign['id']}/resume")
    assert (resumed.status_code, resumed.json()["status"]) == (200, "active")
    assert not (await client.read_deployment(deployment.id)).paused

    await client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, active=False)
    assert await status_of(api, campaign["id"]) == "paused"
    assert (await api.put("/api/campaigns/posted-here/resume")).json()["status"] == "active"
    (schedule,) = (await client.read_deployment(deployment.id)).schedules
    assert schedule.active and await status_of(api, campaign["id"]) == "active"

    flow_run = await client.create_flow_run_from_deployment(deployment.id)
    assert (await api.delete(f"/api/campaigns/{campaign['id']}")).status_code == 200
    for gone in (client.read_deployment(deployment.id), client.read_flow_run(flow_run.id)):
        with pytest.raises(ObjectNotFound):
            await gone
    assert not [one.name for one in await client.read_automations() if "rest-api-only@" in one.name]
    for method, path in (("GET", ""), ("PUT", "/pause"), ("POST", "/run"), ("GET", "/runs"), ("DELETE", "")):
        missing = await api.request(method, f"/api/campaigns/{campaign['id']}{path}")
        assert (missing.status_code, missing.json()["error"]) == (404, "Campaign not found")
    done = [(one.action, one.actor) for one in await store.list_audit(campaign_key="posted-here")]
    assert done == [
        ("campaign.deleted", "local"),
        *[("run.cancelled", "local")] * sum(action == "run.cancelled" for action, _ in done),
        ("campaign.resumed", "local"),
        ("campaign.resumed", "local"),
        ("campaign.created", "local"),
    ]


async def test_a_changed_campaign_says_what_changed_and_a_persons_pause_stays(api: httpx.AsyncClient) -> None:
    campaign = await create(api, "Changed Here", budget={"daily": 5})
    path = f"/api/campaigns/{campaign['id']}"
    assert (await api.put(f"{path}/pause", json={"reason": "holidays", "by": "ada"})).json()["status"] == "paused"
    refused = await api.post(f"{path}/run")
    assert (refused.status_code, "holidays" in refused.json()["error"]) == (409, True)

    content = campaign_json("Changed Here", NOWHERE, budget={"daily": 4.000001})
    changed = (await api.put(path, json=content)).raise_for_status().json()
    assert (changed["changed"], changed["campaign"]["status"]) == (True, "paused")
    assert changed["changes"] == [{"pointer": "/budget/daily", "before": 5.00, "after": 4.000001}]
    again = (await api.put(path, json=content)).raise_for_status().json()
    assert (again["changed"], again["changes"], again["campaign"]["pause"]["reason"]) == (False, [], "holidays")
    config = (await api.get(path)).json()["campaign"]["config"]
    assert config["budget"]["daily"] == 4.000001
    # What was read can be written.
    assert (await api.put(path, json=config)).json()["changes"] == []

    missed = await api.delete("/api/campaigns/changed-her")
    assert (missed.status_code, missed.json()["error"]) == (404, "Campaign not found; did you mean changed-here?")
    twice = await api.post("/api/campaigns", json=content)
    assert (twice.status_code, "changed-here" in twice.json()["error"]) == (409, True)
    other = await api.put(path, json=campaign_json("Another Name", NOWHERE))
    assert (other.status_code, other.json()["complaints"][0]["pointer"]) == (400, "/name")
    await api.delete(path)


async def test_what_is_paused_or_resumed_twice_is_on_record_once(api: httpx.AsyncClient, store: SqliteStore) -> None:
    await create(api, "Put Twice")
    for route, status, said in (("pause", "paused", "was paused already"), ("resume", "active", "is not paused")):
        first, again = [await api.put(f"/api/campaigns/put-twice/{route}") for _ in range(2)]
        for answered in (first, again):
            assert (answered.status_code, answered.json()["status"]) == (200, status)
        assert said in again.json()["message"] and said not in first.json()["message"]
    done = [one.action for one in await store.list_audit(campaign_key="put-twice")]
    assert done == ["campaign.resumed", "campaign.paused", "campaign.created"]


async def test_of_two_that_create_the_same_campaign_at_once_one_does(api: httpx.AsyncClient) -> None:
    content = campaign_json("Posted Twice", NOWHERE)
    answers = await asyncio.gather(*(api.post("/api/campaigns", json=content) for _ in range(3)))
    assert sorted(one.status_code for one in answers) == [201, 409, 409]
    await api.delete("/api/campaigns/posted-twice")


async def test_runs_are_cancelled_and_retried_and_figures_add_up(
    api: httpx.AsyncClient, engines: DemoEngines, driver: Driver
) -> None:
    campaign = await create(api, "Figures Here", engines.url, only=1, metadata={"project_id": "p-figures"})
    path = f"/api/campaigns/{campaign['id']}"
    before = (await api.get("/api/stats")).json()["stats"]
    engines.fail_next("/api/prospect", status=400, error="no such brief", times=1)
    run_id = (await api.post(f"{path}/run")).json()["runId"]
    await driver.ended(run_id)
    (failed,) = (await api.get(f"{path}/runs")).json()["runs"]
    assert (failed["id"], failed["status"], failed["stepsFailed"]) == (run_id, "failed", 1)
    assert "no such brief" in failed["errors"][0]["error"] and failed["errors"][0]["step"] == "prospecting"
    assert (await api.post(f"/api/runs/{run_id}/cancel")).status_code == 409
    await api.put(f"{path}/pause", json={"reason": "wrong list"})
    refused = await api.post(f"/api/runs/{run_id}/retry")
    assert (refused.status_code, "wrong list" in refused.json()["error"]) == (409, True)
    await api.put(f"{path}/resume")
    assert (await api.post(f"/api/runs/{run_id}/retry")).status_code == 200
    await driver.in_state(run_id, "Completed")

    async def booked() -> bool:
        return (await api.get(path)).json()["campaign"]["totalCost"] == 0.012

    await until(booked, "the cost of the run")
    (row,) = (await api.get("/api/campaigns", params={"project_id": "p-figures"})).json()["campaigns"]
    assert (row["totalRuns"], row["lastRun"] is not None) == (1, True)
    after = (await api.get("/api/stats")).json()["stats"]
    assert after["totalRuns"] == before["totalRuns"] + 1
    budget = (await api.get(f"{path}/budget")).json()["budget"]
    assert budget["limits"][0]["spent"] == 0.012
    entries = (await api.get("/api/audit", params={"campaign": campaign["id"]})).json()["entries"]
    assert [one["action"] for one in entries] == [
        "run.retried",
        "campaign.resumed",
        "campaign.paused",
        "run.started",
        "campaign.created",
    ]
    assert (await api.post("/api/runs/nobody/retry")).status_code == 404
    await api.delete(path)


async def test_while_everything_is_stopped_nothing_is_started(api: httpx.AsyncClient) -> None:
    campaign = await create(api, "Stopped Here")
    path = f"/api/campaigns/{campaign['id']}"
    stopped = (await api.post("/api/stop", json={"reason": "wrong list"})).json()
    try:
        assert (stopped["stop"]["by"], "stopped-here" in stopped["paused"]) == ("local", True)
        refused = await api.post(f"{path}/run")
        assert (refused.status_code, "wrong list" in refused.json()["error"]) == (409, True)
        assert await status_of(api, campaign["id"]) == "paused"
    finally:
        started = (await api.post("/api/start")).json()
    assert "stopped-here" in started["resumed"]
    assert await status_of(api, campaign["id"]) == "active"
    await api.delete(path)


async def test_keys_open_what_they_say_and_stand_in_no_log(start, stack: Stack, store: SqliteStore, tmp_path) -> None:
    keys = {**stack.environment, "CAMPAIGNS_API_KEY": f"ada:full:{FULL},dashboard:read:{READ}"}
    off_loopback = start(CAMPAIGNS, "api", "--host", "0.0.0.0", **stack.environment)
    assert await off_loopback.ended() == 1
    assert off_loopback.output.startswith("✗ the REST API would listen on 0.0.0.0, where others reach it, and ")
    with_taken_port = start(CAMPAIGNS, "api", "--port", str(stack.server.port), **stack.environment)
    assert await with_taken_port.ended() == 1
    assert with_taken_port.output.startswith(f"✗ port {stack.server.port} is taken, and the REST API wants it; ")

    port = free_port()
    api = start(CAMPAIGNS, "api", "--port", str(port), **{**keys, "LOG_LEVEL": "debug"})
    await api.printed("Ctrl-C ends it.")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api", timeout=60) as http:
        content = campaign_json("Kept By Keys", NOWHERE)
        for headers, expected in (
            ({}, 401),
            ({"X-API-Key": f"{FULL}x"}, 401),
            ({"X-API-Key": READ}, 403),
            ({"Authorization": f"Bearer {FULL}"}, 201),
        ):
            assert (await http.post("/campaigns", json=content, headers=headers)).status_code == expected
        assert (await http.get("/campaigns", headers={"X-API-Key": READ})).status_code == 200
        assert (await http.get("/health")).status_code == 200
        for key, expected in ((f"{READ}x", 401), (READ, 403), (FULL, 200)):
            deleted = await http.delete("/campaigns/kept-by-keys", headers={"X-API-Key": key})
            assert deleted.status_code == expected
    api.signal(signal.SIGTERM)
    assert await api.ended(seconds=30) == 130
    actors = {one.actor for one in await store.list_audit(campaign_key="kept-by-keys")}
    assert actors == {"ada"}
    files = [*stack.home.glob("*.log"), *tmp_path.glob("logs/*.log")]
    assert "orchestrator.log" in [file.name for file in files]
    logs = [api.output, *(file.read_text(errors="replace") for file in files)]
    assert not [log for log in logs if FULL in log or READ in log]
    written = (tmp_path / "logs" / "orchestrator.log").read_text()
    for line in (
        " info  [campaign kept-by-keys] campaign.created by ada",
        " info  [campaign kept-by-keys] campaign.deleted by ada",
        " warn  prefect_campaigns.api: POST '/api/campaigns' by dashboard: refused with 403: the key dashboard is for",
        " warn  prefect_campaigns.api: DELETE '/api/campaigns/kept-by-keys' by 127.0.0.1: refused with 401: a key is",
    ):
        assert line in written, written


async def test_it_starts_without_prefect_and_says_what_is_down_until_it_is_there(in_stack: Stack) -> None:
    port = free_port()
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
        async with served() as api:
            degraded = await api.get("/api/health")
            assert (degraded.status_code, degraded.json()["status"]) == (503, "degraded")
            assert degraded.json()["down"] == ["prefect"]
            listed = await api.get("/api/campaigns")
            assert (listed.status_code, listed.json()["success"]) == (503, False)
            assert f"no Prefect API answers at http://127.0.0.1:{port}/api" in listed.json()["error"]
            monitored = await api.head("/api/health")
            assert (monitored.status_code, monitored.content) == (503, b"")
            assert (await api.get("/api/audit")).status_code == 200

            async with forwarding(port, in_stack.server.port):

                async def healthy() -> bool:
                    return (await api.get("/api/health")).status_code == 200

                await until(healthy, "the API as it should be")
                assert (await api.get("/api/campaigns")).status_code == 200
            # It has been there, and goes: nobody waits for a minute to be told.
            async with asyncio.timeout(15):
                assert (await api.get("/api/campaigns")).status_code == 503


async def queued(stack: Stack, count: int) -> bool:
    """Whether so many wait for their turn to apply."""
    with closing(sqlite3.connect(stack.database)) as db:
        (waiting,) = db.execute("SELECT count(*) FROM lease_queue WHERE campaign_key = '@apply'").fetchone()
    return bool(waiting == count)


async def test_of_two_who_make_a_campaign_at_once_the_other_is_refused_and_changes_nothing(
    api: httpx.AsyncClient, driver: Driver, in_stack: Stack
) -> None:
    store = driver.store
    await create(api, "Made Before")
    busy = await store.acquire_lease(
        "@apply", run_id="busy", run_name="busy", holder="busy", ttl_seconds=60, waiting_since=datetime.now(UTC)
    )
    assert isinstance(busy, Lease)
    mine = campaign("Made Twice", NOWHERE, only=1, budget={"daily": 1})
    options = {"store": store, "settings": driver.settings, "origin": "/srv/twice"}
    # Whoever waits longer has the first turn.
    by_file = asyncio.create_task(apply([mine], **options))
    await until(lambda: queued(in_stack, 1), "the apply in the queue")
    by_post = asyncio.create_task(
        api.post("/api/campaigns", json=campaign_json("Made Twice", NOWHERE, only=1, budget={"daily": 500}))
    )
    await until(lambda: queued(in_stack, 2), "the request in the queue")
    known = await api.post("/api/campaigns", json=campaign_json("Made Before", NOWHERE, only=1))
    assert known.status_code == 409, "said at once, though an apply goes on"
    await store.release_lease(busy)
    await by_file
    refused = await by_post
    assert (refused.status_code, "is there already" in refused.json()["error"]) == (409, True)
    record = await store.get_campaign("made-twice")
    assert (record.campaign, record.origin) == (mine, "/srv/twice")


async def test_health_names_addresses_only_to_who_has_a_key(in_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNS_API_KEY", f"dashboard:read:{READ}")
    away = f"http://127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: away}):
        async with served() as api:
            anybody = await api.get("/api/health")
            known = await api.get("/api/health", headers={"X-API-Key": READ})
    assert (anybody.status_code, anybody.json()["down"]) == (503, ["prefect"])
    assert anybody.json()["error"] == "down: prefect; who has a key is told why"
    assert away in known.json()["error"]
