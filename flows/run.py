"""The record of one run while it goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID, uuid5

import anyio
import httpx
from prefect.client.schemas.objects import FlowRun

from prefect_campaigns.blocks.journal import Journal, JournalEntry, settle_journal
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease, Reservation
from prefect_campaigns.clock import Clock
from prefect_campaigns.errors import CampaignsError, LeaseLost, StoreError, StoreUnavailable
from prefect_campaigns.flows.messages import ExchangeLimits
from prefect_campaigns.flows.shielding import to_its_end
from prefect_campaigns.models import Campaign, Step
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus
from prefect_campaigns.words import listed

RunLogger = logging.Logger | logging.LoggerAdapter[logging.Logger]
"""What Prefect's get_run_logger gives."""

_IDEMPOTENCY_NAMESPACE = UUID("6a1f6e0e-59a5-4c1c-9df0-6f3f1b6f5d2c")


SHIELD_SECONDS = 10.0
"""How long what became of a request and its money may take to be written down, though the step is cancelled."""

SETTLE_SECONDS = 8.0
"""How long the store may take to settle an answer before it counts as away."""

OUTAGE_SECONDS = 300.0
"""How long a run waits for a store that is away: for its turn, at its gate, between two steps, at its end."""

OUTAGE_RETRY_SECONDS = 1.0

SCHEDULED_KEY = "scheduled "
"""How the idempotency keys begin that Prefect's scheduler gives its runs."""

_HAVE_RESULTS = (StepStatus.COMPLETED, StepStatus.SKIPPED)

T = TypeVar("T")


def trigger_type(flow_run: FlowRun) -> str:
    """Return what made the run, in the words of the REST API: ``scheduled`` or ``manual``."""
    # One that an apply has made again in the place of a scheduled one bears its key.
    is_scheduled = flow_run.auto_scheduled or (flow_run.idempotency_key or "").startswith(SCHEDULED_KEY)
    return "scheduled" if is_scheduled else "manual"


@dataclass(frozen=True, kw_only=True)
class StartAt:
    """That a run begins at a later step than the first.

    Attributes:
        results_of: the flow run whose results stand for those of the steps before.
    """

    step: str
    results_of: str


async def patiently(work: Callable[[], Awaitable[T]], *, logger: RunLogger) -> T:
    """Do what needs the store; wait for one that is away, five minutes at the most.

    Raises:
        StoreUnavailable: it is still away.
    """
    deadline = anyio.current_time() + OUTAGE_SECONDS
    is_said = False
    while True:
        try:
            return await work()
        except StoreUnavailable as error:
            if anyio.current_time() >= deadline:
                raise
            if not is_said:
                logger.warning("Waiting for the store, %g seconds at the most: %s", OUTAGE_SECONDS, error)
                is_said = True
        await anyio.sleep(OUTAGE_RETRY_SECONDS)


class CampaignRun:
    """What the steps of a run share, and what they have done so far.

    Every change of a step is written to the store as it happens, so that a run that is killed leaves what it did.
    """

    # No dataclass: Prefect looks into those for the states of upstream tasks, and the flow run carries its own.
    def __init__(
        self,
        *,
        campaign: Campaign,
        flow_run: FlowRun,
        store: CampaignStore,
        lease: Lease,
        http: httpx.AsyncClient,
        limits: ExchangeLimits | None = None,
        clock: Clock,
        journal: Journal,
        logger: RunLogger,
        start_at: StartAt | None = None,
        send_again: bool = False,
    ) -> None:
        self.campaign = campaign
        self.flow_run = flow_run
        self.store = store
        self.lease = lease
        self.http = http
        self.limits = limits or ExchangeLimits()
        self.clock = clock
        self.journal = journal
        self.logger = logger
        self.start_at = start_at
        self.send_again = send_again
        """Whether a person wants it sent again, should another run have sent with the same results."""
        self.is_resumed = False
        """Whether an earlier execution of the run has begun."""
        self.executed_since: datetime = clock.now()
        self.started_at = self.executed_since
        """When its first execution began."""
        self.steps: list[StepResult] = []
        self.secrets: set[str] = set()
        """The secrets that the run's requests have carried; nothing that comes back may show one."""
        self.knows_earlier_secrets = False
        """Whether these are among them: what an earlier execution has sent, or the run with the results."""
        self._tried: set[str] = set()
        self.is_behind = False
        """Whether something was charged that the store does not know of yet."""
        self._unnoted: list[Callable[[], Coroutine[Any, Any, object]]] = []

    @property
    def run_id(self) -> str:
        """The Prefect flow run's id."""
        return str(self.flow_run.id)

    @property
    def results(self) -> dict[str, Any]:
        """The results of the steps that have completed, here or in the run before, for the references of later ones."""
        return {step.name: step.result for step in self.steps if step.status in _HAVE_RESULTS}

    def idempotency_key(self, step: Step) -> str:
        """Return the key of the step's requests: the same over retries and over a resumed run."""
        return str(uuid5(_IDEMPOTENCY_NAMESPACE, f"{self.run_id}/{step.name}"))

    def is_first_try(self, step: Step) -> bool:
        """Whether nothing has been tried of the step, by this execution of the run or an earlier one; asked once."""
        is_first = not self.is_resumed and step.name not in self._tried
        self._tried.add(step.name)
        return is_first

    async def begin(self) -> None:
        """Write the run's record, taking up what an earlier execution of this run has left."""
        await settle_journal(self.journal, self.store)
        earlier = await self.store.get_run(self.run_id)
        taken_over = await self._taken_over()
        # Of a step that nobody has begun only its place is recorded, which another version may have changed.
        known = {step.name: step for step in earlier.steps if step.status is not StepStatus.PENDING} if earlier else {}
        recorded = {**taken_over, **known}
        if earlier:
            self.is_resumed = True
            self.started_at = earlier.started_at
        self.steps = [
            recorded.get(step.name)
            or StepResult(name=step.name, engine=step.engine, position=position, status=StepStatus.PENDING)
            for position, step in enumerate(self.campaign.steps)
        ]
        await self.store.start_run(self.lease, await self.report())
        if earlier:
            # A run that was skipped, for another was going, is recorded without steps, and may be retried.
            for step in self.steps:
                if step.status is not StepStatus.PENDING and step.name not in known:
                    await self.store.save_step(self.lease, step)

    async def _taken_over(self) -> dict[str, StepResult]:
        """Return the steps before the one that the run begins at, with the results of an earlier run.

        Raises:
            CampaignsError: there is no such step, or the earlier run does not have these results.
        """
        if self.start_at is None:
            return {}
        names = [step.name for step in self.campaign.steps]
        if self.start_at.step not in names:
            raise CampaignsError(f"the run is to begin at step {self.start_at.step!r}; its steps are {listed(names)}")
        source = await self.store.get_run(self.start_at.results_of)
        results = {step.name: step for step in source.steps} if source else {}
        before = names[: names.index(self.start_at.step)]
        if missing := [name for name in before if name not in results or results[name].status not in _HAVE_RESULTS]:
            raise CampaignsError(f"run {self.start_at.results_of} has no result of {listed(missing)} to begin with")
        return {
            name: StepResult(
                name=name,
                engine=self.campaign.steps[position].engine,
                position=position,
                status=StepStatus.SKIPPED,
                result=results[name].result,
                taken_from=self.start_at.results_of,
            )
            for position, name in enumerate(before)
        }

    async def save(self, step: StepResult) -> None:
        """Write down where a step stands."""
        self.steps[step.position] = step
        await self.store.save_step(self.lease, step)

    async def mark_sent(self, step: StepResult, reservation: Reservation) -> Reservation:
        """Write down that a step's request is about to leave, and where the step stands, in one act."""
        self.steps[step.position] = step
        return await self.store.mark_sent(self.lease, reservation, step=step)

    def warn(self, step: Step, warning: str) -> None:
        """Say what went wrong with a step, in the log and when the step is next written down."""
        self.logger.warning("%s: %s", step.name, warning)
        recorded = next(one for one in self.steps if one.name == step.name)
        self.steps[recorded.position] = recorded.model_copy(update={"warnings": (*recorded.warnings, warning)})

    async def settle(self, step: StepResult, reservation: Reservation, amount: Decimal) -> None:
        """Write down a finished step and what it cost, in one act; on this machine's disk while the store is away."""
        await self._settle(reservation, amount, step)
        self.steps[step.position] = step

    async def settle_failure(self, reservation: Reservation, amount: Decimal) -> None:
        """Write down what a failed request cost; on this machine's disk while the store is away."""
        await self._settle(reservation, amount, None)

    async def _settle(self, reservation: Reservation, amount: Decimal, step: StepResult | None) -> None:
        entry = JournalEntry(books=self.store.books, reservation=reservation, amount=amount, step=step)
        # First on the disk: between the engine's answer and the store's there may be a crash, or an outage.
        is_kept = await self._keep(entry)
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self.store.settle(self.lease, reservation, amount, step=step)
        except (StoreUnavailable, TimeoutError) as error:
            said = f"{format_money(amount)} USD"
            if not is_kept:
                # No StoreUnavailable, after which the step would be done, and paid for, again.
                raise StoreError(f"{said} could not be written down, by the store either: {error}") from error
            self.logger.warning("%s: cost %s is kept in the journal: %s", reservation.step, said, error)
            self.is_behind = True
            return
        except LeaseLost:
            # Another run has the campaign now, and what the engine charged is true all the same.
            await settle_journal(self.journal, self.store)
            raise
        await self.journal.remove(entry)

    async def _keep(self, entry: JournalEntry) -> bool:
        """Write the journal; a disk that takes nothing is no reason not to ask the store."""
        try:
            await self.journal.write(entry)
        except StoreUnavailable as error:
            self.logger.error("%s", error)
            return False
        return True

    async def note(self, fate: Callable[[], Coroutine[Any, Any, object]], reservation: Reservation) -> None:
        """Write down what became of a request without an answer, ten seconds long; what is not, by ``catch_up``.

        What nobody writes down is booked at its expiry.
        """
        was_behind, self.is_behind = self.is_behind, True
        self._unnoted.append(fate)
        try:
            await to_its_end(fate(), seconds=SHIELD_SECONDS)
        except (StoreUnavailable, TimeoutError) as error:
            self.logger.warning("%s: not written down yet what became of its money: %s", reservation.step, error)
            return
        except StoreError:
            # It will not be done another time either.
            self._unnoted.remove(fate)
            self.is_behind = was_behind
            raise
        self._unnoted.remove(fate)
        self.is_behind = was_behind

    async def catch_up(self) -> None:
        """Settle what the journal holds, and note what was not; wait for a store that is away, five minutes at most.

        Raises:
            StoreUnavailable: it is still away. What the engines charged stays in the journal.
        """
        if not self.is_behind:
            return
        await self.patiently(self._settle_journal)
        while self._unnoted:
            try:
                await self.patiently(self._unnoted[0])
            except (LeaseLost, StoreUnavailable):
                raise
            except StoreError as error:
                # It has expired meanwhile, and is booked.
                self.logger.warning("%s", error)
            self._unnoted.pop(0)
        self.is_behind = False

    async def patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what needs the store; wait for one that is away, five minutes at the most.

        Raises:
            StoreUnavailable: it is still away.
        """
        return await patiently(work, logger=self.logger)

    async def _settle_journal(self) -> None:
        await settle_journal(self.journal, self.store)
        # The journal may be empty: whether the store is back only an answer tells.
        await self.store.run_cost(self.run_id)

    async def report(
        self,
        status: RunStatus = RunStatus.RUNNING,
        *,
        state_name: str | None = None,
        message: str | None = None,
    ) -> RunReport:
        """Return the run as it stands; its cost is the ledger's."""
        return RunReport(
            run_id=self.run_id,
            run_name=self.flow_run.name,
            campaign_key=self.campaign.slug,
            campaign_name=self.campaign.name,
            status=status,
            state_name=state_name,
            message=message,
            trigger_type=trigger_type(self.flow_run),
            started_at=self.started_at,
            completed_at=None if status is RunStatus.RUNNING else self.clock.now(),
            total_cost=await self.store.run_cost(self.run_id),
            steps=tuple(self.steps),
        )
