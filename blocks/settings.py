"""What the environment and the ``.env`` file set: where mails go out, where the books are kept, what is logged.

The environment wins over ``.env`` in the working directory. An empty value is no value. Variables that are not
listed here are left to whom they belong: a ``.env`` is often shared.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dotenv import dotenv_values
from prefect.settings import get_current_settings
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from prefect_campaigns.blocks.api_keys import ApiKey, parse_api_keys
from prefect_campaigns.blocks.settings_checks import (
    DEFAULT_PORTS,
    NO_SENDER,
    LogFormat,
    LogLevel,
    SmtpType,
    default_database,
    default_logs,
    default_type,
    incomplete,
    missing_beside_a_host,
    validate_api_keys,
    validate_count,
    validate_database,
    validate_database_url,
    validate_folder,
    validate_from,
    validate_heartbeat_url,
    validate_host,
    validate_hosts,
    validate_key,
    validate_log_format,
    validate_log_level,
    validate_megabytes,
    validate_minutes,
    validate_operators,
    validate_origins,
    validate_port,
    validate_retention,
    validate_seconds,
    validate_switch,
    validate_type,
    validate_variables,
)
from prefect_campaigns.blocks.supabase_credentials import SupabaseCredentials, check_supabase_url
from prefect_campaigns.checks import check_timezone
from prefect_campaigns.errors import SettingsError
from prefect_campaigns.hosts import AllowedHosts

if TYPE_CHECKING:
    from prefect_email import EmailServerCredentials

ENV_FILE = ".env"

_MAY_HOLD_A_SECRET = frozenset({"CAMPAIGNS_SECRET_VARIABLES"})
"""Where what cannot be used may be a secret in the wrong place."""


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
        # It takes two tenths of a second, also of commands that send nothing.
        from prefect_email import EmailServerCredentials

        return EmailServerCredentials(
            username=self.username,
            password=self.password,
            smtp_server=self.host,
            smtp_type=self.type,
            smtp_port=self.port,
            verify=self.verify,
        )


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

    smtp_port: Annotated[int, BeforeValidator(validate_port)] | None = Field(
        default=None, description="the mail server's port"
    )
    smtp_type: Annotated[SmtpType, BeforeValidator(validate_type)] | None = Field(
        default=None, description="how the connection to it is protected"
    )
    smtp_user: str | None = Field(default=None, description="the login there")
    smtp_pass: SecretStr | None = Field(default=None, description="the password there")
    smtp_from: Annotated[str, AfterValidator(validate_from)] | None = Field(
        default=None, description="who the mails come from"
    )
    smtp_verify: Annotated[bool, BeforeValidator(validate_switch)] = Field(
        default=True, description="whether its certificate is checked"
    )
    # After all that it is checked against: a validator sees the fields above its own.
    smtp_host: Annotated[str, AfterValidator(validate_host)] | None = Field(
        default=None, description="the mail server; without one nobody is mailed"
    )
    supabase_key: Annotated[SecretStr, BeforeValidator(validate_key)] | None = Field(
        default=None, description="its secret key"
    )
    # Checked even where it is not set: a key alone is half of a pair.
    supabase_url: Annotated[str, AfterValidator(check_supabase_url)] | None = Field(
        default=None, validate_default=True, description="the Supabase project that keeps the books"
    )
    supabase_db_url: Annotated[SecretStr, BeforeValidator(validate_database_url)] | None = Field(
        default=None, description="its database, for campaigns db migrate and import alone"
    )
    campaigns_database: Annotated[Path, BeforeValidator(validate_database)] = Field(
        default_factory=default_database, description="the SQLite file of the books, where they are not in Supabase"
    )
    campaigns_timezone: Annotated[str, AfterValidator(check_timezone)] = Field(
        default="UTC", description="the timezone of the account's days, weeks and months"
    )
    campaigns_api_key: Annotated[SecretStr, BeforeValidator(validate_api_keys)] | None = Field(
        default=None, description="who may use the REST API"
    )
    campaigns_api_host: Annotated[str, AfterValidator(validate_host)] = Field(
        default="127.0.0.1", description="the address at which the REST API listens"
    )
    port: Annotated[int, BeforeValidator(validate_port)] = Field(default=3020, description="its port")
    campaigns_api_cors_origins: Annotated[str, BeforeValidator(validate_origins)] | None = Field(
        default=None, description="the web pages that may call it from a browser"
    )
    campaigns_secret_variables: Annotated[str, BeforeValidator(validate_variables)] | None = Field(
        default=None, description="the worker's variables that campaigns may read as secrets"
    )
    campaigns_grace_seconds: Annotated[float, BeforeValidator(validate_seconds)] = Field(
        default=20.0, description="how long a worker that is told to stop waits for its runs"
    )
    campaigns_operators: Annotated[str, BeforeValidator(validate_operators)] | None = Field(
        default=None, description="who is mailed when campaigns are not being run, and when they are again"
    )
    campaigns_heartbeat_url: Annotated[SecretStr, BeforeValidator(validate_heartbeat_url)] | None = Field(
        default=None, description="the watchdog that is pinged as long as campaigns are being run"
    )
    campaigns_allowed_hosts: Annotated[str, BeforeValidator(validate_hosts)] | None = Field(
        default=None, description="the hosts that steps may ask; without any, all"
    )
    campaigns_breaker_runs: Annotated[int, BeforeValidator(validate_count)] = Field(
        default=5, description="how many runs fail by an engine, one after the other, until it is left alone; 0 never"
    )
    campaigns_breaker_minutes: Annotated[float, BeforeValidator(validate_minutes)] = Field(
        default=15.0, description="how long an engine is left alone"
    )
    campaigns_max_answer_mb: Annotated[int, BeforeValidator(validate_megabytes)] = Field(
        default=16, description="how large an engine's answer may be, in megabytes"
    )
    campaigns_retention_days: Annotated[int, BeforeValidator(validate_retention)] | None = Field(
        default=None, description="after how many days what engines said is removed; unset, never"
    )
    log_level: Annotated[LogLevel, BeforeValidator(validate_log_level)] = Field(
        default="info", description="the least that is logged"
    )
    log_format: Annotated[LogFormat, BeforeValidator(validate_log_format)] = Field(
        default="text", description="how it is written"
    )
    campaigns_logs: Annotated[Path, BeforeValidator(validate_folder)] = Field(
        default_factory=default_logs, description="the folder of orchestrator.log and error.log"
    )

    @field_validator("smtp_host")
    @classmethod
    def _host_has_what_it_needs(cls, host: str | None, info: ValidationInfo) -> str | None:
        if host is not None and (missing := list(missing_beside_a_host(info.data))):
            raise incomplete(*missing)
        return host

    @field_validator("supabase_url")
    @classmethod
    def _url_and_key_come_together(cls, url: str | None, info: ValidationInfo) -> str | None:
        if "supabase_key" in info.data and (url is None) != (info.data["supabase_key"] is None):
            there, missing = ("SUPABASE_KEY", "SUPABASE_URL") if url is None else ("SUPABASE_URL", "SUPABASE_KEY")
            raise incomplete(f"{there} is set and {missing} is not; a Supabase project takes both")
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
        smtp_type = self.smtp_type or default_type(self.smtp_host, self.smtp_port)
        sender = self.smtp_from or self.smtp_user
        if sender is None:
            raise SettingsError(NO_SENDER)
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
    def allowed_hosts(self) -> AllowedHosts:
        """The hosts that steps may ask."""
        return AllowedHosts.parse(self.campaigns_allowed_hosts) if self.campaigns_allowed_hosts else AllowedHosts()

    @property
    def max_answer_bytes(self) -> int:
        """How large an engine's answer may be, decompressed."""
        return self.campaigns_max_answer_mb * 1024 * 1024

    @property
    def operators(self) -> Sequence[str]:
        """The addresses of those who are mailed when campaigns are not being run."""
        return self.campaigns_operators.split(",") if self.campaigns_operators else ()

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


_OURS = "CAMPAIGNS_"
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


def env_file() -> Path | None:
    """Return the ``.env`` file of this process, which may not exist; None where it reads none."""
    return None if _env_file is None else Path(_env_file).absolute()


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


def misspelt_settings() -> list[str]:
    """Return, in a sentence each, the variables that are named as our settings are, and are none."""
    path = env_file()
    in_file = dotenv_values(path) if path is not None and path.exists() else {}
    known = {name.upper() for name in Settings.model_fields}
    others = {name.upper() for name in (*in_file, *os.environ)} - known
    return [_misspelt(name, known) for name in sorted(others) if name.startswith(_OURS)]


def _misspelt(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"{name} is no setting{f'; did you mean {near[0]}?' if near else ''}"


def secret_names() -> frozenset[str]:
    """Return the variables whose values are never shown."""
    return frozenset(
        name.upper() for name, field in Settings.model_fields.items() if SecretStr.__name__ in str(field.annotation)
    )


def _describe(fault: ErrorDetails) -> str:
    if fault["type"] == "incomplete":
        return fault["msg"]
    name = str(fault["loc"][0]).upper()
    in_environment = any(variable.upper() == name and value for variable, value in os.environ.items())
    where = "the environment" if in_environment else str(Path(ENV_FILE).absolute())
    message = fault["msg"].removeprefix("Value error, ")
    if name in secret_names() | _MAY_HOLD_A_SECRET or (name == "SUPABASE_URL" and "://" not in str(fault["input"])):
        # What stands where the URL belongs may be the key.
        return f"{name} in {where} cannot be used; {message}"
    return f"{name} is {_shown(fault['input'])} in {where}; {message}"


def _shown(value: object) -> str:
    text = str(value)
    # A URL in the wrong place may carry a password: smtp://user:password@host.
    if "@" in text:
        text = f"…@{text.rpartition('@')[2]}"
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
