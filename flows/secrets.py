"""Looking up secrets, at the moment of a request and nowhere else.

``{{ secret.NAME }}`` is the Prefect Secret block of that name; where there is none, it is the worker's environment
variable of that name, if CAMPAIGNS_SECRET_VARIABLES lists it.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectException

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.checks import HEADER_BLOCK_PREFIX, MIN_SECRET
from prefect_campaigns.errors import MissingSecret, SecretsUnavailable
from prefect_campaigns.references import SecretReference

ASK_SECONDS = 20.0
"""How long Prefect may take to give all secrets of a step."""

T = TypeVar("T")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


async def look_up_secrets(references: Iterable[SecretReference]) -> dict[str, str]:
    """Return the secrets that are referred to, by name as it is written.

    Raises:
        MissingSecret: one of them is nowhere, or is nothing that can be sent; says what to do.
        SecretsUnavailable: Prefect could not be asked.
    """
    return await _look_up_all(references, _look_up)


async def look_up_what_is_left(references: Iterable[SecretReference]) -> dict[str, str]:
    """Return those of the secrets that are there, by name as it is written; for hiding what was sent earlier.

    Raises:
        SecretsUnavailable: Prefect could not be asked.
    """
    found = await _look_up_all(references, _look_up_or_none)
    return {name: value for name, value in found.items() if value is not None}


async def _look_up_or_none(client: PrefectClient, reference: SecretReference) -> str | None:
    try:
        return await _look_up(client, reference)
    except MissingSecret:
        return None


async def _look_up_all(
    references: Iterable[SecretReference], look_up: Callable[[PrefectClient, SecretReference], Awaitable[T]]
) -> dict[str, T]:
    wanted = {reference.name: reference for reference in references}
    if not wanted:
        return {}
    try:
        async with asyncio.timeout(ASK_SECONDS), get_client() as client:
            return {name: await look_up(client, reference) for name, reference in wanted.items()}
    except (httpx.HTTPError, PrefectException, TimeoutError) as error:
        said = f"within {ASK_SECONDS:g} seconds" if isinstance(error, TimeoutError) else str(error)
        names = ", ".join(reference.text for reference in wanted.values())
    # Outside of the handler: an answer of the server that is no answer may hold the block.
    raise SecretsUnavailable(" ".join(f"Prefect did not give {names}: {said or 'no answer'}".split())[:500])


async def _look_up(client: PrefectClient, reference: SecretReference) -> str:
    try:
        document = await client.read_block_document_by_name(reference.block_name, "secret", include_secrets=True)
    except ObjectNotFound:
        return _usable(_variable(reference), reference, f"the variable {reference.name}")
    return _usable(document.data.get("value"), reference, f"the Secret block {reference.block_name}")


def _variable(reference: SecretReference) -> str:
    missing = f"{reference.text}: the Prefect server has no Secret block {reference.block_name}"
    if reference.block_name.startswith(HEADER_BLOCK_PREFIX):
        raise MissingSecret(f"{missing}; it holds what the campaign's file says there: apply that file again")
    if reference.name not in load_settings().secret_variables:
        variable = reference.name if _VARIABLE.fullmatch(reference.name) else _as_variable(reference.name)
        rewritten = "" if variable == reference.name else f" write {{{{ secret.{variable} }}}},"
        raise MissingSecret(
            f"{missing}; create it (`prefect block create secret` says where), or{rewritten} set {variable} in the"
            " worker's environment and list it in CAMPAIGNS_SECRET_VARIABLES"
        )
    value = os.environ.get(reference.name, "")
    if not value:
        raise MissingSecret(
            f"{missing}, and {reference.name}, which CAMPAIGNS_SECRET_VARIABLES lists, is not set in the worker's"
            " environment; create the one or set the other"
        )
    return value


def _as_variable(name: str) -> str:
    variable = name.upper().replace("-", "_")
    return variable if _VARIABLE.fullmatch(variable) else f"_{variable}"


def _usable(value: object, reference: SecretReference, place: str) -> str:
    if not isinstance(value, str):
        kind = {dict: "a JSON object", list: "a JSON list", type(None): "nothing"}.get(type(value), "JSON")
        raise MissingSecret(f"{reference.text}: {place} holds {kind}; a secret is a text")
    if not value.strip():
        raise MissingSecret(f"{reference.text}: {place} is empty; give it a value")
    if len(value) < MIN_SECRET:
        raise MissingSecret(
            f"{reference.text}: {place} holds fewer than {MIN_SECRET} characters; that is no secret, and could not be"
            " told from what engines answer by chance"
        )
    return value
