"""The package as users get it: a wheel, built from the sdist, in an environment that has never seen this folder."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign_files import campaign_json
from processes import run, user_environment

# What is made for the whole module is made in one process.

PROJECT = Path(__file__).parents[2]
SOURCES = ["pyproject.toml", "uv.lock", "README.md", "LICENSE", "campaigns", "blocks", "flows", "deployments"]
OUR_SUFFIXES = (".py", ".json", ".sql", ".html", ".css", ".js", ".typed")

LOOK_INSIDE = """
import importlib.util, json, sys
from prefect.plugins import load_prefect_collections
from prefect.workers.base import BaseWorker
import prefect_campaigns

print(json.dumps({
    "collection": type(load_prefect_collections()["prefect_campaigns"]).__name__,
    "worker": BaseWorker.get_worker_class_from_type("campaign").__name__,
    "file": prefect_campaigns.__file__,
    "bare": [name for name in ("campaigns", "blocks", "flows", "deployments", "tests")
             if importlib.util.find_spec(name)],
}))
"""


def uv(*arguments: str | Path, cwd: Path) -> None:
    """Run uv from what it has at hand, and only else from the network."""
    beside = PROJECT / ".uv" / "bin" / "uv"
    program = shutil.which("uv") or str(beside)
    for options in (["--offline"], []):
        done = subprocess.run(
            [program, *arguments, "--quiet", *options],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode == 0:
            return
    raise AssertionError(f"{program} {' '.join(map(str, arguments))}:\n{done.stderr}")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    # A copy: building leaves folders behind, and takes along what older builds left.
    for name in SOURCES:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / name, source / name)
    uv("build", "--python", sys.executable, "--out-dir", folder / "dist", cwd=source)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    (wheel,) = (built / "dist").glob("prefect_campaigns-*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(built: Path, wheel: Path) -> Iterator[Path]:
    """The programs of an environment with the wheel and what it says it needs, in the versions that are locked."""
    source, pins, environment = built / "source", built / "pins.txt", built / "clean"
    export = ["--frozen", "--no-dev", "--no-emit-project", "--no-hashes", "--output-file", pins]
    uv("export", *export, cwd=source)
    uv("venv", "--python", sys.executable, environment, cwd=built)
    python = environment / "bin" / "python"
    uv("pip", "install", "--python", python, "--constraint", pins, wheel, cwd=built)
    yield environment / "bin"
    # Links to a good part of a gigabyte, which pytest would keep.
    shutil.rmtree(environment)


def test_the_wheel_holds_every_module_and_every_file_beside_them(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    root = "prefect_campaigns"
    expected = {f"{root}/{file.name}" for file in (PROJECT / "campaigns").iterdir() if file.suffix in OUR_SUFFIXES}
    for room in ("blocks", "flows", "deployments"):
        files = (file for file in (PROJECT / room).rglob("*") if file.suffix in OUR_SUFFIXES)
        expected |= {f"{root}/{file.relative_to(PROJECT)}" for file in files}
    assert {f"{root}/py.typed", f"{root}/schema.json", f"{root}/weekly-restaurant.json"} <= expected
    assert {
        f"{root}/blocks/sqlite/migrations/0001_books.sql",
        f"{root}/blocks/email.html",
        f"{root}/deployments/demo/show.py",
    } <= expected
    assert {name for name in inside if ".dist-info/" not in name} == expected


async def test_the_installed_package_works_from_any_folder(installed: Path, tmp_path: Path) -> None:
    env = user_environment(PREFECT_HOME=str(tmp_path / "prefect"))
    (tmp_path / "mine.json").write_text(json.dumps(campaign_json("Mine", "http://127.0.0.1:9")))
    validated, imported, looked = await asyncio.gather(
        run([str(installed / "campaigns"), "validate", "mine.json"], env=env, cwd=tmp_path),
        # Which needs all that the package depends on, and finds no more than it says.
        run([str(installed / "campaigns"), "demo", "--help"], env=env, cwd=tmp_path),
        run([str(installed / "python"), "-c", LOOK_INSIDE], env=env, cwd=tmp_path),
    )
    assert (validated.code, validated.out) == (0, "✓ mine.json: Mine (mine)\n")
    assert imported.code == 0, imported.err
    assert looked.code == 0, looked.err
    found = json.loads(looked.out)
    # Prefect swallows a collection that cannot be loaded, and gives the exception in its place.
    assert (found["collection"], found["worker"]) == ("module", "CampaignWorker")
    assert Path(found["file"]).is_relative_to(installed.parent)
    assert found["bare"] == []
