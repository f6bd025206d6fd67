"""References from a step's params to the results of earlier steps: ``{{ steps.prospecting.runId }}``.

The grammar, with whitespace wherever it reads well:

    {{ steps.<name>.<key>[<index>]… }}
    {{ steps["name with spaces"]["key.with.dots"] }}      'single quotes' do as well; a backslash escapes

``{{ steps.<name> }}`` alone is the step's whole result. Anything else in double braces is an error that
validation finds. A reference is a look-up and nothing more: no filters, no expressions, no code, and what it finds
is never read as a template again. Keys of objects are no templates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from prefect_campaigns.errors import MissingReference
from prefect_campaigns.words import listed, nearest, shown

Path = tuple[str | int, ...]

ALLOWED = (
    "{{ steps.<name>.<key> }}, with [<index>] into a list"
    " and [\"…\"] or ['…'] around a name that has other characters than letters, digits, _ and -"
)

_SEGMENT = re.compile(
    r"""\s*(?:
        \.\s*(?P<plain>[\w-]+)
      | \[\s*(?P<index>[0-9]{1,9})\s*\]
      | \[\s*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)')\s*\]
    )""",
    re.VERBOSE | re.DOTALL,
)
_OPENING = re.compile(r"\{\{\s*steps(?![\w-])")
_CLOSING = re.compile(r"\s*\}\}")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One reference.

    Attributes:
        text: the reference as it is written, braces included.
        step: the step whose result is meant.
        path: the way into that result; empty for the whole of it.
    """

    text: str
    step: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Something in double braces, from ``start`` to ``end`` of a string; no reference if ``reference`` is None."""

    start: int
    end: int
    text: str
    reference: Reference | None


def _parse(text: str, start: int) -> Reference | None:
    """Return the reference that begins at ``start``; None if what stands there is none."""
    opening = _OPENING.match(text, start)
    if not opening:
        return None
    position = opening.end()
    parts: list[str | int] = []
    while segment := _SEGMENT.match(text, position):
        position = segment.end()
        if segment["index"] is not None:
            parts.append(int(segment["index"]))
        elif segment["plain"] is not None:
            parts.append(segment["plain"])
        else:
            quoted = segment["double"] if segment["double"] is not None else segment["single"]
            parts.append(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
    closing = _CLOSING.match(text, position)
    if not closing or not parts or not isinstance(parts[0], str):
        return None
    return Reference(text=text[start : closing.end()], step=parts[0], path=tuple(parts[1:]))


def _scan(text: str) -> Iterator[_Found]:
    """Yield everything that stands in double braces, from left to right."""
    start = text.find("{{")
    while start >= 0:
        reference = _parse(text, start)
        if reference:
            end = start + len(reference.text)
        else:
            closing = text.find("}}", start)
            end = closing + 2 if closing >= 0 else len(text)
        yield _Found(start=start, end=end, text=text[start:end], reference=reference)
        start = text.find("{{", end)


def _templates(value: Any, path: Path = ()) -> Iterator[tuple[Path, str, bool]]:
    """Yield every string with braces in it: its path, the string, and whether it is a key rather than a value."""
    if isinstance(value, str):
        if "{{" in value:
            yield path, value, False
    elif isinstance(value, dict):
        for key, item in value.items():
            if "{{" in key:
                yield (*path, key), key, True
            yield from _templates(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _templates(item, (*path, index))


def references_in(params: Any) -> Iterator[Reference]:
    """Yield every reference in the params, in the order in which they are written."""
    for _, text, is_key in _templates(params):
        for found in () if is_key else _scan(text):
            if found.reference:
                yield found.reference


def check_references(params: Any, *, earlier: Sequence[str], all_steps: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield what is wrong with the references of one step, as (path in its params, message).

    Args:
        params: the step's params, as they are written.
        earlier: the names of the steps before this one.
        all_steps: the names of all steps of the campaign.
    """
    for path, text, is_key in _templates(params):
        for found in _scan(text):
            if is_key:
                # Other braces in a key are the engine's business; a whole reference can only be meant as one.
                if found.reference:
                    yield path, f"the key {shown(text)} came; references are looked up in values, never in keys"
            elif found.reference is None:
                yield path, _no_reference(found)
            elif found.reference.step not in earlier:
                yield path, _unusable_step(found.reference, earlier, all_steps)


def _no_reference(found: _Found) -> str:
    if not found.text.endswith("}}"):
        return f"{shown(found.text)} came, and no }}}} closes it; allowed is {ALLOWED}"
    return f"{shown(found.text)} came; allowed is {ALLOWED}"


def _unusable_step(reference: Reference, earlier: Sequence[str], all_steps: Sequence[str]) -> str:
    step = shown(reference.step)
    usable = f"the steps before this one are {listed(earlier)}" if earlier else "no step runs before this one"
    if reference.step in all_steps:
        return f"{shown(reference.text)} came, but the step {step} does not run before this one; {usable}"
    meant = nearest(reference.step, all_steps)
    hint = f"did you mean {shown(meant)}? " if meant else ""
    return f"{shown(reference.text)} came, but no step is named {step}; {hint}{usable}"


def render(params: Any, results: Mapping[str, Any]) -> Any:
    """Return a copy of the params with every reference replaced by what it refers to.

    A string that is exactly one reference becomes the value itself, whatever its type. In a longer string a
    reference becomes text: strings as they are, anything else as JSON.

    Args:
        params: the step's params, as they are written.
        results: what each step that has run answered, by the step's name.

    Raises:
        MissingReference: a reference finds nothing.
    """
    if isinstance(params, str):
        return _render_string(params, results)
    if isinstance(params, dict):
        return {key: render(item, results) for key, item in params.items()}
    if isinstance(params, list):
        return [render(item, results) for item in params]
    return params


def _render_string(text: str, results: Mapping[str, Any]) -> Any:
    parts: list[str] = []
    position = 0
    for found in _scan(text):
        if found.reference is None:
            # Validation refuses this; a run whose parameters were edited by hand comes by here.
            raise MissingReference(_no_reference(found))
        value = _look_up(found.reference, results)
        if found.text == text:
            # A copy: what is done to the request must not change the recorded result.
            return deepcopy(value)
        parts += text[position : found.start], _as_text(value)
        position = found.end
    return "".join(parts) + text[position:]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_plain_number)


def _plain_number(value: Any) -> int | float:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"a Python {type(value).__name__} in a result cannot be written as JSON")


def _look_up(reference: Reference, results: Mapping[str, Any]) -> Any:
    if reference.step not in results:
        raise MissingReference(f"{reference.text}: the step {shown(reference.step)} left no result")
    value = results[reference.step]
    for depth, part in enumerate(reference.path):
        if isinstance(part, str):
            present = isinstance(value, dict) and part in value
        else:
            present = isinstance(value, list) and part < len(value)
        if not present:
            place = f"the result of step {shown(reference.step)}"
            if depth:
                place += f" at {_written(reference.path[:depth])}"
            wanted = shown(part) if isinstance(part, str) else f"[{part}]"
            raise MissingReference(f"{reference.text}: {place} has no {wanted}; it is {_described(value)}")
        value = value[part]
    return value


def _written(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _described(value: Any) -> str:
    """Return what a value is without repeating it: results are full of people's addresses."""
    if isinstance(value, dict) and value:
        keys = list(value)
        more = f" and {len(keys) - 10} more keys" if len(keys) > 10 else ""
        return f"an object with {listed(keys[:10])}{more}"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return "a number"
    return shown(value)
