"""What the environment and the ``.env`` file set: where mails go out, and where the books are kept.

The environment wins over ``.env`` in the working directory. An empty value is no value. Variables that are not
listed here are left to whom they belong: a ``.env`` is often shared.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from prefect.settings import get_current_settings
from prefect_email import EmailServerCredentials
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from prefect_campaigns.blocks.api_keys import ApiKey, parse_api_keys
from prefect_campaigns.blocks.email_composing import parse_address
from prefect_campaigns.blocks.supabase_credentials import (
    SupabaseCredentials,
    check_supabase_key,
    check_supabase_url,
    is_loopback,
)
from prefect_campaigns.checks import check_timezone
from prefect_campaigns.errors import SettingsError

ENV_FILE = ".env"
SMTP_TYPES = ("SSL", "STARTTLS", "INSECURE")
SmtpType = Literal["SSL", "STARTTLS", "INSECURE"]

DEFAULT_PORTS: dict[SmtpType, int] = {"SSL": 465, "STARTTLS": 587, "INSECURE": 587}

_NO_SENDER = "SMTP_HOST is set, and neither SMTP_FROM nor SMTP_USER says who the mails come from"
_NEVER_SHOWN = ("SUPABASE_KEY", "SUPABASE_DB_URL", "CAMPAIGNS_API_KEY", "CAMPAIGNS_SECRET_VARIABLES")
_OWN_VARIABLES = ("CAMPAIGNS_", "PREFECT_", "SMTP_", "SUPABASE_")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True, kw_only=True)
class SmtpSettings:
    """The mail server, and who the mails come from.

    Attributes:
        type: SSL is TLS from the first byte, STARTTLS is TLS before anything is said (and nothing is sent
            without it), INSECURE is no TLS.
        sender: one address, with or without a display name.
        verify: whether the server's certificate is checked.
    """

    host: str
    port: int
    type: SmtpType
    username: str | None
    password: SecretStr
    sender: str
    verify: bool

    def credentials(self) -> EmailServerCredentials:
        """Return the Prefect block that holds the same."""
        return EmailServerCredentials(
            username=self.username,
            password=self.password,
            smtp_server=self.host,
            smtp_type=self.type,
            smtp_port=self.port,
            verify=self.verify,
        )


def _validate_host(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not re.fullmatch(r"[^\s:/@]+", value):
            raise ValueError(
                "allowed is a host name such as smtp.example.com, or an IP address, and nothing else"
            ) from None
    return value


def _validate_port(value: Any) -> int:
    text = str(value).strip()
    # isdecimal also takes digits of other scripts, and int understands them.
    if not text.isdecimal() or len(text) > 5 or not 1 <= int(text) <= 65_535:
        raise ValueError("allowed is a whole number from 1 to 65535")
    return int(text)


def _validate_type(value: Any) -> str:
    name = str(value).strip().upper()
    if name not in SMTP_TYPES:
        nearest = difflib.get_close_matches(name, SMTP_TYPES, n=1, cutoff=0.5)
        hint = f"; nearest is {nearest[0]}" if nearest else ""
        raise ValueError(f"allowed are {', '.join(SMTP_TYPES)}{hint}")
    return name


def _validate_switch(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in _TRUE + _FALSE:
        raise ValueError("allowed are true and false")
    return text in _TRUE


def _validate_database(value: Any) -> Path:
    text = str(value)
    if "://" in text:
        raise ValueError("allowed is the path of a file, not a URL")
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError("allowed is the path of a file, and this names a user who is not known here") from None
    if path.is_dir():
        raise ValueError("allowed is the path of a file, and this is a folder")
    return path


def _validate_from(value: str) -> str:
    try:
        parse_address(value)
    except ValueError:
        raise ValueError("allowed is one address: ops@example.com or Ops <ops@example.com>") from None
    return value


def _missing_beside_a_host(known: dict[str, Any]) -> Iterator[str]:
    """Yield what a set SMTP_HOST needs and does not have; a field that is itself at fault is not in ``known``."""
    user = known.get("smtp_user")
    if "smtp_from" in known and known["smtp_from"] is None:
        if user is None:
            yield _NO_SENDER
        elif not _is_address(user):
            # Not shown: some providers take an access token for a user name.
            yield "SMTP_FROM is not set, and SMTP_USER, which would stand for it, is no mail address"
    if user is not None and known.get("smtp_pass") is None:
        yield "SMTP_USER is set and SMTP_PASS is not; a server that wants no login takes SMTP_FROM alone"
    if user is None and known.get("smtp_pass") is not None:
        yield "SMTP_PASS is set and SMTP_USER is not; a login takes both"


def _incomplete(*missing: str) -> PydanticCustomError:
    return PydanticCustomError("incomplete", "{missing}", {"missing": "\n".join(missing)})


def _is_address(value: str) -> bool:
    try:
        parse_address(value)
    except ValueError:
        return False
    return True


def _default_type(host: str, port: int | None) -> SmtpType:
    """Return what a port means. TLS wherever that is not clear: a password is never sent in the open by guess."""
    if port == DEFAULT_PORTS["SSL"]:
        return "SSL"
    if port not in (None, DEFAULT_PORTS["STARTTLS"]) and is_loopback(host):
        return "INSECURE"
    return "STARTTLS"


def _default_database() -> Path:
    return get_current_settings().home / "campaigns.db"


def _validate_key(value: Any) -> SecretStr:
    return SecretStr(check_supabase_key(str(value)))


def _validate_database_url(value: Any) -> SecretStr:
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


def _validate_api_keys(value: Any) -> SecretStr:
    parse_api_keys(str(value))
    return SecretStr(str(value))


def _validate_origins(value: Any) -> str:
    origins = [origin.strip().rstrip("/") for origin in str(value).split(",")]
    for origin in origins:
        # Every origin at once would be every web page there is.
        if not re.fullmatch(r"https?://[^\s/?#@*,]+", origin):
            raise ValueError("allowed are origins such as https://app.example.com, with commas between")
    return ",".join(origins)


def _validate_variables(value: Any) -> str:
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


class Settings(BaseSettings):
    """All settings of this package; ``load_settings`` makes them, with errors that name the variable."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        # A rejected value may be a password.
        hide_input_in_errors=True,
    )

    smtp_port: Annotated[int, BeforeValidator(_validate_port)] | None = None
    smtp_type: Annotated[SmtpType, BeforeValidator(_validate_type)] | None = None
    smtp_user: str | None = None
    smtp_pass: SecretStr | None = None
    smtp_from: Annotated[str, AfterValidator(_validate_from)] | None = None
    smtp_verify: Annotated[bool, BeforeValidator(_validate_switch)] = True
    # After all that it is checked against: a validator sees the fields above its own.
    smtp_host: Annotated[str, AfterValidator(_validate_host)] | None = None
    supabase_key: Annotated[SecretStr, BeforeValidator(_validate_key)] | None = None
    # Checked even where it is not set: a key alone is half of a pair.
    supabase_url: Annotated[str, AfterValidator(check_supabase_url)] | None = Field(default=None, validate_default=True)
    supabase_db_url: Annotated[SecretStr, BeforeValidator(_validate_database_url)] | None = None
    campaigns_database: Annotated[Path, BeforeValidator(_validate_database)] = Field(default_factory=_default_database)
    campaigns_timezone: Annotated[str, AfterValidator(check_timezone)] = "UTC"
    campaigns_api_key: Annotated[SecretStr, BeforeValidator(_validate_api_keys)] | None = None
    campaigns_api_host: Annotated[str, AfterValidator(_validate_host)] = "127.0.0.1"
    port: Annotated[int, BeforeValidator(_validate_port)] = 3020
    campaigns_api_cors_origins: Annotated[str, BeforeValidator(_validate_origins)] | None = None

    campaigns_secret_variables: Annotated[str, BeforeValidator(_validate_variables)] | None = None

    @field_validator("smtp_host")
    @classmethod
    def _host_has_what_it_needs(cls, host: str | None, info: ValidationInfo) -> str | None:
        if host is not None and (missing := list(_missing_beside_a_host(info.data))):
            raise _incomplete(*missing)
        return host

    @field_validator("supabase_url")
    @classmethod
    def _url_and_key_come_together(cls, url: str | None, info: ValidationInfo) -> str | None:
        if "supabase_key" in info.data and (url is None) != (info.data["supabase_key"] is None):
            there, missing = ("SUPABASE_KEY", "SUPABASE_URL") if url is None else ("SUPABASE_URL", "SUPABASE_KEY")
            raise _incomplete(f"{there} is set and {missing} is not; a Supabase project takes both")
        return url

    @property
    def supabase(self) -> SupabaseCredentials | None:
        """The Supabase project that keeps the books; None when SUPABASE_URL is not set."""
        if self.supabase_url is None or self.supabase_key is None:
            return None
        return SupabaseCredentials(url=self.supabase_url, key=self.supabase_key)

    @property
    def smtp(self) -> SmtpSettings | None:
        """Where mails go out; None when SMTP_HOST is not set: nobody is mailed then."""
        if self.smtp_host is None:
            return None
        smtp_type = self.smtp_type or _default_type(self.smtp_host, self.smtp_port)
        sender = self.smtp_from or self.smtp_user
        if sender is None:
            raise SettingsError(_NO_SENDER)
        return SmtpSettings(
            host=self.smtp_host,
            port=self.smtp_port or DEFAULT_PORTS[smtp_type],
            type=smtp_type,
            username=self.smtp_user,
            password=self.smtp_pass or SecretStr(""),
            sender=sender,
            verify=self.smtp_verify,
        )

    @property
    def api_keys(self) -> Sequence[ApiKey]:
        """Who may use the REST API; nobody in particular when CAMPAIGNS_API_KEY is not set."""
        return parse_api_keys(self.campaigns_api_key.get_secret_value()) if self.campaigns_api_key else ()

    @property
    def api_origins(self) -> Sequence[str]:
        """The origins whose web pages may use the REST API, as browsers write them."""
        return self.campaigns_api_cors_origins.split(",") if self.campaigns_api_cors_origins else ()

    @property
    def secret_variables(self) -> frozenset[str]:
        """The environment variables that ``{{ secret.NAME }}`` may stand for in a campaign."""
        return frozenset((self.campaigns_secret_variables or "").split(",")) - {""}

    @property
    def journal_folder(self) -> Path:
        """Where this machine keeps what engines charged until the store has it."""
        return get_current_settings().home / "campaigns-journal"

    @property
    def database_path(self) -> Path:
        """The SQLite file that keeps campaigns, runs and every cent; absolute."""
        return self.campaigns_database

    @property
    def database_is_named(self) -> bool:
        """Whether somebody chose that file, and it is not the default."""
        return "campaigns_database" in self.model_fields_set


_env_file: str | None = ENV_FILE


@contextmanager
def without_env_file() -> Iterator[None]:
    """Let this process read no ``.env`` while the block lasts: nothing of the user's own set-up takes part."""
    global _env_file
    _env_file = None
    try:
        yield
    finally:
        _env_file = ENV_FILE


def load_settings() -> Settings:
    """Return the settings of this process and its working directory.

    Raises:
        SettingsError: something cannot be used; the message has a line for each fault.
    """
    try:
        return Settings(_env_file=_env_file)
    except ValidationError as error:
        faults = [_describe(fault) for fault in error.errors(include_url=False)]
    except UnicodeDecodeError as error:
        faults = [f"{Path(ENV_FILE).absolute()} is not UTF-8 text (byte {error.start})"]
    except OSError as error:
        faults = [f"{Path(ENV_FILE).absolute()} cannot be read: {error.strerror or error}"]
    # Raised here, and not while the other is handled, so that no traceback repeats what came.
    raise SettingsError("\n".join(faults))


def _describe(fault: ErrorDetails) -> str:
    if fault["type"] == "incomplete":
        return fault["msg"]
    name = str(fault["loc"][0]).upper()
    in_environment = any(variable.upper() == name and value for variable, value in os.environ.items())
    where = "the environment" if in_environment else str(Path(ENV_FILE).absolute())
    message = fault["msg"].removeprefix("Value error, ")
    if name in _NEVER_SHOWN or (name == "SUPABASE_URL" and "://" not in str(fault["input"])):
        # What stands where the URL belongs may be the key.
        return f"{name} in {where} cannot be used; {message}"
    return f"{name} is {_shown(fault['input'])} in {where}; {message}"


def _shown(value: object) -> str:
    text = str(value)
    # A URL in the wrong place may carry a password: smtp://user:password@host.
    if "@" in text:
        text = f"…@{text.rpartition('@')[2]}"
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
