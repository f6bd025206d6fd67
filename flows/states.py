"""The states in which people see the run of a campaign: what each means, and who is told of it.

Prefect knows the types; the names are ours where the type alone would not say what has happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunState:
    """A state of a run.

    Attributes:
        type: Prefect's type of it.
        meaning: what it says, in a sentence.
        told: whom a mail goes to, by the field of ``notifications``; empty where nobody is told.
    """

    name: str
    type: str
    meaning: str
    told: str = ""


GOES_ON: Sequence[RunState] = (
    RunState(name="Scheduled", type="SCHEDULED", meaning="It is due at its time."),
    RunState(name="Late", type="SCHEDULED", meaning="Its time has passed, and no worker has taken it up."),
    RunState(name="Pending", type="PENDING", meaning="A worker has taken it up, and begins it when it is due."),
    RunState(name="Running", type="RUNNING", meaning="It does its steps."),
    RunState(name="Waiting", type="RUNNING", meaning="Another run of its campaign is going; it waits for its turn."),
    RunState(
        name="Suspended",
        type="PAUSED",
        meaning="It waits for somebody to approve its next step; no worker holds it.",
        told="onApproval",
    ),
    RunState(name="Resuming", type="SCHEDULED", meaning="Its step is approved, and a worker takes it up."),
    RunState(
        name="HandedBack",
        type="SCHEDULED",
        meaning="Its worker was stopped; another goes on at its unfinished step.",
    ),
    RunState(
        name="Recovering", type="SCHEDULED", meaning="Its worker vanished; it goes on, once, at its unfinished step."
    ),
    RunState(name="AwaitingRetry", type="SCHEDULED", meaning="Somebody retries it, from the step that failed on."),
    RunState(name="Cancelling", type="CANCELLING", meaning="Somebody has cancelled it, and it is about to end."),
)
"""Those of a run that has not ended."""

ENDED: Sequence[RunState] = (
    RunState(name="Completed", type="COMPLETED", meaning="It did all it was to do.", told="onComplete"),
    RunState(
        name="Partial",
        type="COMPLETED",
        meaning="A step failed, and its campaign says to go on.",
        told="onComplete and onFailure",
    ),
    RunState(
        name="Skipped",
        type="COMPLETED",
        meaning="It never began: another run was going (overlap: skip), or its time was missed (catchUp, maxLateness).",
    ),
    RunState(name="Failed", type="FAILED", meaning="A step failed, and its campaign says to abort.", told="onFailure"),
    RunState(name="TimedOut", type="FAILED", meaning="It was ended by a time limit of Prefect's.", told="onFailure"),
    RunState(
        name="EngineDown",
        type="FAILED",
        meaning="It never began: an engine that it needs is left alone, for runs have failed by it.",
        told="onFailure, once",
    ),
    RunState(name="LeftAlone", type="FAILED", meaning="The same, of which people have been told already."),
    RunState(
        name="Crashed",
        type="CRASHED",
        meaning="Its worker vanished or was stopped; with onCrash: resume it goes on by itself, unless its step sends.",
        told="onFailure",
    ),
    RunState(
        name="BudgetExceeded",
        type="CANCELLED",
        meaning="A limit stopped it, and pauses its campaign until the limit's window is over.",
        told="onBudget",
    ),
    RunState(name="Paused", type="CANCELLED", meaning="The budget had paused its campaign already."),
    RunState(name="NotApproved", type="CANCELLED", meaning="Nobody approved its next step in time.", told="onApproval"),
    RunState(name="Stopped", type="CANCELLED", meaning="The emergency stop stands."),
    RunState(name="Cancelled", type="CANCELLED", meaning="Somebody cancelled it."),
)
"""Those in which a run has ended."""
