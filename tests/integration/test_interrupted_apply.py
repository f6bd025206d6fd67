"""An apply whose Prefect server is killed: no run mixes versions, the plan tells what is left, the next apply ends it.

``--at-full-size`` lets it be a thousand campaigns and ten kills, which takes an hour; ``--log-cli-level=INFO`` shows
how far it is.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from campaign_files import PROSPECT, campaign
from prefect.settings import PREFECT_API_URL, temporary_settings
from real_stack import FAST_SERVER, SCRUBBED
from run_process import RunProcess

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.deployments.applying.apply import apply
from prefect_campaigns.deployments.applying.plan import Change, Plan
from prefect_campaigns.deployments.applying.planning import make_plan
from prefect_campaigns.deployments.compile import compile_campaign
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.driving.lookup import read_deployments
from prefect_campaigns.deployments.running.server import EmbeddedServer, connect, free_port
from prefect_campaigns.errors import CampaignsError
from prefect_campaigns.models import Campaign

logger = logging.getLogger(__name__)

FOLDER = "/srv/interrupted"
RUNS_EACH_TIME = 5


@dataclass(kw_only=True)
class Scene:
    """A server of the test's own, that it may kill, and who works with it."""

    server: EmbeddedServer
    store: SqliteStore
    runner: RunProcess
    killed: set[int] = field(default_factory=set)

    async def plan(self, campaigns: list[Campaign]) -> Plan:
        compiled = [compile_campaign(one) for one in campaigns]
        origins = {one.slug: FOLDER for one in compiled}
        async with connect() as client:
            return await make_plan(client, self.store, load_settings(), compiled, origins=origins)

    async def apply(self, campaigns: list[Campaign], **options: Any) -> None:
        await apply(campaigns, store=self.store, settings=load_settings(), origin=FOLDER, **options)

    def kill_server(self) -> None:
        assert self.server._process is not None
        self.server._process.kill()
        self.killed.add(self.server._process.pid)

    async def versions(self) -> dict[str, str]:
        """The version that each deployment on the server has."""
        async with connect() as client:
            return {one.name: one.parameters["version"] for one in await read_deployments(client)}


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> AsyncIterator[Scene]:
    home = tmp_path / "prefect"
    at_full_size = pytestconfig.getoption("--at-full-size")
    # A scheduler that looks at a thousand deployments each second does little else.
    settings = {} if at_full_size else FAST_SERVER
    server = EmbeddedServer(home=home, port=free_port(), log=tmp_path / "server.log", extra_env=settings)
    variables = {
        "PREFECT_API_URL": server.api_url,
        "PREFECT_HOME": str(home),
        "CAMPAIGNS_DATABASE": str(tmp_path / "campaigns.db"),
    }
    for name, value in variables.items():
        assert name.startswith(SCRUBBED)
        monkeypatch.setenv(name, value)
    if not at_full_size:
        # Which only makes a killed server known sooner; of a thousand requests one may well need to be repeated.
        monkeypatch.setattr("prefect_campaigns.deployments.applying.apply.CLIENT_MAX_RETRIES", 0)
    runner = RunProcess(variables, log=tmp_path / "runner.log")
    async with server, SqliteStore(tmp_path / "campaigns.db") as store:
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            yield Scene(server=server, store=store, runner=runner)
    runner.kill()


def version(number: int, count: int, url: str) -> list[Campaign]:
    """The campaigns, each with its version in its steps and in its budget."""
    steps = {"prospecting": {"params": {"count": number}}}
    return [
        campaign(
            f"Interrupted {n:04}",
            url,
            only=1,
            steps=steps,
            schedule={"cron": f"{number} 9 * * *", "timezone": "America/New_York"},
            budget={"daily": 1000 + number},
        )
        for n in range(count)
    ]


@pytest.mark.timeout(7200)
async def test_an_apply_whose_server_is_killed_mixes_nothing_and_is_finished_by_the_next(
    scene: Scene, engines: DemoEngines, pytestconfig: pytest.Config
) -> None:
    at_full_size = pytestconfig.getoption("--at-full-size")
    count, kills = (1000, 10) if at_full_size else (30, 2)
    chance = random.Random(4)  # noqa: S311 - the same moments each time
    await scene.apply(version(1, count, engines.url))
    for number in range(2, kills + 2):
        wanted, at = version(number, count, engines.url), chance.randrange(count)

        def kill_then(done: int, _total: int, at: int = at) -> None:
            if done > at:
                scene.kill_server()

        with pytest.raises(CampaignsError) as refusal:
            await scene.apply(wanted, progress=kill_then)
        assert len(scene.killed) == number - 1, f"it failed before the server was killed: {refusal.value}"
        await scene.server.stop()
        await scene.server.start()
        plan = await scene.plan(wanted)
        on_server = await scene.versions()
        rows = {row.key: row for row in await scene.store.list_campaigns()}
        changed = [one for one in plan.campaigns if one.change is not Change.UNCHANGED]
        torn = []
        for one in plan.campaigns:
            row, new = rows[one.compiled.slug], one.compiled
            has_row, has_deployment = row.campaign == new.campaign, on_server[row.key] == new.parameters["version"]
            # What the plan calls changed is what is not as it should be, and nothing else.
            assert (one.change is Change.UNCHANGED) == (has_row and has_deployment)
            torn += [one] if has_row != has_deployment else []
        assert 0 < len(changed) < count, f"killed in the middle, at {at}"
        await _run_some(scene, engines, [*torn, *chance.sample(changed, min(len(changed), 2)), *plan.campaigns[:2]])
        await scene.apply(wanted)
        assert not (await scene.plan(wanted)).has_changes
        logger.info(
            "kill %d of %d, after %d campaigns: %d were left, %d of them torn; finished by the next apply",
            *(len(scene.killed), kills, at, len(changed), len(torn)),
        )


async def _run_some(scene: Scene, engines: DemoEngines, plans: list[Any]) -> None:
    """Run campaigns; the steps that a run does are those of the row whose budget it heeds."""
    for one in {plan.compiled.slug: plan for plan in plans[:RUNS_EACH_TIME]}.values():
        assert one.deployment is not None
        before = len(engines.requests_to(PROSPECT))
        async with connect() as client:
            flow_run = await client.create_flow_run_from_deployment(one.deployment.id)
        ended = await scene.runner.run(flow_run.id)
        assert ended.name == "Completed", ended
        (request,) = engines.requests_to(PROSPECT)[before:]
        status = await scene.store.budget_status(one.compiled.slug)
        assert status.limits[0].limit == 1000 + request.params["count"], "steps of one version, budget of another"
