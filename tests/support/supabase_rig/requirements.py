"""What a machine must have for the rig, and where it lies."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
LITE = HERE / "node_modules" / "@supabase" / "lite" / "dist" / "cli" / "index.js"
NODE_VERSION = 20


def postgres_installation() -> Path:
    """Return the folder of PostgreSQL's ``bin``, ``lib`` and ``share``.

    Raises:
        FileNotFoundError: the package that brings it is not installed.
    """
    # Found, not imported: the import starts by looking for things in the user's home.
    spec = importlib.util.find_spec("pgserver")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package pgserver, which brings PostgreSQL, is not installed: run `make test`")
    return Path(spec.origin).with_name("pginstall")


def what_is_missing() -> str | None:
    """Return why the rig cannot be started on this machine, in a sentence; None if it can."""
    node = shutil.which("node")
    if node is None:
        return f"Supabase's server needs Node {NODE_VERSION} or later, which this machine has not"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < NODE_VERSION:
        return f"Supabase's server needs Node {NODE_VERSION} or later, and this machine has {version}"
    if not LITE.exists():
        return "Supabase's server is not installed: install npm, then run `make test`"
    return None
