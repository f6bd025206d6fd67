"""What Prefect's server is told beyond what it does of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefect_campaigns.deployments.running.server import EmbeddedServer, recorder_settings

SCALING = (Path(__file__).parents[4] / "docs" / "guides" / "scaling.md").read_text()


def test_on_postgresql_they_are_written_as_the_documentation_has_it() -> None:
    settings = recorder_settings("postgresql+asyncpg://prefect@db.internal/prefect")
    assert settings
    for name, value in settings.items():
        assert f"export {name}={value}\n" in SCALING


@pytest.mark.parametrize(
    "name",
    [
        "EVENTS_CAUSAL_ORDERING",
        "SERVICES_EVENT_PERSISTER_BATCH_SIZE",
        "SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL",
        "SERVICES_EVENT_PERSISTER_MAX_FLUSH_RETRIES",
    ],
)
def test_how_the_embedded_one_treats_events_the_documentation_has_for_others(name: str, tmp_path: Path) -> None:
    value = EmbeddedServer(home=tmp_path, port=4200, log=tmp_path / "log")._environment()[f"PREFECT_SERVER_{name}"]
    assert f"export PREFECT_SERVER_{name}={value}\n" in SCALING


@pytest.mark.parametrize("url", ["", "sqlite+aiosqlite:///prefect.db"])
def test_on_sqlite_they_are_written_one_by_one(url: str) -> None:
    assert recorder_settings(url) == {}
