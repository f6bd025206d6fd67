"""What was secret in campaign files, as blocks on the Prefect server."""

from __future__ import annotations

from collections.abc import Callable

from prefect.blocks.core import Block
from prefect.blocks.notifications import SlackWebhook
from prefect.blocks.system import Secret
from prefect.client.orchestration import PrefectClient

from prefect_campaigns.deployments.saved_blocks import Saving, save_if_changed, saving_of
from prefect_campaigns.deployments.secrets_in_files import CompiledSecret, SecretKind

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
