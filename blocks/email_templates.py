"""What the automations say, as templates that Prefect's server renders before it calls the mail block."""

from __future__ import annotations

from dataclasses import dataclass

from prefect_campaigns.blocks.email_composing import BUDGET_ALERT_STATE, REPORT_LABEL, RUN_KIND

# What the automations' templates say: Jinja2 for Prefect's sandbox, which fails the whole notification on a
# value that it cannot render. So every chain ends in a default. ``flow_run`` and ``deployment`` are None when
# they are deleted, and when the API answers an error to the server's own question for them (a busy SQLite
# does); the event, which is always there, stands in.

_STATE = "flow_run.state.name|default(event.resource['prefect.state-name'], true)|default('', true)"
_MESSAGE = "flow_run.state.message|default(event.resource['prefect.state-message'], true)|default('', true)"
_RUN = "flow_run.name|default(event.resource.name, true)|default('', true)"
_RUN_ID = "flow_run.id|default(event.resource.id|replace('prefect.flow-run.', ''), true)|string"
_OCCURRED = "event.occurred|default(flow_run.state.timestamp, true)|default('', true)|string"
_RELATED_DEPLOYMENT = "event.related|selectattr('role', 'equalto', 'deployment')|map(attribute='name')|first"
_DEPLOYMENT = f"deployment.name|default({_RELATED_DEPLOYMENT}, true)|default('', true)"
_CAMPAIGN_NAME = f"flow_run.parameters.campaign.name|default({_DEPLOYMENT}, true)|string"
_REPORT = f"flow_run.labels['{REPORT_LABEL}']|default('', true)|string"
_EVENT = "event.id|string"
_RECEIVED = "event.received|default('', true)|string"
# None until PREFECT_UI_URL is set on the server.
_URL = "flow_run|ui_url|default('', true)"


@dataclass(frozen=True, kw_only=True)
class NoticeTemplates:
    """What an automation says, as Jinja2 templates for Prefect.

    Attributes:
        subject: ``Failed: Weekly Restaurant Outreach (azure-fox)``.
        mail: JSON, so that nothing an engine says can pass for a part of the mail; ``notify`` reads it back.
        slack: plain text for Prefect's SlackWebhook block.
    """

    subject: str
    mail: str
    slack: str


def _templates(*, state: str, message: str, **others: str) -> NoticeTemplates:
    """Return what an automation says.

    Args:
        others: what stands in the place of a run's values, where it is about something else.
    """
    values = {
        "campaign": _DEPLOYMENT,
        "campaign_name": _CAMPAIGN_NAME,
        "run": _RUN,
        "run_id": _RUN_ID,
        "state": state,
        "message": message,
        "occurred": _OCCURRED,
        "url": _URL,
        "event": _EVENT,
        "received": _RECEIVED,
        **others,
    }
    run = f" ({{{{ {_RUN} }}}})" if values["run"] == _RUN else ""
    headline = f"{{{{ {state} }}}}: {{{{ {values['campaign_name']}|truncate(120, true, '…') }}}}{run}"
    fields = ",\n".join(f'  "{name}": {{{{ {value}|tojson }}}}' for name, value in values.items())
    return NoticeTemplates(
        subject=headline,
        mail=f'{{\n  "kind": "{RUN_KIND}",\n{fields}\n}}',
        # Prefect sends to Slack through Apprise, which escapes & < > itself and then turns "&lt;!channel&gt;" back
        # into a mention of everybody. Escaped here, a "<" would be shown as "&lt;"; without angle brackets there is
        # nothing to turn back.
        slack="{% filter replace('<', '\u2039')|replace('>', '\u203a') %}"
        f"{headline}\n{{{{ {message}|truncate(3000, true, '…') }}}}\n{{{{ {values['url']} }}}}"
        "{% endfilter %}",
    )


RUN_ENDED = _templates(state=_STATE, message=_MESSAGE, report=_REPORT)
"""A run has ended, one way or another."""

BUDGET_ALERT = _templates(state=f"'{BUDGET_ALERT_STATE}'", message="event.payload.message|default('', true)|string")
"""A share of a limit is spent; the event is one of ours."""


POOL_NOT_READY, POOL_READY = "prefect.work-pool.not-ready", "prefect.work-pool.ready"
POOL_STATES = {
    POOL_NOT_READY: (
        "Nobody works",
        "No worker is alive, and campaigns that are due do not run. Start one: prefect worker start --pool campaigns"
        " (campaigns up starts one beside its server).",
    ),
    "prefect.work-pool.paused": (
        "Paused",
        "The pool is paused, and campaigns that are due do not run. Resume it: prefect work-pool resume campaigns.",
    ),
    POOL_READY: ("Works again", "A worker is alive; what is due runs."),
}
"""What is said of a work pool, by Prefect's event: a state, and what follows from it."""


def _of_pool(part: int) -> str:
    said = ", ".join(f"'{event}': '{texts[part]}'" for event, texts in POOL_STATES.items())
    return f"{{{said}}}.get(event.event, '')"


POOL_STATE = _templates(
    state=_of_pool(0),
    message=_of_pool(1),
    campaign="''",
    campaign_name="('work pool ' ~ event.resource.name)",
    run="''",
    run_id="''",
    url="''",
)
"""Whether anybody works in a work pool has changed."""
