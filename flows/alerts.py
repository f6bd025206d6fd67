"""Telling people that most of a limit is spent: once per share, window and campaign, ever."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID, uuid5

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event, RelatedResource, Resource
from prefect.exceptions import PrefectException

from prefect_campaigns.budget import Alert, BudgetStatus, Scope, alerts_due
from prefect_campaigns.flows.run import CampaignRun
from prefect_campaigns.models import Campaign
from prefect_campaigns.money import format_money

ALERT_EVENT = "prefect-campaigns.budget.alert"
"""The event that automations mail; its payload has ``message``."""

CAMPAIGN_RESOURCE = "prefect-campaigns.campaign"
"""What the resources of our events are called; the campaign's key follows."""

_NAMESPACE = UUID("0d3b1c1e-9a35-4f0a-8a4e-6a3f5b6e2d11")


async def tell_alerts(run: CampaignRun, status: BudgetStatus) -> None:
    """Emit an event for every alert that is due and that nobody has been told of.

    An alert that Prefect does not take is told at the next look.

    Raises:
        StoreError: the store is not there.
    """
    slug = run.campaign.slug
    due = {alert.key: alert for alert in alerts_due(status, run.campaign.budget.alert_at)}
    if not due:
        return
    for key in await run.store.claim_alerts(slug, list(due)):
        try:
            await _emit(run.campaign, run.flow_run, due[key])
        except (httpx.HTTPError, PrefectException) as error:
            run.logger.warning("Nobody could be told yet: %s (%s)", describe(due[key]), error)
        else:
            await run.store.alert_told(slug, key)


def describe(alert: Alert) -> str:
    """Return the alert in words: ``80 % of the daily limit of 5.00 USD is spent: 4.02 USD; it resets at …``."""
    limit = alert.limit
    resets = f"; it resets at {limit.window.end:%Y-%m-%d %H:%M} UTC" if limit.window else ""
    return (
        f"{(alert.threshold * 100).normalize():f} % of the {limit.name} limit of"
        f" {format_money(limit.limit or Decimal(0))} USD is spent: {format_money(limit.spent)} USD{resets}."
    )


async def _emit(campaign: Campaign, flow_run: FlowRun, alert: Alert) -> None:
    """Give the event to the server and wait for its answer: what Prefect emits in the background may be lost."""
    related = [_related("tag", f"prefect.tag.{tag}") for tag in flow_run.tags]
    related.append(_related("flow-run", f"prefect.flow-run.{flow_run.id}", name=flow_run.name))
    if flow_run.deployment_id is not None:
        related.append(_related("deployment", f"prefect.deployment.{flow_run.deployment_id}", name=campaign.slug))
    event = Event(
        # The same again after a crash, and from two campaigns that bring the account there together: a server that has
        # seen it does nothing twice.
        id=uuid5(_NAMESPACE, alert.key if alert.limit.scope is Scope.ACCOUNT else f"{campaign.slug} {alert.key}"),
        event=ALERT_EVENT,
        resource=Resource.model_validate(
            {
                "prefect.resource.id": f"{CAMPAIGN_RESOURCE}.{campaign.slug}",
                "prefect.resource.name": campaign.name,
            }
        ),
        related=related,
        payload={"message": describe(alert), "threshold": float(alert.threshold), "limit": alert.limit.name},
    )
    async with get_client() as client:
        await client.request("POST", "/events", json=[event.model_dump(mode="json")])


def _related(role: str, identifier: str, *, name: str = "") -> RelatedResource:
    return RelatedResource.model_validate(
        {"prefect.resource.id": identifier, "prefect.resource.role": role, "prefect.resource.name": name}
    )
