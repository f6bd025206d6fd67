"""Every error of this package, in one tree.

CampaignsError
├── UsageError                a command that is not understood: options that do not go together, or are missing
├── InvalidCampaign           a campaign file or body that cannot be used; carries every Complaint
├── EngineError               a step's exchange with its engine did not end in a result
│   ├── EngineUnreachable     the request never left: nothing can have happened at the engine
│   ├── EngineAnswerLost      the request left and no whole answer was read: anything may have happened
│   ├── EngineRefused         the engine answered with an HTTP status that is no success
│   ├── EngineReportedFailure the engine answered, and its answer says that the work failed
│   └── EngineAnswerInvalid   the engine answered with something that cannot be used
│       └── InvalidCost       … among it a cost that is no amount of money
├── MissingReference          a {{ steps.… }} reference that finds nothing at run time
├── MissingSecret             a {{ secret.… }} reference that finds nothing, or nothing that can be sent
├── SecretsUnavailable        Prefect could not be asked for a secret
├── StoreError
│   ├── StoreUnavailable      the store did not answer
│   ├── StoreMisconfigured    the store answers, and cannot be used as it is set up: its key, its tables
│   ├── OlderWorkers          the store is not upgraded while workers live that could not go on with it
│   ├── UnknownCampaign       the store has no such campaign
│   ├── LeaseTimeout          the run waited for its turn for too long
│   ├── LeaseLost             another run holds the campaign now; this one may write nothing more
│   └── BudgetRefused         a reservation that would pass a limit
├── TooEarly                  a campaign's pause is about to end, and has not ended yet by every clock
├── AlreadyThere              a campaign that was to be created is there already
├── ApprovalExpired           a step that nobody approved in time
├── SendMayHaveHappened       a send step is not repeated, because an earlier request left and was never answered
├── UnsupportedFlow           the campaign worker was given a flow that is not of this package
├── EverythingStopped         the emergency stop stands: nothing begins, nothing resumes
├── NotDeployed               the campaign has no deployment on the Prefect server
├── UnknownRun                the Prefect server has no such run of a campaign
├── WrongState                a run is not in a state in which that can be done to it
├── InvalidChange             what a single run is to do differently cannot be used; says all that is wrong
├── MailNotSent               a mail that somebody asked for did not go out; says what the mail server said
├── SettingsError             the environment or .env holds something that cannot be used
└── ServerError               Prefect's API did not do what was asked, or is not there
    ├── UnknownBlock          a campaign names a block that is not on the server
    └── ApplyIncomplete       an apply did some campaigns and broke off; says which
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from prefect_campaigns.money import format_money

if TYPE_CHECKING:
    from prefect_campaigns.budget import LimitStatus


class CampaignsError(Exception):
    """Something that this package can name went wrong.

    Attributes:
        is_logged: whether it has been said where a command would say it.
    """

    is_logged = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


class UsageError(CampaignsError):
    """A command cannot be understood."""


@dataclass(frozen=True, kw_only=True)
class Complaint:
    """One thing that is wrong with a campaign file, and where.

    Attributes:
        source: the file as the user named it, or what stands for it (``"body"`` for a posted campaign).
        line, column: where the offending value (or key) begins, both counted from 1; None when the input
            was no text, such as a flow run's parameter.
        pointer: RFC 6901 JSON pointer to the value; empty for the document itself.
        message: what came and what is allowed, one sentence.
    """

    source: str
    pointer: str
    message: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        if self.line is not None:
            return f"{self.source}:{self.line}:{self.column}: {self.pointer or '/'}: {self.message}"
        pointer = f"{self.pointer}: " if self.pointer else ""
        return f"{self.source}: {pointer}{self.message}"


class InvalidCampaign(CampaignsError):
    """The campaign cannot be used as it is written."""

    def __init__(self, complaints: Iterable[Complaint]) -> None:
        self.complaints: Sequence[Complaint] = tuple(complaints)
        super().__init__("\n".join(map(str, self.complaints)))


class EngineError(CampaignsError):
    """The exchange with an engine did not end in a result.

    Attributes:
        retryable: whether the same request may do better later (for a step that does not send). Each kind has its
            own default; a single error may differ from its kind.
        ambiguous: whether the request left and nobody knows what the engine did with it, or what that cost. Its
            money stays booked at the estimate unless the payload tells a cost, and a step that sends is not
            repeated.
        payload: what the engine said, as far as it could be read; a failed request may report a cost.
        status_code: the HTTP status, if one was read.
        retry_after_seconds: what the engine asked to wait, if it did.
    """

    retryable = False
    ambiguous = False

    def __init__(
        self,
        message: str,
        *,
        payload: Any = None,
        status_code: int | None = None,
        retry_after_seconds: float | None = None,
        retryable: bool | None = None,
        ambiguous: bool | None = None,
    ) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable
        if ambiguous is not None:
            self.ambiguous = ambiguous
        self.payload = payload
        self.status_code = status_code
        self.retry_after_seconds = retry_after_seconds


class EngineUnreachable(EngineError):
    """No connection to the engine; the request never left."""

    retryable = True


class EngineAnswerLost(EngineError):
    """The request left, and no whole answer came back."""

    retryable = True
    ambiguous = True


class EngineRefused(EngineError):
    """The engine answered with an HTTP status that is no success."""

    RETRYABLE_STATUS_CODES = frozenset({408, 425, 429})

    @property
    def retryable(self) -> bool:  # type: ignore[override]
        status = self.status_code or 0
        return status in self.RETRYABLE_STATUS_CODES or 500 <= status <= 599


class EngineReportedFailure(EngineError):
    """The engine answered that the work failed."""

    retryable = True


class EngineAnswerInvalid(EngineError):
    """The engine answered with something that cannot be used.

    It did the work, or part of it, and asking again would pay for it again: not retryable, and ambiguous.
    """

    ambiguous = True


class InvalidCost(EngineAnswerInvalid):
    """The engine reported a cost that is no amount of money."""


class MissingReference(CampaignsError):
    """A reference to an earlier step's result finds nothing."""


class MissingSecret(CampaignsError):
    """A secret is nowhere, or is nothing that can be sent."""


class SecretsUnavailable(CampaignsError):
    """Prefect could not be asked for a secret; nothing was reserved or sent."""


class StoreError(CampaignsError):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):
    """The store did not answer."""


class StoreMisconfigured(StoreError):
    """The store cannot be used as it is set up; asking again does not help."""


class OlderWorkers(StoreError):
    """The store is not upgraded, because workers live whose release could not go on with it then.

    Attributes:
        names: what they are called.
    """

    def __init__(self, store: str, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(
            f"{store} is not upgraded, and nothing has been changed, while workers of an older release live that could"
            f" not go on with it: {', '.join(names)}. Stop them (SIGTERM: they hand back their runs), and try again"
        )


class UnknownCampaign(StoreError):
    """The store has no such campaign.

    Attributes:
        near: the keys of those that were probably meant.
    """

    def __init__(self, message: str | None = None, *, near: Sequence[str] = ()) -> None:
        self.near = tuple(near)
        super().__init__(message)


class LeaseTimeout(StoreError):
    """The run waited for its turn for too long."""


class LeaseLost(StoreError):
    """Another run holds the campaign's lease; this run may write nothing more."""


class BudgetRefused(StoreError):
    """A reservation would pass a limit; nothing was reserved.

    Attributes:
        limits: the limits that stand in the way, as they were at that moment.
        amount: what was asked for, in US dollars; None when nobody knows yet what the step costs.
    """

    def __init__(self, limits: Sequence[LimitStatus], amount: Decimal | None) -> None:
        needs = "may cost something" if amount is None else f"needs {format_money(amount)}"
        super().__init__(f"{'; '.join(limit.describe() for limit in limits)}; the next step {needs}")
        self.limits = tuple(limits)
        self.amount = amount


class TooEarly(CampaignsError):
    """The campaign's pause is about to end, and has not ended yet by every clock."""


class AlreadyThere(CampaignsError):
    """A campaign that was to be created is there already."""


class ApprovalExpired(CampaignsError):
    """Nobody approved a step in time, and its campaign says to abort then."""


class SendMayHaveHappened(CampaignsError):
    """An earlier request of this sending step left and was never answered: mails may have gone out."""


class UnsupportedFlow(CampaignsError):
    """The campaign worker runs this package's flows only."""


class EverythingStopped(CampaignsError):
    """The emergency stop stands: nothing begins, and nothing resumes.

    Attributes:
        by: who has said so.
        reason: why, in one line.
    """

    def __init__(self, *, by: str, reason: str, since: datetime) -> None:
        super().__init__(
            f"everything is stopped since {since:%Y-%m-%d %H:%M} UTC, by {by}: {reason}."
            " `campaigns start --all` ends the stop"
        )
        self.by = by
        self.reason = reason
        self.since = since


class NotDeployed(CampaignsError):
    """The campaign has no deployment on the Prefect server."""


class UnknownRun(CampaignsError):
    """The Prefect server has no such run of a campaign."""


class WrongState(CampaignsError):
    """The run is not in a state in which that can be done."""


class InvalidChange(CampaignsError):
    """What the run is to do differently cannot be used."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults: Sequence[str] = tuple(faults)
        super().__init__("\n".join(self.faults))


class MailNotSent(CampaignsError):
    """The mail was not sent."""


class SettingsError(CampaignsError):
    """A setting cannot be used."""


class ServerError(CampaignsError):
    """Prefect's API did not do what was asked."""


class UnknownBlock(ServerError):
    """The Prefect server has no block that a campaign names."""


class ApplyIncomplete(ServerError):
    """An apply broke off.

    Attributes:
        done: the keys of the campaigns that are as they should be.
        failed: those that were begun and could not be finished, each with why; they are as they were.
        untouched: those that were not begun.
    """

    def __init__(self, *, done: Sequence[str], failed: Mapping[str, str], untouched: Sequence[str]) -> None:
        count = len(done) + len(failed) + len(untouched)
        lines = [f"{key}: {why}" for key, why in failed.items()]
        lines.append(
            f"apply broke off: {len(done)} of {count} campaigns are as they should be, {len(failed)} failed and are as"
            f" they were, {len(untouched)} were not begun; apply again to finish"
        )
        super().__init__("\n".join(lines))
        self.done, self.failed, self.untouched = tuple(done), dict(failed), tuple(untouched)
