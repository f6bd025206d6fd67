"""What is true of the whole folder ``campaigns/``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "campaigns"


def loaded_after(statements: str, *names: str) -> str:
    """Run the statements in a Python of its own; return which of the packages are loaded then."""
    program = f"import sys\n{statements}\nprint([name for name in {names!r} if name in sys.modules])"
    ran = subprocess.run(  # our own Python, our own program
        [sys.executable, "-c", program], capture_output=True, check=True, text=True, cwd=FOLDER, timeout=60
    )
    return ran.stdout.strip()


def test_no_module_of_the_room_imports_prefect() -> None:
    modules = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
    assert "loader" in modules
    imports = "\n".join(f"import prefect_campaigns.{module}" for module in modules)
    assert loaded_after(imports, "prefect", "httpx", "sqlalchemy") == "[]"


def test_loading_what_is_right_does_not_load_the_parser_for_what_is_wrong() -> None:
    load = (
        "from pathlib import Path\n"
        "from prefect_campaigns.loader import load_many\n"
        f"assert len(load_many([Path({str(FOLDER)!r})])) == 3"
    )
    assert loaded_after(load, "tree_sitter", "prefect") == "[]"
