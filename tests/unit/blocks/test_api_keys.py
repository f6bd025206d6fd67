"""Who may use the REST API: what CAMPAIGNS_API_KEY may say, and what is said of what it may not."""

from __future__ import annotations

import traceback

import pytest

from prefect_campaigns.blocks.api_keys import Access, find_key, parse_api_keys
from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.errors import SettingsError

KEY = "swordfish-7"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (KEY, [("default", Access.FULL)]),
        (f"ada:full:{KEY}", [("ada", Access.FULL)]),
        # Spaces around the commas are nobody's key.
        (f"ada:full:{KEY} , dashboard:read:other", [("ada", Access.FULL), ("dashboard", Access.READ)]),
        # A key may hold colons where it has a name.
        (f"ada:full:{KEY}:more", [("ada", Access.FULL)]),
        (f"{KEY},dashboard:read:other", [("default", Access.FULL), ("dashboard", Access.READ)]),
    ],
)
def test_keys_have_names_and_open_what_they_say(text: str, expected: list[tuple[str, Access]]) -> None:
    assert [(key.name, key.access) for key in parse_api_keys(text)] == expected


def test_a_key_is_found_by_all_of_it_and_by_nothing_less() -> None:
    keys = parse_api_keys(f"ada:full:{KEY},dashboard:read:other:with:colons")
    assert find_key(keys, KEY.encode()) is keys[0]
    assert find_key(keys, b"other:with:colons") is keys[1]
    for wrong in (b"", KEY[:-1].encode(), f"{KEY} ".encode(), f"ada:full:{KEY}".encode(), b"\xff"):
        assert find_key(keys, wrong) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"ada:{KEY}", "its entry 1 is not understood"),
        (f"other,ada:write:{KEY}", "its entry 2 is for something else than read or full"),
        (f"ada lovelace:read:{KEY}", "its entry 1 is not understood"),
        (f"{KEY},,other", "its entry 2 has no key"),
        ("ada:read:", "its entry 1 has no key"),
        (f"{KEY} {KEY}", "the key of its entry 1 has a space or a character that no header carries"),
        (f"ada:full:{KEY},ada:read:other", "its entry 2 has the name of entry 1"),
        # Two without a name would both be `default`.
        (f"{KEY},other", "its entry 2 has the name of entry 1"),
        (f"ada:full:{KEY},bob:read:{KEY}", "its entry 2 has the key of entry 1"),
    ],
)
def test_what_is_no_list_of_keys_is_one_error_without_a_key_in_it(
    text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGNS_API_KEY", text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"CAMPAIGNS_API_KEY in the environment cannot be used; {said}; allowed is KEY,")
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_nothing_shows_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNS_API_KEY", f"ada:full:{KEY}")
    settings = load_settings()
    (key,) = settings.api_keys
    assert key.name == "ada"
    assert KEY not in repr(settings) + repr(key) + str(settings.model_dump())


def test_the_api_is_on_loopback_and_port_3020_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    assert (settings.campaigns_api_host, settings.port) == ("127.0.0.1", 3020)
    assert not settings.api_keys and not settings.api_origins
    monkeypatch.setenv("CAMPAIGNS_API_HOST", "0.0.0.0")
    monkeypatch.setenv("PORT", "8080")
    monkeypatch.setenv("CAMPAIGNS_API_CORS_ORIGINS", "https://app.example.com/, http://localhost:5173")
    settings = load_settings()
    assert (settings.campaigns_api_host, settings.port) == ("0.0.0.0", 8080)
    assert settings.api_origins == ["https://app.example.com", "http://localhost:5173"]


@pytest.mark.parametrize("origins", ["*", "app.example.com", "https://app.example.com/path", "https://a.example.com,*"])
def test_only_origins_are_origins(origins: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNS_API_CORS_ORIGINS", origins)
    with pytest.raises(SettingsError, match="allowed are origins such as"):
        load_settings()
