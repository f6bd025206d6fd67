"""Every setting with its value, where that came from, and what it means; nothing secret among it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from prefect.context import get_settings_context
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_HOME, PREFECT_UI_URL
from prefect.settings.legacy import Setting as PrefectSetting
from prefect_email import EmailServerCredentials
from prefect_email.credentials import SMTPServer, SMTPType
from pydantic import SecretStr

from prefect_campaigns.blocks.email_composing import is_address
from prefect_campaigns.blocks.settings import Settings, env_file
from prefect_campaigns.blocks.stores import DEFAULT_API_URL
from prefect_campaigns.blocks.supabase_credentials import STORE_BLOCK_NAME, SupabaseCredentials
from prefect_campaigns.deployments.applying.saved_mail import SENDER_VARIABLE, SMTP_BLOCK_NAME, MailServer
from prefect_campaigns.words import without_secrets

HIDDEN = "********"

_FIRST = ("smtp_host", "supabase_url")


class Origin(StrEnum):
    """Where a value came from."""

    ENVIRONMENT = "environment"
    FILE = "file"
    PROFILE = "profile"
    BLOCK = "block"
    DEFAULT = "default"


@dataclass(frozen=True, kw_only=True)
class SettingView:
    """A setting as people may see it.

    Attributes:
        value: None where it is not set; of what is secret only that it is there.
        where: the file, Prefect's profile, or the block on the Prefect server that has the value.
    """

    name: str
    value: str | None
    origin: Origin
    where: str | None = None
    meaning: str


@dataclass(frozen=True, kw_only=True)
class SavedSettings:
    """What ``campaigns setup`` has saved on the Prefect server."""

    mail: MailServer | None = None
    supabase: SupabaseCredentials | None = None


@dataclass
class _Sources:
    """What is set in the environment and in the ``.env`` file, by names in capitals; an empty value is none."""

    file: Path | None = field(default_factory=env_file)

    def __post_init__(self) -> None:
        in_file = dotenv_values(self.file) if self.file is not None and self.file.exists() else {}
        self._environment = _names(os.environ)
        self._file = _names(in_file)

    def of(self, name: str) -> tuple[Origin, str | None]:
        if name in self._environment:
            return Origin.ENVIRONMENT, None
        return (Origin.FILE, str(self.file)) if name in self._file else (Origin.DEFAULT, None)


def _names(variables: Mapping[str, str | None]) -> frozenset[str]:
    return frozenset(name.upper() for name, value in variables.items() if value)


def list_settings(settings: Settings, saved: SavedSettings) -> list[SettingView]:
    """Return all settings of this package in the order of their model, then those of Prefect that matter here."""
    sources = _Sources()
    on_server = {**_saved_mail(settings, saved.mail), **_saved_project(settings, saved.supabase)}
    effective = _effective(settings)
    views = []
    for key in _in_order(Settings.model_fields):
        name, meaning = key.upper(), Settings.model_fields[key].description or ""
        if name in on_server:
            value, block = on_server[name]
            views.append(
                SettingView(name=name, value=_shown(name, value), origin=Origin.BLOCK, where=block, meaning=meaning)
            )
            continue
        origin, where = sources.of(name)
        value = effective.get(name, getattr(settings, key))
        views.append(SettingView(name=name, value=_shown(name, value), origin=origin, where=where, meaning=meaning))
    return [*views, *_prefects(sources)]


def _in_order(names: Iterable[str]) -> Iterator[str]:
    """Yield the names in the order of the model, and what a group of them belongs to before the rest of it."""
    for _, group in groupby(names, key=lambda name: name.partition("_")[0]):
        yield from sorted(group, key=lambda name: name not in _FIRST)


def _effective(settings: Settings) -> Mapping[str, Any]:
    """Return what counts where one setting stands for another."""
    smtp = settings.smtp
    return {} if smtp is None else {"SMTP_PORT": smtp.port, "SMTP_TYPE": smtp.type, "SMTP_FROM": smtp.sender}


def _saved_mail(settings: Settings, saved: MailServer | None) -> dict[str, tuple[Any, str]]:
    """Return what the saved mail server sets; nothing where SMTP_HOST is set, for then it is not used."""
    if saved is None or settings.smtp is not None:
        return {}
    block = f"{EmailServerCredentials.get_block_type_slug()}/{SMTP_BLOCK_NAME}"
    credentials = saved.credentials
    server, kind = credentials.smtp_server, credentials.smtp_type
    return {
        "SMTP_HOST": (server.value if isinstance(server, SMTPServer) else server, block),
        "SMTP_PORT": (credentials.smtp_port, block),
        "SMTP_TYPE": (kind.name if isinstance(kind, SMTPType) else kind, block),
        "SMTP_USER": (credentials.username, block),
        "SMTP_PASS": (credentials.password if credentials.password.get_secret_value() else None, block),
        "SMTP_VERIFY": (credentials.verify is not False, block),
        "SMTP_FROM": (saved.sender, f"variable {SENDER_VARIABLE}"),
    }


def _saved_project(settings: Settings, saved: SupabaseCredentials | None) -> dict[str, tuple[Any, str]]:
    """Return what the saved Supabase project sets; nothing where the settings name other books."""
    if saved is None or settings.supabase is not None or settings.database_is_named:
        return {}
    block = f"{SupabaseCredentials.get_block_type_slug()}/{STORE_BLOCK_NAME}"
    return {"SUPABASE_URL": (saved.url, block), "SUPABASE_KEY": (saved.key, block)}


def _shown(name: str, value: Any) -> str | None:
    if value is None:
        return None
    # Some providers take an access token for a user name.
    if isinstance(value, SecretStr) or (name == "SMTP_USER" and not is_address(value)):
        return HIDDEN
    if isinstance(value, bool):
        return str(value).lower()
    return without_secrets(str(value)) if "://" in str(value) else str(value)


def _prefects(sources: _Sources) -> Iterator[SettingView]:
    known: list[tuple[PrefectSetting, Any, str]] = [
        (PREFECT_API_URL, PREFECT_API_URL.value() or DEFAULT_API_URL, "the Prefect server"),
        (PREFECT_API_AUTH_STRING, _secret(PREFECT_API_AUTH_STRING.value()), "the password of its API"),
        (PREFECT_UI_URL, PREFECT_UI_URL.value(), "what links in mails begin with"),
        (PREFECT_HOME, PREFECT_HOME.value(), "Prefect's folder on this machine"),
    ]
    profile = get_settings_context().profile
    for setting, value, meaning in known:
        origin, where = sources.of(setting.name)
        if origin is Origin.DEFAULT and setting in profile.settings:
            origin, where = Origin.PROFILE, profile.name
        yield SettingView(
            name=setting.name, value=_shown(setting.name, value), origin=origin, where=where, meaning=meaning
        )


def _secret(value: str | None) -> SecretStr | None:
    return SecretStr(value) if value else None
