"""What ``campaigns logs`` does."""

from __future__ import annotations

import asyncio
import json as jsonlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterStartTime,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, Log
from prefect.client.schemas.sorting import FlowRunSort, LogSort
from rich.text import Text

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord
from prefect_campaigns.deployments.cli.main import EXIT_OK, AsJson, print_json, say
from prefect_campaigns.deployments.cli.run_commands import at_work
from prefect_campaigns.deployments.driving.lookup import match_campaign
from prefect_campaigns.deployments.driving.runs import find_run, unknown_deployment
from prefect_campaigns.errors import UnknownCampaign, UnknownRun

POLL_SECONDS = 1.0

_PAGE = 200
_LATE_LOOKS = 3
"""How often is looked after a run's end: its last lines reach the server a moment later."""

_STYLES = {logging.ERROR: "red", logging.CRITICAL: "red", logging.WARNING: "yellow", logging.DEBUG: "dim"}


async def logs_command(run_or_name: str, /, *, follow: bool = False, json: AsJson = False) -> int:
    """Print logs.

    Parameters
    ----------
    run_or_name
        A run's name or id; of a campaign, its newest run.
    follow
        Go on until the run has ended; with --json, an object a line.
    """
    async with at_work() as (client, store):
        flow_run = await _find(client, store, run_or_name)
        if json and not follow:
            lines = [_log_json(line) async for line in _lines(client, flow_run.id, follow=False)]
            print_json({"success": True, "run": flow_run.name, "runId": str(flow_run.id), "logs": lines})
            return EXIT_OK
        is_empty = True
        async for line in _lines(client, flow_run.id, follow=follow):
            is_empty = False
            if json:
                print(jsonlib.dumps(_log_json(line), ensure_ascii=False), flush=True)
            else:
                say(_shown(line))
        if is_empty and not json:
            say(f"Run {flow_run.name} has said nothing yet: it is {flow_run.state_name}.")
    return EXIT_OK


async def _find(client: PrefectClient, store: CampaignStore, text: str) -> FlowRun:
    """Return the run that is meant, or the newest run of the campaign that is.

    Raises:
        UnknownRun: it is neither, or the campaign has not run.
        NotDeployed: the books do not know the campaign's deployment.
    """
    try:
        record = match_campaign(text, await store.list_campaigns())
    except UnknownCampaign as no_campaign:
        try:
            return await find_run(client, store, text)
        except UnknownRun as no_run:
            # Whichever of the two has something near.
            raise (no_campaign if "did you mean" in str(no_campaign) else no_run) from None
    return await newest_run(client, record)


async def newest_run(client: PrefectClient, record: CampaignRecord) -> FlowRun:
    """Return the campaign's newest run that has begun.

    Raises:
        UnknownRun: it has not run yet.
        NotDeployed: the books do not know its deployment.
    """
    if record.deployment_id is None:
        raise unknown_deployment(record.key)
    runs = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[record.deployment_id]),
            # Runs that are planned would come first.
            start_time=FlowRunFilterStartTime(is_null_=False),
        ),
        sort=FlowRunSort.START_TIME_DESC,
        limit=1,
    )
    if not runs:
        raise UnknownRun(f"{record.key} has not run yet. Start it with: campaigns run {record.key}")
    return runs[0]


async def _lines(client: PrefectClient, flow_run_id: UUID, *, follow: bool) -> AsyncIterator[Log]:
    """Yield what a run has said, oldest first; and what it says from now on until it has ended."""
    seen: set[UUID] = set()
    looks_left = _LATE_LOOKS
    while True:
        has_ended = not follow or await _has_ended(client, flow_run_id)
        # What arrives late may bear an earlier time, so the whole of the last page is looked at again.
        offset = max(len(seen) - _PAGE, 0)
        while page := await client.read_logs(
            log_filter=LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])),
            sort=LogSort.TIMESTAMP_ASC,
            limit=_PAGE,
            offset=offset,
        ):
            offset += len(page)
            for line in page:
                if line.id not in seen:
                    seen.add(line.id)
                    yield line
        if has_ended:
            looks_left -= 1
            if not follow or not looks_left:
                return
        await asyncio.sleep(POLL_SECONDS)


async def _has_ended(client: PrefectClient, flow_run_id: UUID) -> bool:
    state = (await client.read_flow_run(flow_run_id)).state
    return state is not None and state.is_final()


def _words(line: Log) -> str:
    """Return what was said without the traceback behind it, which the Prefect UI shows."""
    said = line.message.partition("\nTraceback (most recent call last):")[0]
    # An engine's words are among them.
    return "".join(character for character in said if character.isprintable() or character == "\n")


def _shown(line: Log) -> Text:
    level = logging.getLevelName(line.level)
    return Text.assemble(
        (f"{line.timestamp.astimezone(UTC):%H:%M:%S}Z ", "dim"),
        (f"{level:<8}", _STYLES.get(line.level, "")),
        _words(line),
    )


def _log_json(line: Log) -> dict[str, Any]:
    return {
        "at": line.timestamp.astimezone(UTC).isoformat(),
        "level": logging.getLevelName(line.level),
        "logger": line.name,
        "message": _words(line),
    }
