"""The emergency stop: everything ends and nothing begins, until somebody starts everything again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from campaign_files import PROSPECT, campaign
from driving import END_SECONDS, Driver, until
from prefect.client.orchestration import PrefectClient, get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect_proxy import PrefectProxy
from real_stack import Stack
from spending import spend

from prefect_campaigns.blocks.store_types import ApprovalState, AuditAction, Pause, PausedBy, Stop
from prefect_campaigns.deployments.applying.apply import apply
from prefect_campaigns.deployments.applying.campaign_changes import Applied, CampaignWriter
from prefect_campaigns.deployments.applying.planning import make_plan
from prefect_campaigns.deployments.compile import compile_campaign
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.driving.emergency import start_all, stop_all
from prefect_campaigns.deployments.driving.runs import start_run
from prefect_campaigns.deployments.driving.standing import Standing, read_states
from prefect_campaigns.deployments.driving.strays import pause_stray
from prefect_campaigns.errors import EverythingStopped
from prefect_campaigns.flows.campaign import FLOW_NAME
from prefect_campaigns.flows.paused_deployment import describe as pause_in_prefect
from prefect_campaigns.flows.pausing import pause_by_person
from prefect_campaigns.flows.resuming import Outcome, resume_after_budget, resume_by_person

NOWHERE = "http://127.0.0.1:9"
ADA = "ada@laptop"
Act = Callable[[], Awaitable[None]]
RUNS = 20


@pytest.fixture(autouse=True)
async def started_again(driver: Driver) -> AsyncIterator[None]:
    """The stack is everybody's: whatever a test leaves stopped goes on."""
    yield
    await start_all(driver.client, driver.store, actor="the test's end")


async def pause_of(driver: Driver, key: str) -> PausedBy | None:
    pause = (await driver.store.get_campaign(key)).pause
    return pause.by if pause else None


async def standing_of(driver: Driver, key: str) -> Standing:
    record = await driver.store.get_campaign(key)
    (state,) = (await read_states(driver.store, [record])).campaigns
    return state.standing


async def test_twenty_runs_end_and_nothing_begins_until_all_is_started(driver: Driver, engines: DemoEngines) -> None:
    client, store = driver.client, driver.store
    deployments = await driver.apply(*(campaign(f"Stopped {n}", engines.url, only=1) for n in range(RUNS)))
    engines.hang_next(PROSPECT, times=RUNS)
    runs = [await driver.start(deployment) for deployment in deployments]
    later = await driver.start_later(deployments[0])

    async def all_going() -> bool:
        return len(engines.requests_to(PROSPECT)) == RUNS

    await until(all_going, "a request of each run")
    audited = await store.list_audit(limit=1_000)

    stopping = asyncio.create_task(stop_all(client, store, actor=ADA, reason="wrong list", cancel_running=True))
    # The engine never answers, and so no run ends of itself.
    ended = await driver.all_ended([run.id for run in (*runs, later)], seconds=END_SECONDS)
    stopped = await stopping
    assert {run.state.name for run in ended} == {"Cancelled"}
    assert (stopped.stop.by, stopped.stop.reason, stopped.stood_before) == (ADA, "wrong list", False)
    assert not stopped.problems and not stopped.still_going
    assert {run.id for run in stopped.cancelled} >= {run.id for run in (*runs, later)}
    keys = [f"stopped-{n}" for n in range(RUNS)]
    assert set(stopped.paused) >= set(keys)

    async def all_aborted() -> bool:
        return {(await store.get_run(str(run.id))).status for run in runs} == {"aborted"}

    await until(all_aborted, "what each run has to say of its end")

    # By our own command, by whoever speaks to Prefect, and after somebody has resumed it there.
    with pytest.raises(EverythingStopped, match=r"by ada@laptop: wrong list\. `campaigns start --all`"):
        await start_run(client, store, await store.get_campaign(keys[0]), actor=ADA)
    await client.resume_deployment(deployments[1])
    refused = [await driver.run(deployment) for deployment in deployments[:2]]
    assert not any(run.state.is_completed() for run in refused)
    assert all("wrong list" in run.state.message for run in refused)
    assert len(engines.requests_to(PROSPECT)) == RUNS
    assert {await standing_of(driver, key) for key in keys[:3]} == {Standing.STOPPED}

    started = await start_all(client, store, actor=ADA)
    assert started.ended == stopped.stop and not started.problems
    assert set(started.resumed) == set(stopped.paused)
    assert not any([(await client.read_deployment(one)).paused for one in deployments])
    assert (await driver.run(deployments[0])).state.name == "Completed"
    audit = [(entry.action, entry.actor) for entry in await store.list_audit(limit=1_000) if entry not in audited]
    of_the_stop = [entry for entry in audit if entry[0] in {AuditAction.ALL_STARTED, AuditAction.ALL_STOPPED}]
    assert of_the_stop == [(AuditAction.ALL_STARTED, ADA), (AuditAction.ALL_STOPPED, ADA)]


async def test_the_end_of_the_stop_resumes_what_it_had_paused_and_what_the_budget_lets_go_and_nothing_else(
    driver: Driver,
) -> None:
    client, store, now = driver.client, driver.store, datetime.now(UTC)
    names = ("Going On", "On Leave", "Paused There", "Over Budget", "Paused Meanwhile", "Still Over")
    spent = {"Over Budget": {"daily": 1}, "Still Over": {"daily": 1}}
    made = [campaign(f"Ended {name}", NOWHERE, only=1, budget=spent.get(name, {})) for name in names]
    ids = dict(zip(names, await driver.apply(*made), strict=True))
    key = {name: one.slug for name, one in zip(names, made, strict=True)}
    await pause_by_person(client, store, await store.get_campaign(key["On Leave"]), reason="leave", now=now)
    await client.pause_deployment(ids["Paused There"])
    for name in spent:
        await spend(store, key[name], "2")
        await resume_after_budget(client, store, key[name], now=now)
    over = await driver.run(ids["Over Budget"])
    still = await driver.run(ids["Still Over"])
    assert [over.state.name, still.state.name] == ["BudgetExceeded", "BudgetExceeded"]

    stopped = await stop_all(client, store, actor=ADA, reason=None, cancel_running=False)
    assert set(key.values()) & set(stopped.paused) == {key["Going On"], key["Paused Meanwhile"]}
    with pytest.raises(EverythingStopped):
        await resume_by_person(client, store, await store.get_campaign(key["On Leave"]), now=now)
    refused = await resume_after_budget(client, store, key["Over Budget"], now=now)
    assert refused.outcome is Outcome.STOPPED
    # A person's pause takes the place of the stop's.
    await pause_by_person(client, store, await store.get_campaign(key["Paused Meanwhile"]), reason="mine", now=now)
    await store.save_campaign(campaign("Ended Over Budget", NOWHERE, only=1, budget={"daily": 9}))

    started = await start_all(client, store, actor=ADA)
    assert set(key.values()) & set(started.resumed) == {key["Going On"]}
    assert set(key.values()) & set(started.resumed_after_budget) == {key["Over Budget"]}
    expected = {
        "Going On": None,
        "On Leave": PausedBy.PERSON,
        "Paused There": None,
        "Over Budget": None,
        "Paused Meanwhile": PausedBy.PERSON,
        "Still Over": PausedBy.BUDGET,
    }
    assert {name: await pause_of(driver, key[name]) for name in names} == expected
    paused = {name for name in names if (await client.read_deployment(ids[name])).paused}
    assert paused == {"On Leave", "Paused There", "Paused Meanwhile", "Still Over"}


async def test_what_broke_off_in_the_middle_is_finished_by_saying_it_again(driver: Driver) -> None:
    client, store = driver.client, driver.store
    first, second = await driver.apply(*(campaign(f"Halfway {n}", NOWHERE, only=1) for n in range(2)))
    stopped = await stop_all(client, store, actor=ADA, reason="first", cancel_running=False)
    # As if it had died between the books and Prefect, and before the second campaign.
    await client.resume_deployment(first)
    await store.set_pause("halfway-1", None, replacing=(await store.get_campaign("halfway-1")).pause)
    await client.resume_deployment(second)

    again = await stop_all(client, store, actor="bob@desk", reason="second", cancel_running=False)
    assert (again.stop, again.stood_before) == (stopped.stop, True), "the stop that stands is kept"
    assert {"halfway-0", "halfway-1"} <= set(again.paused)
    assert all([(await client.read_deployment(one)).paused for one in (first, second)])

    # The stop has ended, and whoever ended it died before anything was resumed.
    await store.set_stop(None)
    left = await resume_after_budget(client, store, "halfway-0", now=datetime.now(UTC))
    assert left.outcome is Outcome.STOPPED and "start --all" in left.message
    started = await start_all(client, store, actor=ADA)
    assert started.ended is None and {"halfway-0", "halfway-1"} <= set(started.resumed)
    assert await pause_of(driver, "halfway-0") is None


async def test_deployments_that_the_books_do_not_know_are_paused_and_resumed_too_and_no_other_is(
    driver: Driver,
) -> None:
    client, store = driver.client, driver.store
    names = ("Going On", "On Leave", "Paused Meanwhile", "Of Others")
    made = [campaign(f"Unknown {name}", NOWHERE, only=1, schedule={"cron": "0 9 * * *"}) for name in names]
    going, leave, meanwhile, others = await driver.apply(*made)
    for one in made:
        await store.delete_campaign(one.slug)
    await client.pause_deployment(leave)
    # As the stop of other books leaves what stands in none of the two.
    foreign = Pause(
        by=PausedBy.STOP,
        reason="emergency stop by bob: x; it is not in the books at /srv/others.db, which are stopped",
        since=datetime.now(UTC),
    )
    await pause_in_prefect(client, await client.read_deployment(others), foreign, paused=True)

    async def paused() -> list[bool]:
        return [(await client.read_deployment(one)).paused for one in (going, leave, meanwhile, others)]

    stopped = await stop_all(client, store, actor=ADA, reason="wrong list", cancel_running=False)
    again = await stop_all(client, store, actor=ADA, reason=None, cancel_running=False)
    keys = {one.slug for one in made}
    for said in (stopped, again):
        assert keys & set(said.strays) == {"unknown-going-on", "unknown-paused-meanwhile"} and not said.problems
    assert not keys & set(stopped.paused) and await paused() == [True] * 4
    description = (await client.read_deployment(going)).description
    assert description.startswith("**Paused.** emergency stop by ada@laptop: wrong list; it is not in the books at ")
    now = datetime.now(UTC)
    await pause_stray(client, store, await client.read_deployment(meanwhile), reason="mine", actor=ADA, now=now)

    started = await start_all(client, store, actor=ADA)
    assert keys & set(started.strays) == {"unknown-going-on"} and not started.problems
    assert await paused() == [False, True, True, True]
    assert not (await client.read_deployment(going)).description.startswith("**Paused.**")
    for deployment in (going, leave, meanwhile, others):
        await client.delete_deployment(deployment)


class CreatesAt:
    """A client of Prefect's API with which something else happens as a deployment is created."""

    def __init__(self, client: PrefectClient, *, first: Act | None = None, then: Act | None = None) -> None:
        self._client, self._first, self._then = client, first, then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def create_deployment(self, **wanted: Any) -> UUID:
        if self._first:
            await self._first()
        created = await self._client.create_deployment(**wanted)
        if self._then:
            await self._then()
        return created


async def test_what_an_apply_creates_as_the_stop_comes_is_paused_and_as_it_ends_goes_on(driver: Driver) -> None:
    client, store = driver.client, driver.store
    stop = Stop(by=ADA, reason="wrong list", since=datetime.now(UTC))

    async def put_down() -> None:
        await store.set_stop(stop)

    async def lift() -> None:
        await store.set_stop(None)

    async def write(name: str, **acts: Act) -> Applied:
        made = compile_campaign(campaign(name, NOWHERE, only=1))
        plan = await make_plan(client, store, driver.settings, [made], origins={})
        flow_id = await client.create_flow_from_name(FLOW_NAME)
        writer = CampaignWriter(CreatesAt(client, **acts), store, flow_id=flow_id)
        return await writer.write(plan.campaigns[0])

    # The stop has looked for a deployment before there was one, and is not done with the row.
    came = await write("Met By The Stop", then=put_down)
    assert came.pause is not None and came.pause.by is PausedBy.STOP
    assert await pause_of(driver, "met-by-the-stop") is PausedBy.STOP
    assert (await client.read_deployment(came.deployment_id)).paused

    # Its end has looked for campaigns before the row was paused.
    left = await write("Met By The End", first=lift)
    assert left.pause is None and await pause_of(driver, "met-by-the-end") is None
    assert not (await client.read_deployment(left.deployment_id)).paused


async def test_a_stop_that_comes_in_the_middle_of_an_apply_is_heeded(driver: Driver) -> None:
    client, store = driver.client, driver.store
    await driver.apply(campaign("Before The Middle", NOWHERE, only=1))
    stopping: list[asyncio.Task[Any]] = []

    def stop_after_the_first(done: int, total: int) -> None:
        if not stopping:
            stopping.append(asyncio.create_task(stop_all(client, store, actor=ADA, reason=None, cancel_running=False)))

    made = [campaign(f"In The Middle {n}", NOWHERE, only=1) for n in range(RUNS)]
    result = await apply(made, store=store, settings=driver.settings, progress=stop_after_the_first)
    await stopping[0]

    assert {await pause_of(driver, one.slug) for one in made} == {PausedBy.STOP}
    assert all([(await client.read_deployment(one.deployment_id)).paused for one in result.campaigns])


async def test_a_run_of_which_prefect_cannot_be_told_holds_up_no_other(
    driver: Driver, engines: DemoEngines, in_stack: Stack
) -> None:
    """One goes on, one is suspended: whatever a request for the third run comes to, these end."""
    untold, going, asking = await driver.apply(
        campaign("Untold", engines.url, only=1),
        campaign("Told", engines.url, only=1),
        campaign("Told Asking", engines.url, only=1, steps={"prospecting": {"approval": {"timeout": 3_600_000}}}),
    )
    suspended = await driver.in_state((await driver.start(asking)).id, "Suspended")
    engines.hang_next(PROSPECT, times=2)
    runs = [await driver.start(untold), await driver.start(going)]

    async def all_going() -> bool:
        return len(engines.requests_to(PROSPECT)) == 2

    await until(all_going, "a request of each run")
    proxy = PrefectProxy(in_stack.server.api_url.removesuffix("/api"))
    proxy.cut = f"/{runs[0].id}/set_state"
    async with serve(proxy) as url:
        with temporary_settings({PREFECT_API_URL: f"{url}/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
            async with get_client() as client:
                stopped = await stop_all(client, driver.store, actor=ADA, reason=None, cancel_running=True)
    await proxy.close()
    assert {runs[1].id, suspended.id} <= {run.id for run in stopped.cancelled}
    assert [run.id for run in stopped.still_going] == [runs[0].id]
    (problem,) = stopped.problems
    assert problem.startswith(f"run {runs[0].name} could not be cancelled: ")
    (approval,) = await driver.store.list_approvals(run_id=str(suspended.id))
    assert approval.state is ApprovalState.WITHDRAWN
    assert "told" in stopped.paused

    again = await stop_all(driver.client, driver.store, actor=ADA, reason=None, cancel_running=True)
    assert runs[0].id in {run.id for run in again.cancelled} and not again.problems and not again.still_going
