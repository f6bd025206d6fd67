"""What was sent with some results is not sent with them again, by whatever run, unless a person says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from campaign_files import ANALYZE, COMPOSE, PROSPECT, SEND, campaign, campaign_json
from driving import Driver
from prefect.blocks.system import Secret
from prefect.states import Scheduled

from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.driving.run_changes import begin_at
from prefect_campaigns.deployments.driving.runs import start_run
from prefect_campaigns.errors import SendMayHaveHappened
from prefect_campaigns.flows.versions import parameters_of
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, RunStatus, StepStatus

ADA = "ada@laptop"


async def test_of_all_runs_that_share_results_one_sends(driver: Driver, engines: DemoEngines) -> None:
    steps = {"sending": {"headers": {"X-Key": "{{ secret.SENT_ONCE }}"}, "onFailure": "continue"}}
    once = campaign("Sent Once", engines.url, steps=steps)
    (deployment,) = await driver.apply(once)
    first = await driver.run(deployment)
    assert first.state.name == "Partial" and engines.requests_to(SEND) == []
    await Secret(value="it-is-there-now").asave("sent-once", overwrite=True)

    # Typed before either has sent anything: at both times it looks as if nothing had been sent yet.
    record = await driver.store.get_campaign("sent-once")
    typed = [(await begin_at(driver.store, once, "sending", send_again=False))[0] for _ in range(2)]
    begun = [await start_run(driver.client, driver.store, record, actor=ADA, parameters=one) for one in typed]
    ended = await driver.all_ended([run.id for run in begun], seconds=60)
    assert sorted(run.state.name for run in ended) == ["Completed", "Partial"]
    (sent,) = [run for run in ended if run.state.name == "Completed"]
    refused = next(run for run in ended if run is not sent).state.message
    assert f"run {sent.name} has sent with the same results already, or may have." in refused
    assert "campaigns run sent-once --from sending --send-again" in refused

    # The run that they have the results of is retried.
    retried = await driver.retry(first)
    assert f"run {sent.name} has sent with the same results already" in retried.state.message
    # One that repeats an earlier step has new results of that step, and the same prospects.
    deeper = {"from_step": "outreach", "results_of": str(first.id)}
    further = await start_run(driver.client, driver.store, record, actor=ADA, parameters=deeper)
    assert f"run {sent.name} has sent" in (await driver.ended(further.id)).state.message
    assert len(engines.requests_to(SEND)) == 1

    parameters, _ = await begin_at(driver.store, once, "sending", send_again=True)
    again = await start_run(driver.client, driver.store, record, actor=ADA, parameters=parameters)
    assert (await driver.ended(again.id)).state.name == "Completed"
    # A run from the first step has results of its own.
    assert (await driver.run(deployment)).state.name == "Completed"
    assert len(engines.requests_to(SEND)) == 3


async def test_what_was_sent_is_not_sent_again_by_a_step_of_another_name(driver: Driver, engines: DemoEngines) -> None:
    written = campaign_json("Sent Renamed", engines.url, only=4)
    *before, sending = written["steps"]
    (deployment,) = await driver.apply(Campaign.model_validate(written))
    first = await driver.run(deployment)
    assert first.state.name == "Completed" and len(engines.requests_to(SEND)) == 1

    # As one step, and as one of two, of which the other took over its name.
    mailing, other = {**sending, "name": "mailing"}, {**sending, "endpoint": f"{engines.url}{COMPOSE}", "sends": False}
    for steps in ([*before, mailing], [*before[:2], other, mailing]):
        renamed = Campaign.model_validate({**written, "steps": [{**step, "params": {}} for step in steps]})
        await driver.apply(renamed)
        record = await driver.store.get_campaign("sent-renamed")
        with pytest.raises(SendMayHaveHappened, match=r'"sending" has sent in run .* step "mailing" might send the'):
            await begin_at(driver.store, renamed, "mailing", send_again=False)
        typed = {"from_step": "mailing", "results_of": str(first.id)}
        run = await start_run(driver.client, driver.store, record, actor=ADA, parameters=typed)
        refused = (await driver.ended(run.id)).state
        assert refused.name == "Failed"
        assert f"run {first.name} has sent with the same results already, or may have, by its step 'sending'" in (
            refused.message
        )
    assert len(engines.requests_to(SEND)) == 1

    # A retry whose own parameters somebody has edited.
    parameters = {**first.parameters, **parameters_of(renamed)}
    (await driver.client.update_flow_run(first.id, parameters=parameters)).raise_for_status()
    assert "by its step 'sending'" in (await driver.retry(first)).state.message
    assert len(engines.requests_to(SEND)) == 1


async def test_a_second_step_that_sends_sends_what_the_first_one_has_not(driver: Driver, engines: DemoEngines) -> None:
    written = campaign_json("Sent By Two", engines.url, only=4)
    second = {**written["steps"][-1], "name": "reminder", "headers": {"X-Key": "{{ secret.SENT_BY_TWO }}"}}
    both = Campaign.model_validate({**written, "steps": [*written["steps"], second]})
    (deployment,) = await driver.apply(both)
    assert (await driver.run(deployment)).state.name == "Failed" and len(engines.requests_to(SEND)) == 1
    await Secret(value="it-is-there-now").asave("sent-by-two", overwrite=True)
    parameters, _ = await begin_at(driver.store, both, "reminder", send_again=False)
    record = await driver.store.get_campaign("sent-by-two")
    run = await start_run(driver.client, driver.store, record, actor=ADA, parameters=parameters)
    assert (await driver.ended(run.id)).state.name == "Completed"
    assert len(engines.requests_to(SEND)) == 2


async def test_a_run_from_a_later_step_that_was_skipped_begins_there_when_it_is_retried(
    driver: Driver, engines: DemoEngines
) -> None:
    deployment = await driver.deploy("Skipped Later", engines.url, only=2)
    first = await driver.run(deployment)
    later = {"from_step": "analysis", "results_of": str(first.id)}
    tomorrow = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
    run = await driver.client.create_flow_run_from_deployment(deployment, parameters=later, state=tomorrow)
    await driver.store.record_skipped_run(
        RunReport(
            run_id=str(run.id),
            run_name=run.name,
            campaign_key="skipped-later",
            campaign_name="Skipped Later",
            status=RunStatus.ABORTED,
            state_name="Skipped",
            started_at=datetime.now(UTC),
        )
    )
    await driver.client.set_flow_run_state(run.id, Scheduled(), force=True)
    assert (await driver.ended(run.id)).state.name == "Completed"
    assert (len(engines.requests_to(PROSPECT)), len(engines.requests_to(ANALYZE))) == (1, 2)
    report = await driver.store.get_run(str(run.id))
    assert report is not None
    taken, done = report.steps
    assert (taken.status, taken.taken_from, done.status) == (StepStatus.SKIPPED, str(first.id), StepStatus.COMPLETED)
