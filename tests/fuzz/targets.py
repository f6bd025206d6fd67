"""What is fuzzed: everything that reads what somebody outside has written. Each target takes any bytes.

A target raises where a promise does not hold: where something else than the errors that are announced comes out, or
where what comes out is not what it should be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from email import message_from_bytes
from html.parser import HTMLParser
from typing import Any

from prefect_campaigns.blocks.email_composing import RunNotice, compose, parse_address
from prefect_campaigns.costs import read_cost
from prefect_campaigns.errors import CampaignsError, InvalidCampaign, InvalidCost, MissingReference
from prefect_campaigns.flows.bodies import parse_json
from prefect_campaigns.flows.sse import SseDecoder, SseEvent, SseEventTooLarge
from prefect_campaigns.loader import load_text
from prefect_campaigns.references import preview, references_in, render

MAX_EVENT_BYTES = 4_096
NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)
SENDER, RECIPIENT = parse_address("Campaigns <campaigns@example.com>"), parse_address("ops@example.com")
TAGS_OF_A_MAIL = frozenset({"html", "head", "meta", "title", "body", "table", "tr", "td", "p", "a"})
HEADERS_OF_A_MAIL = 8
"""From, To, Subject, Date, Message-ID, Auto-Submitted, and the two that say how the parts are held together."""


def load(data: bytes) -> None:
    """A file is a campaign, or InvalidCampaign with complaints that can be told."""
    try:
        campaign = load_text(data, source="campaign.json")
    except InvalidCampaign as error:
        assert error.complaints
        str(error).encode()
        return
    again = load_text(campaign.model_dump_json(by_alias=True, exclude_unset=True), source="campaign.json")
    # An editor's schema stays in the file.
    assert again == campaign.model_copy(update={"json_schema": None})


def decode_events(data: bytes) -> None:
    """A stream reads the same however the network cuts it."""
    size, stream = (data[0] % 16 + 1, data[1:]) if data else (1, b"")
    whole = _events([stream])
    assert _events([stream[start : start + size] for start in range(0, len(stream), size)]) == whole


def _events(chunks: list[bytes]) -> list[SseEvent] | None:
    decoder = SseDecoder(max_event_bytes=MAX_EVENT_BYTES)
    try:
        events = [event for chunk in chunks for event in decoder.feed(chunk)]
    except SseEventTooLarge:
        # How far it is read before that depends on the pieces.
        return None
    last = decoder.end()
    return events if last is None else [*events, last]


def fill_in(data: bytes) -> None:
    """A template is filled in, or a reference is missing; what comes is JSON again."""
    params, _, results = data.partition(b"\0")
    value, found = _json(params), _json(results)
    if value is None:
        value = data.decode(errors="replace")
    known = found if isinstance(found, dict) else {"prospecting": found}
    try:
        preview(value, {})
        list(references_in(value))
        filled = render(value, known, {"token": "sesame"})
    except (MissingReference, CampaignsError):
        return
    json.dumps(filled, allow_nan=False)


def _json(data: bytes) -> Any:
    try:
        return parse_json(data)
    except ValueError:
        return None


def cost(data: bytes) -> None:
    """A cost is an amount that can be booked, nothing, or InvalidCost."""
    path, _, body = data.partition(b"\0")
    said = _json(body or data)
    try:
        amount = read_cost(said, cost_path=path.decode(errors="replace") if body else None)
    except InvalidCost as error:
        str(error).encode()
        return
    assert amount is None or (isinstance(amount, Decimal) and amount.is_finite() and amount >= 0)


def mail(data: bytes) -> None:
    """A mail has our headers and our markup, whatever it says; and nothing of what it says is lost."""
    subject, _, body = data.decode(errors="surrogateescape").partition("\0")
    parts = body.split("\0")
    names = ("message", "campaign_name", "run", "state", "url", "occurred", "event")
    notice = RunNotice(**dict(zip(names, parts, strict=False)))
    # What an automation says, or any other body.
    said = notice.dump() if parts[1:] else body
    written = compose(said, subject=subject, sender=SENDER, recipient=RECIPIENT, sent_at=NOW).as_bytes()
    read = message_from_bytes(written)
    assert len(read.keys()) == HEADERS_OF_A_MAIL, read.keys()
    assert not read.defects
    (html,) = (part for part in read.walk() if part.get_content_type() == "text/html")
    assert not html.defects
    content = html.get_payload(decode=True)
    assert isinstance(content, bytes)
    _Tags().feed(content.decode())


class _Tags(HTMLParser):
    """Lets nothing pass but what our own template has."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS_OF_A_MAIL, tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            assert name != "href" or (value or "").startswith(("http://", "https://")), value

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "loader": load,
    "sse": decode_events,
    "templates": fill_in,
    "costs": cost,
    "mails": mail,
}
