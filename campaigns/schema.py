"""The JSON Schema of a campaign file, for editors: ``python -m prefect_campaigns.schema`` prints it.

A schema tells less than the loader does: not that a cron has a 25th hour, nor that two steps share a name.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from prefect_campaigns.checks import CRON_ALIASES, SLACK_PATTERN
from prefect_campaigns.models import Campaign

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_CRON_PATTERN = rf"^\s*(\S+(\s+\S+){{4}}\s*|{'|'.join(CRON_ALIASES)})$"
_ENDPOINT_PATTERN = r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/?#@]+([/?#]\S*)?$"


def campaign_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a campaign file."""
    schema = _tidied(Campaign.model_json_schema(by_alias=True, mode="validation"))
    parts = schema.pop("$defs")
    parts["Schedule"]["properties"]["cron"]["pattern"] = _CRON_PATTERN
    parts["Step"]["properties"]["endpoint"] |= {"format": "uri", "pattern": _ENDPOINT_PATTERN}
    parts["Recipients"]["properties"]["slack"] = _nullable_string(
        parts["Recipients"]["properties"]["slack"], pattern=SLACK_PATTERN
    )
    properties = schema["properties"]
    cron = {key: parts["Schedule"]["properties"]["cron"][key] for key in ("type", "pattern", "examples")}
    properties["schedule"]["anyOf"] = [{"$ref": "#/$defs/Schedule"}, cron, {"type": "null"}]
    # Files that exist write null here where they mean nothing.
    for key in ("budget", "metadata"):
        properties[key] = _or_null(properties[key])
    address = {"type": "string", "format": "email", "examples": ["ops@example.com"]}
    parts["Recipients"]["properties"]["email"]["anyOf"] = [address, {"type": "array", "items": address}]
    properties["$schema"] = {"type": ["string", "null"], "description": "Where an editor finds this schema."}
    return {"$schema": DIALECT, "title": "Campaign", **schema, "$defs": parts}


def _tidied(node: Any, *, named: bool = False) -> Any:
    """Drop what serves editors badly: titles made of names, which hide descriptions, and null as a default.

    Args:
        named: whether the node's keys are names of properties or parts, rather than words of JSON Schema.
    """
    if isinstance(node, dict):
        return {
            key: _tidied(item, named=not named and key in ("properties", "$defs"))
            for key, item in node.items()
            if named or not (key == "title" or (key == "default" and item is None))
        }
    return [_tidied(item) for item in node] if isinstance(node, list) else node


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {key: schema[key] for key in ("description", "default", "examples") if key in schema}
    rest = {key: item for key, item in schema.items() if key not in about}
    return {**about, "anyOf": [rest, {"type": "null"}]}


def _nullable_string(schema: dict[str, Any], *, pattern: str) -> dict[str, Any]:
    return {**schema, "anyOf": [{"type": "string", "pattern": pattern}, {"type": "null"}]}


def schema_text() -> str:
    """Return the schema as the file ``schema.json`` has it."""
    return json.dumps(campaign_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
