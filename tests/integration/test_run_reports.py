"""What each run leaves to be looked at: its report in Prefect, and in the mail about its end."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from uuid import UUID

import pytest
from campaign_files import ANALYZE, PROSPECT
from driving import Driver, until
from mails import mails_to
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterType
from prefect.client.schemas.objects import Artifact
from prefect.states import Failed, Suspended
from real_stack import Stack

from prefect_campaigns.blocks.email_composing import REPORT_LABEL
from prefect_campaigns.blocks.run_figures import figures_of_run
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.driving.runs import cancel_run
from prefect_campaigns.errors import StoreError
from prefect_campaigns.figures import RunFigures
from prefect_campaigns.flows import reporting
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunStatus


async def reports_of(driver: Driver, run_id: UUID, count: int = 1) -> list[Artifact]:
    """Wait until a run has so many reports, and return them."""
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]), type=ArtifactFilterType(any_=["markdown"])
    )

    async def look() -> list[Artifact] | None:
        found = await driver.client.read_artifacts(artifact_filter=wanted)
        return found if len(found) >= count else None

    return await until(look, f"{count} reports of {run_id}")


async def figures_in_label(driver: Driver, run_id: UUID) -> RunFigures:
    flow_run = await driver.client.read_flow_run(run_id)
    return RunFigures.model_validate_json(str(flow_run.labels[REPORT_LABEL]))


async def test_a_run_leaves_a_report_with_its_funnel_steps_costs_budget_and_outlook(
    driver: Driver, engines: DemoEngines
) -> None:
    budget = {"daily": 5, "perLead": "0.05"}
    deployment = await driver.deploy("Reported", engines.url, budget=budget)
    flow_run = await driver.run(deployment)
    (report,) = await reports_of(driver, flow_run.id)
    assert report.key == "report-reported"
    record = await driver.store.get_run(str(flow_run.id))
    assert record is not None
    assert record.total_cost > 0
    said = str(report.data)
    assert said.startswith(f"# Completed\\: Reported \\({flow_run.name.replace('-', chr(92) + '-')}\\)")
    assert f"**Cost** {format_money(record.total_cost)} USD" in said
    for section in ("## Leads", "## Steps", "## Budget \\(USD\\)".replace("\\", ""), "## Next"):
        assert section in said
    assert "| found | 5 | 100 % |" in said
    for step in record.steps:
        assert f"| {step.name} | completed | 1 request |" in said or step.attempts > 1
    assert "## What went wrong" not in said
    assert f"| daily | {format_money(record.total_cost)} |" in said
    assert f"next run will likely cost {format_money(record.total_cost)} USD" in said.replace("\\", "")


async def test_the_figures_are_those_of_the_books(driver: Driver, engines: DemoEngines) -> None:
    flow_run = await driver.run(await driver.deploy("Figured Out", engines.url, budget={"daily": 5}))
    record = await driver.store.get_run(str(flow_run.id))
    assert record is not None
    left = await figures_in_label(driver, flow_run.id)
    assert left == await figures_of_run(driver.store, record, now=left.made_at)
    assert left.message == flow_run.state.message
    assert left.cost == sum((charge.cost for charge in engines.charges), Decimal(0))


async def test_a_failure_says_what_to_do_and_shows_nothing_but_text(driver: Driver, engines: DemoEngines) -> None:
    engines.fail_next(ANALYZE, status=422, error="![x](http://evil.example/p.png) | <b>no</b>")
    flow_run = await driver.run(await driver.deploy("Reported Failure", engines.url))
    (report,) = await reports_of(driver, flow_run.id)
    said = str(report.data)
    assert "## What went wrong" in said
    assert "What to do" in said
    assert "--dry" in said.replace("\\", "")
    assert "![x](" not in said
    assert "<b>" not in said
    assert "\\!\\[x\\]\\(http\\://evil.example/p.png\\) \\| \\<b\\>no\\</b\\>" in said


async def test_the_mail_about_the_end_is_the_report(driver: Driver, engines: DemoEngines, in_stack: Stack) -> None:
    address = "reported@example.com"
    deployment = await driver.deploy(
        "Mailed Report", engines.url, budget={"daily": 5}, notifications={"onComplete": {"email": address}}
    )
    flow_run = await driver.run(deployment)
    (mail,) = await mails_to(in_stack, address, 1)
    figures = await figures_in_label(driver, flow_run.id)
    cost = format_money(figures.cost)
    for part in (mail.text, mail.html):
        assert f"{cost} USD" in part
        assert f"{format_money(Decimal(5) - figures.cost)} left of 5.00" in part
        assert "The next run will likely cost" in part
        for step in figures.steps:
            assert step.name in part
    assert "5 found (100 %)" in mail.text
    assert "http" not in mail.html.replace(in_stack.server.ui_url, "")


async def test_who_sets_the_state_by_hand_is_mailed_no_figures_of_another_end(
    driver: Driver, engines: DemoEngines, in_stack: Stack
) -> None:
    address = "by.hand@example.com"
    deployment = await driver.deploy(
        "Set By Hand", engines.url, only=1, notifications={"onFailure": {"email": address}}
    )
    flow_run = await driver.run(deployment)
    assert REPORT_LABEL in (await driver.client.read_flow_run(flow_run.id)).labels
    await driver.client.set_flow_run_state(flow_run.id, Failed(message="somebody says so"), force=True)
    (mail,) = await mails_to(in_stack, address, 1)
    assert "somebody says so" in mail.text
    assert "next run" not in mail.text


async def test_a_run_that_never_begins_or_is_cancelled_while_it_waits_leaves_one_too(
    driver: Driver, engines: DemoEngines
) -> None:
    engines.hang_next(PROSPECT)
    deployment = await driver.deploy(
        "Skips Reported", engines.url, only=1, schedule={"cron": "0 9 1 1 *", "timezone": "UTC", "overlap": "skip"}
    )
    going = await driver.start(deployment)

    async def is_asked() -> bool:
        return bool(engines.requests)

    await until(is_asked, "the first request")
    skipped = await driver.run(deployment)
    assert skipped.state.name == "Skipped"
    (report,) = await reports_of(driver, skipped.id)
    assert str(report.data).startswith("# Skipped")
    await cancel_run(driver.client, driver.store, going, actor="a test")
    (report,) = await reports_of(driver, going.id)
    assert str(report.data).startswith("# Cancelled")


async def test_one_that_waits_for_a_person_leaves_its_report_when_it_is_cancelled(
    driver: Driver, engines: DemoEngines
) -> None:
    deployment = await driver.deploy(
        "Waits And Is Cancelled", engines.url, only=2, steps={"analysis": {"approval": {"timeout": 3_600_000}}}
    )
    flow_run = await driver.start(deployment)
    await driver.in_state(flow_run.id, Suspended().name or "")
    suspended = await driver.client.read_flow_run(flow_run.id)
    await cancel_run(driver.client, driver.store, suspended, actor="a test")
    (report,) = await reports_of(driver, flow_run.id)
    assert str(report.data).startswith("# Cancelled")
    record = await driver.store.get_run(str(flow_run.id))
    assert record is not None
    assert record.status is RunStatus.ABORTED


@pytest.mark.parametrize("fault", [StoreError("the books are away"), ValueError("nobody has foreseen it")], ids=repr)
async def test_a_report_that_cannot_be_made_is_a_line_in_the_log_and_no_failure(
    driver: Driver,
    engines: DemoEngines,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Exception,
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise fault

    run = await driver.run(await driver.deploy(f"No Report {type(fault).__name__}", engines.url, only=1))
    record = await driver.store.get_run(str(run.id))
    assert record is not None
    monkeypatch.setattr(reporting, "figures_of_run", fail)
    await reporting.leave_own_report(driver.store, record, now=record.started_at, logger=logging.getLogger("a run"))
    assert str(fault) in caplog.text


async def test_who_cancels_a_run_that_has_ended_does_not_undo_its_end(
    driver: Driver, engines: DemoEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await driver.run(await driver.deploy("Cancelled Too Late", engines.url, only=1))
    record = await driver.store.get_run(str(run.id))
    assert record is not None
    is_at_it = asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        is_at_it.set()
        await asyncio.sleep(60)

    async def end() -> str:
        await reporting.leave_own_report(driver.store, record, now=record.started_at, logger=logging.getLogger("a run"))
        await asyncio.sleep(0)
        return "ended"

    monkeypatch.setattr(reporting, "figures_of_run", hang)
    ending = asyncio.create_task(end())
    await is_at_it.wait()
    ending.cancel()
    assert await asyncio.wait_for(ending, 5) == "ended"


async def test_a_correction_is_in_the_step_as_it_is_in_the_sum(driver: Driver, engines: DemoEngines) -> None:
    engines.lose_next(PROSPECT)
    steps = {"prospecting": {"estimatedCost": "0.05", "sends": True}}
    run = await driver.run(await driver.deploy("Corrected Step", engines.url, only=1, steps=steps))
    await driver.store.correct(
        "corrected-step",
        run_id=str(run.id),
        step="prospecting",
        attempt=1,
        amount=Decimal("0.02"),
        by="a test",
        note="the engine's invoice",
    )
    record = await driver.store.get_run(str(run.id))
    assert record is not None
    figures = await figures_of_run(driver.store, record, now=record.started_at)
    assert (figures.cost, figures.steps[0].cost) == (Decimal("0.02"), Decimal("0.02"))


async def test_a_campaign_that_is_deleted_takes_its_reports_with_it(
    driver: Driver, engines: DemoEngines, in_stack: Stack
) -> None:
    run = await driver.run(await driver.deploy("Deleted With Its Report", engines.url, only=1))
    await reports_of(driver, run.id)
    done = await asyncio.to_thread(in_stack.run_command, "delete", "deleted-with-its-report", "--yes")
    assert done.returncode == 0, done.stderr
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    assert await driver.client.read_artifacts(artifact_filter=wanted) == []
