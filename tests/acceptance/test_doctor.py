"""``campaigns doctor`` with each part broken in turn: the line says so, and what to do.

The server that is down, the store that cannot be opened and its missing tables are in ``test_setup_and_doctor``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from campaign_files import campaign_json
from driving import until
from prefect.blocks.system import Secret
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import WorkerStatus
from prefect.settings import PREFECT_API_URL, temporary_settings
from processes import Ended
from starlette.applications import Starlette

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import MailRecord, MailState, Stop
from prefect_campaigns.deployments.compile import WORK_POOL
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.demo.smtp_sink import SmtpSink
from prefect_campaigns.deployments.driving.lookup import read_deployments
from prefect_campaigns.deployments.running.server import EmbeddedServer, free_port
from prefect_campaigns.flows.campaign import ENTRYPOINT

Campaigns = Callable[..., Awaitable[Ended]]


@pytest.fixture
async def doctor(campaigns: Campaigns, client: PrefectClient, tmp_path: Path, no_blocks: None) -> Campaigns:
    """Ask the doctor, as somebody with books of their own, on a server that has no campaigns but theirs."""
    for deployment in await read_deployments(client):
        if deployment.entrypoint == ENTRYPOINT:
            await client.delete_deployment(deployment.id)

    async def run_it(*arguments: str, **env: str) -> Ended:
        return await campaigns(*arguments, env={"CAMPAIGNS_DATABASE": str(tmp_path / "own.db"), **env})

    return run_it


def findings(ended: Ended) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ended.out)["findings"]
    assert ended.code == any(one["health"] == "broken" for one in found)
    return found


def unwell(ended: Ended) -> list[tuple[str, str, str, str]]:
    """Return what is not well."""
    of_each = (tuple(one.values()) for one in findings(ended))
    return [(part, health, found, remedy) for part, health, found, remedy in of_each if health != "well"]


async def test_where_all_is_well_doctor_says_so_and_an_engine_that_goes_is_named(
    doctor: Campaigns, client: PrefectClient, engines, write
) -> None:
    write("one.json", campaign_json("Of Which All Is Well", engines.url))
    assert (await doctor("apply", "one.json")).code == 0

    async def lives() -> bool:
        workers = await client.read_workers_for_work_pool(WORK_POOL)
        return any(worker.status is WorkerStatus.ONLINE for worker in workers)

    await until(lives, "a worker")
    ended, as_json = await asyncio.gather(doctor("doctor"), doctor("doctor", "--json"))
    assert (ended.code, ended.err) == (0, ""), ended.text
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines] == ["✓"] * len(lines)
    found = {one["part"]: one["found"] for one in findings(as_json)}
    of_prefect, ours = (
        ["Prefect API", "API access", "Blocks", "Automations", "Work pool", "Worker"],
        ["Store", "Books", "Journal", "Mails"],
    )
    assert list(found) == ["Settings", *of_prefect, *ours, "Engine", "Mail"]
    assert found["Work pool"] == "campaigns, type campaign"
    # Of a worker that another test has ended, the server hears nothing for a while.
    assert " alive, last heard of " in found["Worker"]
    assert "(CAMPAIGNS_DATABASE), version " in found["Store"]
    assert found["Engine"] == f"{engines.url} is healthy"

    nothing = f"http://127.0.0.1:{free_port()}"
    async with serve(Starlette()) as other:
        write("two.json", campaign_json("Served By Another", other, only=1))
        write("three.json", campaign_json("Served By Nobody", nothing, only=1))
        assert (await doctor("apply", "two.json", "three.json")).code == 0
        by_nobody, by_another = sorted(unwell(await doctor("doctor", "--json")), key=lambda one: one[1])
    assert by_nobody[:2] == ("Engine", "broken")
    assert by_nobody[2].startswith(f"{nothing}, which served-by-nobody needs: no connection")
    assert by_nobody[3] == "start it, or correct the steps' endpoint; campaigns apply"
    assert by_another[:2] == ("Engine", "doubtful")
    assert by_another[2] == f"{other}, which served-by-another needs: answered 404 to /api/health"


async def test_a_login_that_the_mail_server_refuses_is_said_with_what_it_said(doctor: Campaigns) -> None:
    with SmtpSink(login=("robot", "correct horse")) as mail:
        login = {"SMTP_PORT": str(mail.port), "SMTP_USER": "robot", "SMTP_PASS": "swordfish"}
        ended = await doctor("doctor", "--json", **login)
    ((part, health, found, remedy),) = unwell(ended)
    assert (part, health) == ("Mail", "broken")
    assert found.startswith(f"127.0.0.1:{mail.port}, logging in: the server answered 535 ")
    assert (
        remedy == "see whether it is up; if it is another one, correct the SMTP_… settings: campaigns setup saves them"
    )
    assert "swordfish" not in ended.text


async def test_a_setting_that_is_none_is_named_with_the_one_that_was_meant(doctor: Campaigns) -> None:
    other = {"CAMPAIGNS_OPERATOR": "ops@example.com", "CAMPAIGNS_OF_ENGINES": "x"}
    (misspelt,) = unwell(await doctor("doctor", "--json", **other))
    assert misspelt == (
        "Settings",
        "doubtful",
        "CAMPAIGNS_OF_ENGINES is no setting; CAMPAIGNS_OPERATOR is no setting; did you mean CAMPAIGNS_OPERATORS?",
        "campaigns settings lists those there are",
    )


async def test_an_engine_that_runs_leave_alone_is_named_with_why(doctor: Campaigns, tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "own.db") as store:
        for run_id in ("one", "two"):
            trouble = await store.engine_failed(
                "http://127.0.0.1:9/api", run_id=run_id, error="no credit", after_runs=2, pause_seconds=900
            )
    (left_alone,) = unwell(await doctor("doctor", "--json", CAMPAIGNS_BREAKER_RUNS="5"))
    assert left_alone[:2] == ("Engine", "doubtful")
    assert left_alone[2].startswith(f"The engine at {trouble.endpoint} is left alone until ")
    assert left_alone[2].endswith("the last one said: no credit")
    assert unwell(await doctor("doctor", "--json", CAMPAIGNS_BREAKER_RUNS="0")) == []


async def test_whom_nobody_could_tell_is_named(doctor: Campaigns, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    mail = MailRecord(
        event_id=uuid4(),
        recipient="ops@example.com",
        subject="Failed: One (azure-fox)",
        state=MailState.OWED,
        owed_since=now - timedelta(minutes=4),
        error="the server answered 550 no such user",
    )
    async with SqliteStore(tmp_path / "own.db") as store:
        await store.record_mails([mail])
    young = await doctor("doctor", "--json")
    assert unwell(young) == [], "it may be sent any moment"
    (found,) = [one["found"] for one in findings(young) if one["part"] == "Mails"]
    assert found.startswith("owed, and to be sent soon: to ops@example.com")
    older = [replace(mail, event_id=uuid4(), owed_since=now - timedelta(minutes=minutes)) for minutes in (6, 60)]
    async with SqliteStore(tmp_path / "own.db") as store:
        await store.record_mails(older)
    (waiting,) = unwell(await doctor("doctor", "--json"))
    said = "to ops@example.com (Failed: One (azure-fox)), and 1 more; the server answered 550 no such user"
    assert waiting[:3] == ("Mails", "doubtful", f"waiting to be sent: {said}")
    async with SqliteStore(tmp_path / "own.db") as store:
        await store.record_mails([replace(older[0], state=MailState.GIVEN_UP)])
    (lost,) = unwell(await doctor("doctor", "--json"))
    assert lost[:2] == ("Mails", "broken")
    assert lost[2].startswith("never sent, and given up after a day: to ops@example.com")
    assert lost[3].startswith("see whether the mail server takes mail for that address")


async def test_what_campaigns_refer_to_and_is_nowhere_a_stop_and_keys_that_can_be_guessed(
    doctor: Campaigns, engines, write, tmp_path: Path
) -> None:
    headers = {
        "headers": {"Authorization": "Bearer {{ secret.doctors-token }}", "X-Other": "{{ secret.DOCTORS_OTHER }}"}
    }
    write("one.json", campaign_json("With Secrets", engines.url, steps={"prospecting": headers}))
    assert (await doctor("apply", "one.json")).code == 0
    async with SqliteStore(tmp_path / "own.db") as store:
        await store.set_stop(Stop(by="ada@laptop", reason="holidays", since=datetime(2026, 5, 1, tzinfo=UTC)))
    keys = {"CAMPAIGNS_API_KEY": f"ada:read:1234,bob:full:{'ab' * 20},eve:full:k0Zt9-vQ2x_Lr7Wd4Hs8Jn5Bc1"}
    listed = {"CAMPAIGNS_SECRET_VARIABLES": "DOCTORS_OTHER"}
    ended = await doctor("doctor", "--json", **keys)
    stop, first, second, api_keys = unwell(ended)
    assert stop[1:] == (
        "doubtful",
        "everything is stopped since 2026-05-01 00:00 UTC, by ada@laptop: holidays",
        "when that is over: campaigns start --all",
    )
    assert first == (
        "Secrets",
        "broken",
        "{{ secret.doctors-token }}, which with-secrets needs, is nowhere",
        "create the Secret block doctors-token in the Prefect UI",
    )
    assert second[2] == "{{ secret.DOCTORS_OTHER }}, which with-secrets needs, is nowhere"
    assert api_keys[1:3] == ("doubtful", "those of the REST API that are named ada, bob can be guessed")
    assert "1234" not in ended.text

    await Secret(value="a-secret-of-the-doctors").save("doctors-token")
    (_, (_, health, found, _)), well = await asyncio.gather(
        _unwell(doctor("doctor", "--json", **listed)),
        doctor("doctor", "--json", **listed, DOCTORS_OTHER="another-secret"),
    )
    assert (health, "is no block, and the variable is not set here" in found) == ("doubtful", True)
    assert [part for part, *_ in unwell(well)] == ["Stop"]
    (secrets,) = [one["found"] for one in findings(well) if one["part"] == "Secrets"]
    assert secrets == "there: 2 secrets that campaigns refer to"
    assert "another-secret" not in well.text and "a-secret-of" not in well.text


async def _unwell(ended: Awaitable[Ended]) -> list[tuple[str, str, str, str]]:
    return unwell(await ended)


async def test_a_server_that_does_not_know_us_and_has_no_worker(alone: Campaigns, tmp_path: Path) -> None:
    of_prefects_own = {"PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect.server.events.ordering.memory"}
    server = EmbeddedServer(
        home=tmp_path / "prefect", port=free_port(), log=tmp_path / "server.log", extra_env=of_prefects_own
    )
    async with server:
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            async with get_client() as client:
                block_type = await client.read_block_type_by_slug("campaign-email")
                await client.delete_block_type(block_type.id)
        ended = await alone("doctor", "--json", env={"PREFECT_API_URL": server.api_url})
    blocks, automations, pool, worker, _mail = unwell(ended)
    assert blocks == (
        "Blocks",
        "broken",
        "the server does not know Campaign Email, so that it mails nobody",
        "install prefect-campaigns beside the Prefect server, and start that again",
    )
    assert automations[1:] == (
        "doubtful",
        "what happens within minutes of a restart of the server, people may hear a quarter of an hour late",
        "where the server is started, set"
        " PREFECT_SERVER_EVENTS_CAUSAL_ORDERING=prefect_campaigns.deployments.running.event_order",
    )
    assert pool == ("Work pool", "broken", "there is no work pool campaigns", "campaigns apply makes it")
    assert worker[1:] == (
        "broken",
        "none is alive in work pool campaigns",
        "start one: prefect worker start --pool campaigns --type campaign (or campaigns up)",
    )
