"""Compile a campaign into everything a Prefect server will be told of it. Pure: same campaign, same output, no I/O."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prefect import Flow
from prefect.utilities.callables import parameter_schema
from slugify import slugify

from prefect_campaigns.blocks.email_templates import POOL_STATES
from prefect_campaigns.deployments.secrets_in_files import CompiledSecret, digest, without_secrets
from prefect_campaigns.flows.alerts import ALERT_EVENT, CAMPAIGN_RESOURCE
from prefect_campaigns.flows.approval import EXPIRE_DEPLOYMENT, NOT_APPROVED
from prefect_campaigns.flows.approval_timeout import EXPIRE_ENTRYPOINT, expire_approval
from prefect_campaigns.flows.breaker import ENGINE_DOWN
from prefect_campaigns.flows.campaign import ENTRYPOINT, FLOW_NAME, run_campaign
from prefect_campaigns.flows.paused_deployment import OUR_TAG, RESUME_DEPLOYMENT, RESUME_ENTRYPOINT
from prefect_campaigns.flows.resume import resume_campaign
from prefect_campaigns.flows.versions import parameters_of
from prefect_campaigns.forecast import kept_by
from prefect_campaigns.models import SLACK_BLOCK_PREFIX, Campaign, Recipients, Schedule

WORK_POOL = "campaigns"
WORK_POOL_TYPE = "campaign"
CAMPAIGN_TAG = "campaign"


@dataclass(frozen=True, kw_only=True)
class UpkeepDeployment:
    """A deployment of a flow of ours that is no campaign."""

    full_name: str
    entrypoint: str
    description: str
    flow: Flow[..., Any]

    @property
    def wanted(self) -> dict[str, Any]:
        """What the server should have of it."""
        return {
            "description": self.description,
            "entrypoint": self.entrypoint,
            "work_pool_name": WORK_POOL,
            "tags": [OUR_TAG],
            "parameter_openapi_schema": _flow_parameters(self.flow),
        }


UPKEEP_DEPLOYMENTS = (
    UpkeepDeployment(
        full_name=RESUME_DEPLOYMENT,
        entrypoint=RESUME_ENTRYPOINT,
        description="Resumes campaigns when the budget that stopped them starts anew. Kept by `campaigns apply`.",
        flow=resume_campaign,
    ),
    UpkeepDeployment(
        full_name=EXPIRE_DEPLOYMENT,
        entrypoint=EXPIRE_ENTRYPOINT,
        description="Ends the waiting for an approval that nobody gave in time. Kept by `campaigns apply`.",
        flow=expire_approval,
    ),
)


class NotificationKind(StrEnum):
    """What a mail is about."""

    FAILURE = "failure"
    PARTIAL = "partial"
    COMPLETE = "complete"
    BUDGET = "budget"
    ALERT = "alert"
    APPROVAL = "approval"
    POOL = "pool"

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the states that a run ends in for this mail to be sent; an alert waits for no end."""
        return _STATE_NAMES.get(self, ())

    @property
    def events(self) -> tuple[str, ...]:
        """The Prefect events that send this mail."""
        if self is NotificationKind.POOL:
            return tuple(POOL_STATES)
        return tuple(f"prefect.flow-run.{name}" for name in self.state_names) or (ALERT_EVENT,)

    @property
    def resource(self) -> dict[str, str]:
        """What these events are about, by its labels."""
        if self is NotificationKind.POOL:
            return {"prefect.resource.id": "prefect.work-pool.*", "prefect.resource.name": WORK_POOL}
        return {"prefect.resource.id": "prefect.flow-run.*" if self.state_names else f"{CAMPAIGN_RESOURCE}.*"}

    @property
    def description(self) -> str:
        """The occasion, in words."""
        if self.state_names:
            return f"campaign runs that become {', '.join(self.state_names)}"
        if self is NotificationKind.POOL:
            return f"work pool {WORK_POOL}: whether anybody works there"
        return "campaigns that have spent most of a limit"


_STATE_NAMES = {
    NotificationKind.FAILURE: ("Failed", "Crashed", "TimedOut", ENGINE_DOWN),
    NotificationKind.PARTIAL: ("Partial",),
    NotificationKind.COMPLETE: ("Completed",),
    NotificationKind.BUDGET: ("BudgetExceeded",),
    NotificationKind.APPROVAL: ("Suspended", NOT_APPROVED),
}


@dataclass(frozen=True, order=True)
class MailRecipient:
    """Somebody who is told by mail."""

    address: str

    @property
    def label(self) -> str:
        """How tags and automations name the recipient."""
        return self.address

    @property
    def block_name(self) -> str:
        """The name of the recipient's CampaignEmail block."""
        return f"campaigns-mail-{slugify(self.address)}-{digest(self.address)}"


@dataclass(frozen=True, order=True)
class SlackChannel:
    """A Slack channel that is told, by the name of the block that holds its webhook URL."""

    block_name: str

    @property
    def label(self) -> str:
        """How tags and automations name the channel."""
        return f"{SLACK_BLOCK_PREFIX}{self.block_name}"


Recipient = MailRecipient | SlackChannel


@dataclass(frozen=True)
class CompiledAutomation:
    """A Prefect automation that tells one recipient of one kind of end, for all campaigns that carry its tag.

    One that is about the work pool has a tag, too, which no campaign carries.
    """

    kind: NotificationKind
    recipient: Recipient

    @property
    def tag(self) -> str:
        """The tag by which a campaign's runs ask for it."""
        return f"on-{self.kind}:{self.recipient.label}"

    @property
    def name(self) -> str:
        """Its name on the server, unique among ours."""
        return f"campaigns: {self.kind} → {self.recipient.label}"


@dataclass(frozen=True, kw_only=True)
class CompiledSchedule:
    """When a deployment runs; inactive ones are deployed all the same."""

    cron: str
    timezone: str
    active: bool


@dataclass(frozen=True, kw_only=True)
class CompiledCampaign:
    """A campaign as a Prefect server is told of it, and what has to exist beside it.

    Attributes:
        campaign: the campaign with nothing secret in it; the flow's parameter and the stored config.
        secrets: what was secret in the campaign, each on its way into a block that the campaign now refers to.
        slug: the deployment's name, and the campaign's key in the store.
        schedule: None when the campaign is run by hand only.
    """

    campaign: Campaign
    slug: str
    description: str
    schedule: CompiledSchedule | None
    parameters: dict[str, Any]
    tags: tuple[str, ...]
    automations: tuple[CompiledAutomation, ...]
    secrets: tuple[CompiledSecret, ...]
    flow_name: str = FLOW_NAME
    entrypoint: str = ENTRYPOINT
    work_pool: str = WORK_POOL

    @property
    def full_name(self) -> str:
        """What ``prefect deployment run`` takes."""
        return f"{self.flow_name}/{self.slug}"


def compile_operators(addresses: Iterable[str]) -> tuple[CompiledAutomation, ...]:
    """Return the automations that tell the operators whether anybody works."""
    return tuple(CompiledAutomation(NotificationKind.POOL, MailRecipient(address)) for address in addresses)


def compile_campaign(campaign: Campaign) -> CompiledCampaign:
    """Return the deployment, the automations and the secrets that a campaign comes to."""
    # The editor's schema stays in the file: stored without it, the campaign would seem changed at every apply.
    public, secrets = without_secrets(campaign.model_copy(update={"json_schema": None}))
    automations = tuple(sorted(_automations(public), key=lambda automation: automation.name))
    tags = {CAMPAIGN_TAG, *(automation.tag for automation in automations)}
    return CompiledCampaign(
        campaign=public,
        slug=campaign.slug,
        description=campaign.description or campaign.name,
        schedule=_compile_schedule(campaign.schedule),
        parameters=parameters_of(public),
        tags=tuple(sorted(tags)),
        automations=automations,
        secrets=secrets,
    )


def _compile_schedule(schedule: Schedule | None) -> CompiledSchedule | None:
    if schedule is None:
        return None
    cron, timezone = kept_by(schedule)
    return CompiledSchedule(cron=cron, timezone=timezone, active=schedule.enabled)


def deployment_parameter_schema() -> dict[str, Any]:
    """Return the JSON Schema of the campaign flow's parameters, by which Prefect checks a run's parameters."""
    return _flow_parameters(run_campaign)


@functools.cache
def _flow_parameters(flow: Flow[..., Any]) -> dict[str, Any]:
    return parameter_schema(flow).model_dump(exclude_unset=True, mode="json")


def _recipients(recipients: Recipients | None) -> Iterator[Recipient]:
    if recipients is None:
        return
    yield from map(MailRecipient, recipients.email)
    if recipients.slack is not None:
        yield SlackChannel(recipients.slack.removeprefix(SLACK_BLOCK_PREFIX))


def _automations(campaign: Campaign) -> set[CompiledAutomation]:
    told = campaign.notifications
    if told is None:
        return set()
    failure, complete = set(_recipients(told.on_failure)), set(_recipients(told.on_complete))
    budget = failure if told.on_budget is None else set(_recipients(told.on_budget))
    approval = failure if told.on_approval is None else set(_recipients(told.on_approval))
    audiences = {
        NotificationKind.FAILURE: failure,
        NotificationKind.COMPLETE: complete,
        # Whoever is told of both hears of a partial run once.
        NotificationKind.PARTIAL: failure | complete,
        NotificationKind.BUDGET: budget,
        NotificationKind.ALERT: budget if campaign.budget.alert_at else set(),
        NotificationKind.APPROVAL: approval if any(step.approval for step in campaign.steps) else set(),
    }
    return {CompiledAutomation(kind, recipient) for kind, audience in audiences.items() for recipient in audience}
