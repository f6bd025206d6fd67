"""How values go to Supabase and come from it.

Amounts are text, for JSON's numbers are floats to many; instants are ISO 8601; and what has parts goes as JSON in a
text, which no server on the way reads and writes anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from prefect_campaigns.blocks.rows import Row
from prefect_campaigns.blocks.store_personal_data import RunWords
from prefect_campaigns.blocks.store_types import (
    AuditEntry,
    Lease,
    MailRecord,
    Pause,
    Stop,
)
from prefect_campaigns.blocks.values import (
    amount_micros,
    instant,
    instant_text,
    json_text,
    json_value,
    optional_instant_text,
)
from prefect_campaigns.blocks.values import storable_text as without_surrogates
from prefect_campaigns.budget import AccountBudget, BudgetStatus, LimitStatus, Period, Scope, Window, window_from
from prefect_campaigns.errors import BudgetRefused, StoreError
from prefect_campaigns.money import format_money, from_micros
from prefect_campaigns.results import RunReport, StepResult, step_detail


def storable_text(text: str) -> str:
    """Return the text without what PostgreSQL cannot keep in one: lone surrogates and NUL."""
    return without_surrogates(text).replace("\x00", "\\x00")


def optional_storable_text(text: str | None) -> str | None:
    """Return what ``storable_text`` does, and None for None."""
    return None if text is None else storable_text(text)


def amount_text(amount: Decimal) -> str:
    """Return an amount that may go into the books, in dollars with six places.

    Raises:
        StoreError: it is negative, no number, or more than any campaign may cost.
    """
    return str(from_micros(amount_micros(amount)))


def optional_amount_text(amount: Decimal | None) -> str | None:
    """Return what ``amount_text`` does, and None for None."""
    return None if amount is None else amount_text(amount)


def optional_amount(text: str | None) -> Decimal | None:
    """Return the amount that the database has written as text, and None for none."""
    return None if text is None else Decimal(text)


def lease_text(lease: Lease) -> str:
    """Return what a function takes to see whether the lease still holds."""
    return json.dumps(
        {
            "campaign_key": lease.campaign_key,
            "run_id": lease.run_id,
            "run_name": storable_text(lease.run_name),
            "holder": lease.holder,
            "fence": lease.fence,
        }
    )


def mails_text(mails: Iterable[MailRecord]) -> str:
    """Return what writes down mails."""
    return json.dumps(
        [
            {
                "event_id": str(mail.event_id),
                "recipient": storable_text(mail.recipient),
                "campaign_key": mail.campaign_key,
                "run_id": mail.run_id,
                "subject": storable_text(mail.subject),
                "state": mail.state,
                "attempts": mail.attempts,
                "owed_since": instant_text(mail.owed_since),
                "next_try_at": optional_instant_text(mail.next_try_at),
                "sent_at": optional_instant_text(mail.sent_at),
                "error": optional_storable_text(mail.error),
            }
            for mail in mails
        ]
    )


def reservation_text(run_id: str, step: str, attempt: int) -> str:
    """Return what a function finds a reservation by."""
    return json.dumps({"run_id": run_id, "step": storable_text(step), "attempt": attempt})


def _window(row: Row, zone_name: str) -> Window | None:
    """Return the window of a limit; the database says by its own rules which, and we when that begins and ends."""
    if row["period"] is None:
        return None
    try:
        zone = ZoneInfo(zone_name)
    except (ValueError, KeyError, OSError):
        raise StoreError(f"the timezone {zone_name!r} is not in the time zone database of this machine") from None
    return window_from(Period(row["period"]), date.fromisoformat(row["first_day"]), zone)


def _limits(row: Row) -> Iterator[LimitStatus]:
    for limit in row["limits"]:
        scope = Scope(limit["scope"])
        yield LimitStatus(
            scope=scope,
            window=_window(limit, row["account_zone"] if scope is Scope.ACCOUNT else row["zone"]),
            limit=optional_amount(limit["limit"]),
            spent=Decimal(limit["spent"]),
            reserved=Decimal(limit["reserved"]),
        )


def budget_status(row: Row) -> BudgetStatus:
    """Return the limits of a campaign and of the account."""
    limits = tuple(_limits(row))
    return BudgetStatus(
        at=instant(row["at"]),
        limits=tuple(limit for limit in limits if limit.scope is Scope.CAMPAIGN),
        account=tuple(limit for limit in limits if limit.scope is Scope.ACCOUNT),
    )


def account_budget(row: Row) -> AccountBudget:
    """Return the limits for all campaigns together."""
    return AccountBudget(
        daily=optional_amount(row["daily"]),
        weekly=optional_amount(row["weekly"]),
        monthly=optional_amount(row["monthly"]),
        timezone=row["timezone"],
    )


def refusal(row: Row) -> BudgetRefused:
    """Return the error that says which limits are in the way."""
    return BudgetRefused(tuple(_limits(row)), optional_amount(row["amount"]))


def difference(campaign_key: str | None, row: Row) -> str:
    """Return in words where the books differ from the ledger."""
    spent, reserved, line_spent, line_reserved = (
        format_money(Decimal(row[name])) for name in ("spent", "reserved", "line_spent", "line_reserved")
    )
    return (
        f"{campaign_key or 'account'}, {row['window']}: spent {spent} and reserved {reserved} by the {row['source']},"
        f" {line_spent} and {line_reserved} by the ledger"
    )


def pause_text(pause: Pause | None) -> str | None:
    """Return what a function takes for a pause."""
    if pause is None:
        return None
    return json.dumps(
        {
            "by": pause.by,
            "reason": storable_text(pause.reason),
            "since": instant_text(pause.since),
            "until": optional_instant_text(pause.until),
            "awaited_run_id": None if pause.awaited_run_id is None else str(pause.awaited_run_id),
        }
    )


def stop_text(stop: Stop | None) -> str | None:
    """Return what a function takes for a stop."""
    if stop is None:
        return None
    return json.dumps(
        {"by": storable_text(stop.by), "reason": storable_text(stop.reason), "since": instant_text(stop.since)}
    )


def audit_text(entry: AuditEntry) -> str:
    """Return what a function takes for a line of the audit."""
    return json.dumps(
        {
            "at": instant_text(entry.at),
            "actor": storable_text(entry.actor),
            "action": entry.action,
            "campaign_key": optional_storable_text(entry.campaign_key),
            # JSON in a text of its own, so that nothing in it is changed.
            "detail": json_text(dict(entry.detail)),
        }
    )


def step_text(step: StepResult | None) -> str | None:
    """Return what a function takes for a step."""
    return None if step is None else json.dumps(_step_object(step))


def _step_object(step: StepResult) -> dict[str, Any]:
    # The detail is JSON in a text of its own, so that nothing in it is changed.
    return {
        "name": storable_text(step.name),
        "position": step.position,
        "engine": storable_text(step.engine),
        "status": step.status,
        "attempts": step.attempts,
        "started_at": optional_instant_text(step.started_at),
        "completed_at": optional_instant_text(step.completed_at),
        "cost": optional_amount_text(step.cost),
        "counts": {storable_text(name): count for name, count in step.counts.items()},
        "error": optional_storable_text(step.error),
        "detail": json_text(step_detail(step)),
    }


def words_text(words: RunWords) -> str:
    """Return what a function takes for the words of a run."""
    return json.dumps(asdict(words))


def new_words_text(words: RunWords) -> str:
    """Return the same of words that are to be written, with each step's error, which has a column of its own."""
    errors = {name: optional_storable_text(json_value(detail)["error"]) for name, detail in words.steps.items()}
    message = optional_storable_text(words.message)
    return json.dumps({**asdict(words), "message": message, "step_errors": errors})


def report_text(report: RunReport) -> str:
    """Return what a function takes for a run."""
    return json.dumps(
        {
            "run_id": report.run_id,
            "run_name": storable_text(report.run_name),
            "campaign_key": report.campaign_key,
            "campaign_name": storable_text(report.campaign_name),
            "status": report.status,
            "state_name": optional_storable_text(report.state_name),
            "message": optional_storable_text(report.message),
            "trigger_type": report.trigger_type,
            "started_at": instant_text(report.started_at),
            "completed_at": optional_instant_text(report.completed_at),
            "steps": [_step_object(step) for step in report.steps],
        }
    )
