"""A campaign's run, on a real Prefect server, by a real worker, against real engines."""

from __future__ import annotations

import logging
from decimal import Decimal

import pytest
from campaign_files import ANALYZE, COMPOSE, PROSPECT, SEND
from driving import until
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId, LogFilterLevel
from real_stack import Stack

from prefect_campaigns.deployments.demo.engines import DemoEngines

STEPS = ["prospecting", "analysis", "outreach", "sending"]


async def test_one_task_run_per_step_in_the_files_order_with_its_own_name_retries_and_timeout(driver, engines) -> None:
    retry = {"attempts": 3, "delay": 5000, "backoff": "exponential"}
    deployment = await driver.deploy(
        "Four Steps", engines.url, steps={"prospecting": {"retry": retry, "timeout": 45_000}}
    )
    flow_run = await driver.run(deployment)
    assert flow_run.state.name == "Completed", flow_run.state
    runs = await driver.step_runs(flow_run.id, 4)
    assert [run.name for run in runs] == STEPS
    assert [run.empirical_policy.retries for run in runs] == [3, 0, 0, 0]
    assert runs[0].empirical_policy.retry_delay == [5, 10, 20]
    assert flow_run.parameters["campaign"]["steps"][0]["timeout"] == 45_000
    assert [request.path for request in engines.requests if request.method == "POST"] == [
        PROSPECT,
        ANALYZE,
        COMPOSE,
        SEND,
    ]


async def test_what_the_engines_charged_is_in_the_books_and_the_results_chain(driver, engines) -> None:
    deployment = await driver.deploy("Chained", engines.url, metadata={"project_id": "p-7"})
    flow_run = await driver.run(deployment)
    report = await driver.store.get_run(str(flow_run.id))
    assert report.total_cost == engines.charged == Decimal("0.037")
    assert report.counts["prospects_generated"] == 5 and report.counts["emails_sent"] == 5
    (analysis,) = engines.requests_to(ANALYZE)
    assert analysis.params["runId"] == report.steps[0].result["runId"]
    assert isinstance(analysis.params["prospects"], list), "a value that is one reference keeps its type"
    assert analysis.params["options"] == {"projectId": "p-7"}
    status = await driver.store.budget_status("chained")
    assert {limit.spent for limit in status.limits} == {Decimal("0.037")}
    assert {limit.reserved for limit in status.limits} == {Decimal(0)}
    assert flow_run.state.message.startswith("4 of 4 steps, 5 prospects generated")


async def test_each_retry_is_one_more_request_with_the_same_key(driver, engines) -> None:
    engines.fail_next(PROSPECT, status=503, times=2)
    steps = {"prospecting": {"retry": {"attempts": 3, "delay": 10}}}
    flow_run = await driver.run(await driver.deploy("Retried", engines.url, steps=steps, only=1))
    assert flow_run.state.name == "Completed"
    requests = engines.requests_to(PROSPECT)
    assert len(requests) == 3
    assert len({request.idempotency_key for request in requests}) == 1
    report = await driver.store.get_run(str(flow_run.id))
    assert report.steps[0].attempts == 3


async def test_a_request_that_is_wrong_is_made_once(driver, engines) -> None:
    engines.fail_next(PROSPECT, status=400, error="no such industry", times=5)
    steps = {"prospecting": {"retry": {"attempts": 3, "delay": 10}}}
    flow_run = await driver.run(await driver.deploy("Refused", engines.url, steps=steps, only=1))
    assert flow_run.state.name == "Failed"
    assert "400" in flow_run.state.message and "no such industry" in flow_run.state.message
    assert len(engines.requests_to(PROSPECT)) == 1


async def test_parameters_that_are_no_campaign_end_the_run_in_our_words_and_show_no_secret(driver, engines) -> None:
    deployment = await driver.deploy("Edited Wrongly", engines.url, only=1)
    secret = "sk-topsecret-1234"
    step = {"name": "a", "engine": "e", "endpoint": engines.url, "headers": {"X-Key": secret}, "foo": 1}
    edited = {"campaign": {"name": "Edited Wrongly", "steps": [step]}}
    begun = await driver.client.create_flow_run_from_deployment(deployment, parameters=edited)
    ended = await driver.ended(begun.id)
    assert ended.state.name == "Failed"
    assert ended.state.message.startswith('InvalidCampaign: campaign: /steps/0/foo: the unknown key "foo" came')

    async def error() -> str | None:
        logs = await driver.client.read_logs(
            LogFilter(flow_run_id=LogFilterFlowRunId(any_=[begun.id]), level=LogFilterLevel(ge_=logging.ERROR))
        )
        return "\n".join(line.message for line in logs) or None

    said = await until(error, "the error in the run's log")
    assert "/steps/0/foo" in said and secret not in said + ended.state.message
    assert engines.requests == []


async def test_retry_after_overrules_the_computed_delay(driver, engines) -> None:
    engines.fail_next(PROSPECT, status=429, retry_after=2)
    steps = {"prospecting": {"retry": {"attempts": 1, "delay": 60_000}}}
    flow_run = await driver.run(await driver.deploy("Told To Wait", engines.url, steps=steps, only=1))
    assert flow_run.state.name == "Completed"
    (run,) = await driver.step_runs(flow_run.id, 1)
    states = await driver.client.read_task_run_states(run.id)
    (waiting,) = [state for state in states if state.name == "AwaitingRetry"]
    assert (waiting.state_details.scheduled_time - waiting.timestamp).total_seconds() == pytest.approx(2, abs=0.2)


async def test_after_an_abort_prefects_retry_goes_on_at_the_failed_step(driver, engines) -> None:
    engines.fail_next(COMPOSE, status=500, error="template missing", cost=0.004)
    deployment = await driver.deploy("Aborted", engines.url)
    flow_run = await driver.run(deployment)
    assert flow_run.state.name == "Failed"
    assert "Step 'outreach' failed" in flow_run.state.message and "template missing" in flow_run.state.message
    cost = (await driver.store.get_run(str(flow_run.id))).total_cost
    assert cost == engines.charged + Decimal("0.004"), "a failed run's cost counts, and so does a failed request's"

    again = await driver.retry(flow_run)
    assert again.state.name == "Completed"
    posts = [request.path for request in engines.requests if request.method == "POST"]
    assert posts == [PROSPECT, ANALYZE, COMPOSE, COMPOSE, SEND]
    first, second = engines.requests_to(COMPOSE)
    assert first.idempotency_key == second.idempotency_key


async def test_a_failure_that_the_campaign_goes_on_from_makes_it_partial_and_can_be_retried(driver, engines) -> None:
    engines.fail_next(PROSPECT, status=400)
    steps = {
        "prospecting": {"onFailure": "continue"},
        "analysis": {"params": {}},
    }
    flow_run = await driver.run(await driver.deploy("Half Done", engines.url, steps=steps, only=2))
    assert (flow_run.state.type.value, flow_run.state.name) == ("COMPLETED", "Partial")
    assert "Step 'prospecting' failed" in flow_run.state.message
    again = await driver.retry(flow_run)
    assert again.state.name == "Completed"
    assert (len(engines.requests_to(PROSPECT)), len(engines.requests_to(ANALYZE))) == (2, 1)


async def test_a_failure_that_is_only_logged_leaves_the_run_completed(driver, engines) -> None:
    engines.fail_next(PROSPECT, status=400)
    steps = {"prospecting": {"onFailure": "log"}, "analysis": {"params": {}}}
    flow_run = await driver.run(await driver.deploy("Just Logged", engines.url, steps=steps, only=2))
    assert flow_run.state.name == "Completed"
    assert "only logged" in flow_run.state.message


async def test_a_step_may_end_the_run_successfully(driver, engines) -> None:
    steps = {"prospecting": {"onSuccess": "abort"}}
    flow_run = await driver.run(await driver.deploy("Stops Early", engines.url, steps=steps))
    assert flow_run.state.name == "Completed"
    report = await driver.store.get_run(str(flow_run.id))
    assert [str(step.status) for step in report.steps] == ["completed", "skipped", "skipped", "skipped"]


async def test_a_reference_that_finds_nothing_fails_its_step_by_name(driver, engines) -> None:
    steps = {"analysis": {"params": {"x": "{{ steps.prospecting.nothingHere }}"}}}
    flow_run = await driver.run(await driver.deploy("Dangling", engines.url, steps=steps, only=2))
    assert flow_run.state.name == "Failed"
    assert "Step 'analysis' failed" in flow_run.state.message and "nothingHere" in flow_run.state.message
    assert engines.requests_to(ANALYZE) == []


async def test_over_a_limit_no_engine_is_called_and_the_run_says_why(driver, engines) -> None:
    # Five prospects cost 0.012; the limit is what one run costs.
    deployment = await driver.deploy("Spent", engines.url, only=1, budget={"daily": "0.012"})
    assert (await driver.run(deployment)).state.name == "Completed"
    flow_run = await driver.run(deployment)
    assert (flow_run.state.type.value, flow_run.state.name) == ("CANCELLED", "BudgetExceeded")
    assert "budget: daily 0.012 reached, spent 0.012" in flow_run.state.message
    assert len(engines.requests_to(PROSPECT)) == 1


async def test_a_run_with_edited_parameters_cannot_raise_its_own_budget(driver, engines) -> None:
    deployment = await driver.deploy("Edited", engines.url, only=1, budget={"daily": 0})
    parameters = (await driver.client.read_deployment(deployment)).parameters
    parameters["campaign"]["budget"] = {"daily": "1000.00"}
    flow_run = await driver.client.create_flow_run_from_deployment(deployment, parameters=parameters)
    assert (await driver.ended(flow_run.id)).state.name == "BudgetExceeded"
    assert engines.requests == []


async def test_a_step_that_would_pass_a_limit_is_refused_and_one_that_costs_nothing_is_not(driver, engines) -> None:
    steps = {"prospecting": {"estimatedCost": "0.01"}, "analysis": {"estimatedCost": "0.05", "params": {}}}
    deployment = await driver.deploy("Too Dear", engines.url, steps=steps, only=2, budget={"daily": "0.05"})
    flow_run = await driver.run(deployment)
    assert flow_run.state.name == "BudgetExceeded"
    assert len(engines.requests_to(PROSPECT)) == 1 and engines.requests_to(ANALYZE) == []
    assert "cost 0.012 USD" in flow_run.state.message


async def test_a_budget_stop_names_the_steps_that_failed_before_it(driver, engines) -> None:
    engines.fail_next(PROSPECT, status=400, error="no such industry")
    steps = {"prospecting": {"onFailure": "continue"}, "analysis": {"estimatedCost": 9, "params": {}}}
    flow_run = await driver.run(
        await driver.deploy("Failed And Stopped", engines.url, steps=steps, only=2, budget={"daily": 1})
    )
    assert flow_run.state.name == "BudgetExceeded"
    assert "no such industry" in flow_run.state.message


async def test_a_run_that_costs_too_much_per_lead_stops_there(driver, engines) -> None:
    deployment = await driver.deploy("Dear Leads", engines.url, budget={"perLead": "0.003"})
    flow_run = await driver.run(deployment)
    assert flow_run.state.name == "BudgetExceeded"
    assert "perLead 0.003 passed, 0.027 spent on 5 leads" in flow_run.state.message
    assert engines.requests_to(COMPOSE) == []


async def test_a_send_whose_answer_is_lost_is_never_repeated(driver, engines) -> None:
    steps = {"sending": {"retry": {"attempts": 3, "delay": 10}}}
    engines.lose_next(SEND)
    flow_run = await driver.run(await driver.deploy("Lost Answer", engines.url, steps=steps))
    assert flow_run.state.name == "Failed"
    assert "may have gone out" in flow_run.state.message
    assert len(engines.requests_to(SEND)) == 1
    sent = (await driver.store.get_run(str(flow_run.id))).steps[-1]
    again = await driver.retry(flow_run)
    assert again.state.name == "Failed"
    assert "may have gone out" in again.state.message
    refused = (await driver.store.get_run(str(flow_run.id))).steps[-1]
    assert refused.started_at > sent.completed_at, "its time is that of the last try, which has sent nothing"
    assert len(engines.requests_to(SEND)) == 1
    assert len(engines.mails) == len(set(engines.mails))


async def test_a_send_that_times_out_is_never_repeated(driver, engines) -> None:
    steps = {"sending": {"retry": {"attempts": 3, "delay": 10}, "timeout": 1500}}
    engines.hang_next(SEND)
    flow_run = await driver.run(await driver.deploy("Silent Sender", engines.url, steps=steps))
    assert flow_run.state.name == "Failed"
    assert "within 1.5 seconds" in flow_run.state.message and "may have gone out" in flow_run.state.message
    *_, sending = await driver.step_runs(flow_run.id, 4)
    assert sending.state.name == "TimedOut", "the timeout is Prefect's own"
    assert sending.state.message == "Task run exceeded timeout of 1.5 second(s)"
    await driver.retry(flow_run)
    assert len(engines.requests_to(SEND)) == 1


async def test_an_engine_that_honours_keys_may_be_asked_again_to_send_with_the_same_key(driver, engines) -> None:
    steps = {"sending": {"retry": {"attempts": 1, "delay": 10, "ambiguous": True}}}
    engines.lose_next(SEND)
    flow_run = await driver.run(await driver.deploy("Keyed Sender", engines.url, steps=steps))
    assert flow_run.state.name == "Completed"
    first, second = engines.requests_to(SEND)
    assert first.idempotency_key == second.idempotency_key
    assert len(engines.mails) == len(set(engines.mails))


async def test_a_stream_of_a_send_that_reports_an_error_and_dies_is_never_repeated(driver, engines) -> None:
    lines = ['{"type": "company_complete", "company": "a"}', '{"type": "error", "error": "acme bounced"}']
    engines.stream_next(SEND, lines)
    steps = {"sending": {"retry": {"attempts": 3, "delay": 10}, "estimatedCost": "0.5"}}
    flow_run = await driver.run(await driver.deploy("Died Sending", engines.url, steps=steps))
    assert "acme bounced" in flow_run.state.message and "may have gone out" in flow_run.state.message
    assert (await driver.store.get_run(str(flow_run.id))).steps[3].cost == Decimal("0.5")
    await driver.retry(flow_run)
    assert len(engines.requests_to(SEND)) == 1


async def test_a_send_that_was_refused_with_a_status_is_repeated(driver, engines) -> None:
    steps = {"sending": {"retry": {"attempts": 1, "delay": 10}}}
    engines.fail_next(SEND, status=503)
    flow_run = await driver.run(await driver.deploy("Busy Sender", engines.url, steps=steps))
    assert flow_run.state.name == "Completed"
    assert len(engines.requests_to(SEND)) == 2


async def test_a_lost_answer_is_booked_at_its_estimate_until_the_engine_answers_the_same_key(driver, engines) -> None:
    engines.lose_next(PROSPECT)
    steps = {"prospecting": {"estimatedCost": "0.5"}}
    flow_run = await driver.run(await driver.deploy("Unconfirmed", engines.url, steps=steps, only=1))
    assert flow_run.state.name == "Failed"
    assert (await driver.store.get_run(str(flow_run.id))).total_cost == Decimal("0.5")
    again = await driver.retry(flow_run)
    assert again.state.name == "Completed"
    assert (await driver.store.get_run(str(flow_run.id))).total_cost == engines.charged == Decimal("0.012")


async def test_an_unreadable_cost_fails_the_step_and_is_booked_at_its_estimate(driver, engines) -> None:
    engines.answer_next(PROSPECT, {"found": 5, "cost": -3})
    steps = {"prospecting": {"estimatedCost": "0.2"}}
    flow_run = await driver.run(await driver.deploy("Negative", engines.url, steps=steps, only=1))
    assert flow_run.state.name == "Failed"
    assert "-3" in flow_run.state.message
    assert flow_run.state.message.endswith("cost 0.20 USD, of which 0.20 USD unconfirmed (1 request).")
    report = await driver.store.get_run(str(flow_run.id))
    assert report.total_cost == Decimal("0.2")
    (warning,) = report.steps[0].warnings
    assert "reported -3 as cost" in warning and warning.endswith("booked at the estimate of 0.20 USD, unconfirmed")


async def test_a_stream_and_a_job_show_their_progress_as_an_artifact(driver, engines) -> None:
    engines.pace = 0.3
    flow_run = await driver.run(await driver.deploy("Watched", engines.url, only=2))
    assert flow_run.state.name == "Completed"
    artifacts = await driver.client.read_artifacts()
    told = [artifact for artifact in artifacts if artifact.type == "progress"]
    ours = {artifact.key: artifact for artifact in told if artifact.flow_run_id == flow_run.id}
    assert set(ours) == {"progress-watched-prospecting", "progress-watched-analysis"}
    assert {float(artifact.data) for artifact in ours.values()} == {100.0}


async def test_two_runs_of_a_campaign_go_one_after_the_other(driver, engines) -> None:
    engines.pace = 2.0
    deployment = await driver.deploy("Queued", engines.url, only=1)
    first = await driver.start(deployment)
    await driver.in_state(first.id, "Running")
    second = await driver.start(deployment)
    waiting = await driver.in_state(second.id, "Waiting")
    assert first.name in waiting.state.message
    engines.pace = 0.0
    ends = [(await driver.ended(run.id)) for run in (first, second)]
    assert [run.state.name for run in ends] == ["Completed", "Completed"]
    records = [await driver.store.get_run(str(run.id)) for run in (first, second)]
    assert records[0].completed_at <= records[1].started_at


async def test_a_run_that_overlaps_is_skipped_where_the_campaign_says_so(driver, engines) -> None:
    engines.pace = 2.0
    schedule = {"cron": "0 9 * * MON", "overlap": "skip"}
    deployment = await driver.deploy("Skipping", engines.url, only=1, schedule=schedule)
    first = await driver.start(deployment)
    await driver.in_state(first.id, "Running")
    second = await driver.run(deployment)
    engines.pace = 0.0
    assert (second.state.type.value, second.state.name) == ("COMPLETED", "Skipped")
    assert first.name in second.state.message
    assert (await driver.ended(first.id)).state.name == "Completed"
    assert len(engines.requests_to(PROSPECT)) == 1


async def test_a_cancelled_run_closes_its_request_and_is_no_crash(driver, engines: DemoEngines, stack: Stack) -> None:
    engines.hang_next(PROSPECT)
    deployment = await driver.deploy(
        "Cancelled", engines.url, only=1, notifications={"onFailure": {"email": "cancelled@example.com"}}
    )
    flow_run = await driver.start(deployment)

    async def asked() -> bool:
        return bool(engines.requests)

    await until(asked, "a request")
    await driver.client._client.post(
        f"/flow_runs/{flow_run.id}/set_state", json={"state": {"type": "CANCELLING", "name": "Cancelling"}}
    )
    ended = await driver.ended(flow_run.id)
    assert ended.state.name == "Cancelled"
    states = await driver.client.read_flow_run_states(flow_run.id)
    assert "Crashed" not in [state.name for state in states]
    assert (await driver.store.get_run(str(flow_run.id))).status == "aborted"


async def test_a_run_of_a_campaign_that_the_store_does_not_know_does_not_start(driver, engines) -> None:
    deployment = await driver.deploy("Known Once", engines.url, only=1)
    parameters = (await driver.client.read_deployment(deployment)).parameters
    parameters["campaign"]["name"] = "Never Applied"
    flow_run = await driver.client.create_flow_run_from_deployment(deployment, parameters=parameters)
    ended = await driver.ended(flow_run.id)
    assert ended.state.name == "Failed"
    assert "never-applied" in ended.state.message and "apply" in ended.state.message
    assert engines.requests == []
