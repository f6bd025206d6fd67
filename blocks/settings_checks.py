"""What single settings may be: each check takes what came, and returns what it means or says what is allowed."""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from prefect.settings import get_current_settings
from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from prefect_campaigns.blocks.api_keys import parse_api_keys
from prefect_campaigns.blocks.email_composing import parse_address
from prefect_campaigns.blocks.supabase_credentials import check_supabase_key, is_loopback
from prefect_campaigns.hosts import AllowedHosts

SMTP_TYPES = ("SSL", "STARTTLS", "INSECURE")
SmtpType = Literal["SSL", "STARTTLS", "INSECURE"]

DEFAULT_PORTS: dict[SmtpType, int] = {"SSL": 465, "STARTTLS": 587, "INSECURE": 587}

LOG_LEVELS = ("error", "warn", "info", "debug")
LogLevel = Literal["error", "warn", "info", "debug"]

LOG_FORMATS = ("text", "json")
LogFormat = Literal["text", "json"]

MAX_SECONDS = 86_400
MAX_MEGABYTES = 1024
MAX_MINUTES = 1440

MIN_RETENTION_DAYS, MAX_RETENTION_DAYS = 2, 36_500
"""Two days at least: of what happened yesterday a mail may be owed yet."""

NO_SENDER = "SMTP_HOST is set, and neither SMTP_FROM nor SMTP_USER says who the mails come from"
_OWN_VARIABLES = ("CAMPAIGNS_", "PREFECT_", "SMTP_", "SUPABASE_")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def validate_host(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not re.fullmatch(r"[^\s:/@]+", value):
            raise ValueError(
                "allowed is a host name such as smtp.example.com, or an IP address, and nothing else"
            ) from None
    return value


def validate_port(value: Any) -> int:
    text = str(value).strip()
    # isdecimal also takes digits of other scripts, and int understands them.
    if not text.isdecimal() or len(text) > 5 or not 1 <= int(text) <= 65_535:
        raise ValueError("allowed is a whole number from 1 to 65535")
    return int(text)


def validate_type(value: Any) -> str:
    return _one_of(SMTP_TYPES, str(value).strip().upper())


def validate_log_level(value: Any) -> str:
    name = str(value).strip().lower()
    return _one_of(LOG_LEVELS, "warn" if name == "warning" else name)


def validate_log_format(value: Any) -> str:
    return _one_of(LOG_FORMATS, str(value).strip().lower())


def _one_of(allowed: Sequence[str], name: str) -> str:
    if name not in allowed:
        nearest = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
        hint = f"; nearest is {nearest[0]}" if nearest else ""
        raise ValueError(f"allowed are {', '.join(allowed)}{hint}")
    return name


def validate_switch(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in _TRUE + _FALSE:
        raise ValueError("allowed are true and false")
    return text in _TRUE


def validate_seconds(value: Any) -> float:
    try:
        seconds = float(str(value).strip())
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"allowed are seconds from 0 to {MAX_SECONDS:,}")
    return seconds


def validate_megabytes(value: Any) -> int:
    text = str(value).strip()
    if not text.isdecimal() or len(text) > 4 or not 1 <= int(text) <= MAX_MEGABYTES:
        raise ValueError(f"allowed is a whole number of megabytes from 1 to {MAX_MEGABYTES}")
    return int(text)


def validate_hosts(value: Any) -> str:
    return str(AllowedHosts.parse(str(value)))


def validate_count(value: Any) -> int:
    text = str(value).strip()
    if not text.isdecimal() or len(text) > 4:
        raise ValueError("allowed is a whole number from 0 to 9999")
    return int(text)


def validate_retention(value: Any) -> int:
    text = str(value).strip()
    if not text.isdecimal() or len(text) > 5 or not MIN_RETENTION_DAYS <= int(text) <= MAX_RETENTION_DAYS:
        raise ValueError(f"allowed is a whole number of days from {MIN_RETENTION_DAYS} to {MAX_RETENTION_DAYS:,}")
    return int(text)


def validate_minutes(value: Any) -> float:
    try:
        minutes = float(str(value).strip())
    except ValueError:
        minutes = math.nan
    if not 0 < minutes <= MAX_MINUTES:
        raise ValueError(f"allowed are minutes, more than 0 and at most {MAX_MINUTES:,}")
    return minutes


def validate_database(value: Any) -> Path:
    path = _path(value, of="a file")
    if path.is_dir():
        raise ValueError("allowed is the path of a file, and this is a folder")
    return path


def validate_folder(value: Any) -> Path:
    path = _path(value, of="a folder")
    if path.exists() and not path.is_dir():
        raise ValueError("allowed is the path of a folder, and this is none")
    return path


def _path(value: Any, *, of: str) -> Path:
    text = str(value)
    if "://" in text:
        raise ValueError(f"allowed is the path of {of}, not a URL")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"allowed is the path of {of}, and this names a user who is not known here") from None


def validate_from(value: str) -> str:
    try:
        parse_address(value)
    except ValueError:
        raise ValueError("allowed is one address: ops@example.com or Ops <ops@example.com>") from None
    return value


def missing_beside_a_host(known: dict[str, Any]) -> Iterator[str]:
    """Yield what a set SMTP_HOST needs and does not have; a field that is itself at fault is not in ``known``."""
    user = known.get("smtp_user")
    if "smtp_from" in known and known["smtp_from"] is None:
        if user is None:
            yield NO_SENDER
        elif not is_address(user):
            # Not shown: some providers take an access token for a user name.
            yield "SMTP_FROM is not set, and SMTP_USER, which would stand for it, is no mail address"
    if user is not None and known.get("smtp_pass") is None:
        yield "SMTP_USER is set and SMTP_PASS is not; a server that wants no login takes SMTP_FROM alone"
    if user is None and known.get("smtp_pass") is not None:
        yield "SMTP_PASS is set and SMTP_USER is not; a login takes both"


def incomplete(*missing: str) -> PydanticCustomError:
    return PydanticCustomError("incomplete", "{missing}", {"missing": "\n".join(missing)})


def is_address(value: str) -> bool:
    try:
        parse_address(value)
    except ValueError:
        return False
    return True


def default_type(host: str, port: int | None) -> SmtpType:
    """Return what a port means. TLS wherever that is not clear: a password is never sent in the open by guess."""
    if port == DEFAULT_PORTS["SSL"]:
        return "SSL"
    if port not in (None, DEFAULT_PORTS["STARTTLS"]) and is_loopback(host):
        return "INSECURE"
    return "STARTTLS"


def default_logs() -> Path:
    return Path("logs").absolute()


def default_database() -> Path:
    return get_current_settings().home / "campaigns.db"


def validate_key(value: Any) -> SecretStr:
    return SecretStr(check_supabase_key(str(value)))


def validate_database_url(value: Any) -> SecretStr:
    text = str(value).strip()
    problem = ValueError(
        "allowed is postgres://USER:PASSWORD@HOST:5432/postgres, with what is special in the password"
        " percent-encoded (%40 for @), as the dashboard shows it under Connect"
    )
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        # The dashboard's own placeholder, [YOUR-PASSWORD], is read as a broken IPv6 address.
        raise problem from None
    if url.scheme not in ("postgres", "postgresql") or not url.hostname or port == 0:
        raise problem
    return SecretStr(text)


def validate_api_keys(value: Any) -> SecretStr:
    parse_api_keys(str(value))
    return SecretStr(str(value))


def validate_operators(value: Any) -> str:
    addresses = [address.strip() for address in str(value).split(",")]
    if not all(map(is_address, addresses)):
        raise ValueError("allowed are mail addresses such as ops@example.com, with commas between")
    return ",".join(dict.fromkeys(addresses))


def validate_heartbeat_url(value: Any) -> SecretStr:
    text = str(value).strip()
    # Not shown: whoever knows it can ping in our place.
    if not re.fullmatch(r"https?://[^\s/?#@]+[^\s#@]*", text):
        raise ValueError("allowed is the http or https URL that a watchdog gives for pings")
    return SecretStr(text)


def validate_origins(value: Any) -> str:
    origins = [origin.strip().rstrip("/") for origin in str(value).split(",")]
    for origin in origins:
        # Every origin at once would be every web page there is.
        if not re.fullmatch(r"https?://[^\s/?#@*,]+", origin):
            raise ValueError("allowed are origins such as https://app.example.com, with commas between")
    return ",".join(origins)


def validate_variables(value: Any) -> str:
    names = [name.strip() for name in str(value).split(",")]
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("allowed are names of environment variables such as CRM_TOKEN, with commas between")
        if name.upper().startswith(_OWN_VARIABLES):
            # A campaign could send it to whomever it likes.
            raise ValueError(
                f"{name} is not for campaigns to read, nor is what else begins with {', '.join(_OWN_VARIABLES)}"
            )
    return ",".join(names)
