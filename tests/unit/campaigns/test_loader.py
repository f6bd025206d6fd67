"""The only door for JSON: what it lets in, and what it says of what it does not."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefect_campaigns.errors import Complaint, InvalidCampaign
from prefect_campaigns.faults import MAX_FAULTS
from prefect_campaigns.loader import MAX_BYTES, load, load_many, load_text, validate_object

RIGHT = """{
  "name": "Weekly",
  "schedule": {"cron": "0 9 * * MON", "timezone": "Europe/London"},
  "budget": {"daily": 5.00},
  "steps": [
    {"name": "find", "engine": "prospecting", "endpoint": "http://localhost:3010/api/prospect"},
    {"name": "send", "engine": "sender", "endpoint": "http://localhost:3001/api/send-batch",
     "params": {"batchId": "{{ steps.find.runId }}"}, "retry": {"attempts": 2}}
  ],
  "notifications": {"onFailure": {"email": "ops@example.com", "slack": null}},
  "metadata": {"project_id": "p1"}
}
"""


def complaints_about(text: str | bytes) -> list[Complaint]:
    """Return all complaints about a text, which has at least one."""
    with pytest.raises(InvalidCampaign) as caught:
        load_text(text, source="weekly.json")
    assert all(complaint.source == "weekly.json" for complaint in caught.value.complaints)
    return list(caught.value.complaints)


def the_complaint(text: str | bytes) -> tuple[int | None, int | None, str, str]:
    """Return the one complaint about a text as (line, column, pointer, message)."""
    (complaint,) = complaints_about(text)
    return complaint.line, complaint.column, complaint.pointer, complaint.message


def with_change(old: str, new: str) -> str:
    """Return the right campaign with one thing changed in it."""
    assert RIGHT.count(old) == 1
    return RIGHT.replace(old, new)


SLIPS = [
    # a comma behind the last of an object
    ('"daily": 5.00}', '"daily": 5.00,}', 4, 27, "/budget", "a trailing comma came; none is allowed before }"),
    # a comma behind the last of a list
    ('"attempts": 2}}\n', '"attempts": 2}},\n', 8, 80, "/steps", "a trailing comma came; none is allowed before ]"),
    # two commas
    ('"Weekly",', '"Weekly",,', 2, 20, "", "a comma came; a value is expected here"),
    # a comment to the end of the line
    ('"Weekly",', '"Weekly", // ours', 2, 21, "", "a comment came; JSON has none"),
    # a comment in the middle
    ('"daily": 5.00', '"daily": /* USD */ 5.00', 4, 23, "/budget/daily", "a comment came; JSON has none"),
    # a comment of another language
    ('"Weekly",', '"Weekly", # ours', 2, 21, "", "a comment came; JSON has none"),
    # single quotes around a value
    ('"Weekly"', "'Weekly'", 2, 11, "/name", 'single quotes came; strings and keys are written in double quotes, "…"'),
    # single quotes around a key
    ('"name": "Weekly"', "'name': \"Weekly\"", 2, 3, "/name",
     'single quotes came; strings and keys are written in double quotes, "…"'),
    # what a word processor makes of quotes
    ('"Weekly"', "\u201cWeekly\u201d", 2, 11, "/name",
     'the quotation mark \u201c came; strings and keys are written in double quotes, "…"'),
    # a key without quotes
    ('"name": "Weekly"', 'name: "Weekly"', 2, 3, "/name",
     'the key "name" came without quotes; keys are written in double quotes'),
    # a value without quotes
    ('"Weekly"', "Weekly", 2, 11, "/name", "Weekly came without quotes; strings are written in double quotes"),
    # a comma that is missing at the end of a line
    ('"Weekly",', '"Weekly"', 3, 3, "", "a comma is missing before this key"),
    # a comma that is missing between values
    ('prospect"},', 'prospect"}', 7, 5, "/steps", "a comma is missing before this value"),
    # a colon that is missing
    ('"daily": 5.00', '"daily" 5.00', 4, 22, "/budget/daily", "a colon is missing between the key and its value"),
    # an equals sign for the colon
    ('"daily": 5.00', '"daily" = 5.00', 4, 22, "/budget/daily", '"=" came; ":" is meant'),
    # no value
    ('"daily": 5.00', '"daily": ', 4, 23, "/budget/daily", "a value is missing here, after the key"),
    # neither colon nor value
    ('"daily": 5.00', '"daily"', 4, 21, "/budget/daily", "a colon and a value are missing here, after the key"),
    # a string that is not closed
    ('"Weekly",', '"Weekly,', 2, 11, "/name", 'a string begins here that is not closed on its line with "'),
    # not a number
    ('"daily": 5.00', '"daily": NaN', 4, 23, "/budget/daily", "NaN came; a number in JSON is finite"),
    # no end of money
    ('"daily": 5.00', '"daily": -Infinity', 4, 23, "/budget/daily", "-Infinity came; a number in JSON is finite"),
    # a number with a zero in front
    ('"daily": 5.00', '"daily": 05.00', 4, 23, "/budget/daily",
     "05.00 came; a number in JSON looks like 5, -1, 0.024 or 1e3"),
    # a number that no double holds
    ('"p1"', "1e400", 11, 30, "/metadata/project_id", "the number 1E+400 came; a number is finite and below 1.8e308"),
    # Python's constants
    ('"slack": null', '"slack": None', 10, 72, "/notifications/onFailure/slack", "None came; JSON writes null"),
    # a key that is given twice; the column counts characters and not bytes
    ('"p1"', '"é€😀", "project_id": "p2"', 11, 37, "/metadata/project_id",
     'the key "project_id" came again; it is already given at line 11, column 16, and a key is given once'),
    # a tab inside a string
    ('"p1"', '"p\t1"', 11, 32, "/metadata/project_id", "a raw control character came; in a string it is written \\t"),
    # the text ends too early
    ('"p1"}\n}\n', '"p1"}\n', 12, 1, "", "the text ends, and the object that begins at line 1, column 1 is not closed"),
    # the wrong bracket closes
    ('"attempts": 2}}\n', '"attempts": 2}\n', 9, 3, "/steps/1",
     "] came; first the object that begins at line 7, column 5 is closed, with }"),
    # a bracket too many
    ('"p1"}\n}\n', '"p1"}\n}}\n', 12, 2, "", "} came, and nothing is open that it could close"),
    # a second document
    ('"p1"}\n}\n', '"p1"}\n}\n{}\n', 13, 1, "",
     "something follows the end of the document; a file holds one object and nothing else"),
    # a no-break space, as copied from a web page
    ('  "name"', '\u00a0 "name"', 2, 1, "",
     "the character U+00A0 came; between values JSON takes spaces and line breaks"),
]  # fmt: skip

CRON_FIELDS = (
    "a cron schedule has five fields such as 0 9 * * MON: minute 0-59, hour 0-23, day of month 1-31,"
    " month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT"
)
AN_URL = "an http or https URL such as http://localhost:3010/api/prospect is allowed"
RECIPIENT = "a mail address such as ops@example.com is allowed"
IN_A_STEP = (
    '"name", "engine", "endpoint", "method", "params", "headers", "approval", "timeout", "retry", "onSuccess",'
    ' "onFailure", "sends", "estimatedCost" and "costPath"'
)

FAULTS = [
    # a typo in a key
    ('"budget"', '"bugdet"', 4, 3, "/bugdet",
     'the unknown key "bugdet" came; did you mean "budget"? allowed in a campaign are "name", "description",'
     ' "schedule", "budget", "steps", "notifications", "onCrash", "metadata" and "$schema"'),
    # another spelling of a key
    ('"retry": {"attempts": 2}', '"on_failure": "log"', 8, 55, "/steps/1/on_failure",
     f'the unknown key "on_failure" came; did you mean "onFailure"? allowed in a step are {IN_A_STEP}'),
    # a key like no other, with a slash and a tilde in it
    ('"attempts": 2', '"a/b~c": 2', 8, 65, "/steps/1/retry/a~1b~0c",
     'the unknown key "a/b~c" came; allowed in retry are "attempts", "delay", "backoff", "maxDelay", "jitter"'
     ' and "ambiguous"'),
    # a key that is missing
    ('"name": "find", ', "", 6, 5, "/steps/0",
     'the key "name" is missing; "name", "engine" and "endpoint" are required in a step'),
    # a number for a string
    ('"find"', "7", 6, 14, "/steps/0/name", "the number 7 came; a string is allowed"),
    # a string for a number
    ('"attempts": 2', '"attempts": "2"', 8, 77, "/steps/1/retry/attempts",
     'the string "2" came; a whole number is allowed'),
    # seconds, or minutes, for milliseconds
    ('"attempts": 2', '"attempts": 2, "delay": "10s"', 8, 89, "/steps/1/retry/delay",
     'the string "10s" came; a whole number of milliseconds is allowed'),
    # true is not 1
    ('"attempts": 2', '"attempts": true', 8, 77, "/steps/1/retry/attempts", "true came; a whole number is allowed"),
    # half a retry
    ('"attempts": 2', '"attempts": 1.5', 8, 77, "/steps/1/retry/attempts",
     "the number 1.5 came; a whole number is allowed"),
    # too many retries
    ('"attempts": 2', '"attempts": 51', 8, 77, "/steps/1/retry/attempts", "the number 51 came; at most 50 is allowed"),
    # a word for an object
    ('{"attempts": 2}', '"twice"', 8, 64, "/steps/1/retry", 'the string "twice" came; an object is allowed'),
    # an object for a list
    ('"metadata"', '"description": [], "metadata"', 11, 18, "/description", "an empty list came; a string is allowed"),
    # a word that is none of the allowed
    ('{"attempts": 2}', '{"backoff": "expo"}', 8, 76, "/steps/1/retry/backoff",
     'the string "expo" came; allowed is "fixed", "linear" or "exponential"'),
    # an hour that does not exist
    ("0 9 * * MON", "0 25 * * MON", 3, 24, "/schedule/cron", f'the string "0 25 * * MON" came; {CRON_FIELDS}'),
    # a bare schedule, which is no object to point into
    ('{"cron": "0 9 * * MON", "timezone": "Europe/London"}', '"every day"', 3, 15, "/schedule",
     'the string "every day" came; a cron schedule has five fields (minute, hour, day of month, month, day of'
     ' week) or is one of @hourly, @daily, @weekly, @monthly, @yearly'),
    # neither an object nor a cron string
    ('{"cron": "0 9 * * MON", "timezone": "Europe/London"}', "9", 3, 15, "/schedule",
     "the number 9 came; an object, or just a cron string, is allowed"),
    # a date that never comes
    ("0 9 * * MON", "0 9 30 2 *", 3, 24, "/schedule/cron",
     'the string "0 9 30 2 *" came; a cron schedule needs a date that exists'),
    # a timezone of nowhere
    ("Europe/London", "Europe/Lundon", 3, 51, "/schedule/timezone",
     'the string "Europe/Lundon" came; did you mean Europe/London? an IANA timezone such as America/New_York'
     ' or UTC is allowed'),
    # negative money
    ("5.00", "-5", 4, 23, "/budget/daily", "the number -5 came; an amount in US dollars is not negative"),
    # money finer than the books
    ("5.00", "0.0000001", 4, 23, "/budget/daily",
     "the number 0.0000001 came; an amount in US dollars has at most six decimals"),
    # a password in an endpoint, which nobody may see
    ("http://localhost:3010", "ftp://joe:hunter2@localhost", 6, 59, "/steps/0/endpoint",
     f'the string "…@localhost/api/prospect" came; {AN_URL}'),
    # a right URL with a password
    ("http://localhost:3010", "http://joe:hunter2@localhost", 6, 59, "/steps/0/endpoint",
     'the string "…@localhost/api/prospect" came; an endpoint carries no user name or password: it is shown to'
     ' everybody who sees a run'),
    # a webhook URL that is none of Slack's is a secret all the same
    ('"slack": null', '"slack": "https://hooks.example.com/T0/B0/hunter2"', 10, 72, "/notifications/onFailure/slack",
     "a string came; a Slack channel is a webhook URL that Slack has made, https://hooks.slack.com/services/T…/B…/…"
     " (or hooks.slack-gov.com), or the block that holds one, written slack-webhook/<block name>"),
    # a webhook URL in the wrong place
    ('"ops@example.com"', '"https://hooks.slack.com/services/T0/B0/hunter2"', 10, 44, "/notifications/onFailure/email",
     f'the string "(a webhook URL)" came; {RECIPIENT}'),
    # one address of a list
    ('"ops@example.com"', '["ops@example.com", "ops@"]', 10, 64, "/notifications/onFailure/email/1",
     f'the string "ops@" came; {RECIPIENT}'),
    # the one address
    ('"ops@example.com"', '"ops"', 10, 44, "/notifications/onFailure/email", f'the string "ops" came; {RECIPIENT}'),
    # no address at all
    ('"ops@example.com"', "5", 10, 44, "/notifications/onFailure/email",
     "the number 5 came; a mail address, or a list of them, is allowed"),
    # a name without a key in it
    ('"Weekly"', '"!!!"', 2, 11, "/name",
     """the string "!!!" came; a name needs a letter or digit, to make the campaign's key of"""),
    # an empty name
    ('"Weekly"', '""', 2, 11, "/name", 'the string "" came; at least 1 character is needed'),
    # a line break in a name
    ('"Weekly"', '"Week\\nly"', 2, 11, "/name",
     'the string "Week\\nly" came; line breaks, tabs and other control characters are not allowed'),
    # two steps of one name
    ('"name": "send"', '"name": "find"', 7, 14, "/steps/1/name",
     'the string "find" came; step 1 has that name already, and each step needs its own'),
    # a reference to a step that is not there
    ("steps.find.runId", "steps.fnd.runId", 8, 28, "/steps/1/params/batchId",
     '"{{ steps.fnd.runId }}" came, but no step is named "fnd"; did you mean "find"? the steps before this one'
     ' are "find"'),
    # a reference to the step itself
    ("steps.find.runId", "steps.send.runId", 8, 28, "/steps/1/params/batchId",
     '"{{ steps.send.runId }}" came, but the step "send" does not run before this one; the steps before this'
     ' one are "find"'),
    # a reference where none is looked up
    ("/api/prospect", "/{{ steps.find.id }}", 6, 59, "/steps/0/endpoint",
     'the string "http://localhost:3010/{{ steps.find.id }}" came; an endpoint holds no references; they are'
     ' looked up in params and headers only'),
    # half a character
    ('"p1"', '["p1", "\\ud83d"]', 11, 37, "/metadata/project_id/1",
     'the string "\\ud83d" came; half a surrogate pair, U+D83D, is no character'),
    # a character that PostgreSQL refuses
    ('"p1"', '"p\\u0000"', 11, 30, "/metadata/project_id",
     'the string "p\\u0000" came; the character U+0000 is not allowed, because no database stores it'),
    # a whole number that most JSON writers refuse
    ('"p1"', "18446744073709551616", 11, 30, "/metadata/project_id",
     "the number 18446744073709551616 came; a whole number has at most 64 bits, a longer one is written as a"
     " string"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "column", "pointer", "message"), SLIPS)
def test_what_is_no_json_is_told_with_its_place(
    old: str, new: str, line: int, column: int, pointer: str, message: str
) -> None:
    assert the_complaint(with_change(old, new)) == (line, column, pointer, message)


@pytest.mark.parametrize(("old", "new", "line", "column", "pointer", "message"), FAULTS)
def test_what_is_no_campaign_is_told_with_its_place(
    old: str, new: str, line: int, column: int, pointer: str, message: str
) -> None:
    assert the_complaint(with_change(old, new)) == (line, column, pointer, message)


@pytest.mark.parametrize(("old", "new", "line", "column", "pointer", "message"), FAULTS)
def test_data_without_text_gets_the_same_complaints_without_lines(
    old: str, new: str, line: int, column: int, pointer: str, message: str
) -> None:
    with pytest.raises(InvalidCampaign) as caught:
        validate_object(json.loads(with_change(old, new)), source="body")
    (complaint,) = caught.value.complaints
    assert complaint == Complaint(source="body", pointer=pointer, message=message)
    assert str(complaint) == f"body: {pointer}: {message}"


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_the_text() -> None:
    text = """{
  // our first
  "name": "!!!",
  "schedule": "0 25 * * *",
  "budget": {"daily": NaN, "weekly": -1},
  "steps": [
    {"name": "a", "engine": "x", "endpoint": "http://h", "timeout": 0},
    {"name": "a", "params": {"x": "{{ steps.b.c }}"}, "onfailure": "abort"},
  ],
  "notifications": []
  "name": "??"
}"""
    assert [(c.line, c.column, c.pointer) for c in complaints_about(text)] == [
        (2, 3, ""),  # the comment
        (4, 15, "/schedule"),  # the 25th hour
        (5, 23, "/budget/daily"),  # NaN; that null stands for it now is not told
        (5, 38, "/budget/weekly"),  # less than nothing
        (7, 69, "/steps/0/timeout"),  # no time at all
        (8, 5, "/steps/1"),  # no engine
        (8, 5, "/steps/1"),  # no endpoint
        (8, 14, "/steps/1/name"),  # a name that is taken
        (8, 35, "/steps/1/params/x"),  # a step that is not there
        (8, 55, "/steps/1/onfailure"),  # a typo
        (8, 76, "/steps"),  # the trailing comma
        (10, 20, "/notifications"),  # a list
        (11, 3, ""),  # the comma before it
        (11, 3, "/name"),  # a second name
        (11, 11, "/name"),  # which has no key in it either
    ]


def test_behind_a_place_that_cannot_be_understood_nothing_is_guessed() -> None:
    text = '{"name": "A", // one\n "steps": [{"name": {x 2}} / ], "x": y, }'
    assert [(c.line, c.column, c.pointer) for c in complaints_about(text)] == [
        (1, 15, ""),  # the comment
        (2, 22, ""),  # a key without quotes
        (2, 24, ""),  # no colon
        (2, 28, ""),  # a slash that is no comment; that y is no value is not told
    ]


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        # nothing
        (b"", (1, 1), "the text is empty; a campaign is an object in JSON"),
        # next to nothing
        (b" \n\n", (3, 1), "the text is empty; a campaign is an object in JSON"),
        # a mark that Windows editors leave
        (b"\xef\xbb\xbf" + RIGHT.encode(), (1, 1),
         "a byte order mark came; a campaign is written in UTF-8 without one"),
        # the same, as text
        ("\ufeff" + RIGHT, (1, 1), "a byte order mark came; a campaign is written in UTF-8 without one"),
        # UTF-16 with its mark
        (RIGHT.encode("utf-16"), (1, 1), "text in UTF-16 came; a campaign is written in UTF-8"),
        # UTF-16 without one
        (RIGHT.encode("utf-16-be"), (1, 1), "text in UTF-16 or UTF-32 came; a campaign is written in UTF-8"),
        # UTF-32
        (RIGHT.encode("utf-32"), (1, 1), "text in UTF-32 came; a campaign is written in UTF-8"),
        # Latin-1; the column counts characters
        ('{\n"é": '.encode() + b'"\xe9"', (2, 7),
         "the byte 0xE9 came, which is no UTF-8; a campaign is written in UTF-8"),
        # too large
        (b"[" + b" " * MAX_BYTES + b"]", (None, None), "more than 1,024 KiB came; a campaign has at most that"),
        # nested deeper than Python reads
        (b"[" * 100_000, (1, 101), "more than 100 lists and objects within each other came; 100 are allowed"),
        # a list
        (b"[]", (1, 1), "an empty list came; an object is allowed"),
        # a word
        (b"null", (1, 1), "null came; an object is allowed"),
    ],
)  # fmt: skip
def test_what_is_no_text_of_a_campaign_is_told(content: str | bytes, place: tuple[Any, Any], message: str) -> None:
    assert the_complaint(content) == (*place, "", message)


def test_data_nested_too_deep_is_told_with_its_pointer() -> None:
    nested: Any = 1
    for _ in range(150):
        nested = [nested]
    line, column, pointer, message = the_complaint(with_change('"p1"', json.dumps(nested)))
    assert (line, column, pointer) == (11, 30 + 98, "/metadata/project_id" + "/0" * 98)
    assert message == "more than 100 lists and objects within each other came; 100 are allowed"


def test_a_byte_order_mark_does_not_hide_other_complaints() -> None:
    text = "\ufeff" + '{"name": 5, "steps": []}'
    assert [(c.column, c.pointer) for c in complaints_about(text)] == [(1, ""), (10, "/name"), (22, "/steps")]


def test_no_end_of_complaints_is_cut() -> None:
    text = "{" + ",".join(f'"k{n}": 1' for n in range(1_500)) + "}"
    complaints = complaints_about(text)
    assert len(complaints) == MAX_FAULTS + 1
    assert complaints[-1].message == "the first 1,000 complaints are listed, and there may be more"
    with pytest.raises(InvalidCampaign) as caught:
        validate_object(json.loads(text), source="x")
    assert len(caught.value.complaints) == MAX_FAULTS + 1


@pytest.mark.parametrize(
    "secret",
    [
        '"slack": "https://hooks.slack.com/services/T0/B0/hunter2" "x": 1',  # a slip behind it
        '"slack": https://hooks.slack.com/services/T0/B0/hunter2',  # no quotes
        '"slakc": "https://hooks.slack.com/services/T0/B0/hunter2"',  # a typo in its key
        '"slack": ["https://hooks.slack.com/services/T0/B0/hunter2"]',  # a list
        '"slack": "https:/chat.example.com/hunter2"',  # not quite a URL, and not Slack's
        '"email": "https://discord.example/api/webhooks/hunter2"',  # the wrong place
        '"email": "mailto:hunter2@example.com:"',  # something before an @ after a colon
        '"email": "https://example.com/?key=hunter2"',  # a query string
    ],
)
def test_secrets_are_never_repeated(secret: str) -> None:
    complaints = complaints_about(with_change('"email": "ops@example.com", "slack": null', secret))
    assert "hunter2" not in "\n".join(map(str, complaints))


def test_money_keeps_every_digit_and_params_stay_plain_json() -> None:
    campaign = load_text(with_change("5.00", "0.100001").replace('"p1"', "0.5"), source="x")
    assert campaign.budget.daily == Decimal("0.100001")
    assert campaign.metadata == {"project_id": 0.5}
    assert type(campaign.metadata["project_id"]) is float


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # a bare schedule
        ('{"cron": "0 9 * * MON", "timezone": "Europe/London"}', '"0 9 * * MON"'),
        # no schedule, in so many words
        ('{"cron": "0 9 * * MON", "timezone": "Europe/London"}', "null"),
        # no budget, in so many words
        ('{"daily": 5.00}', "null"),
        # a price per lead
        ('"daily": 5.00', '"perLead": 0.25'),
        # a method
        ('{"attempts": 2}', '{"attempts": 2}, "method": "POST"'),
        # free metadata
        ('"project_id": "p1"', '"project_id": "p1", "tags": ["a", "b"], "owner": {"name": "Ann"}'),
        # no metadata, in so many words
        ('{"project_id": "p1"}', "null"),
        # a list of addresses
        ('"ops@example.com"', '["ops@example.com", "boss@example.com"]'),
        # an editor's schema
        ('"name": "Weekly"', '"$schema": "./schema.json", "name": "Weekly"'),
        # a whole number with a point
        ('"attempts": 2', '"attempts": 2.0'),
        # other line ends
        ("\n  ", "\r\n  "),
    ],
)
def test_files_that_exist_out_there_load(old: str, new: str) -> None:
    text = RIGHT.replace(old, new)
    assert text != RIGHT
    campaign = load_text(text, source="x")
    assert campaign == load_text(text.encode(), source="x") == validate_object(json.loads(text), source="x")
    assert campaign.slug == "weekly"


def write(folder: Path, name: str, campaign_name: str) -> Path:
    """Write the right campaign under another name."""
    path = folder / name
    path.write_text(RIGHT.replace("Weekly", campaign_name))
    return path


def test_a_folder_stands_for_its_json_files_in_order(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "schema.json", ".#a.json", "notes.txt"):
        write(tmp_path, name, name)
    (tmp_path / "more.json").mkdir()
    write(tmp_path / "more.json", "c.json", "c")
    loaded = load_many([tmp_path])
    assert [(each.path, each.campaign.name) for each in loaded] == [
        (tmp_path / "a.json", "a.json"),
        (tmp_path / "b.json", "b.json"),
    ]


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", "A")
    (tmp_path / "link.json").symlink_to(path)
    assert [each.path for each in load_many([path, tmp_path])] == [path]


def test_two_campaigns_with_one_key_are_a_complaint_that_names_both(tmp_path: Path) -> None:
    first, second = write(tmp_path, "a.json", "Weekly outreach"), write(tmp_path, "b.json", "weekly Outreach!")
    with pytest.raises(InvalidCampaign) as caught:
        load_many([tmp_path])
    assert str(caught.value) == (
        f'{second}:2:11: /name: the name makes the key "weekly-outreach", which is the key of the campaign in {first}'
        " already; each campaign needs its own"
    )


def test_complaints_about_all_files_come_together(tmp_path: Path) -> None:
    write(tmp_path, "a.json", "A")
    (tmp_path / "b.json").write_text("{,}")
    (tmp_path / "c.json").write_text('{"name": "C"}')
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidCampaign) as caught:
        load_many([tmp_path / "missing.json", tmp_path, tmp_path / "empty"])
    assert [(Path(c.source).name, c.line, c.message) for c in caught.value.complaints] == [
        ("missing.json", None, "there is no such file"),
        ("b.json", 1, 'the key "name" is missing; "name" and "steps" are required in a campaign'),
        ("b.json", 1, 'the key "steps" is missing; "name" and "steps" are required in a campaign'),
        ("b.json", 1, "a comma came; a value is expected here"),
        ("c.json", 1, 'the key "steps" is missing; "name" and "steps" are required in a campaign'),
        ("gone.json", None, "there is no such file"),
        ("empty", None, "the folder holds no campaign; campaigns are its files named *.json"),
    ]


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    loop = tmp_path / "loop.json"
    loop.symlink_to(loop)
    messages = {
        tmp_path: "a folder came; a file with one campaign is allowed here",
        # reading it would wait for ever
        pipe: "something came that is no ordinary file; a file with one campaign is allowed here",
        loop: "the file cannot be read: Too many levels of symbolic links",
        Path("nul\0.json"): "no file can have that name: embedded null byte",
    }
    for path, message in messages.items():
        with pytest.raises(InvalidCampaign) as caught:
            load(path)
        assert caught.value.complaints == (Complaint(source=str(path), pointer="", message=message),)


def test_a_file_that_cannot_be_read_is_told() -> None:
    # Its first page is not mapped, so that reading it fails, for root too.
    with pytest.raises(InvalidCampaign, match="the file cannot be read: Input/output error"):
        load(Path("/proc/self/mem"))


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "text",
    [
        "[" + "," * 500_000,  # a slip at every character
        '["' + "\\q" * 200_000 + '"]',  # in one string
        "{" + ",".join(['"k": 1'] * 50_000) + "}",  # one key over and over
        '{"name": "A", "steps": [' + ",".join(["7"] * 100_000) + "]}",  # steps without end
        with_change("Europe/London", "a/" * 250_000),  # a long value to look for secrets in
        with_change(
            "steps.find.runId", "steps.find" + " .a" * 150_000 + " !"
        ),  # a long reference that fails at its end
        with_change("steps.find.runId }}", "{{ steps.find" * 40_000),  # many references that do
    ],
    ids=["commas", "escapes", "keys", "steps", "value", "reference", "references"],
)
def test_large_nonsense_takes_no_more_than_seconds(text: str) -> None:
    assert complaints_about(text)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
KEYS = st.sampled_from(
    ["name", "steps", "schedule", "cron", "budget", "daily", "params", "retry", "attempts", "notifications",
     "onFailure", "email", "slack", "endpoint", "engine", "metadata", "timeout", "timezone"]
)  # fmt: skip
NEARLY = st.recursive(
    JSON_VALUES | st.sampled_from(["0 9 * * *", "http://h", "{{ steps.a.b }}", "ops@example.com"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=30,
)
PIECES = st.sampled_from(
    ["{", "}", "[", "]", ":", ",", '"', "'", "\\", "\n", " ", "//", "/*", "#", "NaN", "01", "é", "😀",
     '"name"', '"steps"',
     "x", "-", "1e999", "\ud800", "\0", "null", "http://a:b@c", '"\\u12"', "\u201c", ";", "="]
)  # fmt: skip


def only_invalid_campaign(load_it: Any) -> None:
    """Run what may refuse; a refusal has complaints that can be printed anywhere."""
    try:
        load_it()
    except InvalidCampaign as error:
        assert error.complaints
        for complaint in error.complaints:
            str(complaint).encode()
            assert complaint.message and str(complaint).isprintable()


@given(content=st.binary(max_size=300) | st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=100))
@example(content="[" * 200)
@example(content="9" * 5000)
@example(content="1e99999999999999999999")
@settings(deadline=None)
def test_no_text_raises_anything_else(content: str | bytes) -> None:
    only_invalid_campaign(lambda: load_text(content, source="x"))


@given(data=NEARLY)
@example(data={"a": {1, 2}, 3: 4, "b": Decimal("sNaN"), "c": 10**5000})
@example(data={"name": "A", "steps": [{"timeout": Decimal("1e300")}], "budget": {"daily": Decimal("1e-99999")}})
@settings(deadline=None)
def test_no_data_raises_anything_else(data: Any) -> None:
    only_invalid_campaign(lambda: validate_object(data, source="x"))


@given(position=st.integers(0, len(RIGHT)), length=st.integers(0, 5), piece=PIECES)
@settings(deadline=None)
def test_no_damage_to_a_right_text_raises_anything_else(position: int, length: int, piece: str) -> None:
    text = RIGHT[:position] + piece + RIGHT[position + length :]
    only_invalid_campaign(lambda: load_text(text, source="x"))
