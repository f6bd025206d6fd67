"""What a restart of the Prefect server does: nothing to runs that are in progress, or to what people are told."""

from __future__ import annotations

from uuid import uuid4

import pytest
from campaign_files import PROSPECT, campaign
from driving import Driver, until
from mails import mails_to
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.events.schemas.events import Event, RelatedResource, Resource
from real_stack import Stack

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.deployments.compile import WORK_POOL

RUNS = 10
MANY = 60
"""More events than Prefect writes with one statement, of so many resources each."""
PAUSED, READY = f"Paused: work pool {WORK_POOL}", f"Works again: work pool {WORK_POOL}"


@pytest.mark.timeout(400)
async def test_ten_runs_in_progress_all_finish_and_none_twice(driver, engines, in_stack) -> None:
    engines.pace = 1.0
    deployments = await driver.apply(*(campaign(f"Restart {n}", engines.url, only=2) for n in range(RUNS)))
    runs = [await driver.start(deployment) for deployment in deployments]

    async def all_asked() -> bool:
        return len(engines.requests_to(PROSPECT)) == RUNS

    await until(all_asked, "ten runs in progress", seconds=120)
    await in_stack.server.stop()
    await in_stack.server.start()
    ends = await driver.all_ended([run.id for run in runs], seconds=240)
    assert {end.state.name for end in ends} == {"Completed"}
    assert {end.run_count for end in ends} == {1}
    posts = [request.idempotency_key for request in engines.requests if request.method == "POST"]
    assert len(posts) == len(set(posts)) == 2 * RUNS
    records = [await driver.store.get_run(str(run.id)) for run in runs]
    assert {record.status for record in records} == {"completed"}
    assert sum(record.total_cost for record in records) == engines.charged


async def pause_pool(client: PrefectClient, *, paused: bool) -> None:
    await client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=paused))


async def test_of_a_pool_that_is_paused_again_after_a_restart_people_hear_at_once(
    driver: Driver, in_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = f"operator-{uuid4().hex[:8]}@example.com"
    monkeypatch.setenv("CAMPAIGNS_OPERATORS", operator)
    await Driver(driver.client, driver.store, load_settings()).apply()
    try:
        # A change that follows another soon: Prefect looks at it when it has seen that one.
        await pause_pool(driver.client, paused=True)
        await pause_pool(driver.client, paused=False)
        assert await told(in_stack, operator, 2) == [PAUSED, READY]
        await in_stack.server.stop()
        await in_stack.server.start()
        await pause_pool(driver.client, paused=True)
        assert await told(in_stack, operator, 3) == [PAUSED, READY, PAUSED]
    finally:
        await pause_pool(driver.client, paused=False)
    assert await told(in_stack, operator, 4) == [PAUSED, READY, PAUSED, READY]


async def told(stack: Stack, operator: str, count: int) -> list[str]:
    return [str(mail.message["Subject"]) for mail in await mails_to(stack, operator, count)]


def event(name: str) -> Event:
    related = [
        RelatedResource({"prefect.resource.id": f"test.related.{number}", "prefect.resource.role": "x"})
        for number in range(8)
    ]
    return Event(event=name, resource=Resource({"prefect.resource.id": "test.resource"}), related=related)


async def send(client: PrefectClient, events: list[Event]) -> None:
    await client.request("POST", "/events", json=[one.model_dump(mode="json") for one in events])


async def all_kept(client: PrefectClient, name: str, count: int) -> None:
    async def look() -> bool:
        answer = await client.request("POST", "/events/filter", json={"filter": {"event": {"name": [name]}}})
        return bool(answer.json()["total"] == count)

    await until(look, f"{count} events {name} are kept", seconds=30)


async def test_what_comes_with_events_that_were_sent_before_the_restart_is_kept(
    client: PrefectClient, in_stack: Stack
) -> None:
    known, new = f"known-{uuid4().hex}", f"new-{uuid4().hex}"
    first = [event(known) for _ in range(MANY)]
    await send(client, first)
    await all_kept(client, known, MANY)
    await in_stack.server.stop()
    await in_stack.server.start()
    twice = event(new)
    await send(client, [*first[:40], twice, event(new), twice, *first])
    await all_kept(client, new, 2)
    await all_kept(client, known, MANY)
