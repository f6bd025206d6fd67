"""Whether steps may ask the hosts of their endpoints is said before they fail by it."""

from __future__ import annotations

import pytest
from campaign_files import campaign

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.deployments.checking.campaigns_checks import check_hosts
from prefect_campaigns.models import Campaign

CAMPAIGNS: tuple[Campaign, ...] = tuple(campaign(name, "http://localhost:3010", only=2) for name in ("One", "Two"))


def test_where_nothing_is_listed_nothing_is_wrong() -> None:
    assert check_hosts(load_settings(), CAMPAIGNS) == []


def test_a_host_that_is_not_listed_is_named_once_with_who_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNS_ALLOWED_HOSTS", "localhost:3011,*.example.com")
    (found,) = check_hosts(load_settings(), CAMPAIGNS)
    assert (found.part, found.health) == ("Hosts", "broken")
    assert found.found == "localhost:3010, which one, two need, is none of CAMPAIGNS_ALLOWED_HOSTS"
    monkeypatch.setenv("CAMPAIGNS_ALLOWED_HOSTS", "LOCALHOST:3010")
    assert check_hosts(load_settings(), CAMPAIGNS) == []
