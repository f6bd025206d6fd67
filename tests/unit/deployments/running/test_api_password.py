"""The password on the embedded server's API, and where that server listens."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_UI_URL,
    temporary_settings,
)

from prefect_campaigns.deployments.running.api_password import FILE, file_of, password_for
from prefect_campaigns.deployments.running.server import EmbeddedServer
from prefect_campaigns.deployments.running.stack import embedded_server
from prefect_campaigns.errors import ServerError, SettingsError

EVERYWHERE = "0.0.0.0"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_on_loopback_there_is_none(host: str, tmp_path: Path) -> None:
    assert password_for(host, home=tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.168.1.5", "campaigns.example.com"])
def test_off_loopback_there_is_one_that_only_its_owner_reads_and_the_next_start_uses(host: str, tmp_path: Path) -> None:
    home = tmp_path / "not" / "there"
    password = password_for(host, home=home)
    assert password is not None and len(password) > 40
    path = home / FILE
    assert [one.name for one in home.iterdir()] == [FILE]
    path.chmod(0o644)
    assert password_for(host, home=home) == password
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert file_of(password, home=home) == path


def test_two_that_start_at_once_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        passwords = set(threads.map(lambda _: password_for(EVERYWHERE, home=tmp_path), range(16)))
    assert len(passwords) == 1
    assert [one.name for one in tmp_path.iterdir()] == [FILE]


def test_what_prefects_settings_name_goes_first(tmp_path: Path) -> None:
    with temporary_settings({PREFECT_API_AUTH_STRING: "ada:for-clients"}):
        assert password_for(EVERYWHERE, home=tmp_path) == "ada:for-clients"
        assert password_for("127.0.0.1", home=tmp_path) is None
        with temporary_settings({PREFECT_SERVER_API_AUTH_STRING: "ada:for-the-server"}):
            assert password_for(EVERYWHERE, home=tmp_path) == "ada:for-the-server"
            # The server asks for it there, too.
            assert password_for("127.0.0.1", home=tmp_path) == "ada:for-the-server"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_holds_none_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    with pytest.raises(ServerError, match=f"{tmp_path}/{FILE} is empty"):
        password_for(EVERYWHERE, home=tmp_path)


@pytest.mark.parametrize(
    ("host", "api_url", "elsewhere"),
    [
        ("127.0.0.1", "http://127.0.0.1:4200/api", False),
        (EVERYWHERE, "http://127.0.0.1:4200/api", True),
        ("::", "http://[::1]:4200/api", True),
        ("192.168.1.5", "http://192.168.1.5:4200/api", True),
        ("fd00::5", "http://[fd00::5]:4200/api", True),
    ],
)
def test_where_its_api_answers_this_machine(host: str, api_url: str, elsewhere: bool, tmp_path: Path) -> None:
    server = EmbeddedServer(home=tmp_path, port=4200, log=tmp_path / "log", host=host)
    assert (server.api_url, server.is_reachable_from_elsewhere) == (api_url, elsewhere)


def test_an_empty_password_is_none_for_the_server_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "")
    server = EmbeddedServer(home=tmp_path, port=4200, log=tmp_path / "log")
    assert "PREFECT_SERVER_API_AUTH_STRING" not in server._environment()


@pytest.mark.parametrize(
    ("host", "said"),
    [
        # An address of nobody's: for documentation only.
        ("192.0.2.1", "cannot listen at 192.0.2.1, port 4200: Cannot assign requested address"),
        ("no.such.host.invalid", "cannot listen at no.such.host.invalid, port 4200: "),
    ],
)
async def test_an_address_that_is_none_of_this_machines_is_said(host: str, said: str, tmp_path: Path) -> None:
    server = EmbeddedServer(home=tmp_path, port=4200, log=tmp_path / "log", host=host)
    with pytest.raises(ServerError) as error:
        await server.start()
    assert said in str(error.value) and "--host takes an address of this machine" in str(error.value)


@pytest.mark.parametrize(("host", "port"), [(EVERYWHERE, None), ("127.0.0.1", 4317), (None, 4317)])
async def test_another_server_than_the_settings_name_is_refused(host: str | None, port: int | None) -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://prefect.example.com/api", PREFECT_UI_URL: "http://x"}),
        pytest.raises(SettingsError, match=r"PREFECT_API_URL names http://prefect.example.com/api, and --.* asks for"),
    ):
        async with embedded_server(port=port, host=host):
            pass
