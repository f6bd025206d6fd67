"""Which hosts steps may ask."""

from __future__ import annotations

import pytest

from prefect_campaigns.hosts import AllowedHosts


@pytest.mark.parametrize(
    ("listed", "url", "is_allowed"),
    [
        ("api.example.com", "https://api.example.com/x", True),
        ("api.example.com", "http://API.example.com:8080/x", True),  # any port, and case does not count
        ("api.example.com", "https://api.example.com.evil.example/x", False),
        ("api.example.com", "https://evil.example/api.example.com", False),
        ("api.example.com", "https://api.example.com@evil.example/", False),
        ("*.example.com", "https://a.b.example.com/", True),
        ("*.example.com", "https://example.com/", False),
        ("*.example.com", "https://notexample.com/", False),
        ("localhost:3010", "http://localhost:3010/", True),
        ("localhost:3010", "http://localhost:3011/", False),
        ("localhost:80", "http://localhost/", True),
        ("api.example.com:443", "https://api.example.com/", True),
        ("127.0.0.1", "http://127.0.0.1:1/", True),
        ("[::1]:3010", "http://[::1]:3010/", True),
        ("[::1]", "http://[::2]/", False),
        ("one.example,two.example", "http://two.example/", True),
        ("one.example", "http://[broken", False),
        ("one.example", "nonsense", False),
    ],
)
def test_a_url_is_allowed_by_its_host(listed: str, url: str, is_allowed: bool) -> None:
    assert AllowedHosts.parse(listed).allow(url) is is_allowed


def test_where_none_is_listed_all_are_allowed_and_none_is_listed() -> None:
    anywhere = AllowedHosts()
    assert anywhere.allow("http://any.example/")
    assert not anywhere.list("http://any.example/")


@pytest.mark.parametrize("text", ["", ",", "http://api.example.com", "a b", "*", "*.", "api.*.com", "a.b:", "a:b"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"allowed are hosts such as api\.example\.com, localhost:3010"):
        AllowedHosts.parse(text)


def test_a_list_is_written_as_it_is_read() -> None:
    hosts = AllowedHosts.parse(" API.example.com , localhost:3010,api.example.com")
    assert str(hosts) == "api.example.com,localhost:3010"
