"""Write the pages of docs/reference anew from the code (make docs); with --check only say whether they are current."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cyclopts import App

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.deployments.api.app import create_app
from prefect_campaigns.deployments.api.auth import Policy
from prefect_campaigns.deployments.api.document import openapi
from prefect_campaigns.deployments.cli.main import EXIT_CODES, app
from prefect_campaigns.deployments.compile import NotificationKind
from prefect_campaigns.flows.states import ENDED, GOES_ON, RunState
from prefect_campaigns.schema import campaign_schema

FOLDER = Path(__file__).parent / "reference"

GENERATED = "<!-- Written by docs/make_reference.py from the code: change it there. -->"


def main() -> int:
    """Write the pages, or compare them; return how many differ."""
    check, different = "--check" in sys.argv[1:], 0
    for name, page in pages().items():
        path, text = FOLDER / name, f"{GENERATED}\n\n{page.strip()}\n"
        if path.exists() and path.read_text("utf-8") == text:
            continue
        different += 1
        if check:
            print(f"docs/reference/{name} is not what the code says; make docs writes it anew", file=sys.stderr)
        else:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
            print(f"docs/reference/{name}")
    return different if check else 0


def pages() -> Mapping[str, str]:
    """Return each page by the name of its file."""
    return {
        "campaign-fields.md": campaign_fields(),
        "commands.md": commands(),
        "rest-api.md": rest_api(),
        "settings.md": settings(),
        "states.md": states(),
    }


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; what stands in a cell is one line, and its bars are none of the table's."""
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# Campaign fields

_PARTS = ("Campaign", "Schedule", "Budget", "Step", "Retry", "Approval", "Notifications", "Recipients")
_WHERE = {
    "Campaign": "the file itself",
    "Schedule": "`schedule`",
    "Budget": "`budget`",
    "Step": "each of `steps`",
    "Retry": "`retry` of a step",
    "Approval": "`approval` of a step",
    "Notifications": "`notifications`",
    "Recipients": "`onComplete`, `onFailure`, `onBudget` and `onApproval`",
}


def campaign_fields() -> str:
    """Return the page of the fields of a campaign, by its JSON Schema."""
    schema = campaign_schema()
    parts = {"Campaign": schema, **schema["$defs"]}
    missing = {name for name, part in parts.items() if "properties" in part} - set(_PARTS)
    if missing:
        raise ValueError(f"nothing says where these parts of a campaign stand: {', '.join(sorted(missing))}")
    said = [
        "# Campaign fields",
        "Every field of a campaign file, by the JSON Schema that `python -m prefect_campaigns.schema` prints."
        " Amounts are US dollars, spans of time milliseconds.",
    ]
    for name in _PARTS:
        part = parts[name]
        required = set(part.get("required", ()))
        rows = (
            (f"`{field}`", _type(one), "required" if field in required else _default(one), one.get("description", ""))
            for field, one in part["properties"].items()
        )
        said += [f"## {_title(name)}", f"{part.get('description', '')} In {_WHERE[name]}."]
        said.append(table(("field", "what", "default", "meaning"), rows))
    return "\n\n".join(said)


def _title(name: str) -> str:
    return {"Campaign": "A campaign", "Recipients": "Recipients"}.get(name, name)


def _type(schema: Mapping[str, Any]) -> str:
    """Say what a value may be."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})" if name in _PARTS else _type(campaign_schema()["$defs"][name])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema["anyOf"] if one.get("type") != "null"))
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any")
    kind = next((one for one in kind if one != "null"), "any") if isinstance(kind, list) else kind
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    words = {"string": "text", "integer": "whole number", "object": "object", "boolean": "true or false"}.get(
        kind, kind
    )
    return words + _range(schema)


def _range(schema: Mapping[str, Any]) -> str:
    low, high = (schema.get(name) for name in ("minimum", "maximum"))
    above = schema.get("exclusiveMinimum")
    said = [f"above {above:,}"] if above is not None else []
    said += [f"from {low:,}"] if low is not None else []
    said += [f"to {high:,}"] if high is not None else []
    if (longest := schema.get("maxLength")) is not None:
        said.append(f"up to {longest:,} characters")
    if (most := schema.get("maxItems")) is not None:
        said.append(f"up to {most}")
    return f", {' '.join(said)}" if said else ""


def _default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    return "" if default in ({}, []) else _shown(default)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


# Commands


def commands() -> str:
    """Return the page of the commands, by their own help."""
    said = [
        "# Commands",
        "What `campaigns COMMAND --help` says. Each that prints something to read has `--json`, too.",
        "## Exit codes",
        table(("code", "meaning"), ((f"{code}", meaning) for code, meaning in EXIT_CODES.items())),
    ]
    for name, command in sorted(_commands(app)):
        usage = str(command.usage or f"Usage: {name}").removeprefix("Usage: ")
        help_text = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
        said += [f"## {name}", f"```text\n{usage.strip()}\n```", help_text]
        rows = list(_options(command))
        if rows:
            said.append(table(("argument", "meaning"), rows))
    return "\n\n".join(said)


def _commands(group: App, before: str = "campaigns") -> Iterator[tuple[str, App]]:
    for name in group:
        if name.startswith("-"):
            continue
        command = group[name]
        inner = [one for one in command if not one.startswith("-")]
        if inner:
            yield from _commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


def _options(command: App) -> Iterator[tuple[str, str]]:
    for argument in command.assemble_argument_collection():
        if argument.parameter.show is False:
            continue
        names = ", ".join(f"`{name}`" for name in argument.names if not name.startswith("--no-"))
        yield names, str(argument.parameter.help or "")


# REST API


def rest_api() -> str:
    """Return the page of the routes, by the OpenAPI document."""
    document = openapi(create_app(Settings(_env_file=None), Policy()))
    said = [
        "# REST API",
        f"{document['info']['description']} The document for programs is at `/openapi.json`, where the API is served.",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            said += [f"## {method.upper()} {path}", operation.get("description") or operation["summary"]]
            parameters = operation.get("parameters", ())
            if parameters:
                rows = (
                    (f"`{one['name']}`", one["in"], one.get("description", ""), _type(one["schema"]))
                    for one in parameters
                )
                said.append(table(("parameter", "in", "meaning", "what"), rows))
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if body:
                said.append(f"Body: {_body(body)}")
            rows = ((f"{code}", one["description"]) for code, one in sorted(operation["responses"].items()))
            said.append(table(("status", "meaning"), rows))
    return "\n\n".join(said)


def _body(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return "a [campaign](campaign-fields.md)."
    fields = ", ".join(f"`{name}` ({one.get('description', _type(one))})" for name, one in schema["properties"].items())
    return f"an object with {fields}."


# Settings

_MADE_THEN = {"campaigns_database": "`campaigns.db` in Prefect's home", "campaigns_logs": "`logs`"}
"""The defaults that depend on where a command is started."""


def settings() -> str:
    """Return the page of the settings, by their model."""
    rows = [
        (f"`{name.upper()}`", field.description or "", _MADE_THEN.get(name) or _shown(field.get_default()))
        for name, field in sorted(Settings.model_fields.items())
    ]
    return "\n\n".join(
        [
            "# Settings",
            "From the environment, or a file `.env` where a command is started. `campaigns settings` says which are"
            " in force, and where each came from; [Settings](../guides/settings.md) says more of each.",
            table(("variable", "meaning", "default"), rows),
        ]
    )


# States and events


def states() -> str:
    """Return the page of the states of a run, and of the events that people are told of."""
    events = (
        (f"`{event}`", kind.description, f"`on-{kind}:`")
        for kind in NotificationKind
        for event in kind.events
        if not event.startswith("prefect.flow-run.")
    )
    return "\n\n".join(
        [
            "# States and events",
            "## While a run goes on",
            _states(GOES_ON),
            "## When it has ended",
            _states(ENDED),
            "## Events",
            "Automations mail by Prefect's own events of a run's states, and by these:",
            table(("event", "when", "tag of its automations"), events),
        ]
    )


def _states(some: Iterable[RunState]) -> str:
    rows = ((f"`{one.name}`", f"`{one.type}`", one.meaning, one.told or "nobody") for one in some)
    return table(("state", "Prefect's type", "meaning", "who is told"), rows)


if __name__ == "__main__":
    sys.exit(main())
