"""What ``campaigns purge`` and ``campaigns erase`` refuse, before anything is asked for or removed."""

from __future__ import annotations

import pytest

from prefect_campaigns.deployments.cli.personal_data_commands import erase_command, purge_command
from prefect_campaigns.errors import CampaignsError, UsageError


@pytest.mark.parametrize(
    ("age", "error"),
    [
        (None, "how old? Say it, as in campaigns purge --older-than 180d, or set CAMPAIGNS_RETENTION_DAYS"),
        (
            "1d",
            "--older-than 1d cannot be used; allowed are days and weeks, such as 180d and 26w, from 2 to 36,500 days",
        ),
        ("soon", "--older-than soon cannot be used"),
        ("-3d", "--older-than -3d cannot be used"),
        ("99999w", "--older-than 99999w cannot be used"),
    ],
)
async def test_an_age_that_cannot_be_used(age: str | None, error: str) -> None:
    with pytest.raises(UsageError) as refused:
        await purge_command(older_than=age, yes=True)
    assert str(refused.value).startswith(error)


async def test_without_an_age_the_setting_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNS_RETENTION_DAYS", "90")
    with pytest.raises(CampaignsError, match="add --yes to do it"):
        await purge_command()


async def test_all_that_is_no_address_is_named_at_once() -> None:
    with pytest.raises(UsageError) as refused:
        await erase_command(email=["bob", "bob@example.com", "al@"], yes=True)
    assert str(refused.value).splitlines() == [
        "--email 'bob' is no e-mail address; one looks like bob@example.com",
        "--email 'al@' is no e-mail address; one looks like bob@example.com",
    ]


async def test_somebody_has_to_be_named() -> None:
    with pytest.raises(UsageError, match="whom"):
        await erase_command()


async def test_nothing_is_removed_that_nobody_has_agreed_to() -> None:
    with pytest.raises(CampaignsError, match="what is removed cannot be had back; add --yes to do it"):
        await erase_command(email=["bob@example.com"])
