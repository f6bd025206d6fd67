"""A secret is where it is needed, at the engine, and nowhere else: not in Prefect, books, logs, mails or reports."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import UUID

import httpx
import pytest
from campaign_files import campaign
from driving import Driver, until
from mails import mails_to
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, temporary_settings
from real_stack import Stack
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from prefect_campaigns.deployments.applying.saved_blocks import Saving
from prefect_campaigns.deployments.applying.saved_secrets import read_secret_state, remove_unused_secrets, save_secret
from prefect_campaigns.deployments.compile import compile_campaign
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.errors import MissingSecret, SecretsUnavailable
from prefect_campaigns.flows.secrets import look_up_secrets
from prefect_campaigns.models import Campaign
from prefect_campaigns.references import SecretReference, secrets_in

# Nothing that occurs by chance; with what JSON, URLs and HTML escape.
TOKEN = 'Zq8"wX&2é/+kV5tR'
LITERAL = "Jx4mWq7hBn2pLs9d"
ADDRESS = "secrets@example.com"


def forms(secret: str) -> set[str]:
    """Return the ways in which a secret might be lying about."""
    escaped = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    encoded = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    in_base64 = {base64.b64encode(f"{before}{secret}".encode()).decode()[8:18] for before in ("", "1", "22")}
    # The parts around what is escaped: a cut or half-hidden secret is none.
    return escaped | encoded | in_base64 | ({"Zq8", "kV5tR"} if secret == TOKEN else {secret[:6], secret[-6:]})


FORMS = forms(TOKEN) | forms(LITERAL)


class EchoingEngine:
    """An engine that wants credentials, and gives them back in everything it says."""

    def __init__(self) -> None:
        self.is_broken = True
        self.seen: list[dict[str, Any]] = []
        routes = [("json", self.as_json), ("stream", self.as_stream), ("job", self.as_job), ("work", self.as_failure)]
        self.app = Starlette(
            routes=[Route(f"/{path}", answer, methods=["GET", "POST"]) for path, answer in routes]
            + [Route("/job/{id}", self.as_poll)]
        )

    async def _echo(self, request: Request) -> dict[str, Any]:
        body = await request.body()
        token = json.loads(body)["token"] if body else request.query_params.get("token")
        said = {"bearer": request.headers["Authorization"], "key": request.headers["X-Api-Key"], "token": token}
        self.seen.append({**said, "path": request.url.path, "to": request.headers.get("Idempotency-Key")})
        return {
            **said,
            "query": request.url.query,
            f"under {token}": [base64.b64encode(f"{before}{token}".encode()).decode() for before in ("", "a", "ab")],
            "text": f"{said} {json.dumps(said)} {quote(str(token))}",
        }

    async def as_json(self, request: Request) -> Response:
        return JSONResponse({**await self._echo(request), "cost": 0.01, "error": f"odd: {self.seen[-1]}"})

    async def as_failure(self, request: Request) -> Response:
        echoed = await self._echo(request)
        if not self.is_broken:
            return JSONResponse(echoed)
        words = f"these were not taken: {self.seen[-1]}"
        return JSONResponse({**echoed, "error": words, "cost": 0.02}, status_code=500, headers={"Retry-After": "0"})

    async def as_stream(self, request: Request) -> Response:
        echoed = await self._echo(request)
        words = " ".join(map(str, self.seen[-1].values()))
        events = [
            {"type": "progress", "message": words, "progress": 0.5},
            {"type": "error", "error": words, "company": TOKEN},
            {"type": "complete", "results": echoed},
        ]
        return StreamingResponse((f"data: {json.dumps(event)}\n\n" for event in events), media_type="text/event-stream")

    async def as_job(self, request: Request) -> Response:
        await self._echo(request)
        return JSONResponse({"jobId": "1"}, status_code=202, headers={"Retry-After": "0"})

    async def as_poll(self, request: Request) -> Response:
        echoed = await self._echo(request)
        polls = sum(seen["path"] == "/job/1" for seen in self.seen)
        status = "running" if polls % 2 else "completed"
        return JSONResponse({**echoed, "status": status, "message": str(self.seen[-1])}, headers={"Retry-After": "0"})


def secretive_campaign(url: str) -> Campaign:
    def step(name: str, **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            "engine": "crm",
            "endpoint": f"{url}/{name}",
            "headers": {"Authorization": "Bearer {{ secret.CRM_TOKEN }}", "X-Api-Key": LITERAL},
            "params": {"token": "{{ secret.crm-token }}"},
            **more,
        }

    work = step("work", retry={"attempts": 1, "delay": 10})
    return Campaign.model_validate(
        {
            "name": "Secretive",
            "steps": [step("json", method="GET"), step("stream"), step("job"), work],
            "notifications": {"onFailure": {"email": ADDRESS}, "onComplete": {"email": ADDRESS}},
        }
    )


async def everything_in_prefect(http: httpx.AsyncClient, api_url: str) -> dict[str, str]:
    """Return all that the server tells, by what it was asked for."""
    told = {}
    asked = (
        "flow_runs",
        "task_runs",
        "logs",
        "artifacts",
        "deployments",
        "automations",
        "block_documents",
        "variables",
    )
    for kind in asked:
        pages, body = [], {"limit": 200, "offset": 0}
        while True:
            answer = await http.post(f"{api_url}/{kind}/filter", json=body)
            answer.raise_for_status()
            pages.append(answer.text)
            if len(answer.json()) < 200:
                break
            body["offset"] += 200
        told[kind] = "".join(pages)
    answer = await http.post(f"{api_url}/events/filter", json={"limit": 50})
    events = answer.json()["events"]
    while (following := answer.json().get("next_page")) is not None:
        answer = await http.get(following)
        events += answer.json()["events"]
    told["events"] = json.dumps(events)
    return told


async def log_of(http: httpx.AsyncClient, stack: Stack, flow_run_id: UUID) -> str:
    """Return the messages in a run's log."""
    wanted = {"logs": {"flow_run_id": {"any_": [str(flow_run_id)]}}, "limit": 200}
    answer = await http.post(f"{stack.server.api_url}/logs/filter", json=wanted)
    return "\n".join(line["message"] for line in answer.raise_for_status().json())


def found_in(text: str) -> list[str]:
    return sorted(form for form in FORMS if form in text)


def files_with_a_secret(folder: Path) -> dict[str, list[str]]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if forms_there := [form for form in FORMS if form.encode() in content or form.encode("latin-1") in content]:
                found[str(path.relative_to(folder))] = sorted(forms_there)
    return found


async def test_a_secret_is_at_the_engine_and_nowhere_else(
    driver: Driver, in_stack: Stack, http: httpx.AsyncClient
) -> None:
    await Secret(value=TOKEN).asave("crm-token", overwrite=True)
    engine = EchoingEngine()
    async with serve(engine.app) as url:
        (deployment,) = await driver.apply(secretive_campaign(url))
        failed = await driver.run(deployment)
        assert failed.state.name == "Failed"
        assert "these were not taken: {'bearer': 'Bearer ********', 'key': '********'" in failed.state.message
        await mails_to(in_stack, ADDRESS, 1)
        engine.is_broken = False
        retried = await driver.retry(failed)
        assert retried.state.name == "Completed", retried.state.message
    # Each request carried them: the four steps, two polls, and two repetitions of the last step.
    assert len(engine.seen) == 8
    assert {seen["bearer"] for seen in engine.seen} == {f"Bearer {TOKEN}"}
    assert {seen["key"] for seen in engine.seen} == {LITERAL}
    assert {seen["token"] for seen in engine.seen if seen["path"] != "/job/1"} == {TOKEN}
    mails = await mails_to(in_stack, ADDRESS, 2)

    report = await driver.store.get_run(str(failed.id))
    assert [step.result["bearer"] for step in report.steps] == ["Bearer ********"] * 4
    assert report.total_cost > 0

    async def logged() -> dict[str, str] | None:
        told = await everything_in_prefect(http, in_stack.server.api_url)
        # What comes before the last line of the run's log, and before the event of its end, has come.
        has_come = "work: cost not reported" in await log_of(http, in_stack, failed.id) and "Completed" in [
            event["resource"].get("prefect.state-name")
            for event in json.loads(told["events"])
            if event["resource"]["prefect.resource.id"] == f"prefect.flow-run.{failed.id}"
        ]
        return told if has_come else None

    told = await until(logged, "the log of the run, and its events")
    assert "********" in await log_of(http, in_stack, failed.id)
    assert "progress-secretive-stream" in told["artifacts"]
    assert "report-secretive" in told["artifacts"]
    assert {kind: found for kind, text in told.items() if (found := found_in(text))} == {}
    # The whole of Prefect's home, where its database, the blocks in it, and the results are; the books; all logs.
    assert (in_stack.home / "worker.log").stat().st_size > 0
    assert any((in_stack.home / "prefect").rglob("prefect.db"))
    assert files_with_a_secret(in_stack.home) == {}
    assert found_in("".join(f"{mail.message['Subject']}{mail.text}{mail.html}" for mail in mails)) == []
    for command in (["list", "--json"], ["runs", "secretive", "--json"]):
        shown = in_stack.run_command(*command)
        assert (shown.returncode, found_in(shown.stdout + shown.stderr)) == (0, []), command


async def test_what_a_run_has_sent_earlier_is_hidden_after_a_retry_and_in_a_run_from_a_later_step(
    driver: Driver,
) -> None:
    await Secret(value=TOKEN).asave("told-later", overwrite=True)
    await Secret(value=LITERAL).asave("gone-by-then", overwrite=True)
    sent: list[str] = []
    codes = [400, 200, 200]

    async def take(request: Request) -> Response:
        sent.extend(request.headers[name] for name in ("X-Key", "X-Other"))
        return JSONResponse({"taken": True})

    async def tell(request: Request) -> Response:
        code = codes.pop(0)
        error = {"error": f"not {sent}"} if code == 400 else {}
        return JSONResponse({**error, "told": sent[0], "other": sent[1]}, status_code=code)

    app = Starlette(routes=[Route("/take", take, methods=["POST"]), Route("/tell", tell, methods=["POST"])])
    headers = {"X-Key": "Key {{ secret.told-later }}", "X-Other": "{{ secret.gone-by-then }}"}
    async with serve(app) as url:
        steps = [{"name": name, "engine": "crm", "endpoint": f"{url}/{name}"} for name in ("take", "tell")]
        steps[0]["headers"] = headers
        told_later = Campaign.model_validate({"name": "Told Later", "steps": steps})
        (deployment,) = await driver.apply(told_later)
        failed = await driver.run(deployment)
        assert failed.state.name == "Failed" and len(sent) == 2, failed.state.message
        retried = await driver.retry(failed)
        # What is not there any more cannot be hidden, and is no reason to fail.
        await Secret.adelete("gone-by-then")
        later = {"from_step": "tell", "results_of": str(failed.id)}
        begun = await driver.client.create_flow_run_from_deployment(deployment, parameters=later)
        ended = await driver.ended(begun.id)
    assert len(sent) == 2
    for run in (retried, ended):
        assert run.state.name == "Completed", run.state.message
        report = await driver.store.get_run(str(run.id))
        assert report is not None and report.steps[1].result["told"] == "Key ********"
    report = await driver.store.get_run(str(failed.id))
    assert report is not None and report.steps[1].result["other"] == "********"


async def test_a_secret_that_is_nowhere_fails_the_step_before_anything_is_reserved(
    driver: Driver, engines, in_stack: Stack
) -> None:
    steps = {"prospecting": {"headers": {"X-Key": "{{ secret.NOBODYS }}"}, "retry": {"attempts": 3, "delay": 60_000}}}
    deployment = await driver.deploy("Secret Nowhere", engines.url, only=1, steps=steps)
    # Were it tried again, the run would not end in time.
    flow_run = await driver.run(deployment)
    assert flow_run.state.name == "Failed"
    assert "{{ secret.NOBODYS }}: the Prefect server has no Secret block nobodys" in flow_run.state.message
    assert "CAMPAIGNS_SECRET_VARIABLES" in flow_run.state.message
    assert engines.requests == []
    assert await driver.store.attempts(str(flow_run.id), "prospecting") == []


async def test_a_block_comes_first_and_then_the_variables_that_are_listed(
    client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up(text: str) -> str:
        (found,) = (await look_up_secrets(secrets_in(text))).values()
        return found

    monkeypatch.setenv("CAMPAIGNS_SECRET_VARIABLES", "LISTED_TOKEN,UNSET_TOKEN,TINY_TOKEN")
    monkeypatch.setenv("LISTED_TOKEN", "from-the-environment")
    monkeypatch.setenv("OTHER_TOKEN", "not-for-campaigns")
    monkeypatch.setenv("TINY_TOKEN", "abc")
    assert await look_up("{{ secret.LISTED_TOKEN }}") == "from-the-environment"
    await Secret(value="from-a-block").asave("listed-token", overwrite=True)
    assert await look_up("{{ secret.LISTED_TOKEN }}") == "from-a-block"
    assert await look_up("{{ secret.Listed-Token }}") == "from-a-block"
    await Secret(value={"user": "ada"}).asave("secret-object", overwrite=True)
    await Secret(value=12345678).asave("secret-number", overwrite=True)
    await Secret(value=" ").asave("secret-blank", overwrite=True)
    for text, why in (
        ("{{ secret.OTHER_TOKEN }}", "set OTHER_TOKEN in the worker's environment and list it"),
        ("{{ secret.other-token }}", r"write {{ secret.OTHER_TOKEN }}, set OTHER_TOKEN"),
        ("{{ secret.SUPABASE_KEY }}", "has no Secret block supabase-key"),
        ("{{ secret.UNSET_TOKEN }}", "UNSET_TOKEN, which CAMPAIGNS_SECRET_VARIABLES lists, is not set"),
        ("{{ secret.TINY_TOKEN }}", "the variable TINY_TOKEN holds fewer than 4 characters"),
        ("{{ secret.secret-object }}", "holds a JSON object; a secret is a text"),
        ("{{ secret.secret-number }}", "holds JSON; a secret is a text"),
        ("{{ secret.secret-blank }}", "is empty; give it a value"),
        ("{{ secret.campaigns-header-x }}", "apply that file again"),
    ):
        with pytest.raises(MissingSecret) as caught:
            await look_up(text)
        assert why in str(caught.value), text
        assert "not-for-campaigns" not in str(caught.value) and "ada" not in str(caught.value)


async def test_while_prefect_cannot_be_asked_no_variable_stands_in(
    in_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGNS_SECRET_VARIABLES", "LISTED_TOKEN")
    monkeypatch.setenv("LISTED_TOKEN", "from-the-environment")
    reference = SecretReference(text="{{ secret.LISTED_TOKEN }}", name="LISTED_TOKEN")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), pytest.raises(SecretsUnavailable) as caught:
        await look_up_secrets([reference])
    assert "Prefect did not give {{ secret.LISTED_TOKEN }}" in str(caught.value)


async def test_what_a_file_says_in_a_header_is_a_block_that_follows_the_file_and_goes_with_it(
    driver: Driver, engines, client
) -> None:
    def written(value: str) -> Campaign:
        headers = {"X-Api-Key": value} if value else {}
        return campaign("Block Follows", engines.url, only=1, steps={"prospecting": {"headers": headers}})

    async def blocks() -> list[str]:
        found = await client.request("POST", "/block_documents/filter", json={})
        return [one["name"] for one in found.json() if one["name"].startswith("campaigns-header-block-follows-")]

    (secret,) = compile_campaign(written("first-1234567890")).secrets
    (changed,) = compile_campaign(written("second-1234567890")).secrets
    assert await read_secret_state(client, secret) is Saving.CREATED
    (deployment,) = await driver.apply(written("first-1234567890"))
    assert await read_secret_state(client, secret) is Saving.UNCHANGED
    assert await read_secret_state(client, changed) is Saving.CHANGED
    assert "1234567890" not in repr(await client.read_deployment(deployment))
    await driver.apply(written("second-1234567890"))
    assert await save_secret(changed) is Saving.UNCHANGED
    assert (await Secret.aload(secret.block_name)).get() == "second-1234567890"
    assert (await driver.run(deployment)).state.name == "Completed"
    assert engines.requests[-1].headers["x-api-key"] == "second-1234567890"

    # A run that may still go on keeps it; what nothing refers to goes.
    waiting = await driver.start_later(deployment)
    await driver.apply(written(""))
    await remove_unused_secrets(client)
    assert await blocks() == [secret.block_name]
    await client.delete_flow_run(waiting.id)
    await remove_unused_secrets(client)
    assert await blocks() == []
