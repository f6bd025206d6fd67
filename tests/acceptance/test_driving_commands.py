"""The commands that drive campaigns and runs, as processes, against a real server and worker."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any
from uuid import UUID

import pytest
from campaign_files import ANALYZE, COMPOSE, PROSPECT, SEND, campaign
from driving import Driver
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled
from processes import CAMPAIGNS
from real_stack import Stack
from rest_api import served
from spending import lose_an_answer

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import AuditAction
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.driving.audit import local_actor
from prefect_campaigns.deployments.driving.emergency import start_all, stop_all
from prefect_campaigns.deployments.running.server import free_port

NOWHERE = "http://127.0.0.1:9"


async def test_a_run_does_some_params_differently_and_begins_later_and_never_sends_twice_unasked(
    campaigns, driver: Driver, engines: DemoEngines
) -> None:
    await driver.deploy("Driven Runs", engines.url, budget={"daily": 5})
    first = await campaigns("run", "driven-runs", "--param", "steps.prospecting.count=3", "--watch", "--json")
    assert first.code == 0, first.text
    assert [one.params["count"] for one in engines.requests_to(PROSPECT)] == [3]

    ahead, text, refused, both = await asyncio.gather(
        campaigns("run", "driven-runs", "--dry-run", "--json"),
        campaigns("run", "Driven Runs", "--dry-run", "--param", "steps.prospecting.count=7"),
        campaigns("run", "driven-runs", "--from", "outreach"),
        campaigns("run", "driven-runs", "--param", "steps.prospecting.cuont=7", "--param", "budget.daily=9"),
    )
    body = json.loads(ahead.out)
    found = engines.requests_to(ANALYZE)[0].params["runId"]
    assert body["steps"][1]["params"]["runId"] == found and body["steps"][0]["params"] == {"count": 5}
    assert (body["steps"][0]["estimate"], body["steps"][0]["left"]) == ("0.0072", {"daily": "4.9706"})
    assert text.code == 0 and '     "count": 7\n' in text.out
    assert refused.code == 1
    assert 'step "sending" has sent in run ' in refused.err and refused.err.endswith("add --send-again\n")
    assert both.code == 1 and len(both.err.splitlines()) == 2 and 'did you mean "count"?' in both.err
    assert len(engines.requests_to(PROSPECT)) == 1, "nothing was started, and no engine called"

    again = await campaigns("run", "driven-runs", "--from", "outreach", "--send-again", "--watch")
    assert again.code == 0, again.text
    name = json.loads(first.out)["run"]["run_name"]
    assert again.out.startswith(f"It begins at step outreach, with the results of run {name}.\n")
    counts = {path: len(engines.requests_to(path)) for path in (PROSPECT, ANALYZE, COMPOSE, SEND)}
    assert counts == {PROSPECT: 1, ANALYZE: 1, COMPOSE: 2, SEND: 2}
    assert engines.requests_to(COMPOSE)[1].params == engines.requests_to(COMPOSE)[0].params


async def test_a_failed_run_is_shown_and_retried_and_its_log_is_read(
    campaigns, driver: Driver, engines: DemoEngines
) -> None:
    schedule = {"cron": "0 9 * * MON", "timezone": "America/New_York"}
    deployment_id = await driver.deploy("Driven Show", engines.url, schedule=schedule, only=2)
    engines.fail_next(ANALYZE, status=400, error="no such industry")
    run = await driver.run(deployment_id)
    record = await driver.store.get_campaign("driven-show")
    shown, by_id, as_json = await asyncio.gather(
        campaigns("show", "Driven Show"),
        campaigns("show", str(deployment_id), "--json"),
        campaigns("show", str(record.id), "--json"),
    )
    assert shown.code == 0, shown.err
    assert shown.out.startswith(f"Driven Show  active\ncampaign/driven-show, id {record.id}\n")
    assert shown.out.count(" 09:00, in ") == 3 and "0 9 * * MON  America/New_York" in shown.out
    assert run.name in shown.out and "Failed" in shown.out
    body = json.loads(as_json.out)
    assert json.loads(by_id.out)["id"] == body["id"] == str(record.id)
    assert (body["slug"], body["state"], len(body["nextRuns"])) == ("driven-show", "active", 3)
    assert body["config"]["steps"][0]["name"] == "prospecting"

    await driver.logged(run.id, "no such industry")
    log, of_newest, near = await asyncio.gather(
        campaigns("logs", run.name), campaigns("logs", "driven-show", "--json"), campaigns("logs", "driven-shwo")
    )
    assert log.code == 0 and "no such industry" in log.out
    assert re.match(r"\d\d:\d\d:\d\dZ ", log.out), "the hour says of which clocks it is"
    lines = json.loads(of_newest.out)
    assert lines["run"] == run.name and {"at", "level", "logger", "message"} == set(lines["logs"][0])
    assert near.code == 1 and "did you mean driven-show" in near.err

    retried = await campaigns("retry", run.name, "--watch")
    assert retried.code == 0 and "  analysis: completed, attempt 2\n" in retried.out
    followed, done = await asyncio.gather(
        campaigns("logs", str(run.id), "--follow"), campaigns("audit", "driven-show", "--json")
    )
    assert followed.code == 0 and "no such industry" in followed.out
    assert next(one["action"] for one in json.loads(done.out)["entries"]) == "run.retried"


async def test_runs_are_cancelled_and_campaigns_deleted(campaigns, driver: Driver, engines: DemoEngines) -> None:
    deployment_id = await driver.deploy("Driven Away", engines.url, only=1)
    later = await driver.start_later(deployment_id)
    cancelled, unasked = await asyncio.gather(
        campaigns("cancel", str(later.id), "--json"), campaigns("delete", "driven-away")
    )
    assert (cancelled.code, json.loads(cancelled.out)["name"]) == (0, later.name)
    assert unasked.code == 1
    assert unasked.err == "✗ deleting driven-away cannot be undone; add --yes to do it\n"
    ended, deleted = await asyncio.gather(
        campaigns("cancel", later.name), campaigns("delete", "driven-away", "--yes", "--json")
    )
    assert ended.code == 1 and deleted.code == 0, deleted.text
    with pytest.raises(ObjectNotFound):
        await driver.client.read_deployment(deployment_id)
    audit, unknown = await asyncio.gather(campaigns("audit", "Driven Away"), campaigns("show", "driven-away"))
    assert audit.code == 0 and "campaign.deleted" in audit.out and "run.cancelled" in audit.out
    assert unknown.code == 1 and unknown.err.startswith("✗ there is no campaign 'driven-away'")


async def test_a_run_that_waits_for_an_approval_ends_the_watching_and_goes_on_when_it_is_approved(
    campaigns, driver: Driver, engines: DemoEngines
) -> None:
    steps = {"analysis": {"approval": {"timeout": 3_600_000}}}
    told = {"onApproval": {"email": "driven-approval@example.com"}}
    await driver.deploy("Driven Approval", engines.url, steps=steps, only=2, notifications=told)
    watched = await campaigns("run", "driven-approval", "--watch", "--json")
    assert watched.code == 3, watched.text
    body = json.loads(watched.out)
    run: dict[str, Any] = body["run"]
    run_id, name = run["run_id"], run["run_name"]
    assert run["waiting"].startswith("It waits for somebody to approve step analysis, until ")
    assert f"campaigns approve {name} (its id is {run_id[:8]})" in run["waiting"]
    assert (body["success"], body["error"], run["state_name"]) == (False, run["waiting"], "Suspended")
    (asked,) = await driver.store.list_approvals(run_id=run_id)
    assert run["approval"] == {
        "step": "analysis",
        "askedAt": asked.asked_at.isoformat(),
        "until": asked.expires_at.isoformat(),
        "recipients": ["driven-approval@example.com"],
        "command": f"campaigns approve {run_id}",
    }
    assert engines.requests_to(ANALYZE) == []
    shown = await campaigns("show", "driven-approval")
    assert f": campaigns approve {name} (its id is {run_id[:8]})\n" in shown.out
    approved = await campaigns("approve", run["run_name"], "--watch")
    assert approved.code == 0, approved.text
    again = await campaigns("approve", run["run_name"])
    assert again.code == 1 and f"step 'analysis' of run {run['run_name']} is approved already by " in again.err

    await campaigns("run", "driven-approval", "--watch")
    (waiting,) = await driver.store.list_approvals(campaign_key="driven-approval", waiting_only=True)
    cancelled = await campaigns("cancel", waiting.run_id, "--json")
    assert (cancelled.code, json.loads(cancelled.out)["putRight"]) == (0, None)
    report = await driver.store.get_run(waiting.run_id)
    assert (report.status, report.state_name) == ("aborted", "Cancelled")
    assert await driver.store.list_approvals(run_id=waiting.run_id, waiting_only=True) == []


async def test_what_was_cancelled_in_prefect_is_put_right_in_the_books_and_said(
    campaigns, driver: Driver, engines: DemoEngines
) -> None:
    steps = {"prospecting": {"approval": {"timeout": 3_600_000}}}
    run = await driver.start(await driver.deploy("Driven Put Right", engines.url, steps=steps, only=1))
    await driver.in_state(run.id, "Suspended")
    await driver.client.set_flow_run_state(run.id, Cancelled(), force=True)
    ended = await campaigns("cancel", run.name, "--json")
    body = json.loads(ended.out)
    assert (ended.code, body["success"], body["runId"]) == (0, True, str(run.id))
    assert "the books" in body["putRight"] and body["run"]["status"] == "aborted"
    again = await campaigns("cancel", run.name, "--json")
    assert again.code == 1 and json.loads(again.out)["error"].endswith("has ended already, as Cancelled")


async def test_whoever_lets_a_run_of_a_paused_campaign_go_on_hears_of_the_pause(
    campaigns, driver: Driver, engines: DemoEngines
) -> None:
    steps = {"prospecting": {"approval": {"timeout": 3_600_000}}}
    run = await driver.start(await driver.deploy("Driven Pause", engines.url, steps=steps, only=1))
    await driver.in_state(run.id, "Suspended")
    engines.fail_next(PROSPECT, status=400)
    await campaigns("pause", "driven-pause", "--reason", "wrong list")
    approved = await campaigns("approve", run.name, "--json")
    assert (await driver.ended(run.id)).state.name == "Failed"
    retried = await campaigns("retry", run.name, "--json")
    started = await campaigns("run", "driven-pause", "--json")
    for done in (approved, retried, started):
        assert (done.code, json.loads(done.out)["success"]) == (0, True), done.text
        (said,) = done.err.splitlines()
        assert said.startswith("! driven-pause: this run ") and " all the same. Paused by a person since " in said
        assert said.endswith(": wrong list")
        assert json.loads(done.out)["warnings"] == [said.removeprefix("! ")], "for programs, too"
    # What is retried is asked for anew, and so is what another run would send.
    for waiting in (run.id, UUID(json.loads(started.out)["runId"])):
        await driver.in_state(waiting, "Suspended")
        assert (await campaigns("cancel", str(waiting))).code == 0


async def test_what_is_done_to_money_and_pauses_is_on_record_with_a_server_and_without(
    campaigns, alone, books: SqliteStore, driver: Driver
) -> None:
    await driver.deploy("Driven Audit", NOWHERE, only=1)
    await campaigns("pause", "driven-audit", "--reason", "leave")
    await campaigns("resume", "driven-audit")
    await books.save_campaign(campaign("Alone", NOWHERE))
    run_id = await lose_an_answer(books, "alone", "0.5")
    await alone("budget", "--account", "--daily", "50")
    settled = await alone("budget", "alone", "--settle", f"{run_id}/find/1", "--amount", "0.2", "--note", "asked")
    assert settled.code == 0, settled.text
    done = [*await driver.store.list_audit(campaign_key="driven-audit", limit=2), *await books.list_audit()]
    assert [(entry.action.value, entry.campaign_key) for entry in done] == [
        ("campaign.resumed", "driven-audit"),
        ("campaign.paused", "driven-audit"),
        ("booking.settled", "alone"),
        ("account.limited", None),
    ]
    assert {entry.actor for entry in done} == {local_actor()}
    assert (done[1].detail, done[2].detail["amount"]) == ({"reason": "leave"}, "0.20")


async def test_everything_is_stopped_and_started_again(campaigns, driver: Driver) -> None:
    await driver.deploy("Driven Stop", NOWHERE, only=1)
    try:
        bare, stopped = await campaigns("stop"), await campaigns("stop", "--all", "--reason", "wrong list")
        assert bare.code == 2 and "campaigns stop --all" in bare.err
        assert stopped.code == 0 and stopped.out.startswith("■ Everything is stopped since ")
        listed, as_json, run, resumed = await asyncio.gather(
            campaigns("list"),
            campaigns("list", "--json"),
            campaigns("run", "driven-stop"),
            campaigns("resume", "driven-stop"),
        )
        assert listed.out.startswith("Everything is stopped since ") and ": wrong list. To go on: " in listed.out
        body = json.loads(as_json.out)
        assert body["stop"]["reason"] == "wrong list"
        assert next(one["state"] for one in body["campaigns"] if one["slug"] == "driven-stop") == "stopped"
        for refused in (run, resumed):
            assert refused.code == 1 and refused.err.startswith("✗ everything is stopped since "), refused.text
    finally:
        started = await campaigns("start", "--all", "--json")
    body = json.loads(started.out)
    assert started.code == 0 and "driven-stop" in body["resumed"] and body["ended"]["reason"] == "wrong list"
    assert (await campaigns("start", "--all")).out.startswith("Nothing was stopped.")


async def test_the_stop_stands_in_the_books_of_this_machine_where_nobody_says_which_books_are_used(
    campaigns, driver: Driver, in_stack: Stack
) -> None:
    away = f"http://127.0.0.1:{free_port()}/api"
    env = {"PREFECT_API_URL": away, "CAMPAIGNS_DATABASE": "", "PREFECT_HOME": str(in_stack.database.parent)}
    try:
        stopped = await campaigns("stop", "--all", env=env)
        assert stopped.code == 1 and f"it stands in {in_stack.database}, which may not be" in stopped.err, stopped.text
        assert await driver.store.read_stop() is not None
    finally:
        await start_all(driver.client, driver.store, actor="the test's end")


async def test_the_stop_stands_though_prefect_is_away_and_its_end_waits_for_prefect(campaigns, driver: Driver) -> None:
    (deployment,) = await driver.apply(campaign("Stopped Alone", NOWHERE, only=1))
    away = f"http://127.0.0.1:{free_port()}/api"
    env = {"PREFECT_API_URL": away}
    audited = await driver.store.list_audit(limit=1_000)
    try:
        stopped = await campaigns("stop", "--all", "--cancel-running", "--reason", "wrong list", env=env)
        assert stopped.code == 1 and "The stop stands" in stopped.err and away in stopped.err, stopped.text
        assert "campaigns stop --all --cancel-running" in stopped.err
        assert (stop := await driver.store.read_stop()) is not None and stop.reason == "wrong list"
        assert "wrong list" in (await driver.run(deployment)).state.message
        audit = await driver.store.list_audit(limit=1_000)
        assert [entry.action for entry in audit if entry not in audited] == [AuditAction.ALL_STOPPED]

        started = await campaigns("start", "--all", env=env)
        assert started.code == 1 and await driver.store.read_stop() == stop
        again = await stop_all(driver.client, driver.store, actor=local_actor(), reason=None, cancel_running=False)
        assert again.stood_before and "stopped-alone" in again.paused

        await start_all(driver.client, driver.store, actor=local_actor())
        with temporary_settings({PREFECT_API_URL: away}):
            async with served() as api:
                answered = await api.post("/api/stop", json={"reason": "by the API"})
        assert answered.status_code == 200 and answered.json()["problems"], answered.text
        assert (stop := await driver.store.read_stop()) is not None and stop.reason == "by the API"
    finally:
        await start_all(driver.client, driver.store, actor="the test's end")


async def test_runs_are_watched_until_somebody_has_seen_enough(start, driver, engines, stack) -> None:
    deployment = await driver.deploy("Watched Runs", engines.url, only=1)
    watching = start(CAMPAIGNS, "runs", "watched-runs", "--watch", **stack.environment)
    run = await driver.run(deployment)
    await watching.printed(f"{run.name}: Completed, cost {engines.charged:.3f} USD")
    watching.signal()
    assert await watching.ended(seconds=30) == 130
    assert "Traceback" not in watching.output
