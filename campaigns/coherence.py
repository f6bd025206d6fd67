"""What is wrong between the fields of a campaign that are each right: what the model of one field cannot see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prefect_campaigns.models import MAX_NAME, MAX_STEPS, slug_of
from prefect_campaigns.references import check_header_references, check_references, references_in
from prefect_campaigns.words import came, header_name, shown


def semantic_faults(data: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield what is wrong between fields that are each right, as (path in the JSON, message).

    Args:
        data: the campaign's JSON; it may be wrong in other ways, which are not told here.
    """
    if not isinstance(data, dict):
        return
    name = data.get("name")
    if isinstance(name, str) and 0 < len(name) <= MAX_NAME and not slug_of(name):
        yield ("name",), f"{came(name)}; a name needs a letter or digit, to make the campaign's key of"
    steps = data.get("steps")
    if not isinstance(steps, list):
        return
    # More steps than are allowed are complained of as such.
    steps = steps[:MAX_STEPS]
    names = [step.get("name") if isinstance(step, dict) else None for step in steps]
    known = [name for name in names if isinstance(name, str)]
    for index, step in enumerate(steps):
        earlier = [name for name in names[:index] if isinstance(name, str)]
        if names[index] in earlier:
            yield (
                ("steps", index, "name"),
                f"{came(names[index])}; step {names.index(names[index]) + 1} has that name already,"
                " and each step needs its own",
            )
        if not isinstance(step, dict):
            continue
        params = step.get("params")
        if len(known) < len(names):
            # A step whose name is missing or wrong may be the one that is meant.
            earlier += [reference.step for reference in references_in(params) if reference.step not in known]
        for path, message in check_references(params, earlier=earlier, all_steps=known):
            yield ("steps", index, "params", *path), message
        for path, message in _header_faults(step.get("headers")):
            yield ("steps", index, "headers", *path), message


def _header_faults(headers: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    yield from check_header_references(headers)
    first: dict[str, str] = {}
    again = "is there already, and case does not count"
    for name in headers if isinstance(headers, dict) else ():
        earlier = first.setdefault(name.lower(), name)
        if earlier != name:
            yield (name,), f"the name {shown(header_name(name))} came; {shown(header_name(earlier))} {again}"
