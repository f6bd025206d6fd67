"""Whoever can start a Prefect deployment can start a campaign: Prefect's own command, its REST API, and the clock."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
import pytest_asyncio
from campaign_files import campaign_json
from driving import until
from mails import mails_to
from prefect_api import Api
from processes import CAMPAIGNS, PREFECT, run
from real_stack import Stack
from slugify import slugify

from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.demo.serving import serve

# One loop for all: the engines go on answering while one test waits for the minute to end.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def api(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """Prefect's API, with three campaigns applied; one of them is scheduled for every minute, beginning now."""
    folder = tmp_path_factory.mktemp("driven")
    schedules = {"Every Minute": "* * * * *", "By Command": None, "By Rest": None}
    async with (
        serve(DemoEngines()) as url,
        httpx.AsyncClient(base_url=stack.server.api_url, timeout=30) as http,
    ):
        for name, cron in schedules.items():
            tells = {"onComplete": {"email": f"{slugify(name)}@example.com"}}
            options = {"notifications": tells, **({"schedule": cron} if cron else {})}
            content = campaign_json(name, url, only=1, **options)
            (folder / f"{name}.json").write_text(json.dumps(content))
        applied = await run([CAMPAIGNS, "apply", str(folder)], env=stack.environment, cwd=folder)
        assert applied.code == 0, applied.err
        api = Api(http)
        yield api
        # It would go on, every minute, while other tests run.
        await http.delete(f"/deployments/{await api.deployment_id('every-minute')}")


async def test_prefects_own_command_runs_a_campaign(api: Api, stack: Stack, tmp_path) -> None:
    started = await run([PREFECT, "deployment", "run", "campaign/by-command"], env=stack.environment, cwd=tmp_path)
    assert started.code == 0, started.err
    ended = await api.first_that_ended(await api.deployment_id("by-command"), seconds=90)
    assert ended["state_name"] == "Completed"
    assert ended["state"]["message"] == "1 of 1 steps, 5 prospects generated, 4 prospects verified, cost 0.012 USD."


async def test_prefects_rest_api_runs_a_campaign(api: Api) -> None:
    deployment_id = await api.deployment_id("by-rest")
    started = await api.post(f"/deployments/{deployment_id}/create_flow_run", {})
    ended = await api.first_that_ended(deployment_id, seconds=90)
    assert (ended["id"], ended["state_name"]) == (started["id"], "Completed")


async def test_prefects_schedule_runs_a_campaign_when_the_minute_comes(api: Api, stack: Stack, tmp_path) -> None:
    deployment_id = await api.deployment_id("every-minute")

    async def scheduled() -> list[dict[str, Any]]:
        return [run for run in await api.runs(deployment_id) if run["auto_scheduled"]]

    # With SQLAlchemy 2.1 a Prefect 3.8 server runs, takes schedules, and never makes a run of them.
    assert len(await until(scheduled, "runs that the scheduler has made")) > 1

    ended = await api.first_that_ended(deployment_id, seconds=150)
    assert (ended["auto_scheduled"], ended["state_name"]) == (True, "Completed")
    listed = await run([CAMPAIGNS, "runs", "every-minute", "--json"], env=stack.environment, cwd=tmp_path)
    record = next(one for one in json.loads(listed.out)["runs"] if one["run_id"] == ended["id"])
    assert (record["trigger_type"], record["status"]) == ("scheduled", "completed")
    assert Decimal(record["total_cost"]) == Decimal("0.012")
    # Prefect's server holds back what follows the making of a run, which its scheduler tells nobody of.
    (mail, *_) = await mails_to(stack, "every-minute@example.com", 1)
    assert ended["name"] in mail.text
