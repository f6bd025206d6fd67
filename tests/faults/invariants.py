"""What holds after every round, whatever broke: each promise as a question to books, engines, mails and Prefect."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State
from scenarios import STEPS, Scenario

from prefect_campaigns.blocks.email_composing import message_id, parse_address
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AttemptState
from prefect_campaigns.deployments.compile import NotificationKind
from prefect_campaigns.deployments.demo.engines import DemoEngines
from prefect_campaigns.deployments.demo.smtp_sink import ReceivedMail
from prefect_campaigns.results import StepStatus

MAILED = frozenset(
    name
    for kind in (NotificationKind.FAILURE, NotificationKind.PARTIAL, NotificationKind.COMPLETE)
    for name in kind.state_names
)
"""The names of the states of which a scenario's recipient is told."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known when a round is over."""

    client: PrefectClient
    store: CampaignStore
    honest: DemoEngines
    careless: DemoEngines
    mails: Sequence[ReceivedMail]
    runs: Mapping[int, UUID]
    sender_domain: str = "example.com"


async def histories(evidence: Evidence) -> dict[int, list[State[object]]]:
    """Return the states of every run, oldest first."""
    found = {}
    for number, run_id in evidence.runs.items():
        states = await evidence.client.read_flow_run_states(run_id)
        found[number] = sorted(states, key=lambda state: state.timestamp)
    return found


async def broken_promises(
    scenarios: Sequence[Scenario], evidence: Evidence, *, kills: int, workers_lived: bool
) -> list[tuple[int, str]]:
    """Return what does not hold, each with the number of its scenario; -1 is the whole round.

    Args:
        kills: how often a process was killed.
        workers_lived: whether no worker was killed, stopped, or stood still.
    """
    states = await histories(evidence)
    found = [
        (number, "the run was called dead, and its worker lived")
        for number, each in states.items()
        if workers_lived and any(state.is_crashed() for state in each)
    ]
    found += [promise async for promise in _of_books(scenarios, evidence, states)]
    found += _of_engines(evidence)
    found += [promise async for promise in _of_mails(scenarios, evidence, states, kills=kills)]
    for key in (None, *(scenario.name.lower().replace(" ", "-") for scenario in scenarios)):
        found += [(-1, f"the totals differ: {line}") for line in await evidence.store.verify_totals(key)]
    return found


async def _of_books(
    scenarios: Sequence[Scenario], evidence: Evidence, states: Mapping[int, Sequence[State[object]]]
) -> AsyncIterator[tuple[int, str]]:
    """Every run is final, in the books as in Prefect; the ledger has what the engines charged, and nothing is held."""
    charged = _charges(evidence)
    for scenario in scenarios:
        number, run_id = scenario.number, str(evidence.runs[scenario.number])
        last = states[number][-1]
        if not last.is_final():
            yield number, f"the run is {last.name} and goes on for ever"
        report = await evidence.store.get_run(run_id)
        if report is None:
            yield number, f"the books know nothing of the run, which is {last.name}"
            continue
        if report.state_name != last.name:
            yield number, f"the run is {last.name} in Prefect and {report.state_name} ({report.status}) in the books"
        for step in report.steps:
            attempts = await evidence.store.attempts(run_id, step.name)
            kinds = Counter(attempt.state for attempt in attempts)
            if kinds[AttemptState.HELD] or kinds[AttemptState.SENT]:
                yield number, f"step {step.name} has money reserved although nobody executes it: {dict(kinds)}"
            booked = sum((attempt.booked or Decimal(0) for attempt in attempts), Decimal(0))
            paid = charged[number, STEPS[step.name]]
            if kinds[AttemptState.UNCONFIRMED]:
                if step.status is StepStatus.COMPLETED:
                    yield number, f"step {step.name} is done, and the books do not know what it cost"
            elif booked != paid:
                yield number, f"step {step.name} is booked at {booked}, and its engine charged {paid}"
    for held in await evidence.store.unattended_runs(within_seconds=0):
        yield -1, f"run {held.run_id} counts as running, and nobody attends to it"


def _charges(evidence: Evidence) -> Mapping[tuple[int, str], Decimal]:
    """Return what the engines charged, by scenario and path."""
    charged: defaultdict[tuple[int, str], Decimal] = defaultdict(Decimal)
    for engines in (evidence.honest, evidence.careless):
        numbers = {request.idempotency_key: request.params.get("of") for request in engines.requests}
        for charge in engines.charges:
            charged[int(numbers[charge.idempotency_key] or 0), charge.path] += charge.cost
    return charged


def _of_engines(evidence: Evidence) -> Iterator[tuple[int, str]]:
    """A key stands for one body; what sends is not sent twice."""
    for engines in (evidence.honest, evidence.careless):
        bodies = defaultdict(list)
        for request in engines.requests:
            if request.idempotency_key is not None and request.params:
                bodies[request.idempotency_key].append(request.params)
        for sent in bodies.values():
            if any(body != sent[0] for body in sent):
                yield int(sent[0].get("of", -1)), f"one Idempotency-Key came with different bodies: {sent}"
    for engines, name in ((evidence.honest, "an engine that honours keys"), (evidence.careless, "one that does not")):
        numbers = {request.idempotency_key: request.params.get("of") for request in engines.requests}
        for key, count in Counter(charge.idempotency_key for charge in engines.charges).items():
            if count > 1:
                yield int(numbers[key] or 0), f"the work of one key was done {count} times by {name}"


async def _of_mails(
    scenarios: Sequence[Scenario], evidence: Evidence, states: Mapping[int, Sequence[State[object]]], *, kills: int
) -> AsyncIterator[tuple[int, str]]:
    """Whoever has to be told is told of each end, and of no other; a mail that came twice bears the same Message-ID."""
    repeated = 0
    for scenario in scenarios:
        recipient = parse_address(scenario.address)
        got = Counter(str(mail.message["Message-ID"]) for mail in evidence.mails if scenario.address in mail.recipients)
        wanted = {
            message_id(str(state.id), recipient, domain=evidence.sender_domain): state
            for state in states[scenario.number]
            if state.name in MAILED
        }
        for missing in wanted.keys() - got.keys():
            state = wanted[missing]
            known = [
                f"{mail.state}, {mail.attempts} attempts, {mail.error}"
                for mail in await evidence.store.mails_about([state.id])
            ]
            ago = (datetime.now(UTC) - state.timestamp).total_seconds()
            yield (
                scenario.number,
                f"nobody was told that the run became {state.name}, {ago:.0f} s ago; of the mail is known: {known}",
            )
        for odd in got.keys() - wanted.keys():
            yield scenario.number, f"somebody was mailed of what did not happen: {odd}"
        repeated += sum(got.values()) - len(got)
    if repeated > kills:
        yield -1, f"{repeated} mails came again, and only {kills} times something was killed"
