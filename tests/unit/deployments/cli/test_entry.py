"""How the command begins."""

from __future__ import annotations

import subprocess
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pytest

from prefect_campaigns.deployments.cli import entry, main


def test_who_interrupts_it_while_it_is_imported_sees_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(MetaPathFinder):
        def find_spec(self, name: str, *_: Any) -> None:
            if name == main.__name__:
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, main.__name__)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 130


STORE = """
import asyncio
from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.stores import open_store

async def main():
    async with open_store(load_settings()):
        pass

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("commands", "absent"),
    [
        pytest.param([], ["prefect"], id="none"),
        pytest.param(["money", "state", "store"], ["supabase", "sqlalchemy", "prefect_email"], id="no mail is sent"),
        pytest.param(["setup", "stack"], ["supabase", "sqlalchemy"], id="others"),
    ],
)
def test_commands_wait_for_no_library_that_they_do_not_need(
    commands: list[str], absent: list[str], tmp_path: Path
) -> None:
    imports = [f"from prefect_campaigns.deployments.cli import {name}_commands" for name in commands]
    asserted = [f"assert {name!r} not in sys.modules" for name in absent]
    program = [
        "import sys\nfrom prefect_campaigns.deployments.cli import main as cli",
        *imports,
        *([STORE] if commands else []),
        *asserted,
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)],
        env={"CAMPAIGNS_DATABASE": "c.db", "PREFECT_HOME": "prefect"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
