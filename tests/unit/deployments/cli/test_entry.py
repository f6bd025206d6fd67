"""How the command begins."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
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
