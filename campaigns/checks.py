"""What single values of a campaign must be like, beyond their type.

What these functions raise (ValueError) is the second half of a complaint, the one that says what is allowed; the
loader puts before it what came. None of them repeats the value: it may hold a secret.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from croniter import CroniterBadDateError, CroniterError, croniter
from email_validator import EmailNotValidError, validate_email

from prefect_campaigns.words import nearest

CRON_ALIASES = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly")
SLACK_BLOCK_PREFIX = "slack-webhook/"
SLACK_PATTERN = (
    rf"^(https://hooks\.slack(-gov)?\.com/services/[A-Za-z0-9]+/[A-Za-z0-9]+/[A-Za-z0-9]+/?|{SLACK_BLOCK_PREFIX}.+)$"
)
"""A webhook URL as Prefect's block takes it apart, or such a block; of any other URL it sends nothing."""
HEADER_BLOCK_PREFIX = "campaigns-header-"
"""What the names of the blocks begin with that hold what a campaign file's headers say."""
MIN_SECRET = 4
"""A secret has at least this many characters: a shorter one cannot be told from what engines answer by chance."""
MAX_CRON = 200
MAX_EMAIL = 320
MAX_HEADERS = 50
MAX_HEADER_VALUE = 8 * 1024

_FIVE_FIELDS = (
    "a cron schedule has five fields (minute, hour, day of month, month, day of week)"
    f" or is one of {', '.join(CRON_ALIASES)}"
)


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
_HEADER_VALUE = re.compile(r"(?:[!-~\xa1-\xff](?:[ -~\xa1-\xff]*[!-~\xa1-\xff])?)?")

_CONNECTION = "how the connection and the body on it are handled is for the HTTP client to say, not for a step"
_OUR_HEADERS = {
    "idempotency-key": "the step's own is sent, the same for each repetition, so that an engine does nothing twice",
    "content-type": "the body of a request is always JSON, and of a GET there is none",
    **dict.fromkeys(
        (
            "accept-encoding",
            "connection",
            "content-encoding",
            "content-length",
            "expect",
            "host",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ),
        _CONNECTION,
    ),
}
"""Headers that a step may not set, in lower case, and why."""


def plain_json(value: Any) -> Any:
    """Turn the loader's Decimals back into JSON numbers, in values that are not ours to interpret."""
    if isinstance(value, Decimal):
        number = float(value)
        if number in (float("inf"), float("-inf")):
            raise ValueError("a number below 1.8e308 is allowed")
        return number
    if isinstance(value, dict):
        return {key: plain_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_json(item) for item in value]
    return value


def whole_number(value: Any, *, of: str = "") -> Any:
    """Return a JSON number that is whole as an integer; ``of`` names its unit where it is another one."""
    # pydantic would take true for 1 and "5" for 5.
    is_number = not isinstance(value, bool) and isinstance(value, (int, float, Decimal))
    # The bound keeps Decimal("1e999999") from becoming an integer of a million digits.
    if not is_number or not -(10**18) < value < 10**18 or value != int(value):
        raise ValueError(f"a whole number{of and f' of {of}'} is allowed")
    return int(value)


def milliseconds(value: Any) -> Any:
    """Return a JSON number of milliseconds as an integer."""
    return whole_number(value, of="milliseconds")


def number(value: Any) -> Any:
    """Return a JSON number as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise ValueError("a number is allowed")
    return value


def share(value: Any) -> Any:
    """Return a JSON number above 0 and up to 1, as a Decimal."""
    if not isinstance(value, bool) and isinstance(value, (int, float, Decimal)):
        exact = Decimal(str(value))
        if 0 < exact <= 1 and exact == round(exact, 4):
            return exact
    raise ValueError("a share is a number above 0 and up to 1, such as 0.8, with at most four decimals")


def check_cron(value: str) -> str:
    """Return a cron schedule that Prefect can run."""
    problem = None if value in CRON_ALIASES else _cron_problem(value) if len(value) <= MAX_CRON else _FIVE_FIELDS
    if problem:
        raise ValueError(problem)
    return value


# Cached, as all that takes long and comes again: thousands of campaigns share their schedules and recipients.
@lru_cache(maxsize=4096)
def _cron_problem(value: str) -> str | None:
    fields = value.split()
    if len(fields) != 5:
        return _FIVE_FIELDS
    # Prefect refuses random and hashed fields, which croniter would take.
    if any(field[0] in "rRhH" for field in fields):
        return "random and hashed cron fields are not allowed; Prefect runs at fixed times only"
    try:
        croniter(value).get_next()
    except CroniterBadDateError:
        return "a cron schedule needs a date that exists"
    except (CroniterError, ValueError, KeyError):
        return (
            "a cron schedule has five fields such as 0 9 * * MON: minute 0-59, hour 0-23, day of month 1-31,"
            " month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT"
        )
    return None


@cache
def _timezones() -> frozenset[str]:
    # Cached: collecting them reads the whole timezone database, some 40 ms.
    return frozenset(available_timezones())


def check_timezone(value: str) -> str:
    """Return a timezone that is in the IANA database."""
    if value not in _timezones():
        meant = nearest(value, _timezones())
        hint = f"did you mean {meant}? " if meant else ""
        raise ValueError(f"{hint}an IANA timezone such as America/New_York or UTC is allowed")
    return value


@lru_cache(maxsize=4096)
def _is_email(value: str) -> bool:
    try:
        validate_email(value, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError:
        return False
    return True


def check_email(value: str) -> str:
    """Return a mail address that could be one; nothing is looked up."""
    if len(value) > MAX_EMAIL or not _is_email(value):
        raise ValueError("a mail address such as ops@example.com is allowed")
    return value


def check_endpoint(value: str) -> str:
    """Return an http or https URL without credentials."""
    problem = ValueError("an http or https URL such as http://localhost:3010/api/prospect is allowed")
    if "{{" in value:
        raise ValueError("an endpoint holds no references; they are looked up in params and headers only")
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise problem from None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0:
        raise problem
    if any(c.isspace() or not c.isprintable() for c in value):
        raise problem
    if url.username is not None or url.password is not None:
        raise ValueError("an endpoint carries no user name or password: it is shown to everybody who sees a run")
    return value


def check_header_name(value: str) -> str:
    """Return the name of an HTTP header that a step may set."""
    if not _HEADER_NAME.fullmatch(value):
        raise ValueError("a header's name is letters, digits and any of !#$%&'*+-.^_`|~, at most 200 of them")
    reason = _OUR_HEADERS.get(value.lower())
    if reason is None and value.lower().startswith("proxy-"):
        reason = _CONNECTION
    if reason:
        raise ValueError(reason)
    return value


def check_header_value(value: str) -> str:
    """Return what a header may hold: references and printable text, all of which an HTTP request can carry."""
    if problem := header_value_problem(value):
        raise ValueError(problem)
    return value


def header_value_problem(value: str) -> str | None:
    """Say what is wrong with a header's value, without repeating it; None where nothing is."""
    if len(value) > MAX_HEADER_VALUE:
        return f"a header's value has at most {MAX_HEADER_VALUE:,} characters"
    if not _HEADER_VALUE.fullmatch(value):
        return (
            "a header's value is printable characters of Latin-1 on one line, without control characters,"
            " and has no space at its beginning or end"
        )
    return None


def check_slack(value: str) -> str:
    """Return a Slack webhook URL that Prefect's block can send to, or a reference to the block that holds one."""
    if re.fullmatch(SLACK_PATTERN, value):
        return value
    raise ValueError(
        "a Slack channel is a webhook URL that Slack has made, https://hooks.slack.com/services/T…/B…/…"
        f" (or hooks.slack-gov.com), or the block that holds one, written {SLACK_BLOCK_PREFIX}<block name>"
    )
