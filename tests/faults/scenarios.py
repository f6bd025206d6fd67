"""What a seed comes to: campaigns whose engines misbehave, and what happens to everything around them meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

from campaign_files import ANALYZE, COMPOSE, PROSPECT, SEND, campaign
from starlette.responses import JSONResponse, Response

from prefect_campaigns.deployments.demo.faults import Fault, Silence
from prefect_campaigns.models import Campaign

STEPS: Mapping[str, str] = {"prospecting": PROSPECT, "analysis": ANALYZE, "outreach": COMPOSE, "sending": SEND}
"""The steps of a campaign, and where their engines answer."""

WITHIN_SECONDS = 25.0
"""Within which time all runs begin, and all that breaks breaks."""

A_KILL_SECONDS = 7.5
"""How often workers are killed, where nothing else breaks: each has time to begin, and to take runs up."""

TIMEOUT_MS = 4_000


def _answer(status: int) -> Callable[[], Fault]:
    headers = {"Retry-After": "0"} if status == 429 else {}
    return lambda: Fault(after_work=False, response=JSONResponse({"error": "no"}, status_code=status, headers=headers))


ENGINE_FAULTS: Mapping[str, Callable[[], Fault]] = {
    "is out of order": _answer(503),
    "has too much to do": _answer(429),
    "does not like the request": _answer(400),
    "says nothing, and has done the work": lambda: Fault(after_work=True, response=Silence(drop=False)),
    "cuts the connection, and has done the work": lambda: Fault(after_work=True, response=Silence(drop=True)),
    "ends its stream too early": lambda: Fault(after_work=True, events_before_cut=2),
    "answers with half of its JSON": lambda: Fault(
        after_work=True, response=Response('{"found": 20, "veri', media_type="application/json")
    ),
}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One run of one campaign.

    Attributes:
        begins_after: seconds from the beginning of the round.
        engine_faults: what its engines do wrong at their first requests, by the step.
    """

    number: int
    begins_after: float
    steps: int
    attempts: int
    on_crash: str
    engine_faults: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, seed: int, number: int) -> Scenario:
        """Return the scenario of a number; the same for the same seed, however many there are."""
        random = Random(f"{seed}/{number}")  # noqa: S311 - a seed that repeats it is what is wanted
        steps = random.choice((1, 2, 4, 4))
        chosen = list(STEPS)[:steps]
        return cls(
            number=number,
            begins_after=random.uniform(0, WITHIN_SECONDS),
            steps=steps,
            attempts=random.choice((0, 1, 2)),
            on_crash=random.choice(("resume", "resume", "resume", "fail")),
            engine_faults={
                step: tuple(random.choices(list(ENGINE_FAULTS), k=random.choice((1, 1, 2))))
                for step in chosen
                if random.random() < 0.25
            },
        )

    @property
    def name(self) -> str:
        return f"Fault {self.number}"

    @property
    def address(self) -> str:
        """Who is told of it."""
        return f"fault-{self.number}@example.com"

    def campaign(self, honest: str, careless: str) -> Campaign:
        """Return the campaign.

        Args:
            honest, careless: where the engines are; the careless one, which sends, knows no Idempotency-Key.
        """
        options: dict[str, dict[str, Any]] = {
            step: {
                "params": {"count": 5, "of": self.number},
                "timeout": TIMEOUT_MS,
                "estimatedCost": "0.05",
                "retry": {"attempts": self.attempts, "delay": 200, "backoff": "fixed"},
                **({"endpoint": f"{careless}{SEND}"} if step == "sending" else {}),
            }
            for step in list(STEPS)[: self.steps]
        }
        told = {"email": self.address}
        return campaign(
            self.name,
            honest,
            steps=options,
            only=self.steps,
            onCrash=self.on_crash,
            notifications={"onFailure": told, "onComplete": told},
        )

    def script(self) -> dict[str, deque[Fault]]:
        """Return what its engines do wrong, by the path."""
        return {
            STEPS[step]: deque(ENGINE_FAULTS[fault]() for fault in faults)
            for step, faults in self.engine_faults.items()
        }

    def __str__(self) -> str:
        faults = "; ".join(f"{step} {', then '.join(each)}" for step, each in self.engine_faults.items())
        return f"{self.steps} steps, {self.attempts} retries, onCrash {self.on_crash}; {faults or 'engines are well'}"


class Break(StrEnum):
    """What breaks around the runs."""

    KILL_WORKER = "a worker is killed"
    STOP_WORKER = "a worker is told to stop"
    FREEZE_WORKER = "a worker stands still"
    KILL_SERVER = "the Prefect server is killed"
    SMTP_DOWN = "the mail server is down"
    SMTP_REFUSES = "the mail server refuses"
    STORE_REFUSES = "the store refuses connections"
    STORE_STALLS = "the store says nothing"
    STORE_CUTS = "the store's answers are cut"


_OF_STORE = (Break.STORE_REFUSES, Break.STORE_STALLS, Break.STORE_CUTS)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something breaks, ``after`` so many seconds, for so many ``seconds``; of a worker it is said which."""

    after: float
    seconds: float
    what: Break
    worker: int = 0

    @property
    def is_of_worker(self) -> bool:
        """Whether it is a worker that breaks."""
        return self.what in (Break.KILL_WORKER, Break.STOP_WORKER, Break.FREEZE_WORKER)

    def __str__(self) -> str:
        which = f" (worker {self.worker})" if self.is_of_worker else ""
        return f"at {self.after:4.1f} s, for {self.seconds:4.1f} s: {self.what}{which}"


def killing(seed: int, kills: int, *, workers: int) -> Sequence[Event]:
    """Return that a worker is killed, and another, so many times, and nothing else breaks."""
    random = Random(f"killing {seed}")  # noqa: S311 - as above
    return [
        Event(
            after=2 + (number + random.random()) * A_KILL_SECONDS,
            seconds=random.uniform(0, 1),
            what=Break.KILL_WORKER,
            worker=number % workers,
        )
        for number in range(kills)
    ]


def outage(seconds: float) -> Sequence[Event]:
    """Return that Prefect's server is away for so long, while runs go on, and nothing else breaks."""
    return [Event(after=WITHIN_SECONDS / 2, seconds=seconds, what=Break.KILL_SERVER)]


def timeline(seed: int, *, workers: int, has_proxy: bool) -> Sequence[Event]:
    """Return what breaks in a round, in order; workers are among it every time.

    Args:
        has_proxy: whether the store lies behind a network that can be broken.
    """
    random = Random(f"timeline {seed}")  # noqa: S311 - as above
    possible = [one for one in Break if has_proxy or one not in _OF_STORE]
    chosen = [Break.KILL_WORKER, *random.choices(possible, k=random.choice((2, 3, 4)))]
    events = [
        Event(
            after=random.uniform(2, WITHIN_SECONDS),
            # A worker that stands still for so long has lost its runs when it wakes up.
            seconds=random.uniform(75, 90) if what is Break.FREEZE_WORKER else random.uniform(3, 15),
            what=what,
            worker=random.randrange(workers),
        )
        for what in chosen
    ]
    return sorted(events, key=lambda event: event.after)
