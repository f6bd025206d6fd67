"""The event that Prefect's scheduler owes for the runs it makes.

A run's first change of state follows, as events go, the making of the run, and so on from change to change. Of a run
that somebody asks for there is an event; of one that the scheduler makes there is none. When the two are less than five
minutes apart, Prefect's server holds all events of the run back for fifteen minutes, in case that one comes late, and
with them every mail about the run (``prefect.server.models.events``, ``prefect.server.events.ordering``).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events import emit_event

NEAR = timedelta(minutes=5)
"""How far two changes of state may lie apart for Prefect to say that one follows the other."""


def emit_scheduled(flow_run: FlowRun) -> None:
    """Tell Prefect of the making of a run, if its scheduler has just made it; more than once does no harm."""
    # One that is Late by now has left the state in which it was made, whose id is not known here.
    if not flow_run.auto_scheduled or flow_run.state_name != "Scheduled" or flow_run.created is None:
        return
    if datetime.now(UTC) - flow_run.created > NEAR:
        return
    emit_event(
        "prefect.flow-run.Scheduled",
        occurred=flow_run.created,
        resource={
            "prefect.resource.id": f"prefect.flow-run.{flow_run.id}",
            "prefect.resource.name": flow_run.name,
            "prefect.state-name": "Scheduled",
            "prefect.state-timestamp": flow_run.created.isoformat(),
            "prefect.state-type": StateType.SCHEDULED.value,
        },
        # By this the server knows what it waits for.
        id=flow_run.state_id,
    )
