"""The money page: all campaigns at a glance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from prefect.client.orchestration import PrefectClient

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, RunBrief, Stop
from prefect_campaigns.budget import BudgetStatus
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.driving.going import Going, read_going
from prefect_campaigns.deployments.driving.standing import (
    CampaignState,
    Standing,
    ask_states,
    describe_state,
    states_by_the_store,
)
from prefect_campaigns.deployments.pages.outlook import CampaignOutlook, Outlooks
from prefect_campaigns.errors import ServerError
from prefect_campaigns.forecast import LikelyCost, likely_cost
from prefect_campaigns.results import RunStatus

PER_PAGE = 25
STRIP_RUNS = 14
"""How many of its newest runs are shown of each campaign."""

OUTLOOK_SECONDS = 0.25
"""How long one look may work out when the money ends; what is left is worked out at the next."""

PREFECT_SECONDS = 5.0
"""How long Prefect is waited for; without it the store says what it knows."""

REMEMBERED_SECONDS, AWAY_SECONDS = 3.0, 5.0
"""How long it is remembered what Prefect said of these campaigns, and that it said nothing."""

_FAILED = (RunStatus.FAILED, RunStatus.PARTIAL)

AskPrefect = Callable[[], AbstractAsyncContextManager[PrefectClient]]


class Show(StrEnum):
    """Which campaigns are shown."""

    ALL = "all"
    GOING = "going"
    PAUSED = "paused"
    FAILED = "failed"

    @property
    def words(self) -> str:
        """How people read it."""
        return {"all": "All", "going": "Running now", "paused": "Paused or stopped", "failed": "Last run failed"}[self]


@dataclass(frozen=True, kw_only=True)
class CampaignRow:
    """A campaign on the money page.

    Attributes:
        why: why it does not run by itself; None where it does.
        runs: its newest runs, newest first.
        going: the run that goes on; None where none does.
    """

    state: CampaignState
    why: str | None
    status: BudgetStatus
    runs: Sequence[RunBrief]
    going: Going | None
    likely: LikelyCost | None
    outlook: CampaignOutlook

    @property
    def record(self) -> CampaignRecord:
        """Its row in the books."""
        return self.state.record

    def shown(self) -> Hashable:
        """Return what is the same wherever the row looks the same."""
        runs = tuple((run.run_id, run.status, run.state_name, run.total_cost) for run in self.runs)
        limits = tuple((limit.spent, limit.reserved, limit.limit) for limit in self.status.limits)
        going = self.going and (self.going.describe(), round(self.going.percent, 1))
        first = next(iter(self.outlook.reached), None)
        to_come = (self.outlook.is_known, self.outlook.next_run, first and (first.limit.name, first.at, first.run))
        row = (self.record.key, self.record.updated_at, self.state.standing, self.why)
        return (*row, runs, limits, going, *to_come, self.likely and self.likely.amount)


@dataclass(frozen=True, kw_only=True)
class MoneyPage:
    """All campaigns at one moment.

    Attributes:
        counts: how many campaigns each choice shows, whatever is looked for.
        query: what is looked for in their names.
        page: which page it is, from 1.
        found: how many campaigns there are on all pages.
        account: what all campaigns together have spent, whether there are limits or not.
        server_problem: why Prefect's API could not be asked.
    """

    rows: Sequence[CampaignRow]
    counts: Mapping[Show, int]
    show: Show
    query: str
    page: int
    found: int
    account: BudgetStatus
    account_zone: str
    stop: Stop | None
    server_problem: str | None
    now: datetime

    @property
    def pages(self) -> int:
        """How many pages there are; at least one."""
        return max(-(-self.found // PER_PAGE), 1)

    @property
    def is_going(self) -> bool:
        """Whether something goes on, or is not known yet, so that a look will soon show something else."""
        return any(row.going or not row.outlook.is_known for row in self.rows)


@dataclass(frozen=True)
class _Said:
    at: float
    states: Mapping[str, CampaignState]


class MoneyPages:
    """Makes money pages, and remembers for a moment what Prefect said."""

    def __init__(self) -> None:
        self._outlooks = Outlooks()
        self._said: dict[tuple[tuple[str, datetime], ...], _Said] = {}
        self._away: tuple[float, str] | None = None

    def forget(self) -> None:
        """Ask Prefect at the next look: somebody has changed something."""
        self._said.clear()
        self._away = None

    async def look(
        self, ask_prefect: AskPrefect, store: CampaignStore, *, show: Show = Show.ALL, query: str = "", page: int = 1
    ) -> MoneyPage:
        """Gather what the page shows. What it costs does not grow with what was done long ago.

        Raises:
            StoreError: the store is not there.
        """
        records, stop = await store.list_campaigns(), await store.read_stop()
        last = await store.last_outcomes()
        going_keys = set((await store.running_runs()).values())
        known = states_by_the_store(records, stop).campaigns
        shown_by = {
            Show.ALL: list(known),
            Show.GOING: [state for state in known if state.record.key in going_keys],
            Show.PAUSED: [state for state in known if _is_paused(state)],
            Show.FAILED: [state for state in known if last.get(state.record.key) in _FAILED],
        }
        wanted = query.casefold().strip()
        found = [
            state
            for state in shown_by[show]
            if wanted in state.record.campaign.name.casefold() or wanted in state.record.key
        ]
        page = min(max(page, 1), max(-(-len(found) // PER_PAGE), 1))
        part = found[(page - 1) * PER_PAGE : page * PER_PAGE]
        keys = [state.record.key for state in part]
        states, going, problem = await self._ask(ask_prefect, store, part)
        runs = await store.latest_runs(limit=STRIP_RUNS, campaign_keys=keys)
        statuses = await store.budget_statuses(keys)
        account, account_zone = await store.account_status(), (await store.account_budget()).timezone
        # In a thread: a page of campaigns that have never been looked at takes its time.
        rows = await asyncio.to_thread(self._rows, states, statuses, runs, going, account_zone)
        return MoneyPage(
            rows=rows,
            counts={choice: len(some) for choice, some in shown_by.items()},
            show=show,
            query=query,
            page=page,
            found=len(found),
            account=account,
            account_zone=account_zone,
            stop=stop,
            server_problem=problem,
            now=current_clock().now(),
        )

    async def _ask(
        self, ask_prefect: AskPrefect, store: CampaignStore, states: Sequence[CampaignState]
    ) -> tuple[Sequence[CampaignState], Mapping[str, Going], str | None]:
        """Return how campaigns stand by what Prefect says, too, what goes on of them, and why it could not be asked."""
        keys = [state.record.key for state in states]
        if not states:
            return states, {}, None
        key = tuple((state.record.key, state.record.updated_at) for state in states)
        said = self._said.get(key)
        is_fresh = said is not None and time.monotonic() - said.at < REMEMBERED_SECONDS
        if self._away is not None and time.monotonic() - self._away[0] < AWAY_SECONDS:
            return states, await read_going(None, store, keys), self._away[1]
        try:
            async with asyncio.timeout(PREFECT_SECONDS):
                if said is not None and is_fresh and not set((await store.running_runs()).values()) & set(keys):
                    return [_newer(state, said.states.get(state.record.key)) for state in states], {}, None
                async with ask_prefect() as client:
                    going = await read_going(client, store, keys)
                    asked = await ask_states(client, store, [state.record for state in states])
        except (ServerError, TimeoutError) as error:
            silence = f"Prefect's API does not answer within {PREFECT_SECONDS:g} seconds"
            problem = silence if isinstance(error, TimeoutError) else str(error)
            self._away = time.monotonic(), problem
            return states, await read_going(None, store, keys), problem
        self._away = None
        if len(self._said) > PER_PAGE:
            self._said.clear()
        self._said[key] = _Said(time.monotonic(), {state.record.key: state for state in asked})
        return asked, going, None

    def _rows(
        self,
        states: Sequence[CampaignState],
        statuses: Mapping[str, BudgetStatus],
        runs: Mapping[str, Sequence[RunBrief]],
        going: Mapping[str, Going],
        account_zone: str,
    ) -> list[CampaignRow]:
        until = time.monotonic() + OUTLOOK_SECONDS
        rows = []
        for state in states:
            key = state.record.key
            # One that was deleted meanwhile has none.
            if (status := statuses.get(key)) is None:
                continue
            last = runs.get(key, ())
            likely = likely_cost(state.record.campaign, last)
            outlook = self._outlooks.of(state, status, likely, account_zone=account_zone, until=until)
            rows.append(
                CampaignRow(
                    state=state,
                    why=describe_state(state, now=status.at),
                    status=status,
                    runs=last,
                    going=going.get(key),
                    likely=likely,
                    outlook=outlook,
                )
            )
        return rows


def _newer(by_the_store: CampaignState, said: CampaignState | None) -> CampaignState:
    """Return what Prefect said a moment ago, unless the store says that it has changed since."""
    if said is None or said.record.pause != by_the_store.record.pause or by_the_store.standing is Standing.STOPPED:
        return by_the_store
    return replace(said, record=by_the_store.record)


def _is_paused(state: CampaignState) -> bool:
    return state.standing in (Standing.PAUSED, Standing.PAUSED_BY_PERSON, Standing.STOPPED)
