"""A campaign's money as people see it: bars, amounts, instants, and what is to come."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from clocks import SettableClock
from rich.text import Text
from spending import lose_an_answer

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import Lease, Pause, PausedBy
from prefect_campaigns.budget import AccountBudget, LimitStatus, Scope, windows
from prefect_campaigns.deployments.cli.budget_lines import account_lines, bar, limit_lines, view_lines
from prefect_campaigns.deployments.driving.budget_view import view_budget, view_json
from prefect_campaigns.deployments.driving.standing import CampaignState, Standing
from prefect_campaigns.flows.pausing import NO_REASON
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, RunStatus

NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)
"""A Wednesday; eight in the morning in New York."""

NEW_YORK = ZoneInfo("America/New_York")
WIDTH = 80


def limit(spent: str, reserved: str = "0", of: str | None = "10", *, period: int = 0) -> LimitStatus:
    return LimitStatus(
        scope=Scope.CAMPAIGN,
        window=windows(NOON, NEW_YORK)[period],
        limit=None if of is None else Decimal(of),
        spent=Decimal(spent),
        reserved=Decimal(reserved),
    )


# Of ten cells: spent, reserved and the limit; what the bar shows, with marks at these shares.
BARS: list[tuple[tuple[str, str, str], list[str], str]] = [
    (("0", "0", "10"), [], "░░░░░░░░░░"),
    (("5", "0", "10"), [], "█████░░░░░"),
    (("5", "2", "10"), [], "█████▒▒░░░"),
    (("10", "0", "10"), [], "██████████"),
    (("9", "1", "10"), [], "█████████▒"),
    # However little is spent, reserved or left, it shows.
    (("0.000001", "0", "10"), [], "█░░░░░░░░░"),
    (("5", "0.000001", "10"), [], "█████▒░░░░"),
    (("9.999999", "0", "10"), [], "█████████░"),
    # More than there was: an engine charges what it charges.
    (("12", "3", "10"), [], "██████████"),
    # Nothing may be spent, and nothing is.
    (("0", "0", "0"), [], "░░░░░░░░░░"),
    # Where somebody is told.
    (("1", "0", "10"), ["0.8"], "█░░░░░░░│░"),
    (("9", "0", "10"), ["0.5", "1"], "█████│███│"),
]


@pytest.mark.parametrize(("amounts", "marks", "expected"), BARS)
def test_a_bar_shows_what_is_spent_reserved_and_left(
    amounts: tuple[str, str, str], marks: list[str], expected: str
) -> None:
    spent, reserved, of = amounts
    assert bar(limit(spent, reserved, of), [Decimal(mark) for mark in marks], cells=10).plain == expected


def test_a_limit_takes_two_lines() -> None:
    lines = limit_lines(limit("3.125", "0.5", "5"), NEW_YORK, now=NOON, alert_at=[Decimal("0.8")])
    assert [line.plain for line in lines] == [
        "daily    ███████████████▒▒░░│░░░░   72 %  resets Thu 14 May 00:00, in 16 h",
        "         3.125 spent, 0.50 reserved, 1.375 left of 5.00",
    ]
    lines = limit_lines(limit("0.000001", of="80", period=2), NEW_YORK, now=NOON)
    assert [line.plain for line in lines] == [
        "monthly  █░░░░░░░░░░░░░░░░░░░░░░░   <1 %  resets Mon 1 Jun 00:00, in 18 d 16 h",
        "         0.000001 spent, 79.999999 left of 80.00",
    ]


def test_where_there_is_no_limit_there_is_no_bar() -> None:
    lines = limit_lines(limit("0.148", of=None, period=1), NEW_YORK, now=NOON)
    assert [line.plain for line in lines] == [
        "weekly   no limit, resets Sun 17 May 00:00, in 3 d 16 h",
        "         0.148 spent",
    ]


@pytest.mark.parametrize("spent", ["0", "0.30"])
def test_a_limit_of_nothing_says_so_in_words(spent: str) -> None:
    assert plain(limit_lines(limit(spent, of="0"), NEW_YORK, now=NOON)) == [
        "daily    limit 0.00: nothing may be spent",
        f"         {Decimal(spent):.2f} spent",
    ]


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(NOON)


@pytest.fixture
async def store(tmp_path: Path, clock: SettableClock) -> Any:
    async with SqliteStore(tmp_path / "c.db", clock=clock) as opened:
        yield opened


def campaign(**fields: Any) -> Campaign:
    return Campaign.model_validate(
        {
            "name": "Weekly Restaurant Outreach",
            "schedule": {"cron": "0 9 * * MON-FRI", "timezone": "America/New_York"},
            "budget": {"daily": 5, "weekly": 0.5, "perRun": 1, "perLead": 0.05},
            "steps": [{"name": "find", "engine": "prospecting", "endpoint": "http://localhost:9/x"}],
            **fields,
        }
    )


async def spend(store: CampaignStore, clock: SettableClock, *costs: str) -> None:
    """Let the campaign run, at an hour's distance, and find a hundred leads each time."""
    for cost in costs:
        run_id = str(uuid4())
        lease = await store.acquire_lease(
            "weekly-restaurant-outreach",
            run_id=run_id,
            run_name="azure-fox",
            holder=run_id,
            ttl_seconds=60,
            waiting_since=clock.now(),
        )
        assert isinstance(lease, Lease)
        report = RunReport(
            run_id=run_id,
            run_name="azure-fox",
            campaign_key=lease.campaign_key,
            campaign_name="Weekly Restaurant Outreach",
            status=RunStatus.RUNNING,
            started_at=clock.now(),
        )
        await store.start_run(lease, report)
        held = await store.reserve(lease, step="find", attempt=1, estimated_cost=Decimal(0), hold_seconds=60)
        await store.settle(lease, await store.mark_sent(lease, held), Decimal(cost))
        await store.finish_run(lease, report.model_copy(update={"status": RunStatus.COMPLETED}))
        await store.release_lease(lease)
        clock.advance(minutes=1)


async def shown(store: CampaignStore, standing: Standing = Standing.ACTIVE, pause: Pause | None = None) -> list[str]:
    record = await store.get_campaign("weekly-restaurant-outreach")
    view = await view_budget(store, CampaignState(record=record, standing=standing, pause=pause))
    lines = plain(view_lines(view))
    assert max(map(len, lines)) <= WIDTH, lines
    return lines


def plain(lines: Iterable[Text]) -> list[str]:
    return [line.plain for line in lines]


async def test_a_campaign_s_money_is_shown_with_what_is_to_come(store: CampaignStore, clock: SettableClock) -> None:
    await store.save_campaign(campaign())
    await spend(store, clock, "0.10", "0.12", "0.16")
    lines = await shown(store)
    assert lines[:3] == [
        "Weekly Restaurant Outreach",
        "campaign/weekly-restaurant-outreach, America/New_York",
        "█ spent  ▒ reserved  ░ left  │ told at 80 %  (US dollars)",
    ]
    assert lines[3] == "daily    ██░░░░░░░░░░░░░░░░░│░░░░    7 %  resets Thu 14 May 00:00, in 16 h"
    assert lines[6] == "         0.38 spent, 0.12 left of 0.50"
    assert lines[9:] == [
        "perRun   1.00 at the most; the last run cost 0.16",
        "perLead  0.05 at the most",
        f"30 days  {' ' * 29}█  at the most 0.38 on a day",
        "",
        "The next run will likely cost 0.12: the median of 3 runs (0.10 to 0.16).",
        "It is due Wed 13 May 09:00, in 57 min.",
        "At that pace weekly stops the 2nd run, Thu 14 May 09:00 (in 1 d 1 h).",
    ]


async def test_the_limits_of_the_account_are_shown_where_they_are_set(
    store: CampaignStore, clock: SettableClock
) -> None:
    await store.save_campaign(campaign(budget={"alertAt": []}))
    await store.set_account_budget(AccountBudget(weekly=Decimal("0.30"), timezone="Asia/Tokyo"))
    await spend(store, clock, "0.10")
    lines = await shown(store)
    assert lines[2] == "█ spent  ▒ reserved  ░ left  (US dollars)"
    start = lines.index("All campaigns together  Asia/Tokyo")
    assert lines[start + 1 : start + 3] == [
        "weekly   ████████░░░░░░░░░░░░░░░░   33 %  resets Sun 17 May 00:00, in 3 d 3 h",
        "         0.10 spent, 0.20 left of 0.30",
    ]
    assert lines[-1] == "At the latest account weekly stops the 3rd run, Fri 15 May 09:00 (in 2 d 1 h)."


# Of a campaign that does not run by itself: how it stands and why, and what is said of it.
RESTING: list[tuple[Standing, Pause | None, str, list[str]]] = [
    (
        Standing.PAUSED,
        Pause(
            by=PausedBy.BUDGET,
            reason="budget: weekly 0.50 reached, spent 0.52",
            since=NOON,
            until=datetime(2026, 5, 17, 4, tzinfo=UTC),
        ),
        "Paused since Wed 13 May 08:00 until Sun 17 May 00:00 (America/New_York): budget: weekly 0.50 reached,"
        " spent 0.52",
        # It goes on from when it is resumed.
        [
            "It is due Mon 18 May 09:00, in 5 d 1 h.",
            "At that pace weekly stops the 3rd run, Wed 20 May 09:00 (in 7 d 1 h).",
        ],
    ),
    (
        Standing.PAUSED_BY_PERSON,
        Pause(by=PausedBy.PERSON, reason="holidays", since=NOON),
        "Paused by a person since Wed 13 May 08:00 (America/New_York): holidays",
        ["The money that is left lasts for one more run at that cost."],
    ),
    (
        Standing.PAUSED_BY_PERSON,
        Pause(by=PausedBy.PERSON, reason=NO_REASON, since=NOON),
        "Paused by a person since Wed 13 May 08:00 (America/New_York)",
        ["The money that is left lasts for one more run at that cost."],
    ),
    (
        Standing.PAUSED_BY_PERSON,
        None,
        "Paused by a person: its schedule is switched off in Prefect.",
        ["The money that is left lasts for one more run at that cost."],
    ),
    (
        Standing.NOT_ENABLED,
        None,
        "Not enabled: its schedule says so.",
        ["The money that is left lasts for one more run at that cost."],
    ),
]


@pytest.mark.parametrize(("standing", "pause", "said", "outlook"), RESTING)
async def test_a_campaign_that_does_not_run_by_itself_says_why(
    standing: Standing, pause: Pause | None, said: str, outlook: list[str], store: CampaignStore, clock: SettableClock
) -> None:
    await store.save_campaign(campaign(budget={"weekly": 0.5}))
    await spend(store, clock, "0.25")
    record = await store.get_campaign("weekly-restaurant-outreach")
    view = await view_budget(store, CampaignState(record=record, standing=standing, pause=pause))
    lines = plain(view_lines(view))
    assert lines[2] == said
    assert lines[lines.index("") + 2 :] == outlook


async def test_a_run_that_is_due_at_the_very_moment_of_the_reset_is_the_next(
    store: CampaignStore, clock: SettableClock
) -> None:
    await store.save_campaign(campaign(schedule={"cron": "* * * * *"}, budget={"daily": 0.05, "weekly": 0.20}))
    await spend(store, clock, "0.02", "0.02")
    midnight = datetime(2026, 5, 14, tzinfo=UTC)
    pause = Pause(by=PausedBy.BUDGET, reason="budget: daily", since=clock.now(), until=midnight)
    lines = await shown(store, Standing.PAUSED, pause)
    assert lines[lines.index("") + 2 :] == [
        "It is due Thu 14 May 00:00, in 12 h.",
        "At that pace daily stops the 3rd run, Thu 14 May 00:02 (in 12 h).",
        # Two a day and the one that is stopped: the day's limit holds back what the week's would have to bear.
        "At that pace weekly stops the 24th run, Thu 21 May 00:02 (in 7 d 12 h).",
    ]


async def test_what_is_unconfirmed_is_summed_up_with_the_command_that_lists_it(
    store: CampaignStore, clock: SettableClock
) -> None:
    await store.save_campaign(campaign())
    await spend(store, clock, "0.10")
    assert not any("unconfirmed" in line for line in await shown(store))
    for estimate in ("0.024", "0.10"):
        await lose_an_answer(store, "weekly-restaurant-outreach", estimate)
    lines = await shown(store)
    start = lines.index("2 bookings are unconfirmed, 0.124 in all; listed by")
    assert lines[start + 1] == "         campaigns budget weekly-restaurant-outreach --unconfirmed"


async def test_before_any_run_nothing_is_made_up(store: CampaignStore) -> None:
    await store.save_campaign(campaign(schedule=None, budget={}))
    lines = await shown(store)
    assert lines[-1] == "The cost of the next run is not known: none has cost anything, and no step says."


async def test_programs_read_the_same(store: CampaignStore, clock: SettableClock) -> None:
    await store.save_campaign(campaign())
    await spend(store, clock, "0.20")
    record = await store.get_campaign("weekly-restaurant-outreach")
    body = view_json(await view_budget(store, CampaignState(record=record, standing=Standing.ACTIVE)))
    assert (body["campaign"], body["state"], body["pause"]) == ("weekly-restaurant-outreach", "active", None)
    assert body["limits"][1] == {
        "name": "weekly",
        "scope": "campaign",
        "period": "weekly",
        "limit": "0.50",
        "spent": "0.20",
        "reserved": "0.00",
        "left": "0.30",
        "reached": False,
        "resetsAt": "2026-05-17T04:00:00+00:00",
    }
    assert (body["perRun"], body["perLead"], body["alertAt"]) == ("1.00", "0.05", [0.8])
    assert body["likelyCost"] == {"amount": "0.20", "lowest": "0.20", "highest": "0.20", "runs": 1}
    assert (body["nextRun"], body["runsLeft"]) == ("2026-05-13T13:00:00+00:00", 1)
    assert body["reached"] == [{"limit": "weekly", "at": "2026-05-14T13:00:00+00:00", "run": 2}]
    assert body["unconfirmed"] == {"count": 0, "booked": "0.00"}
    await lose_an_answer(store, "weekly-restaurant-outreach", "0.024")
    body = view_json(await view_budget(store, CampaignState(record=record, standing=Standing.ACTIVE)))
    assert body["unconfirmed"] == {"count": 1, "booked": "0.024"}


async def test_the_account_shows_what_all_campaigns_spent_even_without_a_limit(
    store: CampaignStore, clock: SettableClock
) -> None:
    await store.save_campaign(campaign())
    await spend(store, clock, "0.20")
    budget = AccountBudget(daily=Decimal(1))
    await store.set_account_budget(budget)
    lines = plain(account_lines(await store.account_status(), budget))
    assert lines[0] == "All campaigns together  UTC"
    assert lines[2] == "         0.20 spent, 0.80 left of 1.00"
    assert lines[3:5] == ["weekly   no limit, resets Sun 17 May 00:00, in 3 d 12 h", "         0.20 spent"]
