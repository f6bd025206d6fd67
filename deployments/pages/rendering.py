"""The templates of pages, and what they may call."""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from prefect.utilities.urls import url_for

from prefect_campaigns import report_words
from prefect_campaigns.blocks.report_text import step_remarks
from prefect_campaigns.blocks.visible_text import one_line
from prefect_campaigns.budget import LimitStatus
from prefect_campaigns.deployments.pages.charts import HEIGHT, WIDTH
from prefect_campaigns.deployments.pages.money_page import CampaignRow
from prefect_campaigns.funnel import cost_per_lead, leads
from prefect_campaigns.instants import duration, local_time, time_until, when
from prefect_campaigns.money import format_money
from prefect_campaigns.results import RunStatus

STATIC = files("prefect_campaigns.deployments.pages").joinpath("static")

REMEMBERED_ROWS = 2_000

MARKS = {
    RunStatus.COMPLETED: "✓",
    RunStatus.PARTIAL: "!",
    RunStatus.FAILED: "✗",
    RunStatus.ABORTED: "-",
    RunStatus.RUNNING: "▶",
}
"""What stands for the outcome of a run beside its colour, which not everybody sees."""


@cache
def stylesheet() -> str:
    """Return the CSS of all pages, which a report has within itself."""
    return STATIC.joinpath("page.css").read_text("utf-8")


@cache
def script() -> str:
    """Return the JavaScript of the pages that go on."""
    return STATIC.joinpath("page.js").read_text("utf-8")


@cache
def stylesheet_hash() -> str:
    """Return the hash by which a Content-Security-Policy allows the stylesheet within a page."""
    digest = hashlib.sha256(stylesheet().encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def render(template: str, **content: Any) -> str:
    """Return a page."""
    return _environment().get_template(template).render(**content)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("prefect_campaigns.deployments.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"money": format_money, "duration": duration, "line": lambda text: one_line(str(text), 300)}
    made.globals |= {
        "WIDTH": WIDTH,
        "HEIGHT": HEIGHT,
        "MARKS": MARKS,
        "cost_per_lead": cost_per_lead,
        "filled": filled,
        "leads": leads,
        "local_time": local_time,
        "money_row": money_row,
        "page_in_prefect": page_in_prefect,
        "remarks": step_remarks,
        "stylesheet": stylesheet,
        "time_until": time_until,
        "utc": utc,
        "when": when,
        "words": report_words,
    }
    return made


_rows: OrderedDict[Hashable, Markup] = OrderedDict()


def money_row(row: CampaignRow, now: datetime) -> Markup:
    """Return a campaign on the money page; of many campaigns hardly any looks otherwise than a moment ago."""
    # By the year an instant is written with it or without.
    key = (row.shown(), now.year)
    made = _rows.get(key)
    if made is None:
        # The template has escaped what it was given.
        made = Markup(render("money_row.html", row=row, now=now))  # noqa: S704
        _rows[key] = made
        if len(_rows) > REMEMBERED_ROWS:
            _rows.popitem(last=False)
    return made


def filled(part: Decimal, limit: LimitStatus) -> float:
    """Return which share of a limit an amount is, in percent from 0 to 100; however little there is, it shows."""
    if part <= 0 or not limit.limit:
        return 0.0
    return float(min(max(part / limit.limit * 100, Decimal(1)), Decimal(100)))


def page_in_prefect(run_id: str) -> str | None:
    """Return the address of a run's page in the Prefect UI; None where that is not known."""
    return url_for("flow-run", obj_id=run_id)


def utc(instant: datetime) -> str:
    """Return an instant as programs read it in a page."""
    return instant.isoformat()
