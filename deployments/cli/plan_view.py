"""A plan as people and programs read it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from rich.text import Text

from prefect_campaigns.deployments.applying.differences import ABSENT, FieldChange, Side
from prefect_campaigns.deployments.applying.notifiers import Telling
from prefect_campaigns.deployments.applying.outlook import Outlook
from prefect_campaigns.deployments.applying.plan import CampaignPlan, Change, Plan
from prefect_campaigns.deployments.cli.printing import PAUSERS
from prefect_campaigns.instants import local_time
from prefect_campaigns.money import format_money

SHOWN_UNCHANGED = 20
"""How many unchanged campaigns are named one by one."""

MAX_VALUE = 60

_SIGNS = {
    Change.CREATED: ("+", "green"),
    Change.CHANGED: ("~", "yellow"),
    Change.UNCHANGED: ("=", "dim"),
    Change.DELETED: ("-", "red"),
}
_TELLING = {Telling.CREATED: Change.CREATED, Telling.CHANGED: Change.CHANGED, Telling.DELETED: Change.DELETED}
_WORDS = {
    Change.CREATED: "to create",
    Change.CHANGED: "to change",
    Change.UNCHANGED: "unchanged",
    Change.DELETED: "to delete",
}
_INDENT = "    "
_MONEY = re.compile(r"\d+\.\d{2,6}")


def counts(plan: Plan) -> dict[str, int]:
    """Return how many campaigns each thing happens to."""
    found = Counter(one.change for one in plan.campaigns)
    found[Change.DELETED] = len(plan.deletions)
    return {change.value: found[change] for change in Change}


def plan_lines(plan: Plan, outlooks: Mapping[str, Outlook], *, now: datetime) -> Iterator[Text]:
    """Yield the plan, line by line, for eighty columns."""
    unchanged = [one for one in plan.campaigns if one.change is Change.UNCHANGED]
    are_few = len(unchanged) <= SHOWN_UNCHANGED
    for one in plan.campaigns:
        outlook = outlooks.get(one.compiled.slug)
        is_shown = one.change is not Change.UNCHANGED or are_few or (outlook is not None and outlook.warnings)
        if is_shown:
            yield from _campaign_lines(one, outlook, now=now)
    if not are_few:
        yield _line(Change.UNCHANGED, f"{len(unchanged)} campaigns", "no change")
    for deletion in plan.deletions:
        yield _line(Change.DELETED, deletion.row.key, f"its file is gone from {deletion.row.origin}")
    if plan.upkeep or plan.telling:
        yield Text()
        yield Text("What campaigns share", style="bold")
        for what in plan.upkeep:
            yield _line(Change.CHANGED, what, "")
        for telling in plan.telling:
            yield _line(_TELLING[telling.change], telling.what, "")
    yield Text()
    yield Text(f"{_counted(plan)}.")


def _counted(plan: Plan) -> str:
    words = [f"{count} {_WORDS[Change(change)]}" for change, count in counts(plan).items() if count]
    shared = len(plan.upkeep) + len(plan.telling)
    if shared:
        words.append(f"{shared} shared part{'s' * (shared != 1)} to write")
    return ", ".join(words)


def _line(change: Change, what: str, why: str) -> Text:
    sign, style = _SIGNS[change]
    return Text.assemble((f"{sign} {what}", style), (f"  {why}" if why else "", "dim"))


def _campaign_lines(one: CampaignPlan, outlook: Outlook | None, *, now: datetime) -> Iterator[Text]:
    why = {Change.CREATED: one.note or "new", Change.UNCHANGED: "no change"}.get(one.change, "")
    yield _line(one.change, one.compiled.slug, why)
    for change in one.fields:
        yield Text(f"{_INDENT}{_field(change)}")
    if one.switched_off:
        yield Text(f"{_INDENT}its schedule was switched off by a person, and stays off", style="yellow")
    if one.pause is not None:
        yield Text(f"{_INDENT}paused by {PAUSERS[one.pause.by]}, and stays so: {one.pause.reason}", style="yellow")
    if outlook is not None:
        yield from _outlook_lines(one, outlook, now=now)


_SIDES = {Side.FILE: "", Side.PREFECT: "in Prefect: ", Side.BOOKS: "in the books: "}


def _field(change: FieldChange) -> str:
    return f"{_SIDES[change.side]}{change.field}  {_value(change.old)} → {_value(change.new)}"


def _value(value: Any) -> str:
    if value is ABSENT or (isinstance(value, str) and _MONEY.fullmatch(value)):
        return str(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…"


def _outlook_lines(one: CampaignPlan, outlook: Outlook, *, now: datetime) -> Iterator[Text]:
    zone = one.compiled.campaign.timezone
    if outlook.fire_times:
        times = ", ".join(local_time(at, zone, now=now) for at in outlook.fire_times)
        yield Text(f"{_INDENT}runs {times} ({zone})", style="dim")
    elif one.compiled.schedule is None:
        yield Text(f"{_INDENT}runs by hand", style="dim")
    if outlook.runs_per_week:
        runs = f"{outlook.runs_per_week} run{'s' * (outlook.runs_per_week != 1)} a week"
        cost = "cost not known yet" if outlook.weekly_cost is None else f"about {format_money(outlook.weekly_cost)} USD"
        yield Text(f"{_INDENT}{runs}, {cost}", style="dim")
    for warning in outlook.warnings:
        yield Text(f"{_INDENT}! {warning}", style="yellow")


def plan_json(plan: Plan, outlooks: Mapping[str, Outlook]) -> dict[str, Any]:
    """Return the plan as programs read it."""
    return {
        "changes": plan.has_changes,
        "counts": counts(plan),
        "campaigns": [_campaign_json(one, outlooks.get(one.compiled.slug)) for one in plan.campaigns],
        "deletions": [
            {"slug": one.row.key, "name": one.row.campaign.name, "origin": one.row.origin} for one in plan.deletions
        ],
        "shared": list(plan.upkeep),
        "notifications": [{"change": one.change.value, "what": one.what} for one in plan.telling],
        "notes": list(plan.notes),
    }


def _campaign_json(one: CampaignPlan, outlook: Outlook | None) -> dict[str, Any]:
    campaign = one.compiled.campaign
    return {
        "slug": campaign.slug,
        "name": campaign.name,
        "change": one.change.value,
        "fields": [
            {
                "side": change.side.value,
                "field": change.field,
                "old": None if change.old is ABSENT else change.old,
                "new": None if change.new is ABSENT else change.new,
            }
            for change in one.fields
        ],
        "timezone": str(campaign.timezone),
        "fireTimes": [at.astimezone(campaign.timezone).isoformat() for at in outlook.fire_times] if outlook else [],
        "runsPerWeek": outlook.runs_per_week if outlook else None,
        "weeklyCost": format_money(outlook.weekly_cost) if outlook and outlook.weekly_cost is not None else None,
        "warnings": list(outlook.warnings) if outlook else [],
    }
