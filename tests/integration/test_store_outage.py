"""The store goes away, before a run and in the middle of one: real Supabase, behind a network that can be cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from campaign_files import PROSPECT
from driving import END_SECONDS, Driver, until
from mails import mails_to
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterFlowRunId
from prefect.client.schemas.objects import TaskRun
from real_stack import Stack
from run_process import RunProcess
from starlette.types import Message, Receive, Scope, Send
from supabase_rig import Project, Proxy

from prefect_campaigns.blocks.journal import Journal, settle_journal
from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AttemptState
from prefect_campaigns.blocks.supabase.store import SupabaseStore
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.demo.serving import serve

pytestmark = pytest.mark.usefixtures("no_worker")

COST = Decimal("0.012")
"""Of five prospects."""

FAILURE_COST = Decimal("0.004")


@pytest.fixture
async def books(clean_supabase: Project) -> AsyncIterator[CampaignStore]:
    """The store, as one sees it who is not cut off."""
    async with SupabaseStore(clean_supabase.url, clean_supabase.secret_key) as store:
        yield store


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Prefect's home of the machine that is cut off; its journal lies there."""
    return tmp_path / "cut off"


@pytest.fixture
def cut_off(in_stack: Stack, clean_supabase: Project, supabase_proxy: Proxy, home: Path) -> Iterator[RunProcess]:
    """A machine that reaches the store through a network that can be cut."""
    variables = {
        **in_stack.environment,
        "PREFECT_HOME": str(home),
        "SUPABASE_URL": supabase_proxy.url,
        "SUPABASE_KEY": clean_supabase.secret_key,
    }
    runner = RunProcess(variables, log=in_stack.home / "cut-off.log")
    yield runner
    runner.kill()


@pytest.fixture
def journal_is_a_file(home: Path) -> None:
    """That machine has no journal: where its folder belongs lies a file, which stops even root."""
    home.mkdir()
    (home / "campaigns-journal").touch()


@pytest.fixture
async def url_into_outage(engines: DemoEngines, supabase_proxy: Proxy) -> AsyncIterator[str]:
    """The engines, at a URL where the store goes away just before the first answer leaves."""
    is_first = True

    async def engines_into_outage(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_into_outage(message: Message) -> None:
            nonlocal is_first
            if is_first:
                is_first = False
                supabase_proxy.refuse()
            await send(message)

        await engines(scope, receive, send_into_outage)

    async with serve(engines_into_outage) as url:
        yield url


@pytest.fixture
async def campaign_run(client: PrefectClient, books: CampaignStore, settings: Settings, engines: DemoEngines) -> Any:
    """Deploys a campaign of one step, or more, and asks for a run."""
    driver = Driver(client, books, settings)

    async def ask(name: str, *, url: str | None = None, **options: Any) -> UUID:
        deployment_id = await driver.deploy(name, url or engines.url, **{"only": 1, **options})
        return (await driver.start(deployment_id)).id

    return ask


async def task_in_state(client: PrefectClient, run_id: UUID, task: str, state: str) -> TaskRun:
    """Wait until a task of a run is in a state of that name; it reaches the server a little late."""

    async def look() -> TaskRun | None:
        of = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run_id]))
        runs = await client.read_task_runs(task_run_filter=of)
        return next((run for run in runs if (run.name, run.state_name) == (task, state)), None)

    return await until(look, f"{task} in state {state}")


async def test_without_the_store_no_run_starts_and_it_is_retried_and_mailed(
    campaign_run, cut_off, supabase_proxy, engines, in_stack
) -> None:
    run_id = await campaign_run("No Books", notifications={"onFailure": {"email": "nobooks@example.com"}})
    supabase_proxy.refuse()
    ended = await cut_off.run(run_id)
    assert ended.name == "Failed"
    assert ended.message.startswith("StoreUnavailable: ")
    assert engines.requests == []
    (mail,) = await mails_to(in_stack, "nobooks@example.com", 1)
    assert "StoreUnavailable" in mail.text


async def test_a_store_that_comes_back_in_time_lets_the_run_start(
    campaign_run, cut_off, supabase_proxy, client, books
) -> None:
    run_id = await campaign_run("Books Come Back")
    supabase_proxy.refuse()
    await cut_off.tell(run_id)
    await task_in_state(client, run_id, "reach_store", "AwaitingRetry")
    supabase_proxy.pass_on()
    assert (await cut_off.hear()).name == "Completed"
    assert await books.run_cost(str(run_id)) == COST


async def lose_the_store_in_mid_run(
    cut_off: RunProcess, proxy: Proxy, engines: DemoEngines, run_id: UUID, *, pace: float = 0.2
) -> None:
    """Cut the store off while an engine works, which then answers."""
    engines.pace = pace
    already = len(engines.requests)
    await cut_off.tell(run_id)
    await engines.nth_request(already + 1)
    proxy.refuse()


async def kept(home: Path, proxy: Proxy, amount: Decimal = COST, *, seconds: float = END_SECONDS) -> Journal:
    """Wait until the machine has kept what the engine charged."""
    journal = Journal(home / "campaigns-journal")

    async def look() -> bool:
        return not await journal.is_empty()

    await until(look, "an entry in the journal", seconds=seconds)
    (entry,) = await journal.entries(proxy.url)
    assert entry.amount == amount
    return journal


async def test_a_run_whose_store_is_lost_keeps_what_was_charged_and_goes_on_when_it_is_back(
    campaign_run, cut_off, supabase_proxy, engines, books, home
) -> None:
    run_id = await campaign_run("Books Are Lost", only=2)
    await lose_the_store_in_mid_run(cut_off, supabase_proxy, engines, run_id)
    journal = await kept(home, supabase_proxy)
    assert await books.run_cost(str(run_id)) == 0
    supabase_proxy.pass_on()
    ended = await cut_off.hear()
    assert ended.name == "Completed"
    assert await books.run_cost(str(run_id)) == engines.charged > COST
    assert await journal.is_empty()
    assert len(engines.requests_to("/api/prospect")) == 1


async def test_a_crash_in_between_loses_nothing(
    campaign_run, cut_off, supabase_proxy, engines, books, home, clean_supabase
) -> None:
    run_id = await campaign_run("Books And Machine Are Lost")
    await lose_the_store_in_mid_run(cut_off, supabase_proxy, engines, run_id)
    journal = await kept(home, supabase_proxy)
    cut_off.kill()
    supabase_proxy.pass_on()
    # What the worker does when it starts on that machine, and every half minute.
    async with SupabaseStore(supabase_proxy.url, clean_supabase.secret_key) as store:
        assert await settle_journal(journal, store) == 1
    assert await books.run_cost(str(run_id)) == engines.charged == COST
    (step,) = (await books.get_run(str(run_id))).steps
    assert (step.status, step.cost) == ("completed", COST)
    assert await books.verify_totals("books-and-machine-are-lost") == []


async def test_a_run_that_waits_for_the_store_to_start_holds_up_no_other_of_the_same_process(
    campaign_run, cut_off, supabase_proxy, engines, books, home, client
) -> None:
    going, starting = await campaign_run("Books Are Lost To One"), await campaign_run("Books Are Lost To Another")
    await lose_the_store_in_mid_run(cut_off, supabase_proxy, engines, going, pace=1.0)
    await cut_off.tell(starting)
    waiting = await task_in_state(client, starting, "reach_store", "AwaitingRetry")
    engines.pace = 0.0
    await kept(home, supabase_proxy, seconds=20)
    waited_for = await client.read_task_run(waiting.id)
    assert not waited_for.state.is_final(), "the first run has had its answer while the second waits"
    supabase_proxy.pass_on()
    assert {(await cut_off.hear()).name for _ in range(2)} == {"Completed"}
    for run_id in (going, starting):
        assert await books.run_cost(str(run_id)) == COST


@pytest.mark.parametrize("is_back", ["before the retry", "during the retry"])
async def test_what_a_failed_request_cost_in_an_outage_and_what_its_retry_cost_are_booked_once_each(
    campaign_run, cut_off, url_into_outage, supabase_proxy, engines, books, home, client, is_back
) -> None:
    engines.fail_next(PROSPECT, status=503, cost=float(FAILURE_COST))
    retry = {"attempts": 1, "delay": 2000 if is_back == "before the retry" else 10}
    run_id = await campaign_run(
        f"Books Back {is_back}", url=url_into_outage, steps={"prospecting": {"retry": retry, "estimatedCost": "0.5"}}
    )
    await cut_off.tell(run_id)
    journal = await kept(home, supabase_proxy, FAILURE_COST)
    if is_back == "during the retry":
        await task_in_state(client, run_id, "prospecting", "Retrying")
    supabase_proxy.pass_on()
    assert (await cut_off.hear()).name == "Completed"
    attempts = await books.attempts(str(run_id), "prospecting")
    assert [(attempt.state, attempt.booked) for attempt in attempts] == [
        (AttemptState.SETTLED, FAILURE_COST),
        (AttemptState.SETTLED, COST),
    ]
    report = await books.get_run(str(run_id))
    assert report.total_cost == report.steps[0].cost == FAILURE_COST + COST
    assert await journal.is_empty()
    assert len(engines.requests_to(PROSPECT)) == 2
    task_run = await task_in_state(client, run_id, "prospecting", "Completed")
    assert task_run.run_count == 2, "by Prefect's own retry, and not by another run of the task"


async def test_what_an_engine_was_asked_that_says_nothing_is_booked_when_the_store_is_back(
    campaign_run, cut_off, supabase_proxy, engines, books, client
) -> None:
    engines.hang_next(PROSPECT)
    step = {"timeout": 2_000, "estimatedCost": "0.5"}
    run_id = await campaign_run("Books Are Lost In Silence", steps={"prospecting": step})
    await cut_off.tell(run_id)
    await engines.nth_request(1)
    supabase_proxy.refuse()
    await task_in_state(client, run_id, "prospecting", "TimedOut")
    supabase_proxy.pass_on()
    ended = await cut_off.hear()
    assert ended.name == "Failed"
    (attempt,) = await books.attempts(str(run_id), "prospecting")
    assert (attempt.state, attempt.booked) == (AttemptState.UNCONFIRMED, Decimal("0.5"))


@pytest.mark.usefixtures("journal_is_a_file")
async def test_a_machine_whose_disk_takes_no_journal_books_all_while_the_store_is_there(
    campaign_run, cut_off, engines, books
) -> None:
    run_id = await campaign_run("No Journal", only=2)
    ended = await cut_off.run(run_id)
    assert ended.name == "Completed", ended.message
    assert await books.run_cost(str(run_id)) == engines.charged > COST
    assert len(engines.requests_to(PROSPECT)) == 1


@pytest.mark.usefixtures("journal_is_a_file")
async def test_what_neither_the_disk_nor_the_store_takes_fails_the_run_and_is_not_asked_for_again(
    campaign_run, cut_off, url_into_outage, supabase_proxy, engines, books, client
) -> None:
    step = {"retry": {"attempts": 2, "delay": 10}, "estimatedCost": "0.5"}
    run_id = await campaign_run("No Journal And No Books", url=url_into_outage, steps={"prospecting": step})
    await cut_off.tell(run_id)
    await task_in_state(client, run_id, "prospecting", "Failed")
    supabase_proxy.pass_on()
    ended = await cut_off.hear()
    assert ended.name == "Failed"
    assert "Step 'prospecting' failed: 0.012 USD could not be written down, by the store either" in ended.message
    assert len(engines.requests_to(PROSPECT)) == 1
    status = await books.budget_status("no-journal-and-no-books")
    assert {limit.reserved for limit in status.limits} == {Decimal("0.5")}, "held until it is booked at its estimate"
