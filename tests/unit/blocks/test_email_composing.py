"""What a mail says, whatever an engine, a campaign or a template made of it."""

from __future__ import annotations

import email
import json
import re
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from prefect_email import EmailServerCredentials

from prefect_campaigns.blocks.email import CampaignEmail
from prefect_campaigns.blocks.email_composing import (
    MESSAGE_CHARACTERS,
    MESSAGE_LINES,
    SUBJECT_CHARACTERS,
    RunNotice,
    compose,
    parse_address,
)
from prefect_campaigns.blocks.visible_text import one_line
from prefect_campaigns.figures import LimitFigures, RunFigures, StepFigures
from prefect_campaigns.results import RunStatus, StepStatus

SENT_AT = datetime(2026, 3, 1, 9, 0, 5, tzinfo=UTC)
RUN = {
    "kind": "campaign-run",
    "campaign": "weekly-restaurant-outreach",
    "campaign_name": "Weekly Restaurant Outreach",
    "run": "azure-fox",
    "run_id": "7f3c1c0e-0000-4000-8000-000000000001",
    "state": "Failed",
    "message": 'Step "analysis" failed: 503 Service Unavailable\n2 of 4 steps, cost 0.024 USD',
    "occurred": "2026-03-01 04:00:00-05:00",
    "url": "http://prefect.example.com:4200/runs/flow-run/7f3c1c0e",
}


class TestCampaignEmail(BlockStandardTestSuite):
    """Prefect's own expectations of a block."""

    @pytest.fixture
    def block(self) -> type[CampaignEmail]:
        return CampaignEmail

    def test_has_a_valid_image(self, block: type[CampaignEmail]) -> None:
        # Prefect's own test fetches the picture from its host; ours stays on this machine.
        assert str(block._logo_url).startswith("https://") and str(block._logo_url).endswith(".png")


class Page(HTMLParser):
    """The tags, links and visible text of an HTML part."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str | None] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "a":
            self.links.append(dict(attrs)["href"])

    def handle_data(self, data: str) -> None:
        self.text += data


def mail_of(body: str, subject: str | None = None, sender: str = "Campaigns <campaigns@example.com>") -> EmailMessage:
    """Return the mail as it is read after it went over the wire."""
    sent = compose(
        body, subject=subject, sender=parse_address(sender), recipient=parse_address("ops@example.com"), sent_at=SENT_AT
    )
    return email.message_from_bytes(sent.as_bytes(), policy=policy.default)


def run_body(**changes: object) -> str:
    return json.dumps(RUN | changes)


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def page_of(mail: EmailMessage) -> Page:
    part = mail.get_body(("html",))
    assert part is not None
    return Page(str(part.get_content()))


def test_a_run_is_reported_in_text_that_reads_on_its_own() -> None:
    assert text_of(mail_of(run_body())).splitlines() == [
        "Failed: Weekly Restaurant Outreach (azure-fox)",
        "",
        'Step "analysis" failed: 503 Service Unavailable',
        "2 of 4 steps, cost 0.024 USD",
        "",
        "Campaign: Weekly Restaurant Outreach",
        "Deployment: weekly-restaurant-outreach",
        "Run: azure-fox (7f3c1c0e-0000-4000-8000-000000000001)",
        "When: 2026-03-01 09:00:00 UTC",
        "",
        "Open the run: http://prefect.example.com:4200/runs/flow-run/7f3c1c0e",
    ]


def test_a_run_is_reported_in_html_with_one_link_to_it() -> None:
    page = page_of(mail_of(run_body()))
    for said in ("Failed: Weekly Restaurant Outreach (azure-fox)", 'Step "analysis" failed: 503', "cost 0.024 USD"):
        assert said in page.text
    assert page.links == [RUN["url"]]


def test_the_headers_are_those_of_a_mail_by_a_machine() -> None:
    mail = mail_of(run_body())
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert mail["From"] == "Campaigns <campaigns@example.com>"
    assert mail["To"] == "ops@example.com"
    assert mail["Date"].datetime == SENT_AT
    assert mail["Auto-Submitted"] == "auto-generated"
    assert re.fullmatch(r"<[^@\s]+@example\.com>", mail["Message-ID"])


def test_every_mail_has_an_id_of_its_own() -> None:
    assert mail_of(run_body())["Message-ID"] != mail_of(run_body())["Message-ID"]


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        # What the template makes.
        ("Failed: Weekly (azure-fox)", "Failed: Weekly (azure-fox)"),
        # None, or nothing to read: the headline of the report.
        (None, "Failed: Weekly Restaurant Outreach (azure-fox)"),
        (" \r\n\t", "Failed: Weekly Restaurant Outreach (azure-fox)"),
        # A header cannot be smuggled in.
        ("Failed\r\nBcc: everybody@example.com", "Failed Bcc: everybody@example.com"),
        ("Failed\nX: y\rZ: z", "Failed X: y Z: z"),
        ("a\u2028b\u2029c\x85d\x0be", "a b c d e"),
        # Control characters, an escape sequence, a null byte.
        ("a\x00b\x1b[31mc\x7f", "a b [31mc"),
        # Text that would read backwards, and half a character.
        ("invoice\u202egpj.exe\u2066", "invoicegpj.exe"),
        ("half \ud83d", "half \ufffd"),
        # Beyond ASCII.
        ("Fehlgeschlagen: Bäckereien, 北京 🦊", "Fehlgeschlagen: Bäckereien, 北京 🦊"),
        # Not rendered again.
        ("{{ flow_run }} {% raw %}", "{{ flow_run }} {% raw %}"),
        # What looks encoded is text, and hides no line end.
        ("=?utf-8?q?x?=", "= ?utf-8?q?x?="),
        ("=?utf-8?q?a=0D=0ABcc:=20b@example.com?=", "= ?utf-8?q?a=0D=0ABcc:=20b@example.com?="),
    ],
)
def test_a_subject_is_one_clean_line(subject: str | None, expected: str) -> None:
    mail = mail_of(run_body(), subject)
    assert mail["Subject"] == expected
    assert mail["Bcc"] is None


def test_a_long_subject_is_cut() -> None:
    subject = str(mail_of(run_body(), "ä" * 100_000)["Subject"])
    assert subject == "ä" * (SUBJECT_CHARACTERS - 1) + "…"


@given(st.text(max_size=300))
@example("000000¡¡¡¡¡¡𐀀𐀀𐀀𐀀𐀀𐀀 ¡ ¡")
@settings(max_examples=60, deadline=None)
def test_any_subject_arrives_as_the_line_it_is(subject: str) -> None:
    expected = (
        one_line(subject, SUBJECT_CHARACTERS).replace("=?", "= ?") or "Failed: Weekly Restaurant Outreach (azure-fox)"
    )
    assert str(mail_of(run_body(), subject)["Subject"]) == expected


@given(st.text(max_size=400))
@settings(max_examples=60, deadline=None)
def test_no_message_adds_markup_a_link_or_a_header(message: str) -> None:
    plain = mail_of(run_body(message="x"))
    mail = mail_of(run_body(message=message))
    assert page_of(mail).tags <= page_of(plain).tags
    assert page_of(mail).links == [RUN["url"]]
    assert mail.keys() == plain.keys()


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        # Markup is text.
        ("<script>alert(1)</script>", ["<script>alert(1)</script>"]),
        ("</p></td><a href=http://evil.example>x</a>", ["</p></td><a href=http://evil.example>x</a>"]),
        # What would close the JSON, or be rendered, is text.
        ('"]} , "url": "http://evil.example"', ['"]} , "url": "http://evil.example"']),
        ("{{ 7 * 7 }} {% for x in y %} ${HOME}", ["{{ 7 * 7 }} {% for x in y %} ${HOME}"]),
        # Every kind of line end; empty lines go.
        ("one\r\ntwo\rthree\n\n \n\u2028four", ["one", "two", "three", "four"]),
        # Indented lines stay so.
        ("steps:\n  prospecting", ["steps:", "  prospecting"]),
        # Null bytes, half characters, text that would read backwards.
        ("a\x00b", ["a b"]),
        ("half \udc00 \ud83d", ["half \ufffd \ufffd"]),
        ("exe\u202egpj\u202c \u2066x\u2069", ["exegpj x"]),
        # A line that an SMTP server would take for the end of the mail.
        (".\nFrom here", [".", "From here"]),
        # Other scripts.
        ("שלום 北京 🦊", ["שלום 北京 🦊"]),
    ],
)
def test_a_message_is_shown_line_by_line_as_text(message: str, shown: list[str]) -> None:
    mail = mail_of(run_body(message=message))
    text = text_of(mail).splitlines()
    assert text[2 : 2 + len(shown)] == shown
    assert text[2 + len(shown)] == ""
    page = page_of(mail)
    for line in shown:
        assert line in page.text
    assert page.links == [RUN["url"]]
    assert not page.tags & {"script", "img", "iframe", "style"}


def test_a_message_of_a_megabyte_is_cut_and_says_so() -> None:
    mail = mail_of(run_body(message="x" * 1_000_000))
    for shown in (text_of(mail), page_of(mail).text):
        assert "Cut here: 980,000 more characters." in shown
        assert shown.count("x") <= MESSAGE_CHARACTERS + 100
    assert len(mail.as_bytes()) < 100_000


def test_a_message_of_very_many_lines_is_cut_and_says_so() -> None:
    mail = mail_of(run_body(message="y\n" * 5_000))
    assert text_of(mail).splitlines().count("y") == MESSAGE_LINES
    assert "Cut here: 9,600 more characters." in page_of(mail).text


@pytest.mark.parametrize(
    ("url", "linked"),
    [
        ("https://prefect.example.com/runs/1?a=1&b=2", True),
        # None until PREFECT_UI_URL is set.
        ("", False),
        (None, False),
        # Nothing that runs, or opens something else than a page.
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("file:///etc/passwd", False),
        ("//evil.example/x", False),
        ("https:///no-host", False),
        ("https://[broken", False),
        # Not one clean URL.
        ("https://a.example/ b", False),
        ("https://a.example/\nBcc: x", False),
        ("https://a.example/\u202ex", False),
        ("https://a.example/" + "x" * 3_000, False),
    ],
)
def test_only_a_web_page_is_linked(url: str | None, linked: bool) -> None:
    mail = mail_of(run_body(url=url))
    assert page_of(mail).links == ([url] if linked else [])
    assert ("Open the run:" in text_of(mail)) is linked


def test_a_url_cannot_leave_its_attribute() -> None:
    mail = mail_of(run_body(url='https://a.example/"onclick="x<script>'))
    assert page_of(mail).links == ['https://a.example/"onclick="x<script>']
    assert "script" not in page_of(mail).tags


@pytest.mark.parametrize(
    "body",
    [
        "The list is ready.\nLook at it.",
        # JSON, but nobody's report of a run.
        "[1, 2]",
        '"text"',
        '{"kind": "other", "url": "http://evil.example"}',
        # Broken, and nested deeper than the parser goes.
        '{"kind": "campaign-run", "run":',
        "[" * 100_000,
        # A number that Python refuses to read.
        "9" * 10_000,
    ],
)
def test_any_other_body_is_shown_as_the_text_it_is(body: str) -> None:
    mail = mail_of(body, "News")
    assert mail["Subject"] == "News"
    assert text_of(mail).splitlines()[2] == body[:MESSAGE_CHARACTERS].splitlines()[0]
    assert page_of(mail).links == []


def test_an_empty_body_is_a_mail_all_the_same() -> None:
    mail = mail_of("")
    assert mail["Subject"] == "Prefect notification"
    assert text_of(mail).strip() == "Prefect notification"


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        # The run's parameters had no name: the deployment's name.
        ({"campaign_name": ""}, "Failed: weekly-restaurant-outreach (azure-fox)"),
        # The server knew nothing at all.
        (dict.fromkeys(RUN.keys() - {"kind"}, ""), "Ended: a campaign"),
        # Edited parameters: the name is no text.
        ({"campaign_name": {"a": 1}, "run": 5, "state": None}, "Ended: weekly-restaurant-outreach"),
        # A name in several lines.
        ({"campaign_name": "a\r\nBcc: b"}, "Failed: a Bcc: b (azure-fox)"),
    ],
)
def test_a_run_that_is_half_known_is_still_reported(changes: dict[str, object], headline: str) -> None:
    mail = mail_of(run_body(**changes))
    assert mail["Subject"] == headline
    assert text_of(mail).splitlines()[0] == headline


def test_an_instant_that_cannot_be_read_is_shown_as_it_came() -> None:
    assert ("When", "soon") in RunNotice(occurred="soon").facts()


@pytest.mark.parametrize(
    ("value", "spec"),
    [
        ("ops@example.com", "ops@example.com"),
        ("Ops <ops@example.com>", "ops@example.com"),
        ('"Ops, Team" <ops@example.com>', "ops@example.com"),
        # A machine of one's own.
        ("ops@localhost", "ops@localhost"),
        # An international domain goes out in its ASCII form; a letter before the @ needs a server with SMTPUTF8.
        ("ops@bäckerei.example", "ops@xn--bckerei-5wa.example"),
        ("bäcker@example.com", "bäcker@example.com"),
    ],
)
def test_one_address_is_understood(value: str, spec: str) -> None:
    assert parse_address(value).addr_spec == spec


NO_ADDRESSES = [
    "",
    "None",
    "ops",
    "ops@",
    "@example.com",
    "a@b, c@d",
    "team: a@b;",
    "a b@example.com",
    "a@b@c",
    "Ops, Team <ops@example.com>",
    "ops@example.com\r\nBcc: x@y",
    "ops@example.com\x00",
    "\udcff@example.com",
    "a" * 1_000 + "@example.com",
]


@pytest.mark.parametrize("value", NO_ADDRESSES)
def test_what_is_not_one_address_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="no mail address"):
        parse_address(value)


@pytest.mark.parametrize("field", ["sender", "recipient"])
def test_a_block_refuses_what_is_not_one_address(field: str) -> None:
    addresses = {"sender": "a@example.com", "recipient": "b@example.com"} | {field: "a@b, c@d"}
    with pytest.raises(ValueError, match="no mail address"):
        CampaignEmail(credentials=EmailServerCredentials(), **addresses)


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_no_text_makes_the_address_parser_stumble(value: str) -> None:
    try:
        address = parse_address(value)
    except ValueError:
        return
    assert address.username and address.domain


FIGURES = RunFigures(
    campaign_key="weekly-restaurant-outreach",
    campaign_name=RUN["campaign_name"],
    timezone="America/New_York",
    run_id=RUN["run_id"],
    run_name=RUN["run"],
    trigger_type="scheduled",
    status=RunStatus.FAILED,
    state_name=RUN["state"],
    message=RUN["message"],
    started_at=SENT_AT,
    completed_at=SENT_AT,
    cost="0.024",
    counts={"prospects_generated": 20.0, "leads_analyzed": 0.0},
    steps=(
        StepFigures(name="prospecting", engine="prospecting", status=StepStatus.COMPLETED, attempts=1, cost="0.024"),
        StepFigures(
            name="analysis <b>",
            engine="analysis",
            status=StepStatus.FAILED,
            attempts=3,
            error="answered 503 <script>alert(1)</script>\nX-Header: no",
            what_to_do="campaigns retry azure-fox goes on at this step.",
        ),
    ),
    limits=(LimitFigures(name="daily", limit="5", spent="0.024", resets_at=SENT_AT, timezone="America/New_York"),),
    made_at=SENT_AT,
)


def reported(**changes: object) -> dict[str, str]:
    return {**RUN, "report": FIGURES.model_copy(update=changes).model_dump_json()}


def test_figures_of_the_end_are_a_part_of_the_mail_as_text() -> None:
    mail = mail_of(json.dumps(reported()))
    text, page = text_of(mail), page_of(mail)
    for part in (text, page.text):
        assert "0.024 USD" in part
        assert "4.976 left of 5.00" in part
        assert "3 requests" in part
        assert "analysis <b>" in part
        assert "What to do: campaigns retry azure-fox goes on at this step." in part
        assert "<script>alert(1)</script> X-Header: no" in part
    assert "20 found (100 %)" in text
    assert page.tags <= {"html", "head", "meta", "title", "body", "table", "tr", "td", "th", "p", "a"}
    assert page.links == [RUN["url"]]


@pytest.mark.parametrize(
    "changes",
    [{"message": "another end"}, {"state_name": "Crashed"}, {"run_id": "another run"}],
    ids=lambda changes: next(iter(changes)),
)
def test_figures_of_another_end_are_left_out(changes: dict[str, str]) -> None:
    mail = mail_of(json.dumps(reported(**changes)))
    assert "left of" not in text_of(mail)
    assert "left of" not in page_of(mail).text


@pytest.mark.parametrize("report", ["", "no JSON", "{}", "[]", '{"cost": "NaN"}', "[" * 100_000])
def test_what_are_no_figures_is_left_out(report: str) -> None:
    mail = mail_of(json.dumps({**RUN, "report": report}))
    assert "503 Service Unavailable" in text_of(mail)
    assert "left of" not in text_of(mail)


def test_a_figure_that_cannot_be_shown_costs_no_mail() -> None:
    nowhere = FIGURES.limits[0].model_copy(update={"timezone": "Nowhere/At_All"})
    mail = mail_of(json.dumps(reported(limits=(nowhere,))))
    assert "503 Service Unavailable" in text_of(mail)
    assert "503 Service Unavailable" in page_of(mail).text
    assert "left of" not in text_of(mail)
