"""What is wrong with a campaign's data, in the words of whoever wrote it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import islice
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from prefect_campaigns.coherence import semantic_faults
from prefect_campaigns.jsonmend import MAX_DEPTH
from prefect_campaigns.models import Campaign
from prefect_campaigns.words import SECRET_KEYS, came, listed, nearest, shown, tellable

Path = tuple[str | int, ...]

MAX_FAULTS = 1_000
"""Faults after which no more are told; a file may be wrong a hundred thousand times."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong: where in the data, whether with the key itself, and what came and what is allowed."""

    path: Path
    message: str
    at_key: bool = False


def examine(data: Any) -> tuple[Campaign | None, list[Fault]]:
    """Return the campaign and no faults, or no campaign and its faults, up to MAX_FAULTS of them."""
    faults: list[Fault] = []
    usable = _usable(data, (), faults)
    # What stands for an unusable value is not worth a second complaint.
    unusable = {fault.path for fault in faults}
    campaign = None
    try:
        campaign = Campaign.model_validate(usable)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False)[:MAX_FAULTS]:
            fault = _fault(usable, detail)
            if not any(fault.path[:length] in unusable for length in range(len(fault.path) + 1)):
                faults.append(fault)
    between_fields = (Fault(path=path, message=message) for path, message in semantic_faults(usable))
    faults += islice(between_fields, MAX_FAULTS)
    return (None if faults else campaign), faults[:MAX_FAULTS]


def _usable(value: Any, path: Path, faults: list[Fault]) -> Any:
    """Return a copy of the data with null for everything that is JSON, or nearly, but cannot be used anywhere."""
    if isinstance(value, str):
        problem = _string_problem(value, secret=_is_secret(path))
    elif isinstance(value, (dict, list)):
        if len(path) >= MAX_DEPTH:
            problem = f"more than {MAX_DEPTH} lists and objects within each other came; {MAX_DEPTH} are allowed"
        elif isinstance(value, dict):
            return {key: _usable(item, (*path, key), faults) for key, item in _usable_keys(value, path, faults)}
        else:
            return [_usable(item, (*path, index), faults) for index, item in enumerate(value)]
    elif value is None or isinstance(value, (bool, int, float, Decimal)):
        problem = _number_problem(value, secret=_is_secret(path))
    else:
        problem = f"{came(value)}; JSON has strings, numbers, true, false, null, lists and objects"
    if problem is None:
        return value
    faults.append(Fault(path=path, message=problem))
    return None


def _usable_keys(value: dict[Any, Any], path: Path, faults: list[Fault]) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        problem = (
            _string_problem(key, secret=_is_secret(path))
            if isinstance(key, str)
            else f"{came(key)} as a key; keys are strings"
        )
        if problem is None:
            yield key, item
        else:
            faults.append(Fault(path=(*path, key if isinstance(key, str) else str(key)), message=problem, at_key=True))


def _is_secret(path: Path) -> bool:
    return any(part in SECRET_KEYS for part in path)


def _string_problem(text: str, *, secret: bool = False) -> str | None:
    if "\0" in text:
        return f"{came(text, secret=secret)}; the character U+0000 is not allowed, because no database stores it"
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        lone = text[error.start]
        return f"{came(text, secret=secret)}; half a surrogate pair, U+{ord(lone):04X}, is no character"
    return None


def _number_problem(value: bool | int | float | Decimal | None, *, secret: bool = False) -> str | None:
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            return (
                f"{came(value, secret=secret)}; a whole number has at most 64 bits, a longer one is written as a string"
            )
    elif value is not None and not (Decimal(value).is_finite() and math.isfinite(float(value))):
        return f"{came(value, secret=secret)}; a number is finite and below 1.8e308"
    return None


def _fault(data: Any, detail: ErrorDetails) -> Fault:
    """Return pydantic's error as a fault, at the place in the data that it is about."""
    location = detail["loc"]
    if detail["type"] == "extra_forbidden":
        return Fault(path=location, message=_unknown_key(location), at_key=True)
    if detail["type"] == "missing":
        path, _ = _resolve(data, location[:-1])
        return Fault(path=path, message=_missing_key(location))
    if location[-1:] == ("[key]",):
        # pydantic's mark for the key of an object, and not its value.
        path = location[:-1]
        *_, name = tellable(path)
        return Fault(path=path, message=f"the name {shown(name)} came; {_allowed(path, detail)}", at_key=True)
    path, value = _resolve(data, location)
    return Fault(path=path, message=f"{came(value, secret=_is_secret(path))}; {_allowed(path, detail)}")


def _resolve(data: Any, location: Path) -> tuple[Path, Any]:
    """Return how far a location leads into the data, and what is there.

    pydantic sees a bare schedule as ``{"cron": …}`` and a bare address as a list; the file does not.
    """
    value = data
    for depth, part in enumerate(location):
        inside = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if not inside:
            return location[:depth], value
        value = value[part]
    return location, value


def _part(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as ``list[Step]`` or ``Retry | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((part for part in map(_part, get_args(annotation)) if part), None)


@cache
def _keys(model: type[BaseModel]) -> dict[str, Any]:
    """Return what a user may write in a part of a campaign: key and annotation, ``$schema`` last."""
    keys = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    return dict(sorted(keys.items(), key=lambda item: item[0].startswith("$")))


def _model_at(location: Path) -> tuple[str, type[BaseModel]]:
    """Return the part of a campaign that a location leads to, and what to call it."""
    model: type[BaseModel] = Campaign
    called = "a campaign"
    for name in location:
        part = _part(_keys(model).get(str(name))) if isinstance(name, str) else None
        if part is not None:
            model, called = part, "a step" if name == "steps" else str(name)
    return called, model


def _unknown_key(location: Path) -> str:
    called, model = _model_at(location[:-1])
    meant = nearest(str(location[-1]), _keys(model))
    hint = f"did you mean {shown(meant)}? " if meant else ""
    return f"the unknown key {shown(location[-1])} came; {hint}allowed in {called} are {listed(_keys(model))}"


def _missing_key(location: Path) -> str:
    called, model = _model_at(location[:-1])
    required = [field.alias or name for name, field in model.model_fields.items() if field.is_required()]
    verb = "is" if len(required) == 1 else "are"
    return f"the key {shown(location[-1])} is missing; {listed(required)} {verb} required in {called}"


_ALLOWED: dict[str, Callable[[dict[str, Any]], str]] = {
    "string_type": lambda context: "a string is allowed",
    "bool_type": lambda context: "true or false is allowed",
    "list_type": lambda context: "a list is allowed",
    "dict_type": lambda context: "an object is allowed",
    "model_type": lambda context: "an object is allowed",
    "model_attributes_type": lambda context: "an object is allowed",
    "literal_error": lambda context: f"allowed is {context['expected'].replace(chr(39), chr(34))}",
    "enum": lambda context: f"allowed is {context['expected'].replace(chr(39), chr(34))}",
    "greater_than_equal": lambda context: f"at least {context['ge']:,} is allowed",
    "less_than_equal": lambda context: f"at most {context['le']:,} is allowed",
    "string_too_short": lambda context: f"at least {_counted(context['min_length'], 'character')} is needed",
    "string_too_long": lambda context: f"at most {_counted(context['max_length'], 'character')} are allowed",
    "string_pattern_mismatch": lambda context: "line breaks, tabs and other control characters are not allowed",
    "too_short": lambda context: f"at least {context['min_length']} is needed",
    "too_long": lambda context: f"at most {context['max_length']} are allowed",
    "value_error": lambda context: str(context["error"]),
}
"""What is allowed, by pydantic's type of error."""

_ALSO_ALLOWED = {
    ("schedule", "model_type"): "an object, or just a cron string, is allowed",
    ("email", "list_type"): "a mail address, or a list of them, is allowed",
}


def _allowed(path: Path, detail: ErrorDetails) -> str:
    special = _ALSO_ALLOWED.get((str(path[-1]) if path else "", detail["type"]))
    if special:
        return special
    describe = _ALLOWED.get(detail["type"])
    return describe(detail.get("ctx", {})) if describe else detail["msg"]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
