"""Somebody who plans and applies campaigns, and sees what that would write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from driving import Driver

from prefect_campaigns.deployments.applying.apply import ApplyResult, apply
from prefect_campaigns.deployments.applying.plan import Plan
from prefect_campaigns.deployments.applying.planning import make_plan
from prefect_campaigns.deployments.compile import compile_campaign
from prefect_campaigns.deployments.driving.strays import NOT_IN_BOOKS
from prefect_campaigns.deployments.running.server import connect
from prefect_campaigns.models import Campaign

FOLDER = "/srv/planned"


def but_strays(notes: Iterable[str]) -> list[str]:
    """Return notes without what is said of other tests' campaigns, whose books are others."""
    return [note for note in notes if NOT_IN_BOOKS not in note]


class Operator:
    """Somebody who plans and applies the campaigns of one folder."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def plan(self, *campaigns: Campaign) -> Plan:
        compiled = [compile_campaign(one) for one in campaigns]
        async with connect() as client:
            return await make_plan(
                client,
                self._driver.store,
                self._driver.settings,
                compiled,
                origins={one.slug: FOLDER for one in compiled},
            )

    async def apply(self, *campaigns: Campaign, **options: Any) -> ApplyResult:
        driver = self._driver
        return await apply(campaigns, store=driver.store, settings=driver.settings, origin=FOLDER, **options)
