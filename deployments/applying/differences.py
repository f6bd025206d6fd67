"""What is different between what is there and what should be, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prefect_campaigns.words import json_pointer

Path = tuple[str | int, ...]


class Side(StrEnum):
    """Where a field is different."""

    FILE = "file"
    PREFECT = "prefect"
    BOOKS = "books"


class _Absent:
    """Stands for a value that is not there, in a plan that is printed and in JSON alike."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()


@dataclass(frozen=True, kw_only=True)
class FieldChange:
    """One field, as it is and as it should be.

    Attributes:
        side: FILE: the file says something else than it did at the last apply. PREFECT: somebody changed it on the
            server. BOOKS: the store's row lacks it.
        field: a JSON pointer into the campaign, or the name of a field of the deployment.
        old, new: JSON values, or ABSENT.
    """

    side: Side
    field: str
    old: Any
    new: Any


_NAMES = {
    "work_pool_name": "workPool",
    "parameter_openapi_schema": "parameterSchema",
    "enforce_parameter_schema": "enforceParameterSchema",
    "concurrency_limit": "concurrencyLimit",
    "global_concurrency_limit_id": "globalConcurrencyLimit",
    "concurrency_options": "concurrencyOptions",
}


def in_prefect(field: str, old: Any, new: Any) -> FieldChange:
    """Return a field of the deployment that somebody has changed on the server; None is a value that is not there."""
    return FieldChange(
        side=Side.PREFECT,
        field=_NAMES.get(field, field),
        old=ABSENT if old is None else old,
        new=ABSENT if new is None else new,
    )


def differences(side: Side, old: Any, new: Any, path: Path = ()) -> Iterator[FieldChange]:
    """Yield what changes from one JSON value to another; a list whose length changes is told item by item."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*new, *(key for key in old if key not in new)]:
            yield from differences(side, old.get(key, ABSENT), new.get(key, ABSENT), (*path, key))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else ABSENT
            after = new[index] if index < len(new) else ABSENT
            yield from differences(side, before, after, (*path, index))
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield FieldChange(side=side, field=json_pointer(path), old=old, new=new)
