"""Books with a past: campaigns and their runs, as if they had run for a while."""

from __future__ import annotations

import random
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

from prefect_campaigns.blocks.sqlite.limits import ACCOUNT_KEY
from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.values import instant_text, json_text
from prefect_campaigns.budget import windows
from prefect_campaigns.models import Campaign
from prefect_campaigns.money import to_micros
from prefect_campaigns.results import RunStatus, StepResult, StepStatus, step_detail

BUSINESSES = ("Restaurant", "Retail", "Dentist", "Florist", "Bakery", "Gym", "Garage", "Hotel", "Salon", "Museum")
PLACES = ("Lisbon", "Porto", "Madrid", "Berlin", "Vienna", "Dublin", "Boston", "Austin", "Osaka", "Lima")
ENGINES = (("prospecting", "0.048"), ("analysis", "0.048"), ("outreach", "0.026"), ("sending", "0"))
OUTCOMES = (
    *((RunStatus.COMPLETED, "Completed"),) * 14,
    *((RunStatus.FAILED, "Failed"),) * 2,
    (RunStatus.PARTIAL, "Partial"),
    (RunStatus.ABORTED, "BudgetExceeded"),
)


def made_up(number: int, *, url: str = "http://127.0.0.1:3010") -> Campaign:
    """Return a campaign like those that agencies write."""
    name = (
        f"{BUSINESSES[number % 10]} Outreach {PLACES[number // 10 % 10]}{f' {number // 100}' if number >= 100 else ''}"
    )
    return Campaign.model_validate(
        {
            "name": name,
            "schedule": {"cron": f"{number % 60} {6 + number % 12} * * *", "timezone": "America/New_York"},
            "budget": {"daily": 1, "weekly": 4, "monthly": 12, "perLead": "0.02"},
            "steps": [
                {"name": engine, "engine": engine, "endpoint": f"{url}/api/{engine}", "params": {"count": 20}}
                for engine, _ in ENGINES
            ],
        }
    )


async def fill(path: Path, campaigns: Sequence[Campaign], *, runs: int, now: datetime, seed: int = 1) -> None:
    """Write books in which these campaigns have so many runs each, the newest half an hour ago, every few hours."""
    async with SqliteStore(path) as store:
        for campaign in campaigns:
            await store.save_campaign(campaign)
        account_zone = ZoneInfo((await store.account_budget()).timezone)
    drawn = random.Random(seed)  # noqa: S311 - nothing secret
    rows: dict[str, list[tuple[object, ...]]] = defaultdict(list)
    totals: dict[tuple[str, str], int] = defaultdict(int)
    for campaign in campaigns:
        for number in range(runs):
            at = now - timedelta(minutes=30) - timedelta(hours=7) * number
            _add_run(rows, totals, campaign, at, account_zone, drawn)
    rows["totals"] = [(*place, spent, 0) for place, spent in totals.items()]
    with closing(sqlite3.connect(path)) as db, db:
        for table, lines in rows.items():
            db.executemany(_INSERTS[table], lines)


_INSERTS = {
    "runs": "INSERT INTO runs (run_id, run_name, campaign_key, campaign_name, status, state_name, message,"
    " trigger_type, started_at, completed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "run_steps": "INSERT INTO run_steps (run_id, name, position, engine, status, attempts, started_at, completed_at,"
    " cost, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "reservations": "INSERT INTO reservations (campaign_key, run_id, step, attempt, state, estimate, booked,"
    " daily_window, weekly_window, monthly_window, account_day, reserved_at, expires_at)"
    " VALUES (?, ?, ?, 1, 'settled', ?, ?, ?, ?, ?, ?, ?, ?)",
    "ledger": "INSERT INTO ledger (at, campaign_key, run_id, step, attempt, kind, spent, reserved, daily_window,"
    " weekly_window, monthly_window, account_day) VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)",
    "totals": "INSERT INTO totals (campaign_key, window_key, spent, reserved) VALUES (?, ?, ?, ?)",
}


def _add_run(
    rows: dict[str, list[tuple[object, ...]]],
    totals: dict[tuple[str, str], int],
    campaign: Campaign,
    at: datetime,
    account_zone: ZoneInfo,
    drawn: random.Random,
) -> None:
    run_id = str(UUID(int=drawn.getrandbits(128), version=4))
    status, state = drawn.choice(OUTCOMES)
    steps = {RunStatus.COMPLETED: 4, RunStatus.PARTIAL: 4, RunStatus.FAILED: 2, RunStatus.ABORTED: 0}[status]
    ended = at + timedelta(seconds=40)
    name = f"{drawn.choice(('azure', 'brisk', 'calm', 'daring'))}-{drawn.choice(('fox', 'owl', 'lynx', 'crane'))}"
    rows["runs"].append(
        (
            run_id,
            name,
            campaign.slug,
            campaign.name,
            status,
            state,
            f"{state}.",
            "scheduled",
            instant_text(at),
            instant_text(ended),
        )
    )
    day, week, month = windows(at, campaign.timezone)
    account = windows(at, account_zone)
    account_day = account[0].key.partition(":")[2]
    for position, (engine, price) in enumerate(ENGINES):
        found = drawn.randint(14, 26)
        is_done = position < steps
        has_failed = status is RunStatus.FAILED and position == steps - 1
        cost = (Decimal(price) * found / 20).quantize(Decimal("0.000001")) if is_done and not has_failed else Decimal(0)
        outcome = StepStatus.FAILED if has_failed else StepStatus.COMPLETED if is_done else StepStatus.PENDING
        began = at + timedelta(seconds=10 * position)
        counts = {
            "prospecting": {"prospects_generated": found, "prospects_verified": found - 4},
            "analysis": {"leads_analyzed": found - 4, "grade_a": 5, "grade_b": 6, "grade_c": found - 15},
            "outreach": {"emails_composed": found - 6, "avg_quality": 84.5},
            "sending": {"emails_sent": found - 7},
        }[engine]
        step = StepResult(
            name=engine,
            engine=engine,
            position=position,
            status=outcome,
            attempts=1 if is_done else 0,
            counts=counts if outcome is StepStatus.COMPLETED else {},
            error=f"POST http://127.0.0.1:3010/api/{engine} answered 503: busy" if has_failed else None,
        )
        micros = to_micros(cost)
        rows["run_steps"].append(
            (
                *(run_id, engine, position, engine, outcome, step.attempts),
                *((instant_text(began), instant_text(began + timedelta(seconds=9))) if is_done else (None, None)),
                *(micros if is_done else None, json_text(step_detail(step))),
            )
        )
        if not is_done:
            continue
        places = (day.key, week.key, month.key, account_day)
        rows["reservations"].append(
            (campaign.slug, run_id, engine, micros, micros, *places, instant_text(began), instant_text(began))
        )
        line = (instant_text(began), campaign.slug, run_id, engine)
        rows["ledger"].append((*line, "reserve", 0, micros, *places))
        rows["ledger"].append((*line, "settle", micros, -micros, *places))
        for key, spans in ((campaign.slug, (day, week, month)), (ACCOUNT_KEY, account)):
            for span in spans:
                totals[key, span.key] += micros
