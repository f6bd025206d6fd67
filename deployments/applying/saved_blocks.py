"""Blocks on the Prefect server, saved when there is something to save."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient

from prefect_campaigns.errors import ServerError

B = TypeVar("B", bound=Block)


class Saving(StrEnum):
    """What saving a block came to."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


class UnusableBlock(ServerError):
    """A block on the server that is not valid for its type."""


@dataclass(frozen=True)
class SavedBlock:
    """A block as the server has it now, by its document's id."""

    id: UUID
    saving: Saving


async def saving_of(block: Block, name: str, *, client: PrefectClient) -> Saving:
    """Say what saving a block would come to; nothing is written."""
    try:
        existing = await load_block(type(block), name, client=client)
    except UnusableBlock:
        return Saving.CHANGED
    if existing is None:
        return Saving.CREATED
    return Saving.UNCHANGED if content_of(existing) == content_of(block) else Saving.CHANGED


async def save_if_changed(block: Block, name: str) -> SavedBlock:
    """Save a block unless the server has it just so; in the place of one that cannot be used, too."""
    try:
        existing = await load_block(type(block), name)
    except UnusableBlock:
        return SavedBlock(await block.asave(name, overwrite=True), Saving.CHANGED)
    if existing is not None and content_of(existing) == content_of(block):
        return SavedBlock(document_id(existing), Saving.UNCHANGED)
    saved: UUID = await block.asave(name, overwrite=existing is not None)
    return SavedBlock(saved, Saving.CREATED if existing is None else Saving.CHANGED)


async def load_block(block_type: type[B], name: str, *, client: PrefectClient | None = None) -> B | None:
    """Return a block of the server; None when it has none of that name.

    Raises:
        UnusableBlock: it lacks something: somebody has deleted a block that it refers to, or edited it.
    """
    try:
        found: B = await block_type.aload(name, client=client)
    except ValueError:
        # What Prefect raises for a block that is not there.
        return None
    except RuntimeError as error:
        raise UnusableBlock(
            f"block {block_type.get_block_type_slug()}/{name} on the Prefect server cannot be used; delete it there,"
            " and run campaigns setup or apply again"
        ) from error
    return found


def document_id(block: Block) -> UUID:
    """Return the id by which automations refer to a block that was loaded."""
    if block._block_document_id is None:
        raise ServerError(f"the server gave a block of type {type(block).__name__} without an id")
    return block._block_document_id


def content_of(block: Block) -> dict[str, object]:
    """Return what a block holds, by which two of them are compared."""
    # A loaded block dumps the id and name of its document besides.
    return block.model_dump(include=set(type(block).model_fields))
