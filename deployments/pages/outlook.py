"""When the money of many campaigns ends: worked out within a time, and remembered."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from prefect_campaigns.budget import BudgetStatus
from prefect_campaigns.deployments.driving.budget_view import look_ahead
from prefect_campaigns.deployments.driving.standing import CampaignState
from prefect_campaigns.forecast import Exhaustion, LikelyCost

REMEMBERED = 5_000


@dataclass(frozen=True, kw_only=True)
class CampaignOutlook:
    """What is to come of a campaign.

    Attributes:
        next_run: when it is due by itself; None where it is not.
        reached: at which run each limit is reached, the nearest first; none where none is.
        is_known: whether there was time to work it out; what was not is known at one of the next looks.
    """

    next_run: datetime | None = None
    reached: Sequence[Exhaustion] = ()
    is_known: bool = True


class Outlooks:
    """Works out outlooks, and remembers them for as long as nothing of what they are made of changes."""

    def __init__(self, *, most: int = REMEMBERED) -> None:
        self._known: OrderedDict[object, CampaignOutlook] = OrderedDict()
        self._most = most

    def of(
        self, state: CampaignState, status: BudgetStatus, likely: LikelyCost | None, *, account_zone: str, until: float
    ) -> CampaignOutlook:
        """Return what is to come of a campaign.

        Args:
            until: when there is no more time for it, by ``time.monotonic``.
        """
        limits = tuple((one.name, one.window and one.window.key, one.limit, one.left) for one in status.all)
        record, pause = state.record, state.pause
        made_of = (record.key, record.updated_at, state.standing, pause and pause.until, likely and likely.amount)
        key = (*made_of, limits, account_zone)
        known = self._known.get(key)
        # What was to come may have come.
        if known is not None and (known.next_run is None or known.next_run > status.at):
            self._known.move_to_end(key)
            return known
        if time.monotonic() > until:
            return CampaignOutlook(is_known=False)
        next_run, reached = look_ahead(state, status, likely, account_zone=ZoneInfo(account_zone))
        found = CampaignOutlook(next_run=next_run, reached=sorted(reached, key=lambda one: one.at))
        self._known[key] = found
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return found
