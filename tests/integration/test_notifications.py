"""Who hears of what: mails that a real Prefect automation sends through a real SMTP server."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from campaign_files import PROSPECT
from driving import Driver, until
from mails import mails_to
from prefect.states import Completed
from prefect_email import EmailServerCredentials

from prefect_campaigns.blocks.email import CampaignEmail
from prefect_campaigns.deployments.demo.smtp_sink import SilentServer


async def test_a_failure_is_mailed_with_campaign_step_error_cost_and_a_link(driver, engines, in_stack, http) -> None:
    engines.fail_next("/api/analyze", status=500, error="<script>alert('x')</script>")
    told = {"onFailure": {"email": "failure@example.com"}}
    deployment = await driver.deploy("Mailed Failure", engines.url, notifications=told)
    flow_run = await driver.run(deployment)
    (mail,) = await mails_to(in_stack, "failure@example.com", 1)
    assert mail.message["Subject"] == f"Failed: Mailed Failure ({flow_run.name})"
    for part in (mail.text, mail.html):
        assert "Mailed Failure" in part and "analysis" in part and "cost 0.012 USD" in part
    assert "<script>alert('x')</script>" in mail.text
    assert "<script>" not in mail.html and "&lt;script&gt;" in mail.html
    (link,) = set(re.findall(r'href="([^"]+)"', mail.html))
    assert link.startswith(in_stack.server.ui_url) and str(flow_run.id) in link
    page = await http.get(link, headers={"Accept": "text/html"})
    assert page.status_code == 200


async def test_applying_twice_does_not_mail_twice(driver, engines, in_stack) -> None:
    told = {"onComplete": {"email": "once@example.com"}}
    for _ in range(2):
        deployment = await driver.deploy("Mailed Once", engines.url, only=1, notifications=told)
    await driver.run(deployment)
    # A later mail is the proof that an earlier double would have come by now.
    later = await driver.deploy(
        "Mailed Later", engines.url, only=1, notifications={"onComplete": {"email": "later@example.com"}}
    )
    await driver.run(later)
    await mails_to(in_stack, "later@example.com", 1)
    assert len(await mails_to(in_stack, "once@example.com", 1)) == 1


async def test_a_partial_run_is_mailed_to_both_and_once_to_each(driver, engines, in_stack) -> None:
    engines.fail_next(PROSPECT, status=400)
    told = {
        "onComplete": {"email": ["both@example.com", "complete@example.com"]},
        "onFailure": {"email": ["both@example.com", "failed@example.com"]},
    }
    steps = {"prospecting": {"onFailure": "continue"}}
    deployment = await driver.deploy("Mailed Partial", engines.url, only=1, steps=steps, notifications=told)
    assert (await driver.run(deployment)).state.name == "Partial"
    for address in ("both@example.com", "complete@example.com", "failed@example.com"):
        (mail,) = await mails_to(in_stack, address, 1)
        assert mail.message["Subject"].startswith("Partial: Mailed Partial")


async def test_a_run_that_the_budget_stopped_is_mailed_to_whom_the_budget_names(driver, engines, in_stack) -> None:
    told = {"onFailure": {"email": "ops2@example.com"}, "onBudget": {"email": "money@example.com"}}
    deployment = await driver.deploy("Mailed Budget", engines.url, only=1, budget={"monthly": 0}, notifications=told)
    await driver.run(deployment)
    (mail,) = await mails_to(in_stack, "money@example.com", 1)
    assert "budget: monthly 0.00 reached" in mail.text
    assert not [mail for mail in in_stack.mail.messages if "ops2@example.com" in mail.recipients]


async def test_a_mail_server_that_says_nothing_holds_no_other_automation_up(driver, engines, in_stack, http) -> None:
    """Ten seconds at most for its own mail; another recipient's mail comes in the meantime."""
    silent_run, other_run = [
        await driver.start_later(
            await driver.deploy(name, engines.url, only=1, notifications={"onComplete": {"email": address}})
        )
        for name, address in (
            ("Mailed Into Silence", "silent@example.com"),
            ("Mailed Meanwhile", "meanwhile@example.com"),
        )
    ]
    with SilentServer() as silent:
        document_id = await point_at(driver, "campaigns: complete → silent@example.com", silent)
        await driver.client.set_flow_run_state(silent_run.id, Completed(), force=True)
        await asyncio.to_thread(silent.wait_for_connection, timeout_seconds=30)
        await driver.client.set_flow_run_state(other_run.id, Completed(), force=True)
        await mails_to(in_stack, "meanwhile@example.com", 1)
        arrived = datetime.now(UTC)

        async def failed() -> list[dict[str, Any]] | None:
            wanted = {"limit": 50, "filter": {"event": {"name": ["prefect.automation.action.failed"]}}}
            answer = await http.post(f"{in_stack.server.api_url}/events/filter", json=wanted)
            return [event for event in answer.json()["events"] if str(document_id) in str(event)] or None

        (event,) = await until(failed, "the failed notification's event")
    assert "10 s" in str(event), event
    assert arrived < datetime.fromisoformat(event["occurred"])


async def point_at(driver: Driver, automation_name: str, server: SilentServer) -> UUID:
    """Make the automation's mails go to another mail server; return its block document's id."""
    (automation,) = await driver.client.read_automations_by_name(automation_name)
    document = await driver.client.read_block_document(automation.actions[0].block_document_id)
    credentials = EmailServerCredentials(
        username=None, password="", smtp_server=server.host, smtp_port=server.port, smtp_type="INSECURE"
    )
    block = CampaignEmail(credentials=credentials, sender="campaigns@example.com", recipient="silent@example.com")
    await block.asave(document.name, overwrite=True)
    return document.id
