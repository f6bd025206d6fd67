"""The figures of a run and of a period, as every report shows them: computed once, from one place.

Amounts are US dollars as Decimal, to the millionth; instants are aware.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from prefect_campaigns.forecast import LikelyCost
from prefect_campaigns.funnel import Stage, cost_per_lead, funnel, leads
from prefect_campaigns.money import Money
from prefect_campaigns.results import RunStatus, StepStatus


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StepFigures(_Figures):
    """What one step of a run did.

    Attributes:
        attempts: how many requests were made.
        duration_seconds: how long its last execution took; None where it has not ended.
        cost: what is booked for it; None where the engine reported none.
        what_to_do: about its error, in a sentence; None where it did not fail.
        is_taken_over: whether its result is an earlier run's, and cost nothing here.
    """

    name: str
    engine: str
    status: StepStatus
    attempts: int = 0
    duration_seconds: float | None = None
    cost: Money | None = None
    counts: dict[str, float] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: str | None = None
    what_to_do: str | None = None
    is_taken_over: bool = False


class LimitFigures(_Figures):
    """What stands against one limit.

    Attributes:
        name: ``daily``, ``weekly``, ``monthly`` or ``perRun``.
        resets_at: when its window ends; None for the limit of a run.
        timezone: that of its windows.
    """

    name: str
    limit: Money
    spent: Money
    reserved: Money = Decimal(0)
    resets_at: AwareDatetime | None = None
    timezone: str = "UTC"

    @property
    def left(self) -> Decimal:
        """What may still be spent; never negative."""
        return max(self.limit - self.spent - self.reserved, Decimal(0))

    @property
    def used(self) -> Decimal:
        """How much of it is spent or reserved, as a share; of a limit of 0 all of it."""
        return (self.spent + self.reserved) / self.limit if self.limit else Decimal(1)


class _Counted(_Figures):
    """What counts leads, and what they cost."""

    cost: Money
    counts: dict[str, float] = Field(default_factory=dict)
    per_lead: Money | None = None

    @property
    def stages(self) -> Sequence[Stage]:
        """The funnel."""
        return funnel(self.counts)

    @property
    def leads(self) -> int | None:
        """How many leads were found; None where no engine counted any."""
        return leads(self.counts)

    @property
    def cost_per_lead(self) -> Decimal | None:
        """What a lead cost; None where none was found."""
        return cost_per_lead(self.cost, self.counts)

    @property
    def is_too_dear(self) -> bool:
        """Whether leads cost more than ``budget.perLead`` allows: also where money was spent, and none was found."""
        if self.per_lead is None or self.leads is None:
            return False
        return self.cost > self.per_lead * self.leads


class RunFigures(_Counted):
    """A run, as its report shows it.

    Attributes:
        timezone: the campaign's, by whose clocks the report tells the time.
        state_name: the name of the Prefect state it is in.
        message: what the run says of its end.
        cost: what the ledger has booked for it.
        unconfirmed: how much of that no engine has said, and is booked at its estimate.
        per_lead: the campaign's ``budget.perLead``.
        limits: those that are set, as they stand at ``made_at``.
        likely: what the next run will likely cost; None where nothing is known of it.
        next_run: when that is due by itself; None where it is not.
        made_at: the instant of which the limits and the outlook speak.
    """

    campaign_key: str
    campaign_name: str
    timezone: str
    run_id: str
    run_name: str
    trigger_type: str
    status: RunStatus
    state_name: str
    message: str | None = None
    started_at: AwareDatetime
    completed_at: AwareDatetime | None = None
    unconfirmed: Money = Decimal(0)
    unconfirmed_requests: int = 0
    steps: tuple[StepFigures, ...] = ()
    limits: tuple[LimitFigures, ...] = ()
    likely: LikelyCost | None = None
    next_run: AwareDatetime | None = None
    made_at: AwareDatetime

    @property
    def zone(self) -> ZoneInfo:
        """The campaign's timezone."""
        return ZoneInfo(self.timezone)

    @property
    def duration_seconds(self) -> float | None:
        """How long the run took; None while it goes on."""
        if self.completed_at is None:
            return None
        return max((self.completed_at - self.started_at).total_seconds(), 0.0)


class DayFigures(_Figures):
    """One local day: what was spent, against its limit (None: there is none)."""

    day: date
    spent: Money
    limit: Money | None = None


class PeriodFigures(_Counted):
    """What a campaign, or all of them, did in some days.

    Attributes:
        campaign_key: None where it is all campaigns together.
        since, until: the first and the last local day.
        limit: what may be spent in the period, where there is a limit for it.
        outcomes: how many runs ended in each state, by its name, most first; one that goes on is ``Running``.
        cost: what was booked in these days, by the ledger's windows.
        cost_of_runs: what the runs cost that are counted here: those that began in these days, and have a row.
        days: each day, those on which nothing was spent included.
        repeated_requests: how many requests were made again after one that failed.
        rescued_runs: how many runs completed because a request was made again.
        steps_taken_over: how many steps were not done again because an earlier run's results were used.
        saved: what those had cost in that run.
        is_cut: whether there were more runs than were looked at.
    """

    campaign_key: str | None
    name: str
    timezone: str
    since: date
    until: date
    limit: Money | None = None
    runs: int = 0
    cost_of_runs: Money = Decimal(0)
    outcomes: dict[str, int] = Field(default_factory=dict)
    days: tuple[DayFigures, ...] = ()
    repeated_requests: int = 0
    rescued_runs: int = 0
    steps_taken_over: int = 0
    saved: Money = Decimal(0)
    is_cut: bool = False
    made_at: AwareDatetime

    @property
    def cost_per_lead(self) -> Decimal | None:
        """What a lead cost of the runs that are counted; None where none was found, or not all runs were looked at."""
        return None if self.is_cut else cost_per_lead(self.cost_of_runs, self.counts)

    @property
    def is_too_dear(self) -> bool:
        """Whether these runs' leads cost more than ``budget.perLead`` allows."""
        if self.per_lead is None or self.leads is None or self.is_cut:
            return False
        return self.cost_of_runs > self.per_lead * self.leads

    @property
    def zone(self) -> ZoneInfo:
        """The timezone of its days."""
        return ZoneInfo(self.timezone)
