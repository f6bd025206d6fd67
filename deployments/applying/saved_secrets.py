"""What was secret in campaign files, as blocks on the Prefect server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from prefect.blocks.core import Block
from prefect.blocks.notifications import SlackWebhook
from prefect.blocks.system import Secret
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType
from prefect.events.actions import SendNotification
from prefect.exceptions import ObjectNotFound

from prefect_campaigns.checks import HEADER_BLOCK_PREFIX
from prefect_campaigns.deployments.applying.saved_blocks import Saving, save_if_changed, saving_of
from prefect_campaigns.deployments.driving.lookup import read_deployments
from prefect_campaigns.deployments.secrets_in_files import SLACK_WEBHOOK_PREFIX, CompiledSecret, SecretKind
from prefect_campaigns.flows.campaign import FLOW_NAME

_PAGE = 200

_BLOCK_OF: dict[SecretKind, Callable[[str], Block]] = {
    SecretKind.SLACK: lambda value: SlackWebhook(url=value),
    SecretKind.HEADER: lambda value: Secret(value=value),
}


async def read_secret_state(client: PrefectClient, secret: CompiledSecret) -> Saving:
    """Say what saving a secret would come to; nothing is written."""
    return await saving_of(_BLOCK_OF[secret.kind](secret.value), secret.block_name, client=client)


async def save_secret(secret: CompiledSecret) -> Saving:
    """Save a secret as a block, unless the server has it just so."""
    return (await save_if_changed(_BLOCK_OF[secret.kind](secret.value), secret.block_name)).saving


async def remove_unused_secrets(client: PrefectClient) -> int:
    """Delete the blocks that ``unused_secrets`` finds; return how many.

    To be called when the deployments are written, and by one at a time.
    """
    unused = await unused_secrets(client, [one.parameters for one in await read_deployments(client)])
    for block_id in unused.values():
        with suppress(ObjectNotFound):
            await client.delete_block_document(block_id)
    return len(unused)


async def unused_secrets(client: PrefectClient, parameters: Iterable[Mapping[str, Any]]) -> dict[str, UUID]:
    """Return the blocks of campaign files' secrets that nothing refers to, by name.

    Referred to is what stands in a deployment's campaign or in that of a run that has not ended, and what an automation
    sends by. A run that has ended and is retried after its campaign's file has lost the header finds it no more.

    Args:
        parameters: those of all deployments.
    """
    ours = await _our_blocks(client)
    if ours:
        ours = _without_mentioned(ours, parameters)
    if ours:
        ours = _without_mentioned(ours, [run.parameters for run in await _runs_that_may_go_on(client)])
    if ours:
        in_use = await blocks_of_automations(client)
        ours = {name: block_id for name, block_id in ours.items() if block_id not in in_use}
    return ours


def _without_mentioned(blocks: dict[str, UUID], parameters: Iterable[Mapping[str, Any]]) -> dict[str, UUID]:
    # Names end in a digest: none of them is part of another.
    text = json.dumps(list(parameters), default=str)
    return {name: block_id for name, block_id in blocks.items() if name not in text}


async def _our_blocks(client: PrefectClient) -> dict[str, UUID]:
    found: dict[str, UUID] = {}
    for prefix in (HEADER_BLOCK_PREFIX, SLACK_WEBHOOK_PREFIX):
        offset = 0
        while True:
            wanted = {"name": {"like_": f"{prefix}%"}, "is_anonymous": {"eq_": False}}
            answer = await client.request(
                "POST",
                "/block_documents/filter",
                json={"block_documents": wanted, "limit": _PAGE, "offset": offset, "include_secrets": False},
            )
            page = answer.json()
            found |= {block["name"]: UUID(block["id"]) for block in page if block["name"].startswith(prefix)}
            offset += len(page)
            if len(page) < _PAGE:
                break
    return found


async def _runs_that_may_go_on(client: PrefectClient) -> list[FlowRun]:
    found: list[FlowRun] = []
    going = [state for state in StateType if state not in TERMINAL_STATES]
    while True:
        page = await client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW_NAME])),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=going))),
            limit=_PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < _PAGE:
            return found


async def blocks_of_automations(client: PrefectClient) -> set[UUID]:
    """Return the blocks that automations send by: ours, and people's own."""
    found: set[UUID] = set()
    offset = 0
    while page := await client.read_automations(limit=_PAGE, offset=offset):
        offset += len(page)
        for automation in page:
            found |= {one.block_document_id for one in automation.actions if isinstance(one, SendNotification)}
    return found
