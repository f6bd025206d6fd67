"""What the README and the pages of docs say is so: campaigns, engines, tables, commands, links."""

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
from documentation import PAGES, PROJECT, TEXT, blocks, in_code, section, table
from driving import until
from processes import run, user_environment
from pydantic import BaseModel

from prefect_campaigns.blocks.email_composing import _ACCENTS, BUDGET_ALERT_STATE
from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.deployments.cli.main import app
from prefect_campaigns.deployments.cli.settings_view import SavedSettings, list_settings
from prefect_campaigns.deployments.compile import NotificationKind
from prefect_campaigns.deployments.running.server import free_port, port_is_free
from prefect_campaigns.flows.states import ENDED, GOES_ON
from prefect_campaigns.loader import load_text
from prefect_campaigns.models import Campaign
from prefect_campaigns.schema import campaign_schema


@pytest.mark.parametrize("text", blocks("json"))
def test_every_campaign_can_be_used(text: str) -> None:
    load_text(text, source="docs")


async def test_the_engine_runs_and_a_campaign_against_it_completes(campaigns, write, start, stack) -> None:
    (engine,), port = blocks("python", "docs/guides/engines.md"), free_port()
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
    page = PAGES["docs/guides/commands.md"]
    described = [command.split() for command in in_code(page) if command.startswith("campaigns ")]
    names = {command[1] for command in described if not command[1].startswith("-")}
    assert names == {name for name in app if not name.startswith("-")}
    mentioned = [line.split() for line in re.findall(r"(?:^|[`$ ])(campaigns [a-z]+[^`\n]*)", TEXT, re.MULTILINE)]
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
    (module,) = set(re.findall(r"python -m ([a-z_.]+)", TEXT))
    printed = await run([sys.executable, "-m", module], env=user_environment(), cwd=tmp_path)
    assert printed.code == 0, printed.err
    assert json.loads(printed.out) == campaign_schema()


def test_every_link_leads_somewhere() -> None:
    broken = []
    for path, text in PAGES.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            place, _, anchor = target.partition("#")
            if place.startswith(("http://", "https://")):
                continue
            there = (PROJECT / path).parent / place if place else PROJECT / path
            if not there.exists() or (anchor and anchor not in anchors(there.read_text("utf-8"))):
                broken.append(f"{path}: {target}")
    assert broken == []


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower().replace("`", "")).replace(" ", "-") for heading in headings}


async def test_the_reference_is_what_the_code_says(tmp_path: Path) -> None:
    checked = await run(
        [sys.executable, str(PROJECT / "docs" / "make_reference.py"), "--check"], env=user_environment(), cwd=tmp_path
    )
    assert (checked.code, checked.err) == (0, "")


def test_every_state_that_somebody_is_told_of_is_in_the_reference() -> None:
    named = {state.name for state in (*GOES_ON, *ENDED)}
    assert {name for kind in NotificationKind for name in kind.state_names} <= named
    assert {name for name in _ACCENTS if name != BUDGET_ALERT_STATE} <= named


@pytest.mark.timeout(300)
async def test_the_site_is_built_without_a_warning_and_asks_nobody_else(tmp_path: Path) -> None:
    mkdocs = Path(sys.executable).with_name("mkdocs")
    built = await run(
        [str(mkdocs), "build", "--strict", "--site-dir", str(tmp_path / "site")],
        env={**user_environment(), "NO_MKDOCS_2_WARNING": "1"},
        cwd=PROJECT,
    )
    assert built.code == 0, built.text
    assert "WARNING" not in built.text
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(PAGES) - 3
    for page in pages:
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(https?://[^"]+)', page.read_text("utf-8"))
        assert [one for one in loaded if "canonical" not in one] == [], page


def test_what_is_said_of_a_section_is_found_by_its_heading() -> None:
    assert "Bearer {{ secret.crm-token }}" in section("Secrets")
