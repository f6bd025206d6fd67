"""References in a step: to the results of earlier steps, ``{{ steps.prospecting.runId }}``, and to secrets.

The grammar, with whitespace wherever it reads well:

    {{ steps.<name>.<key>[<index>]… }}                    in params
    {{ steps["name with spaces"]["key.with.dots"] }}      'single quotes' do as well; a backslash escapes
    {{ secret.<name> }}                                   in params and in the values of headers

``{{ steps.<name> }}`` alone is the step's whole result. Anything else in double braces is an error that
validation finds. A reference is a look-up and nothing more: no filters, no expressions, no code, and what it finds
is never read as a template again. Keys of objects are no templates. Headers take no results: what an engine
answered would decide there what is sent to another one beside its body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from prefect_campaigns.errors import MissingReference
from prefect_campaigns.words import HIDDEN, listed, nearest, shown

Path = tuple[str | int, ...]

ALLOWED_IN_HEADERS = "{{ secret.<name> }}, with a name of letters, digits, _ and -"
ALLOWED = (
    "{{ steps.<name>.<key> }}, with [<index>] into a list"
    " and [\"…\"] or ['…'] around a name that has other characters than letters, digits, _ and -;"
    f" and {ALLOWED_IN_HEADERS}"
)

MAX_SECRET_NAME = 200

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
_SECRET = re.compile(rf"\{{\{{\s*secret\s*\.\s*(?P<name>[A-Za-z0-9][A-Za-z0-9_-]{{0,{MAX_SECRET_NAME - 1}}})\s*\}}\}}")
# What people write who mean a secret: another program's words, a bracket, a filter, a space.
_NEAR_SECRET = re.compile(
    r"""\{\{\s*\$?(?:secrets?|env|environ|prefect\.blocks\.secret|prefect\.variables)\s*
        (?:[.:/]\s*|\[\s*["']?)(?P<name>[^|\]"'}]+)[^}]*\}\}""",
    re.VERBOSE | re.IGNORECASE,
)


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
class SecretReference:
    """One reference to a secret.

    Attributes:
        text: the reference as it is written, braces included.
        name: the secret's name as it is written: that of the worker's variable, if it is one.
    """

    text: str
    name: str

    @property
    def block_name(self) -> str:
        """The name of the Prefect block: those have no capitals and no underscores."""
        return self.name.lower().replace("_", "-")


AnyReference = Reference | SecretReference


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Something in double braces, from ``start`` to ``end`` of a string; no reference if ``reference`` is None."""

    start: int
    end: int
    text: str
    reference: AnyReference | None


def _parse(text: str, start: int) -> AnyReference | None:
    """Return the reference that begins at ``start``; None if what stands there is none."""
    if secret := _SECRET.match(text, start):
        return SecretReference(text=secret[0], name=secret["name"])
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
    """Yield every reference to a step's result in the params, in the order in which they are written."""
    return (reference for reference in _all_references(params) if isinstance(reference, Reference))


def secrets_in(value: Any) -> Iterator[SecretReference]:
    """Yield every reference to a secret in params or headers, in the order in which they are written."""
    return (reference for reference in _all_references(value) if isinstance(reference, SecretReference))


def _all_references(value: Any) -> Iterator[AnyReference]:
    for _, text, is_key in _templates(value):
        for found in () if is_key else _scan(text):
            if found.reference:
                yield found.reference


def pieces(text: str) -> Iterator[str | AnyReference]:
    """Yield what a string is made of, from left to right: what stands there literally, and its references."""
    position = 0
    for found in _scan(text):
        if found.reference is not None:
            if position < found.start:
                yield text[position : found.start]
            yield found.reference
            position = found.end
    if position < len(text):
        yield text[position:]


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
            elif isinstance(found.reference, Reference) and found.reference.step not in earlier:
                yield path, _unusable_step(found.reference, earlier, all_steps)


def check_header_references(headers: Any) -> Iterator[tuple[Path, str]]:
    """Yield what is wrong with the references in a step's headers, as (path in the headers, message).

    What came is not repeated unless it is a whole reference: there may be half a secret in it.
    """
    for path, text, is_key in _templates(headers):
        for found in () if is_key else _scan(text):
            if found.reference is None:
                closed = "" if found.text.endswith("}}") else ", and no }} closes it"
                meant = _near_secret(found.text)
                yield path, f"something else in double braces came{closed}; {meant}allowed is {ALLOWED_IN_HEADERS}"
            elif isinstance(found.reference, Reference):
                yield (
                    path,
                    f"{shown(found.text)} came; results of steps are looked up in params only,"
                    f" and allowed in a header is {ALLOWED_IN_HEADERS}",
                )


def _no_reference(found: _Found) -> str:
    if not found.text.endswith("}}"):
        return f"{shown(found.text)} came, and no }}}} closes it; allowed is {ALLOWED}"
    meant = _near_secret(found.text)
    return f"{shown(found.text)} came; {meant}allowed is {ALLOWED}"


def _near_secret(text: str) -> str:
    """Return a question that names the secret that was probably meant; empty where none was."""
    near = _NEAR_SECRET.fullmatch(text) if len(text) <= 2 * MAX_SECRET_NAME else None
    if near is None:
        return ""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", near["name"]).strip("-_")[:MAX_SECRET_NAME]
    return f"did you mean {{{{ secret.{name} }}}}? " if name else ""


def _unusable_step(reference: Reference, earlier: Sequence[str], all_steps: Sequence[str]) -> str:
    step = shown(reference.step)
    usable = f"the steps before this one are {listed(earlier)}" if earlier else "no step runs before this one"
    if reference.step in all_steps:
        return f"{shown(reference.text)} came, but the step {step} does not run before this one; {usable}"
    meant = nearest(reference.step, all_steps)
    hint = f"did you mean {shown(meant)}? " if meant else ""
    return f"{shown(reference.text)} came, but no step is named {step}; {hint}{usable}"


def render(value: Any, results: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> Any:
    """Return a copy of params or of headers with every reference replaced by what it refers to.

    A string that is exactly one reference becomes the value itself, whatever its type. In a longer string a
    reference becomes text: strings as they are, anything else as JSON.

    Args:
        value: the step's params or headers, as they are written.
        results: what each step that has run answered, by the step's name.
        secrets: every secret that is referred to, by its name as it is written.

    Raises:
        MissingReference: a reference finds nothing.
    """
    return _render(value, lambda reference: _look_up(reference, results, secrets or {}))


def preview(value: Any, results: Mapping[str, Any]) -> Any:
    """Return the same without any secret: each is ``********``, and a reference that finds nothing yet is left.

    Args:
        value: the step's params or headers, as they are written.
        results: what is known of earlier steps' results, by the step's name.
    """

    def look_up(reference: AnyReference) -> Any:
        if isinstance(reference, SecretReference):
            return HIDDEN
        try:
            return _look_up(reference, results, {})
        except MissingReference:
            return reference.text

    return _render(value, look_up)


def _render(value: Any, look_up: Callable[[AnyReference], Any]) -> Any:
    if isinstance(value, str):
        return _render_string(value, look_up)
    if isinstance(value, dict):
        return {key: _render(item, look_up) for key, item in value.items()}
    if isinstance(value, list):
        return [_render(item, look_up) for item in value]
    return value


def _render_string(text: str, look_up: Callable[[AnyReference], Any]) -> Any:
    parts: list[str] = []
    position = 0
    for found in _scan(text):
        if found.reference is None:
            # Validation refuses this; a run whose parameters were edited by hand comes by here.
            raise MissingReference(_no_reference(found))
        value = look_up(found.reference)
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


def _look_up(reference: AnyReference, results: Mapping[str, Any], secrets: Mapping[str, str]) -> Any:
    if isinstance(reference, SecretReference):
        if reference.name not in secrets:
            raise MissingReference(f"{reference.text}: the secret was not looked up")
        return secrets[reference.name]
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
