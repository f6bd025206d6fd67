"""The store goes away, before a run and in the middle of one: real Supabase, behind a network that can be cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from driving import Driver, until
from mails import mails_to
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterFlowRunId
from real_stack import Stack
from run_process import RunProcess
from supabase_rig import Project, Proxy

from prefect_campaigns.blocks.journal import Journal, settle_journal
from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.supabase.store import SupabaseStore
from prefect_campaigns.deployments.demo.engines import DemoEngines

pytestmark = pytest.mark.usefixtures("no_worker")

COST = Decimal("0.012")
"""Of five prospects."""


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
async def campaign_run(client: PrefectClient, books: CampaignStore, settings: Settings, engines: DemoEngines) -> Any:
    """Deploys a campaign of one step, or more, and asks for a run."""
    driver = Driver(client, books, settings)

    async def ask(name: str, **options: Any) -> UUID:
        deployment_id = await driver.deploy(name, engines.url, **{"only": 1, **options})
        return (await driver.start(deployment_id)).id

    return ask


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

    async def is_retried() -> bool:
        of = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run_id]))
        runs = await client.read_task_runs(task_run_filter=of)
        return any(run.name == "reach_store" and run.state_name == "AwaitingRetry" for run in runs)

    await until(is_retried, "Prefect's own retry")
    supabase_proxy.pass_on()
    assert (await cut_off.hear()).name == "Completed"
    assert await books.run_cost(str(run_id)) == COST


async def lose_the_store_in_mid_run(cut_off: RunProcess, proxy: Proxy, engines: DemoEngines, run_id: UUID) -> None:
    """Cut the store off while an engine works, which then answers."""
    engines.pace = 0.2
    await cut_off.tell(run_id)
    await engines.next_request()
    proxy.refuse()


async def kept(home: Path, proxy: Proxy) -> Journal:
    """Wait until the machine has kept what the engine charged."""
    journal = Journal(home / "campaigns-journal")

    async def look() -> bool:
        return not await journal.is_empty()

    await until(look, "an entry in the journal")
    (entry,) = await journal.entries(proxy.url)
    assert entry.amount == COST
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
