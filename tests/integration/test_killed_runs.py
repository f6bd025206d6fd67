"""``kill -9`` in the middle of steps: the books hold what the engines charged, once."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from campaign_files import campaign
from clocks import SettableClock
from driving import Driver, until
from prefect.states import AwaitingRetry
from real_stack import Stack
from run_process import RunProcess

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AttemptState
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.models import Campaign

pytestmark = pytest.mark.usefixtures("no_worker")

RUNS, ROUNDS = 10, 5
STEP = "prospecting"
ESTIMATE = "0.10"
PACE = 0.1
QUICK, SLOW = 1, 400
"""How many companies an engine is asked for: its answer takes a moment, or longer than any round lives."""

LINGERING, LINGERS = 9, 300.0
"""Which campaign is killed between its reservation and its request; and how many seconds lie between them."""

ROUND = timedelta(hours=2)
LATER = timedelta(hours=1)
"""After which every lease and every reservation of the killed process has run out."""


class Killed:
    """A run of each of ten campaigns, in one process, which dies at a random moment of their steps."""

    def __init__(self, driver: Driver, engines: DemoEngines, runner: RunProcess, *, seed: int) -> None:
        self._driver = driver
        self._engines = engines
        self._runner = runner
        self._random = random.Random(seed)  # noqa: S311 - a seed that repeats it is what is wanted
        # Each round begins when all that the one before has left has run out.
        self.began = datetime.now(UTC) + seed * ROUND
        self.run_ids: list[UUID] = []

    @property
    def retried(self) -> list[UUID]:
        """The runs that somebody retries."""
        return self.run_ids[::2]

    @property
    def abandoned(self) -> list[UUID]:
        """The runs that nobody retries."""
        return self.run_ids[1::2]

    async def die(self, deployments: list[UUID], *, of_every_kind: bool) -> None:
        """Start all runs, and kill the process once some requests have come to the engines.

        Args:
            of_every_kind: whether of the abandoned runs one has its answer booked by then, another waits for its own,
                and of a third the request has not left.
        """
        self._engines.pace = PACE
        runs = await asyncio.gather(*map(self._driver.start, deployments))
        self.run_ids = [run.id for run in runs]
        for number, run_id in enumerate(self.run_ids):
            await self._runner.tell(run_id, now=self.began, lingers=LINGERS if number == LINGERING else 0)
        enough = self._random.randint(1, RUNS - 1)

        async def are_enough() -> bool:
            return len(self._engines.requests) >= enough and (not of_every_kind or await self._are_of_every_kind())

        await until(are_enough, f"{enough} requests")
        await asyncio.sleep(self._random.uniform(0, 0.1))
        self._runner.kill()
        self._engines.pace = 0

    async def _are_of_every_kind(self) -> bool:
        attempts = [one for run_id in self.abandoned for one in await self._driver.store.attempts(str(run_id), STEP)]
        return {AttemptState.SETTLED, AttemptState.SENT, AttemptState.HELD} <= {attempt.state for attempt in attempts}

    async def retry(self) -> set[str]:
        """Do what Prefect's Retry does, on a machine on which the dead runs' leases have run out."""
        for run_id in self.retried:
            await self._driver.client.set_flow_run_state(run_id, AwaitingRetry(), force=True)
            await self._runner.tell(run_id, now=self.began + LATER)
        return {(await self._runner.hear()).name for _ in self.retried}

    def charged(self, run_id: UUID) -> Decimal:
        """What the engine charged for a run."""
        number = self.run_ids.index(run_id)
        keys = {one.idempotency_key for one in self._engines.requests if one.params.get("of") == number}
        return sum((one.cost for one in self._engines.charges if one.idempotency_key in keys), Decimal(0))


def is_slow(number: int) -> bool:
    """Whether the answer to a campaign does not come before its run is killed: to 2, 3, 6 and 7."""
    return number % 4 >= 2


def numbered(number: int, url: str) -> Campaign:
    """Return a campaign whose number goes to the engines, by which their charges are told apart."""
    count = SLOW if is_slow(number) else QUICK
    steps = {STEP: {"params": {"count": count, "of": number}, "estimatedCost": ESTIMATE}}
    return campaign(f"Killed {number}", url, only=1, steps=steps)


@pytest.mark.timeout(600)
async def test_what_a_killed_run_cost_is_booked_once_whether_it_is_retried_or_not(
    driver: Driver, engines: DemoEngines, runner: RunProcess, in_stack: Stack
) -> None:
    fates: set[AttemptState] = set()
    campaigns = [numbered(number, engines.url) for number in range(RUNS)]
    deployments = await driver.apply(*campaigns)
    for seed in range(ROUNDS):
        killed = Killed(driver, engines, runner, seed=seed)
        await killed.die(deployments, of_every_kind=seed % 2 == 1)
        assert await killed.retry() == {"Completed"}
        async with SqliteStore(in_stack.database, clock=SettableClock(killed.began + LATER)) as store:
            for run_id in killed.retried:
                assert await store.run_cost(str(run_id)) == killed.charged(run_id)
            for one, run_id in zip(campaigns[1::2], killed.abandoned, strict=True):
                fates |= await look_at_abandoned(store, one.slug, run_id, killed.charged(run_id))
            for one in campaigns:
                assert await store.verify_totals(one.slug) == []
            assert await store.verify_totals(None) == []
        engines.requests.clear()
    assert fates == {AttemptState.SETTLED, AttemptState.UNCONFIRMED, AttemptState.RELEASED}


async def look_at_abandoned(store: CampaignStore, key: str, run_id: UUID, charged: Decimal) -> set[AttemptState]:
    """Look at the books of a run that nobody retries, once its reservations have run out; return what became of it."""
    status = await store.budget_status(key)
    assert [limit.reserved for limit in status.limits] == [0, 0, 0], "no reservation outlives its expiry"
    attempts = await store.attempts(str(run_id), STEP)
    for attempt in attempts:
        if attempt.state is AttemptState.SETTLED:
            assert attempt.booked == charged
        elif attempt.state is AttemptState.UNCONFIRMED:
            assert attempt.booked == Decimal(ESTIMATE)
        else:
            assert (attempt.state, charged) == (AttemptState.RELEASED, 0), "its request never left"
    fates = {attempt.state for attempt in attempts}
    assert not charged or fates & {AttemptState.SETTLED, AttemptState.UNCONFIRMED}, "what was charged is in the books"
    return fates
