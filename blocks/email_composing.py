"""What a mail says: text from outside made into a plain and an HTML part, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from email import policy
from email.errors import HeaderParseError, NonASCIILocalPartDefect
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import make_msgid
from importlib.resources import files
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID, uuid5

from jinja2 import Environment, StrictUndefined
from pydantic import ValidationError

from prefect_campaigns import report_words
from prefect_campaigns.blocks.report_text import report_lines, step_remarks
from prefect_campaigns.blocks.visible_text import CONTROLS, LONE_SURROGATES, one_line, visible
from prefect_campaigns.figures import RunFigures
from prefect_campaigns.instants import duration
from prefect_campaigns.money import format_money

SUBJECT_CHARACTERS = 200
MESSAGE_CHARACTERS = 20_000
MESSAGE_LINES = 200

RUN_KIND = "campaign-run"
"""The ``kind`` of a JSON body that one of our templates made."""

REPORT_LABEL = "prefect-campaigns.report"
"""The label of a flow run in which it leaves its figures, as JSON: an automation's template can read nothing else."""

BUDGET_ALERT_STATE = "Budget alert"
"""What stands in the place of a run's state where a mail is about a budget."""

_MAILS = UUID("5f0c7d5e-2b1f-4a53-9d43-0d6f3a0a4c1e")


def _lines(text: str) -> tuple[list[str], str]:
    """Return the lines to show, without empty ones, and what says that there was more."""
    kept = text[:MESSAGE_CHARACTERS].splitlines(keepends=True)[:MESSAGE_LINES]
    left_out = len(text) - sum(map(len, kept))
    lines = [line for line in (visible(line).rstrip() for line in kept) if line]
    return lines, f"Cut here: {left_out:,} more characters." if left_out else ""


def parse_address(value: str) -> Address:
    """Return one mail address, with or without a display name; an international domain in its ASCII form.

    Raises:
        ValueError: it is not exactly one address.
    """
    problem = ValueError(f"{value[:200]!r} is no mail address such as ops@example.com or Ops <ops@example.com>")
    if len(value) > 500 or CONTROLS.search(value) or LONE_SURROGATES.search(value):
        raise problem
    try:
        header: Any = policy.default.header_factory("To", value)
        (group,) = header.groups
        (address,) = group.addresses
        domain = address.domain.encode("idna").decode("ascii")
        # A server with SMTPUTF8 takes letters beyond ASCII before the @.
        defects = [found for found in header.defects if not isinstance(found, NonASCIILocalPartDefect)]
        if (
            defects
            or group.display_name is not None
            or not address.username
            or not domain
            or re.search(r"[\s<>]", address.addr_spec)
        ):
            raise problem
        return Address(address.display_name, address.username, domain)
    # The parser of the standard library also raises IndexError and AttributeError on broken addresses.
    except (ValueError, HeaderParseError, IndexError, AttributeError):
        raise problem from None


def is_address(text: str) -> bool:
    """Whether mail could go there, as far as can be told."""
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


_ENVIRONMENT = Environment(autoescape=True, undefined=StrictUndefined)
_ENVIRONMENT.globals |= {"words": report_words, "remarks": step_remarks}
_ENVIRONMENT.filters |= {"money": format_money, "duration": duration, "one_line": lambda text: one_line(text, 200)}
_PAGE = _ENVIRONMENT.from_string(files("prefect_campaigns.blocks").joinpath("email.html").read_text(encoding="utf-8"))

_GREEN, _AMBER, _RED, _GREY = "#2e7d32", "#b7791f", "#c0392b", "#7a7a7a"
_ACCENTS = {
    "Completed": _GREEN,
    **dict.fromkeys(("Partial", "BudgetExceeded", "Skipped", "Paused", BUDGET_ALERT_STATE), _AMBER),
    **dict.fromkeys(("Failed", "Crashed", "TimedOut", "EngineDown", "Cancelled"), _RED),
}


@dataclass(frozen=True, kw_only=True)
class RunNotice:
    """What one of our templates says of a run; empty where the server knew nothing."""

    campaign: str = ""
    campaign_name: str = ""
    run: str = ""
    run_id: str = ""
    state: str = ""
    message: str = ""
    occurred: str = ""
    url: str = ""
    event: str = ""
    """The id of the Prefect event that it is about."""
    received: str = ""
    """When Prefect's server heard of that."""
    report: str = ""
    """The run's figures as JSON."""

    @classmethod
    def parse(cls, body: str) -> Self | None:
        """Return what the body says; None when it is not the JSON of one of our templates."""
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            return None
        if not isinstance(said, dict) or said.get("kind") != RUN_KIND:
            return None
        known = {field.name: said.get(field.name) for field in fields(cls)}
        return cls(**{name: value for name, value in known.items() if isinstance(value, str)})

    def dump(self) -> str:
        """Return the body that says this."""
        return json.dumps({"kind": RUN_KIND, **asdict(self)})

    @property
    def received_at(self) -> datetime | None:
        """When Prefect's server heard of what it is about; None where it does not say."""
        try:
            at = datetime.fromisoformat(self.received)
        except ValueError:
            return None
        return at if at.tzinfo else None

    @property
    def figures(self) -> RunFigures | None:
        """The run's figures; None where there are none, or where they are not of the end that the notice is about.

        Whoever sets a run's state in Prefect leaves the figures of an earlier end there.
        """
        if not self.report:
            return None
        try:
            figures = RunFigures.model_validate_json(self.report)
        except ValidationError:
            return None
        said = (figures.run_id, figures.state_name, figures.message or "")
        return figures if said == (self.run_id, self.state, self.message) else None

    @property
    def headline(self) -> str:
        """``Failed: Weekly Restaurant Outreach (azure-fox)``, of what is known."""
        name = self.campaign_name or self.campaign or "a campaign"
        run = f" ({self.run})" if self.run else ""
        return f"{self.state or 'Ended'}: {one_line(name, 120)}{run}"

    @property
    def link(self) -> str:
        """The run's page, if the URL is one that a browser should open."""
        try:
            url = urlsplit(self.url)
            usable = url.scheme in ("http", "https") and bool(url.hostname)
        except ValueError:
            return ""
        clean = usable and len(self.url) <= 2_000 and self.url == visible(self.url) and " " not in self.url
        return self.url if clean else ""

    def facts(self) -> list[tuple[str, str]]:
        """Return label and value of what identifies the run."""
        try:
            occurred = f"{datetime.fromisoformat(self.occurred).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        except (ValueError, OverflowError):
            occurred = self.occurred
        run = f"{self.run} ({self.run_id})" if self.run_id else self.run
        known = {"Campaign": self.campaign_name, "Deployment": self.campaign, "Run": run, "When": occurred}
        return [(label, one_line(value, SUBJECT_CHARACTERS)) for label, value in known.items() if value]


class _MailPolicy(policy.EmailPolicy):
    """The standard library's policy, save that it keeps every space of a subject that it has to encode and to fold."""

    def fold(self, name: str, value: str) -> str:
        """Return the header's lines."""
        if name.lower() != "subject" or str(value).isascii():
            return str(super().fold(name, value))
        encoded = Header(str(value), "utf-8", header_name=name).encode(linesep=self.linesep)
        return f"{name}: {encoded}{self.linesep}"

    def fold_binary(self, name: str, value: str) -> bytes:
        """Return the header's lines as they are sent."""
        return self.fold(name, value).encode("utf-8" if self.utf8 else "ascii", "surrogateescape")


def message_id(event: str, recipient: Address, *, domain: str) -> str:
    """Return the Message-ID of the mail about an event to a recipient: a repetition of it can be told by that."""
    return f"<{uuid5(_MAILS, visible(f'{event} {recipient.addr_spec}'))}@{domain}>"


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What a mail is made of, fit to be shown."""

    title: str
    lines: Sequence[str]
    cut: str
    facts: Sequence[tuple[str, str]]
    link: str

    def render(self, accent: str, figures: RunFigures | None) -> tuple[str, str]:
        """Return it as plain text and as HTML."""
        text = [self.title, "", *self.lines, *([self.cut] if self.cut else [])]
        text += ["", *report_lines(figures)] if figures else []
        text += ["", *(f"{label}: {value}" for label, value in self.facts)] if self.facts else []
        text += ["", f"Open the run: {self.link}"] if self.link else []
        html = _PAGE.render(
            title=self.title,
            accent=accent,
            lines=self.lines,
            cut=self.cut,
            facts=self.facts,
            url=self.link,
            figures=figures,
        )
        return "\n".join(text) + "\n", html


def compose(body: str, *, subject: str | None, sender: Address, recipient: Address, sent_at: datetime) -> EmailMessage:
    """Return the mail for a body, as plain text and HTML.

    A body of one of our templates becomes a report of its run, with the figures that the run has left, if it has; any
    other body is shown as the plain text it is.
    Whatever a body or subject holds, it adds no header, no markup and no link but the run's.

    Args:
        subject: None or blank takes the headline of the report, or "Prefect notification".
        sent_at: the Date of the mail; aware.
    """
    notice = RunNotice.parse(body)
    headline = one_line(notice.headline if notice else "", SUBJECT_CHARACTERS)
    title = one_line(subject or "", SUBJECT_CHARACTERS) or headline or "Prefect notification"
    lines, cut = _lines(notice.message if notice else body)
    facts = notice.facts() if notice else []
    link = notice.link if notice else ""

    figures = notice.figures if notice else None
    parts = _Parts(title=headline or title, lines=lines, cut=cut, facts=facts, link=link)
    accent = _ACCENTS.get(notice.state, _GREY) if notice else _GREY
    try:
        text, html = parts.render(accent, figures)
    except Exception:
        # Whatever is wrong with a figure, people are told of the end.
        text, html = parts.render(accent, None)

    mail = EmailMessage(policy=_MailPolicy(linesep="\r\n"))
    mail["From"] = sender
    mail["To"] = recipient
    # The standard library decodes "=?utf-8?q?=0A?=" even where it is a text that was never encoded.
    mail["Subject"] = title.replace("=?", "= ?")
    mail["Date"] = sent_at
    event = notice.event if notice else ""
    domain = sender.domain
    mail["Message-ID"] = message_id(event, recipient, domain=domain) if event else make_msgid(domain=domain)
    # Keeps out-of-office replies from being sent to the sender (RFC 3834).
    mail["Auto-Submitted"] = "auto-generated"
    # Quoted-printable passes every server, whatever it says of 8-bit mail and long lines.
    mail.set_content(text, cte="quoted-printable")
    mail.add_alternative(html, subtype="html", cte="quoted-printable")
    return mail
