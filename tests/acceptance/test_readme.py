"""What the README says is so: its campaign, its engine, its tables, its commands."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from driving import until
from processes import run, user_environment
from pydantic import BaseModel
from readme import PROJECT, README, blocks, in_code, table

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.deployments.cli.main import app
from prefect_campaigns.deployments.cli.settings_view import SavedSettings, list_settings
from prefect_campaigns.deployments.running.server import free_port, port_is_free
from prefect_campaigns.loader import load_text
from prefect_campaigns.models import Campaign
from prefect_campaigns.schema import campaign_schema


@pytest.mark.parametrize("text", blocks("json"))
def test_every_campaign_can_be_used(text: str) -> None:
    load_text(text, source="README.md")


async def test_the_engine_runs_and_a_campaign_against_it_completes(campaigns, write, start, stack) -> None:
    (engine,), port = blocks("python"), free_port()
    assert engine.count("3010") == 1
    write("engine.py", engine.replace("3010", str(port)))
    start(sys.executable, "engine.py")

    async def listens() -> bool:
        return not port_is_free(port)

    await until(listens, "the engine")
    campaign = json.loads(blocks("json")[0])
    campaign |= {"name": "From The Readme", "schedule": None, "steps": campaign["steps"][:1]}
    campaign["steps"][0]["endpoint"] = f"http://localhost:{port}/api/prospect"
    write("campaigns/mine.json", campaign)
    # By default the folder campaigns/.
    applied = await campaigns("apply")
    assert applied.code == 0, applied.err
    ended = await campaigns("run", "from-the-readme", "--watch")
    assert ended.code == 0, ended.text
    assert "1 of 1 steps, 20 prospects generated, cost 0.024 USD" in ended.out


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation is about: of ``list[Step] | None``, ``Step``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (list, Union, UnionType, Annotated):
        for argument in get_args(annotation):
            yield from models_in(argument)


def fields(model: type[BaseModel]) -> dict[str, list[type[BaseModel]]]:
    """Return the names of a model's fields as they are written in JSON, and the models of their values."""
    return {field.alias or name: list(models_in(field.annotation)) for name, field in model.model_fields.items()}


def documented() -> Iterator[tuple[str, str]]:
    """Yield the fields that the table names, by what they belong to: ``("steps[]", "engine")``."""
    for name_cell, meaning, _ in table("What the fields mean"):
        owner = ""
        for path in in_code(name_cell):
            # In a cell of several, the first says what all of them belong to.
            owner, _, name = path.rpartition(".") if "." in path else (owner, "", path)
            yield owner, name
            for group in re.findall(r"`\{(\w[^`]*)\}`", meaning):
                yield from ((f"{owner}.{name}".strip("."), inner) for inner in group.split(", "))


def test_the_field_table_names_every_field_and_no_other() -> None:
    top = fields(Campaign)
    (step,), (schedule,), (notifications,) = top["steps"], top["schedule"], top["notifications"]
    (approval,) = fields(step)["approval"]
    (retry,), recipients = fields(step)["retry"], fields(notifications)["onFailure"]
    (budget,) = top["budget"]
    expected = {("", name) for name in top if name not in ("$schema", "description", "steps")}
    expected |= {("steps[]", name) for name in fields(step) if name not in ("name", "description")}
    expected |= {("schedule", name) for name in fields(schedule)}
    expected |= {("steps[].retry", name) for name in fields(retry)}
    expected |= {("steps[].approval", name) for name in fields(approval)}
    expected |= {("notifications", name) for name in fields(recipients[0])}
    assert set(documented()) == expected
    told = " ".join(" ".join(row) for row in table("What the fields mean"))
    for name in [*fields(budget), *fields(notifications)]:
        assert f"`{name}`" in told, name


def test_the_settings_table_names_every_setting_and_no_other() -> None:
    named = {name for cell, *_ in table("Settings") for name in in_code(cell)}
    ours = {name.upper() for name in Settings.model_fields}
    template = (PROJECT / ".env.template").read_text()
    in_template = set(re.findall(r"^([A-Z_]+)=", template, re.MULTILINE))
    assert in_template == ours, "the template is the whole list"
    listed = {one.name for one in list_settings(Settings(_env_file=None), SavedSettings())}
    assert named == listed >= ours, "and so is what `campaigns settings` lists, Prefect's own among it"


def test_the_commands_exist_and_take_the_options() -> None:
    section = README.split("\n## Commands\n")[1].split("\n## ")[0]
    described = [command.split() for command in in_code(section) if command.startswith("campaigns ")]
    names = {command[1] for command in described if not command[1].startswith("-")}
    assert names == {name for name in app if not name.startswith("-")}
    mentioned = [line.split() for line in re.findall(r"(?:^|[`$ ])(campaigns [a-z]+[^`\n]*)", README, re.MULTILINE)]
    options = {(command_of(line), word.strip("[].,")) for line in mentioned for word in line if "--" in word}
    assert (("run",), "--watch") in options and (("db", "migrate"), "--sql") in options
    for command, option in options:
        found = functools.reduce(lambda group, name: group[name], command, app)
        assert option in [name for argument in found.assemble_argument_collection() for name in argument.names]


def command_of(line: list[str]) -> tuple[str, ...]:
    """Return the words of a line that name a command: of ``campaigns db migrate --sql``, the two in the middle."""
    _, command, *rest = line
    return (command, rest[0]) if rest and rest[0] in app[command] else (command,)


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", "\n".join(blocks("bash")))) <= targets


async def test_the_schema_is_what_the_command_prints(tmp_path: Path) -> None:
    (module,) = set(re.findall(r"python -m ([a-z_.]+)", README))
    printed = await run([sys.executable, "-m", module], env=user_environment(), cwd=tmp_path)
    assert printed.code == 0, printed.err
    assert json.loads(printed.out) == campaign_schema()
