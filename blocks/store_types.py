"""What the stores give back: campaigns and their pauses, leases, the money of each request, and who did what.

Amounts are US dollars as Decimal; instants are aware and in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunStatus


class PausedBy(StrEnum):
    """Who paused a campaign. What a person paused, only a person resumes; what the emergency stop paused, its end."""

    BUDGET = "budget"
    PERSON = "person"
    STOP = "stop"


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Why a campaign is paused.

    Attributes:
        reason: one line: ``budget: weekly 20.00 reached, spent 20.03``.
        until: when the budget resumes it; None when it does not by itself.
        awaited_run_id: the flow run that is scheduled for its resumption. Pausing a deployment in Prefect deletes it,
            by which it is known that a person paused a campaign that the budget had paused already. None when there
            is none: no schedule, or not made yet.
    """

    by: PausedBy
    reason: str
    since: datetime
    until: datetime | None = None
    awaited_run_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class CampaignRecord:
    """A campaign's row.

    Attributes:
        id: the campaign's id, for ever.
        key: the slug of its name; the ledger is kept by it.
        campaign: what was applied, with nothing secret in it.
        deployment_id: the Prefect deployment that runs it; None until it is applied.
        applied_schedule_active: whether the last apply switched the schedule on; None before the first one. A
            schedule that is off on the server although this says on was switched off by a person.
        pause: why it is paused, as far as we paused it; None when we did not. A deployment that is paused on the
            server although this is None was paused by a person.
        origin: where it came from: machine and folder of its file (``laptop:/srv/campaigns``), or ``api``; None where
            nobody wrote that down.
    """

    id: UUID
    key: str
    campaign: Campaign
    deployment_id: UUID | None
    applied_schedule_active: bool | None
    pause: Pause | None
    created_at: datetime
    updated_at: datetime
    origin: str | None = None


@dataclass(frozen=True, kw_only=True)
class CampaignFigures:
    """What a campaign's runs come to.

    Attributes:
        cost: all that its key's ledger has booked, in US dollars.
        last_run_at: when its newest run began; None where it has none.
    """

    runs: int
    cost: Decimal
    last_run_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class RunBrief:
    """What is shown of one run among many.

    Attributes:
        status: where it stands, or how it ended.
        state_name: the name of the Prefect state it ended in; None while it goes on.
        total_cost: what the ledger has booked for it, in US dollars.
    """

    run_id: str
    run_name: str
    status: RunStatus
    state_name: str | None
    started_at: datetime
    completed_at: datetime | None
    total_cost: Decimal


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The emergency stop: while it stands no run begins, and no campaign resumes.

    Attributes:
        by: who has said so.
        reason: one line.
    """

    by: str
    reason: str
    since: datetime


class ApprovalState(StrEnum):
    """Where an approval stands.

    waiting → approved (somebody said so), expired (nobody did in time) or withdrawn (the run was cancelled). What is
    decided first stays, until it is asked for anew.
    """

    WAITING = "waiting"
    APPROVED = "approved"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, kw_only=True)
class ApprovalRecord:
    """That a step of a run waits, or waited, for a person to say yes.

    Attributes:
        expires_at: until when it is waited for.
        decided_at, decided_by: when it was decided, and by whom; None while it waits.
    """

    campaign_key: str
    run_id: str
    step: str
    state: ApprovalState
    asked_at: datetime
    expires_at: datetime
    decided_at: datetime | None = None
    decided_by: str | None = None


class AuditAction(StrEnum):
    """What somebody did."""

    CAMPAIGN_CREATED = "campaign.created"
    CAMPAIGN_CHANGED = "campaign.changed"
    CAMPAIGN_DELETED = "campaign.deleted"
    CAMPAIGN_PAUSED = "campaign.paused"
    CAMPAIGN_RESUMED = "campaign.resumed"
    RUN_STARTED = "run.started"
    RUN_RETRIED = "run.retried"
    RUN_CANCELLED = "run.cancelled"
    STEP_APPROVED = "step.approved"
    STEP_EXPIRED = "step.expired"
    ALL_STOPPED = "all.stopped"
    ALL_STARTED = "all.started"
    ACCOUNT_LIMITED = "account.limited"
    BOOKING_SETTLED = "booking.settled"
    DATA_PURGED = "data.purged"
    DATA_ERASED = "data.erased"


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """Who did what, and when.

    Attributes:
        actor: the name of an API key, or a person and their machine; never a key itself.
        campaign_key: None where it is about all campaigns.
        detail: JSON, with nothing secret in it.
    """

    at: datetime
    actor: str
    action: AuditAction
    campaign_key: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right of one execution of one run to act for its campaign.

    Attributes:
        holder: names the execution, so that a run that is executed twice is not let in twice.
        fence: grows by one with every lease of the campaign; every write of the run carries it.
    """

    campaign_key: str
    run_id: str
    run_name: str
    holder: str
    fence: int
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class LeaseHeld:
    """Why a lease was not given: who holds the campaign, or who is before us in the queue."""

    run_id: str
    run_name: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class WorkerRecord:
    """A worker's process.

    Attributes:
        id: names the process; ``name`` is its worker's, which the next one may bear again.
        pool: the work pool whose runs it takes up.
        expires_at: when it counts as vanished, unless it is heard of again.
        has_expired: whether that moment is past.
    """

    id: UUID
    name: str
    pool: str
    expires_at: datetime
    has_expired: bool


@dataclass(frozen=True, kw_only=True)
class EngineTrouble:
    """That runs fail by an engine, one after the other.

    Attributes:
        endpoint: what of the engine, without a query.
        runs: how many have failed by it since it worked last.
        since: when the first of these did.
        left_alone_since: since when it is left alone, over and over; None where it is not yet.
        left_alone_until: until when; a run after that tries it again.
        error: why the last of these failed, in one line.
    """

    endpoint: str
    runs: int
    since: datetime
    left_alone_since: datetime | None
    left_alone_until: datetime | None
    error: str

    def is_left_alone(self, now: datetime) -> bool:
        """Whether runs that need it end before they ask it."""
        return self.left_alone_until is not None and self.left_alone_until > now


class MailState(StrEnum):
    """Where a mail stands: owed → sent, or given up when a day has passed."""

    OWED = "owed"
    SENT = "sent"
    GIVEN_UP = "given up"


@dataclass(frozen=True, kw_only=True)
class MailRecord:
    """That somebody is to be mailed about something, or was.

    Attributes:
        event_id: the Prefect event that it is about; that of a run's state has the state's id.
        recipient: the address.
        campaign_key, run_id: what it is about; None where nobody knows.
        attempts: how often it was tried.
        owed_since: when what it is about happened.
        next_try_at: before which it is not tried again; None where it is tried whenever the mail server is there.
        sent_at: when the mail server took it; None while it is not sent.
        error: why the last attempt failed, in one line.
    """

    event_id: UUID
    recipient: str
    campaign_key: str | None = None
    run_id: str | None = None
    subject: str
    state: MailState
    attempts: int = 0
    owed_since: datetime
    next_try_at: datetime | None = None
    sent_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class UnattendedRun:
    """A run that counts as running, and that perhaps nobody executes.

    Attributes:
        lease_expires_at: when its lease expires, or has expired; None where it holds none.
        has_expired: whether it holds no lease that has not expired.
    """

    run_id: str
    campaign_key: str
    lease_expires_at: datetime | None
    has_expired: bool


class AttemptState(StrEnum):
    """Where the money of one request stands.

    held → sent → settled (the engine said what it cost) or unconfirmed (nobody knows: booked at its estimate)
    unconfirmed → corrected (a later answer to the same Idempotency-Key, or a person, said what it all cost)
    held or sent → released (the request never left: it was not made, or its connection was refused)

    Every other way is a StoreError.
    """

    HELD = "held"
    SENT = "sent"
    SETTLED = "settled"
    RELEASED = "released"
    UNCONFIRMED = "unconfirmed"
    CORRECTED = "corrected"


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """The money of one request: reserved before it leaves, settled when it is answered.

    Attributes:
        attempt: counts the requests of this step in this run from 1, over retries and resumed runs.
        estimate: what was reserved.
        booked: what it came to; None while it is held or sent, and when it was released.
        reserved_at: when it was reserved; its windows are those of that moment.
        expires_at: when a reservation that nobody settled is released (held) or booked as unconfirmed (sent).
    """

    campaign_key: str
    run_id: str
    step: str
    attempt: int
    state: AttemptState
    estimate: Decimal
    booked: Decimal | None
    reserved_at: datetime
    expires_at: datetime
