"""Settings from the environment and .env, and what is said of those that cannot be used."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest
from prefect.settings import get_current_settings
from prefect_email import EmailServerCredentials
from prefect_email.credentials import SMTPServer, SMTPType

from prefect_campaigns.blocks.settings import Settings, SmtpSettings, load_settings, without_env_file
from prefect_campaigns.errors import SettingsError

NAMES = (
    "SMTP_HOST",
    "SMTP_PORT",
    "SMTP_USER",
    "SMTP_PASS",
    "SMTP_FROM",
    "SMTP_TYPE",
    "SMTP_VERIFY",
    "SUPABASE_URL",
    "SUPABASE_KEY",
    "SUPABASE_DB_URL",
    "CAMPAIGNS_DATABASE",
    "CAMPAIGNS_TIMEZONE",
    "CAMPAIGNS_API_KEY",
    "CAMPAIGNS_API_HOST",
    "PORT",
    "CAMPAIGNS_API_CORS_ORIGINS",
    "CAMPAIGNS_SECRET_VARIABLES",
    "CAMPAIGNS_GRACE_SECONDS",
    "CAMPAIGNS_ALLOWED_HOSTS",
    "CAMPAIGNS_BREAKER_RUNS",
    "CAMPAIGNS_BREAKER_MINUTES",
    "CAMPAIGNS_MAX_ANSWER_MB",
    "CAMPAIGNS_OPERATORS",
    "CAMPAIGNS_HEARTBEAT_URL",
    "CAMPAIGNS_RETENTION_DAYS",
    "CAMPAIGNS_LOGS",
    "LOG_LEVEL",
    "LOG_FORMAT",
)
PASSWORD = "swordfish-7"
KEY = f"sb_secret_{PASSWORD}"
PROJECT = "https://abcdefgh.supabase.co"
MAIL = {"SMTP_HOST": "smtp.example.com", "SMTP_FROM": "campaigns@example.com"}


@pytest.fixture
def folder(clean_environment: None, tmp_path: Path) -> Path:
    """The working directory, empty."""
    return tmp_path


def set_all(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def smtp() -> SmtpSettings:
    settings = load_settings().smtp
    assert settings is not None
    return settings


def faults() -> list[str]:
    with pytest.raises(SettingsError) as error:
        load_settings()
    return str(error.value).splitlines()


def test_nothing_set_is_no_mail_and_a_database_in_prefects_home() -> None:
    settings = load_settings()
    assert settings.smtp is None
    assert settings.database_path == get_current_settings().home / "campaigns.db"


def test_the_env_file_of_a_real_project_is_understood(folder: Path) -> None:
    (folder / ".env").write_text(
        "# Database\nSUPABASE_URL=https://x.supabase.co\nSUPABASE_KEY=key\nPORT=3020\nLOG_LEVEL=info\nNODE_ENV=test\n"
        "# SMTP\nSMTP_HOST=smtp.gmail.com\nSMTP_PORT=587\nSMTP_USER=me@gmail.com\nSMTP_PASS=abcd efgh ijkl mnop\n"
    )
    mail = smtp()
    assert (mail.host, mail.port, mail.type, mail.sender) == ("smtp.gmail.com", 587, "STARTTLS", "me@gmail.com")
    assert (mail.username, mail.password.get_secret_value()) == ("me@gmail.com", "abcd efgh ijkl mnop")
    assert mail.verify is True


def test_the_environment_wins_over_the_env_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("SMTP_HOST=file.example.com\nSMTP_FROM=file@example.com\n")
    monkeypatch.setenv("SMTP_HOST", "environment.example.com")
    assert (smtp().host, smtp().sender) == ("environment.example.com", "file@example.com")


def test_what_is_logged_by_default_and_what_the_levels_are_called(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings()
    assert (settings.log_level, settings.log_format, settings.campaigns_logs) == ("info", "text", folder / "logs")
    # WARNING, as Python programs call it, and the level in capitals, as others write it.
    for value, level in (("WARNING", "warn"), ("Debug", "debug"), ("error", "error")):
        monkeypatch.setenv("LOG_LEVEL", value)
        assert load_settings().log_level == level


def test_each_setting_says_what_it_means() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_an_empty_value_is_no_value(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, dict.fromkeys(NAMES, ""))
    assert load_settings().smtp is None
    # Not even one that hides the file's.
    (folder / ".env").write_text("SMTP_HOST=file.example.com\nSMTP_FROM=file@example.com\nSMTP_PORT=\n")
    assert (smtp().host, smtp().port) == ("file.example.com", 587)


@pytest.mark.parametrize(
    ("host", "port", "kind", "expected"),
    [
        # Nothing said: submission, with TLS before the login.
        ("smtp.example.com", None, None, (587, "STARTTLS")),
        # The port says it.
        ("smtp.example.com", "465", None, (465, "SSL")),
        ("smtp.example.com", "587", None, (587, "STARTTLS")),
        # A port that says nothing: never in the open by guess.
        ("smtp.example.com", "25", None, (25, "STARTTLS")),
        ("smtp.example.com", "2525", None, (2525, "STARTTLS")),
        # On this very machine nothing can be read on the way.
        ("localhost", "1025", None, (1025, "INSECURE")),
        ("127.0.0.1", "25", None, (25, "INSECURE")),
        ("::1", "2525", None, (2525, "INSECURE")),
        ("localhost", "587", None, (587, "STARTTLS")),
        ("localhost", "465", None, (465, "SSL")),
        ("localhost", None, None, (587, "STARTTLS")),
        # The type says it, and with it the port.
        ("smtp.example.com", None, "SSL", (465, "SSL")),
        ("smtp.example.com", None, "STARTTLS", (587, "STARTTLS")),
        ("smtp.example.com", None, "INSECURE", (587, "INSECURE")),
        # Both.
        ("smtp.example.com", "2465", "ssl", (2465, "SSL")),
        ("smtp.example.com", " 25 ", " Insecure ", (25, "INSECURE")),
    ],
)
def test_port_and_type_stand_for_each_other(
    host: str, port: str | None, kind: str | None, expected: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"SMTP_HOST": host, "SMTP_FROM": "a@example.com", "SMTP_PORT": port or "", "SMTP_TYPE": kind or ""}
    set_all(monkeypatch, given)
    assert (smtp().port, smtp().type) == expected


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("1", True), ("No", False), ("false", False)])
def test_verifying_can_be_switched_off(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, MAIL | {"SMTP_VERIFY": value})
    assert smtp().verify is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # Relative to where the command was started; absolute from then on.
        ("books/c.db", "{folder}/books/c.db"),
        ("/var/lib/campaigns.db", "/var/lib/campaigns.db"),
        ("~/c.db", str(Path.home() / "c.db")),
    ],
)
def test_the_database_is_an_absolute_path(
    value: str, expected: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGNS_DATABASE", value)
    assert str(load_settings().database_path) == expected.format(folder=folder)


def test_the_database_is_named_where_somebody_chose_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load_settings().database_is_named
    monkeypatch.setenv("CAMPAIGNS_DATABASE", "")
    assert not load_settings().database_is_named
    (folder / ".env").write_text("CAMPAIGNS_DATABASE=c.db\n")
    assert load_settings().database_is_named


def test_a_supabase_project_is_a_url_and_a_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().supabase is None
    (folder / ".env").write_text(f"SUPABASE_URL={PROJECT}/\n")
    monkeypatch.setenv("SUPABASE_KEY", f" {KEY} ")
    project = load_settings().supabase
    assert project is not None
    assert (project.url, project.key.get_secret_value()) == (PROJECT, KEY)


@pytest.mark.parametrize("url", ["http://127.0.0.1:54321", "http://localhost:54321", "http://[::1]:54321"])
def test_a_supabase_project_of_this_machine_needs_no_tls(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {"SUPABASE_URL": url, "SUPABASE_KEY": KEY})
    assert load_settings().supabase_url == url


def test_the_database_of_the_project_is_a_postgres_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (
        f"postgres://postgres:{PASSWORD}@db.abcdefgh.supabase.co:5432/postgres",
        f"postgresql://postgres.abcdefgh:{PASSWORD}@aws-0-eu-central-1.pooler.supabase.com:6543/postgres?sslmode=require",
    ):
        monkeypatch.setenv("SUPABASE_DB_URL", url)
        settings = load_settings()
        assert settings.supabase_db_url is not None and settings.supabase_db_url.get_secret_value() == url


def test_the_timezone_of_the_account_is_utc_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().campaigns_timezone == "UTC"
    monkeypatch.setenv("CAMPAIGNS_TIMEZONE", "America/New_York")
    assert load_settings().campaigns_timezone == "America/New_York"


def test_the_env_file_can_be_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text(f"SUPABASE_URL={PROJECT}\nSUPABASE_KEY={KEY}\n")
    monkeypatch.setenv("CAMPAIGNS_TIMEZONE", "Europe/Berlin")
    with without_env_file():
        settings = load_settings()
        assert (settings.supabase, settings.campaigns_timezone) == (None, "Europe/Berlin")
    assert load_settings().supabase is not None


def test_credentials_are_the_prefect_block_of_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(
        monkeypatch,
        MAIL | {"SMTP_PORT": "465", "SMTP_USER": "robot", "SMTP_PASS": PASSWORD, "SMTP_VERIFY": "false"},
    )
    credentials = smtp().credentials()
    assert isinstance(credentials, EmailServerCredentials)
    assert credentials.smtp_server == "smtp.example.com"
    assert (credentials.smtp_type, credentials.smtp_port) == (SMTPType.SSL, 465)
    assert (credentials.username, credentials.password.get_secret_value()) == ("robot", PASSWORD)
    assert credentials.verify is False


def test_credentials_without_a_login_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, MAIL | {"SMTP_HOST": "smtp.gmail.com"})
    credentials = smtp().credentials()
    assert (credentials.username, credentials.password.get_secret_value()) == (None, "")
    assert credentials.smtp_server in (SMTPServer.GMAIL, "smtp.gmail.com")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        # Not a port.
        ({"SMTP_PORT": "0"}, r"SMTP_PORT is '0' in the environment; allowed is a whole number from 1 to 65535"),
        ({"SMTP_PORT": "65536"}, r"SMTP_PORT is '65536' .*"),
        ({"SMTP_PORT": "5e2"}, r"SMTP_PORT is '5e2' .*"),
        ({"SMTP_PORT": "587 # submission"}, r"SMTP_PORT is '587 # submission' .*"),
        # Not a type; the nearest is named, if one is near.
        ({"SMTP_TYPE": "START_TLS"}, r".*'START_TLS' .*; allowed are SSL, STARTTLS, INSECURE; nearest is STARTTLS"),
        ({"SMTP_TYPE": "TLS"}, r".*nearest is .*"),
        ({"SMTP_TYPE": "quantum"}, r".*'quantum' in the environment; allowed are SSL, STARTTLS, INSECURE"),
        # Not a host.
        ({"SMTP_HOST": "smtp.example.com:587"}, r"SMTP_HOST is 'smtp.example.com:587' .*; allowed is a host name .*"),
        ({"SMTP_HOST": "smtp://smtp.example.com"}, r"SMTP_HOST is .*"),
        # Not an address.
        ({"SMTP_FROM": "Campaigns"}, r"SMTP_FROM is 'Campaigns' .*; allowed is one address: .*"),
        ({"SMTP_FROM": "a@example.com, b@example.com"}, r"SMTP_FROM is .*"),
        # Neither true nor false.
        ({"SMTP_VERIFY": "maybe"}, r"SMTP_VERIFY is 'maybe' .*; allowed are true and false"),
        # Not the path of a file.
        ({"CAMPAIGNS_DATABASE": "/tmp"}, r"CAMPAIGNS_DATABASE is '/tmp' .*, and this is a folder"),
        ({"CAMPAIGNS_DATABASE": "sqlite:///c.db"}, r"CAMPAIGNS_DATABASE is 'sqlite:///c.db' .*, not a URL"),
        ({"CAMPAIGNS_DATABASE": "~nobody-here/c.db"}, r"CAMPAIGNS_DATABASE is .*a user who is not known here"),
        # No such timezone; the nearest is named.
        (
            {"CAMPAIGNS_TIMEZONE": "America/NewYork"},
            r"CAMPAIGNS_TIMEZONE is 'America/NewYork' in the environment; did you mean America/New_York\? .*",
        ),
        # Half a project.
        ({"SUPABASE_URL": PROJECT}, r"SUPABASE_URL is set and SUPABASE_KEY is not; a Supabase project takes both"),
        ({"SUPABASE_KEY": KEY}, r"SUPABASE_KEY is set and SUPABASE_URL is not; a Supabase project takes both"),
        # Not the URL of a project: the dashboard's, the API's, the database's, one with a login, one in the open.
        (
            {"SUPABASE_URL": "https://supabase.com/dashboard/project/abc", "SUPABASE_KEY": KEY},
            r"SUPABASE_URL is 'https://supabase.com/.*' in the environment; allowed is the project's URL, such as .*",
        ),
        ({"SUPABASE_URL": f"{PROJECT}/rest/v1/", "SUPABASE_KEY": KEY}, r"SUPABASE_URL is .*, with nothing behind it"),
        ({"SUPABASE_URL": "postgres://db.example.com/postgres", "SUPABASE_KEY": KEY}, r"SUPABASE_URL is .*"),
        (
            {"SUPABASE_URL": f"https://robot:{PASSWORD}@example.com", "SUPABASE_KEY": KEY},
            r"SUPABASE_URL is '…@example.com' .*; allowed is a URL without user name and password; .*",
        ),
        ({"SUPABASE_URL": "http://db.example.com", "SUPABASE_KEY": KEY}, r"SUPABASE_URL is .* needs https"),
        # Not a key.
        ({"SUPABASE_URL": PROJECT, "SUPABASE_KEY": "two words"}, r"SUPABASE_KEY in the environment cannot be used; .*"),
        # Not the URL of a database.
        ({"SUPABASE_DB_URL": PROJECT}, r"SUPABASE_DB_URL in the environment cannot be used; allowed is postgres://.*"),
        ({"SUPABASE_DB_URL": "postgresql://postgres:[YOUR-PASSWORD]@db.example.com/postgres"}, r"SUPABASE_DB_URL .*"),
        # Not how much is logged, how, or where.
        ({"LOG_LEVEL": "wran"}, r"LOG_LEVEL is 'wran' .*; allowed are error, warn, info, debug; nearest is warn"),
        ({"LOG_FORMAT": "xml"}, r"LOG_FORMAT is 'xml' in the environment; allowed are text, json"),
        ({"CAMPAIGNS_LOGS": "/dev/null"}, r"CAMPAIGNS_LOGS is .*; allowed is the path of a folder, and this is none"),
        # Half a login.
        ({"SMTP_USER": "robot"}, r"SMTP_USER is set and SMTP_PASS is not; .*"),
        ({"SMTP_PASS": PASSWORD}, r"SMTP_PASS is set and SMTP_USER is not; .*"),
        # Nobody the mails could come from.
        ({"SMTP_FROM": ""}, r"SMTP_HOST is set, and neither SMTP_FROM nor SMTP_USER says who .*"),
        (
            {"SMTP_FROM": "", "SMTP_USER": "apikey", "SMTP_PASS": PASSWORD},
            r"SMTP_FROM is not set, and SMTP_USER, which would stand for it, is no mail address",
        ),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    given: dict[str, str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, MAIL | given)
    (fault,) = faults()
    assert re.fullmatch(complaint, fault), fault


def test_all_faults_are_told_at_once_and_where_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("SMTP_PORT=many\nSMTP_TYPE=SLL\nSMTP_HOST=smtp.example.com\n")
    set_all(monkeypatch, {"SMTP_PASS": PASSWORD, "SMTP_VERIFY": "perhaps", "CAMPAIGNS_DATABASE": "/tmp"})
    assert [line.partition(";")[0] for line in faults()] == [
        f"SMTP_PORT is 'many' in {folder}/.env",
        f"SMTP_TYPE is 'SLL' in {folder}/.env",
        "SMTP_VERIFY is 'perhaps' in the environment",
        "SMTP_HOST is set, and neither SMTP_FROM nor SMTP_USER says who the mails come from",
        "SMTP_PASS is set and SMTP_USER is not",
        "CAMPAIGNS_DATABASE is '/tmp' in the environment",
    ]


def test_a_fault_in_one_variable_is_not_told_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, MAIL | {"SMTP_FROM": "nobody"})
    (fault,) = faults()
    assert fault.startswith("SMTP_FROM is 'nobody'")


@pytest.mark.parametrize(
    "given",
    [
        # Beside a fault.
        {"SMTP_USER": "robot", "SMTP_PASS": PASSWORD, "SMTP_PORT": "x"},
        # Half a login.
        {"SMTP_PASS": PASSWORD},
        # In a URL where a name belongs.
        {"SMTP_HOST": f"smtp://robot:{PASSWORD}@smtp.example.com"},
        {"CAMPAIGNS_DATABASE": f"postgres://robot:{PASSWORD}@db.example.com/campaigns"},
        {"SUPABASE_URL": f"https://robot:{PASSWORD}@example.com", "SUPABASE_KEY": KEY},
        # The two mixed up, and one without the other.
        {"SUPABASE_URL": KEY, "SUPABASE_KEY": PROJECT},
        {"SUPABASE_KEY": KEY},
        # Keys and URLs that cannot be used.
        {"SUPABASE_URL": PROJECT, "SUPABASE_KEY": f"{KEY} {KEY}"},
        {"SUPABASE_DB_URL": f"robot:{PASSWORD}"},
        {"SUPABASE_DB_URL": f"postgres://robot:{PASSWORD}#@db.example.com/postgres"},
    ],
)
def test_no_fault_shows_a_password(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, MAIL | given)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert PASSWORD not in "".join(traceback.format_exception(error.value))


def test_settings_do_not_show_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(
        monkeypatch,
        MAIL
        | {"SMTP_USER": "robot", "SMTP_PASS": PASSWORD, "SUPABASE_URL": PROJECT, "SUPABASE_KEY": KEY}
        | {"SUPABASE_DB_URL": f"postgres://postgres:{PASSWORD}@db.example.com/postgres"},
    )
    settings = load_settings()
    assert PASSWORD not in repr(settings) + repr(smtp()) + repr(smtp().credentials()) + repr(settings.supabase)


def test_an_env_file_that_is_no_text_is_named(folder: Path) -> None:
    (folder / ".env").write_bytes(b"SMTP_HOST=\xff\xfe")
    assert faults() == [f"{folder}/.env is not UTF-8 text (byte 10)"]


def test_the_template_documents_every_setting_and_loads(folder: Path) -> None:
    template = (Path(__file__).parents[3] / ".env.template").read_text()
    assert set(re.findall(r"^([A-Z_]+)=", template, flags=re.MULTILINE)) == set(NAMES)
    assert {name.upper() for name in Settings.model_fields} == set(NAMES)
    (folder / ".env").write_text(template)
    assert (smtp().host, smtp().port, smtp().type) == ("smtp.gmail.com", 587, "STARTTLS")


def test_campaigns_may_read_the_variables_that_are_listed_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().secret_variables == frozenset()
    monkeypatch.setenv("CAMPAIGNS_SECRET_VARIABLES", "CRM_TOKEN, other_token")
    assert load_settings().secret_variables == {"CRM_TOKEN", "other_token"}


@pytest.mark.parametrize(
    ("listed", "fault"),
    [
        # this package's own, and those of the programs that it is set up with
        ("CRM_TOKEN,SUPABASE_KEY", "SUPABASE_KEY is not for campaigns to read"),
        ("smtp_pass", "smtp_pass is not for campaigns to read"),
        ("CAMPAIGNS_API_KEY", "CAMPAIGNS_API_KEY is not for campaigns to read"),
        ("PREFECT_API_AUTH_STRING", "PREFECT_API_AUTH_STRING is not for campaigns to read"),
        ("CRM_TOKEN,", "allowed are names of environment variables such as CRM_TOKEN, with commas between"),
        ("*", "allowed are names"),
        # a value where its name belongs
        (f"CRM_TOKEN={PASSWORD}", "allowed are names"),
    ],
)
def test_what_campaigns_may_not_read_is_refused(listed: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNS_SECRET_VARIABLES", listed)
    (told,) = faults()
    assert fault in told
    assert PASSWORD not in told
