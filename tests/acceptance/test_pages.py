"""What people see in a browser and may do there, and that every place tells the same figures."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from campaign_files import ANALYZE
from driving import Driver, until
from mails import mails_to
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    DeploymentFilter,
    DeploymentFilterId,
)
from real_stack import Stack
from rest_api import create, served

from prefect_campaigns.blocks.store_types import AuditAction, Stop
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.flows.paused_deployment import read_deployment
from prefect_campaigns.money import format_money

FULL, READ = "a-key-for-everything-0123456789", "a-key-for-reading-0123456789"


@pytest.fixture
async def pages(in_stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with served() as client:
        yield client


@pytest.fixture
async def guarded(in_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """An API that asks for keys."""
    monkeypatch.setenv("CAMPAIGNS_API_KEY", f"ada:full:{FULL},eve:read:{READ}")
    async with served() as client:
        yield client


class Seen(HTMLParser):
    """What a page shows, and what can be pressed in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.forms: list[tuple[str, dict[str, str]]] = []
        self.sources: list[str] = []
        self._hidden = 0
        self.feed(page)

    @property
    def text(self) -> str:
        """All words, with one space between them."""
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._hidden += tag in ("style", "script")
        self.sources += [values[name] for name in ("src", "href") if name in values and tag != "a"]
        if tag == "a":
            self.links.append(values.get("href", ""))
        elif tag == "form" and values.get("method") == "post":
            self.forms.append((values["action"], {}))
        elif tag == "input" and self.forms and "name" in values:
            self.forms[-1][1][values["name"]] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    def form(self, ending: str) -> tuple[str, dict[str, str]]:
        """Return where a form leads, and its fields."""
        return next(form for form in self.forms if form[0].endswith(ending))


async def see(client: httpx.AsyncClient, path: str, *, status: int = 200) -> Seen:
    answer = await client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    seen = Seen(answer.text)
    assert all(source.startswith(("/static/", "data:")) for source in seen.sources)
    return seen


async def press(client: httpx.AsyncClient, path: str, ending: str, **fields: str) -> Seen:
    """Press a button of a page, and see where it leads."""
    action, values = (await see(client, path)).form(ending)
    answer = await client.post(action, data={**values, **fields}, headers={"Origin": str(client.base_url).rstrip("/")})
    assert answer.status_code == 303, answer.text
    return await see(client, answer.headers["location"])


async def test_all_campaigns_are_seen_at_a_glance(
    pages: httpx.AsyncClient, driver: Driver, engines: DemoEngines
) -> None:
    nightly = {"cron": "0 3 * * *", "timezone": "America/New_York"}
    deployment = await driver.deploy("Seen At A Glance", engines.url, budget={"daily": 5}, schedule=nightly)
    run = await driver.run(deployment)
    report = await driver.store.get_run(str(run.id))
    assert report is not None
    seen = await see(pages, "/?q=seen at a glance")
    assert "Seen At A Glance active" in seen.text
    assert f"{format_money(report.total_cost)} of 5.00" in seen.text
    assert "next run" in seen.text
    assert "03:00" in seen.text
    assert f"a run will likely cost {format_money(report.total_cost)}" in seen.text
    assert f"/campaigns/seen-at-a-glance/runs/{run.id}" in seen.links


async def test_names_are_found_and_choices_are_counted(
    pages: httpx.AsyncClient, driver: Driver, engines: DemoEngines
) -> None:
    engines.fail_next("/api/prospect", status=400)
    await driver.run(await driver.deploy("Chosen As Failed", engines.url, only=1))
    await driver.deploy("Chosen As Nothing", engines.url, only=1)
    both = await see(pages, "/?q=CHOSEN AS")
    assert {"/campaigns/chosen-as-failed", "/campaigns/chosen-as-nothing"} <= set(both.links)
    failed = await see(pages, "/?q=chosen+as&show=failed")
    assert "/campaigns/chosen-as-failed" in failed.links
    assert "/campaigns/chosen-as-nothing" not in failed.links
    assert "No campaign here whose name has" in (await see(pages, "/?q=<b>nobody")).text
    assert (await see(pages, "/?show=nonsense&page=-1&q=chosen")).text


async def test_a_run_is_seen_while_it_goes_on(pages: httpx.AsyncClient, driver: Driver, engines: DemoEngines) -> None:
    engines.hang_next(ANALYZE)
    flow_run = await driver.start(await driver.deploy("Seen Going", engines.url))

    async def is_at_analysis() -> bool:
        return "step 2 of 4: analysis" in (await see(pages, "/?q=seen going")).text

    await until(is_at_analysis, "the page shows the second step")
    assert "data-going" in (await pages.get("/?q=seen going")).text
    page = await see(pages, "/campaigns/seen-going")
    assert "Running step 2 of 4: analysis" in page.text
    assert (await see(pages, "/?show=going")).text.count("Seen Going") == 1
    await driver.client.set_flow_run_state(flow_run.id, _cancelling())
    await driver.ended(flow_run.id)


def _cancelling() -> Any:
    from prefect.states import Cancelling

    return Cancelling()


async def test_the_buttons_do_what_the_api_does_and_the_audit_knows(
    pages: httpx.AsyncClient, driver: Driver, engines: DemoEngines
) -> None:
    await driver.deploy("Pressed", engines.url, only=1)
    path = "/campaigns/pressed"
    paused = await press(pages, path, "/pause", reason="holidays")
    assert "pressed is paused until somebody resumes it." in paused.text
    assert "paused by a person" in paused.text
    deployment = await read_deployment(driver.client, await driver.store.get_campaign("pressed"))
    assert deployment is not None
    assert deployment.paused
    assert "holidays" in paused.text
    resumed = await press(pages, path, "/resume")
    assert "active" in resumed.text
    started = await press(pages, path, "/run")
    (name,) = re.findall(r"Run ([a-z-]+) is started\.", started.text)

    async def is_done() -> bool:
        return f"{name} ✓ Completed" in (await see(pages, path)).text

    await until(is_done, "the page shows the run's end")
    audit = await driver.store.list_audit(campaign_key="pressed")
    done = [(entry.action, entry.actor) for entry in audit if entry.action is not AuditAction.CAMPAIGN_CREATED]
    assert done == [
        (AuditAction.RUN_STARTED, "local"),
        (AuditAction.CAMPAIGN_RESUMED, "local"),
        (AuditAction.CAMPAIGN_PAUSED, "local"),
    ]


async def test_a_button_that_is_pressed_twice_starts_one_run(
    pages: httpx.AsyncClient, driver: Driver, engines: DemoEngines
) -> None:
    deployment = await driver.deploy("Pressed Twice", engines.url, only=1)
    action, fields = (await see(pages, "/campaigns/pressed-twice")).form("/run")
    answers = await asyncio.gather(*(pages.post(action, data=fields) for _ in range(3)))
    assert {answer.status_code for answer in answers} == {303}
    runs = await driver.client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    )
    assert len([run for run in runs if not run.auto_scheduled]) == 1
    # The page is another one then, and so is its button.
    _, others = (await see(pages, "/campaigns/pressed-twice")).form("/run")
    assert others["once"] != fields["once"]


async def test_what_a_person_has_paused_no_button_starts(
    pages: httpx.AsyncClient, driver: Driver, engines: DemoEngines
) -> None:
    await driver.deploy("Not Started While Paused", engines.url, only=1)
    await press(pages, "/campaigns/not-started-while-paused", "/pause", reason="holidays")
    said = await press(pages, "/campaigns/not-started-while-paused", "/run")
    assert "not-started-while-paused is not started. Paused by a person" in said.text
    assert not engines.requests


async def test_while_everything_is_stopped_the_page_says_so_and_starts_nothing(
    pages: httpx.AsyncClient, driver: Driver, engines: DemoEngines
) -> None:
    await driver.deploy("Not While Stopped", engines.url, only=1)
    await driver.store.set_stop(Stop(by="ada", reason="a test of pages", since=current_clock().now()))
    try:
        assert "Everything is stopped" in (await see(pages, "/?q=not while")).text
        said = await press(pages, "/campaigns/not-while-stopped", "/run")
        assert "is started" not in said.text
        assert "a test of pages" in said.text
    finally:
        await driver.store.set_stop(None)
    assert not engines.requests


async def test_whatever_is_written_is_text(pages: httpx.AsyncClient, driver: Driver, engines: DemoEngines) -> None:
    nasty = "<img src=x onerror=alert(1)>"
    engines.fail_next("/api/prospect", status=400, error=nasty)
    deployment = await driver.deploy("Nasty & <b>Bold</b>", engines.url, only=1, description=nasty)
    run = await driver.run(deployment)
    for path in ("/?q=nasty", "/campaigns/nasty-b-bold-b", f"/campaigns/nasty-b-bold-b/runs/{run.id}"):
        raw = (await pages.get(path)).text
        assert "<img" not in raw
        assert "<b>Bold" not in raw
        assert "Nasty & <b>Bold</b>" in (await see(pages, path)).text
    assert nasty in (await see(pages, f"/campaigns/nasty-b-bold-b/runs/{run.id}")).text


async def test_what_is_not_there_is_a_page_that_says_so(
    pages: httpx.AsyncClient, driver: Driver, engines: DemoEngines
) -> None:
    assert "There is nothing here" in (await see(pages, "/campaigns/nobody", status=404)).text
    await driver.deploy("Has No Such Run", engines.url, only=1)
    missing = await see(pages, "/campaigns/has-no-such-run/runs/x", status=404)
    assert "has-no-such-run has no run" in missing.text
    assert (await pages.get("/api/campaigns/nobody")).json()["success"] is False


async def test_a_form_that_another_page_made_changes_nothing(
    pages: httpx.AsyncClient, driver: Driver, engines: DemoEngines
) -> None:
    await driver.deploy("Not Forged", engines.url, only=1)
    action, fields = (await see(pages, "/campaigns/not-forged")).form("/pause")
    foreign = await pages.post(action, data=fields, headers={"Origin": "http://evil.example"})
    tokenless = await pages.post(action, data={"reason": "x"})
    guessed = await pages.post(action, data={**fields, "token": "0" * 64})
    assert [one.status_code for one in (foreign, tokenless, guessed)] == [403] * 3
    assert (await driver.store.get_campaign("not-forged")).pause is None
    # What came of a button is said to who pressed it, and not to who follows somebody's link.
    linked = await see(pages, "/campaigns/not-forged?said=good:Send your key to evil.example&seal=0")
    assert "evil.example" not in linked.text


async def test_with_keys_a_browser_is_asked_once(guarded: httpx.AsyncClient, in_stack: Stack) -> None:
    sent = await guarded.get("/?q=x")
    assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=/%3Fq%3Dx")
    assert (await guarded.get("/static/page.css")).status_code == 200
    wrong = await guarded.post("/login", data={"key": "no key"})
    assert wrong.status_code == 401
    assert "is not in CAMPAIGNS_API_KEY" in Seen(wrong.text).text
    let_in = await guarded.post("/login", data={"key": FULL, "next": "/?show=all"})
    assert (let_in.status_code, let_in.headers["location"]) == (303, "/?show=all")
    cookie = let_in.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert FULL not in cookie
    seen = await see(guarded, "/")
    action, fields = seen.form("/logout")
    # The cookie opens pages, and nothing of the API.
    assert (await guarded.get("/api/campaigns")).status_code == 401
    assert (await guarded.post(action, data=fields)).headers["location"] == "/login"
    assert (await guarded.get("/")).status_code == 303


async def test_who_may_only_read_sees_no_buttons_and_can_press_none(
    guarded: httpx.AsyncClient, driver: Driver, engines: DemoEngines
) -> None:
    await driver.deploy("Only Read", engines.url, only=1)
    await guarded.post("/login", data={"key": READ})
    seen = await see(guarded, "/campaigns/only-read")
    assert not [action for action, _ in seen.forms if action.startswith("/campaigns")]
    refused = await guarded.post("/campaigns/only-read/pause", data={"token": "x"})
    assert refused.status_code == 403
    assert "for reading only" in Seen(refused.text).text
    action, fields = (await see(guarded, "/")).form("/logout")
    assert (await guarded.post(action, data=fields)).headers["location"] == "/login"
    assert (await guarded.get("/")).status_code == 303
    assert (await driver.store.get_campaign("only-read")).pause is None


async def test_cookies_of_others_are_in_nobodys_way(guarded: httpx.AsyncClient) -> None:
    let_in = await guarded.post("/login", data={"key": FULL})
    session = let_in.headers["set-cookie"].partition(";")[0]
    guarded.cookies.clear()
    answer = await guarded.get("/", headers={"Cookie": f'prefs={{"a":1}}; {session}'})
    assert answer.status_code == 200


async def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_alone(guarded: httpx.AsyncClient) -> None:
    host = guarded.base_url.netloc.decode()
    let_in = await guarded.post("/login", data={"key": FULL}, headers={"Origin": f"https://{host}"})
    assert "Secure" in let_in.headers["set-cookie"]
    assert "Secure" not in (await guarded.post("/login", data={"key": FULL})).headers["set-cookie"]


async def test_what_is_looked_for_is_there_after_the_login(guarded: httpx.AsyncClient) -> None:
    sent = await guarded.get("/?show=failed&q=a b")
    page = Seen((await guarded.get(sent.headers["location"])).text)
    _, fields = page.form("/login")
    assert fields["next"] == "/?show=failed&q=a%20b"


async def test_too_much_to_look_for_is_a_page_that_says_so(pages: httpx.AsyncClient) -> None:
    assert "That cannot be used" in (await see(pages, f"/?q={'x' * 201}", status=400)).text
    assert (await pages.get("/campaigns")).headers["location"] == "/"


@pytest.mark.parametrize(
    "cookie",
    ["", "ada", "ada~99999999999~" + "0" * 64, "nobody~99999999999~" + "0" * 64, "ada~x~y", "ada~999999999999999~y"],
)
async def test_a_session_that_is_made_up_is_none(guarded: httpx.AsyncClient, cookie: str) -> None:
    answer = await guarded.get("/", headers={"Cookie": f"campaigns_session={cookie}"})
    assert (answer.status_code, answer.headers.get("location")) == (303, "/login?next=/")


@pytest.mark.parametrize(
    "next", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", ""]
)
async def test_a_login_leads_nowhere_else(guarded: httpx.AsyncClient, next: str) -> None:
    assert (await guarded.post("/login", data={"key": FULL, "next": next})).headers["location"] == "/"


async def test_six_places_tell_the_same_cents(
    pages: httpx.AsyncClient, driver: Driver, engines: DemoEngines, in_stack: Stack
) -> None:
    address = "six.places@example.com"
    await create(
        pages, "Six Places", engines.url, budget={"daily": 5}, notifications={"onComplete": {"email": address}}
    )
    record = await driver.store.get_campaign("six-places")
    assert record.deployment_id is not None
    runs = [await driver.run(record.deployment_id) for _ in range(2)]
    last = str(runs[-1].id)

    with closing(sqlite3.connect(in_stack.database)) as db:
        ledger = dict(
            db.execute("SELECT run_id, sum(spent) FROM ledger WHERE campaign_key = 'six-places' GROUP BY run_id")
        )
    run_cost, spent = (Decimal(amount) / 1_000_000 for amount in (ledger[last], sum(ledger.values())))
    assert 0 < run_cost < spent
    cost, total, left = map(format_money, (run_cost, spent, Decimal(5) - spent))

    (artifact,) = await driver.client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[runs[-1].id]), type=ArtifactFilterType(any_=["markdown"])
        )
    )
    mail = (await mails_to(in_stack, address, 2))[-1]
    if runs[-1].name not in mail.text:
        mail = next(one for one in await mails_to(in_stack, address, 2) if runs[-1].name in one.text)
    command = await asyncio.to_thread(in_stack.run_command, "budget", "six-places", "--json")
    (day, *_) = json.loads(command.stdout)["limits"]
    budget = (await pages.get(f"/api/campaigns/{record.id}/budget")).json()["budget"]["limits"][0]
    listed = (await pages.get(f"/api/campaigns/{record.id}/runs")).json()["runs"]
    page = (await see(pages, "/?q=six places")).text
    report_page = (await see(pages, f"/campaigns/six-places/runs/{last}")).text
    report = json.loads((await asyncio.to_thread(in_stack.run_command, "report", last, "--json")).stdout)

    assert f"{total} of 5.00" in page
    assert f"{cost} USD" in report_page
    assert f"{left} 5.00" in report_page
    assert f"**Cost** {cost} USD" in str(artifact.data)
    assert f"| daily | {total} | 0.00 | {left} | 5.00 |" in str(artifact.data)
    for part in (mail.text, mail.html):
        assert f"{cost} USD" in part
        assert f"{left} left of 5.00" in part
    assert (day["spent"], day["left"]) == (total, left)
    assert (Decimal(str(budget["spent"])), Decimal(str(budget["left"]))) == (spent, Decimal(5) - spent)
    assert Decimal(str(next(one for one in listed if one["id"] == last)["totalCost"])) == run_cost
    assert report["cost"] == cost


async def test_a_report_is_a_page_that_needs_nothing_else(
    driver: Driver, engines: DemoEngines, in_stack: Stack, tmp_path: Path
) -> None:
    deployment = await driver.deploy("Reported To A File", engines.url, budget={"daily": 5})
    run = await driver.run(deployment)
    for arguments in (["reported-to-a-file"], [str(run.id)], ["--week", "reported-to-a-file"], ["--month"]):
        path = tmp_path / "report.html"
        done = await asyncio.to_thread(in_stack.run_command, "report", *arguments, "--out", str(path))
        assert (done.returncode, done.stderr) == (0, "")
        raw = path.read_text()
        assert not Seen(raw).sources[1:]
        assert "http://" not in raw
        assert "<script" not in raw
        path.unlink()


async def test_a_report_at_a_terminal_tells_the_run(driver: Driver, engines: DemoEngines, in_stack: Stack) -> None:
    engines.fail_next(ANALYZE, status=500)
    steps = {"analysis": {"retry": {"attempts": 1, "delay": 100}}}
    run = await driver.run(await driver.deploy("Reported At A Terminal", engines.url, steps=steps))
    cost = format_money(engines.charged)
    for name in ("reported at a terminal", str(run.id)[:8], run.name):
        done = await asyncio.to_thread(in_stack.run_command, "report", name)
        assert done.returncode == 0, done.stderr
        assert f"Cost      {cost} USD" in done.stdout
        assert "analysis  completed  2 requests" in done.stdout
    week = await asyncio.to_thread(in_stack.run_command, "report", "--week", "reported-at-a-terminal")
    assert "1 run: 1 Completed" in week.stdout
    assert "1 request was made again after a failure; 1 run completed thanks to that." in week.stdout
    of_week = json.loads(
        (await asyncio.to_thread(in_stack.run_command, "report", "--week", "reported-at-a-terminal", "--json")).stdout
    )
    assert (of_week["cost"], of_week["leads"]) == (cost, 5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "of what?"),
        (["--week", "--month"], "are two reports"),
        (["x", "--last"], "--last belongs to"),
        (["nobody-at-all"], "there is no campaign and no run 'nobody-at-all'"),
        (["--week", "nobody-at-all"], "there is no campaign 'nobody-at-all'"),
        (["--week", "--json", "--out", "x.html"], "two forms"),
        (["--week", "--out", "no/such/folder/x.html"], "cannot be written"),
    ],
)
async def test_a_report_that_cannot_be_made_is_one_sentence(in_stack: Stack, arguments: list[str], said: str) -> None:
    done = await asyncio.to_thread(in_stack.run_command, "report", *arguments)
    assert done.returncode in (1, 2)
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
