"""The OpenAPI document of the REST API, and a page for people that lists its routes."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import compile_path

from prefect_campaigns.schema import campaign_schema

_METHODS = ("get", "post", "put", "delete")
_HEALTH = "/api/health"

DOCS, OPENAPI_JSON = PAGES = ("/docs", "/openapi.json")
"""Where people and programs read what there is."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
code { font: 0.95em ui-monospace, monospace; }
section { border-top: 1px solid #ccc; padding: 0.5rem 0; }
h2 { font-size: 1rem; margin: 0.5rem 0; }
.method { display: inline-block; font-weight: bold; width: 5rem; }
pre { background: #f4f4f4; overflow-x: auto; padding: 0.5rem; }
dl { display: grid; grid-template-columns: 11rem 1fr; margin: 0.5rem 0; }
dd { margin: 0; }
"""


def openapi(app: FastAPI) -> dict[str, Any]:
    """Return the document: what each route takes and answers, with the campaign's own schema in it."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
    )
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas |= _campaign_schemas()
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            # What FastAPI answers to a query that it cannot use; ours is 400.
            operation["responses"].pop("422", None)
            _describe_success(operation["responses"], schemas)
            needs_key = path != _HEALTH and method in _METHODS
            operation["security"] = [{"bearer": []}, {"apiKey": []}] if needs_key else []
    app.openapi_schema = document
    return document


def _describe_success(responses: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Let what a route answers when all is well say what it means, instead of that all is well."""
    for code, response in responses.items():
        if code.startswith("2") and response["description"] == "Successful Response":
            schema = response["content"]["application/json"]["schema"]
            parts = [_resolved(one, schemas) for one in schema.get("anyOf", [schema])]
            response["description"] = " Or: ".join(part["description"] for part in parts)


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Return a schema, or the component that it refers to."""
    resolved: dict[str, Any] = schemas[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    return resolved


def methods_at(document: dict[str, Any], path: str) -> list[str]:
    """Return the methods that some route has at a path."""
    found = {"GET"} if path in PAGES else set()
    for template, operations in document["paths"].items():
        if compile_path(template)[0].match(path):
            found |= {method.upper() for method in operations}
    return sorted(found)


def _campaign_schemas() -> dict[str, Any]:
    """Return the campaign's schema and its parts, as components."""
    schema = campaign_schema()
    parts: dict[str, Any] = schema.pop("$defs")
    schema.pop("$schema")
    named = {f"Campaign{name}": part for name, part in parts.items()}
    return {name: _refer(part) for name, part in {"Campaign": schema, **named}.items()}


def _refer(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _reference(item) if key == "$ref" else _refer(item) for key, item in node.items()}
    return [_refer(item) for item in node] if isinstance(node, list) else node


def _reference(target: Any) -> Any:
    return target.replace("#/$defs/", "#/components/schemas/Campaign") if isinstance(target, str) else _refer(target)


def page(document: dict[str, Any]) -> str:
    """Return the routes as a page that takes nothing from the internet."""
    operations = [
        _section(path, method, operation, document["components"]["schemas"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    title = escape(document["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title} {escape(document['info']['version'])}</h1><p>{escape(document['info']['description'])}</p>"
        '<p>For programs: <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1).</p>'
        f"{''.join(operations)}</html>"
    )


def _section(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    rows = [(one["name"], one.get("description", "")) for one in operation.get("parameters", [])]
    example = f"curl -X {method.upper()} localhost:3020{path}" if method != "head" else f"curl -I localhost:3020{path}"
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        keys = _resolved(content["schema"], schemas)["properties"]
        rows += [(f"body: {name}", _resolved(key, schemas).get("description", "")) for name, key in keys.items()]
        example += f" -d '{json.dumps(content['example'])}'"
    rows += [(code, one["description"]) for code, one in operation["responses"].items()]
    listed = "".join(f"<dt><code>{escape(name)}</code></dt><dd>{escape(meaning)}</dd>" for name, meaning in rows)
    return (
        f'<section><h2><code><span class="method">{method.upper()}</span> {escape(path)}</code></h2>'
        f"<p><b>{escape(operation['summary'])}.</b> {escape(operation.get('description', ''))}</p>"
        f"<dl>{listed}</dl><pre>{escape(example)}</pre></section>"
    )
