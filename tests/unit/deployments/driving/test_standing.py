"""How campaigns stand where the Prefect server says nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from campaign_files import campaign
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.deployments.checking import doctor
from prefect_campaigns.deployments.checking.findings import Health
from prefect_campaigns.deployments.driving import standing
from prefect_campaigns.deployments.driving.standing import Standing, read_states


async def test_a_silent_server_is_not_waited_for_beyond_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr(standing, "SERVER_SECONDS", 0.3)
    monkeypatch.setattr(doctor, "SERVER_SECONDS", 0.3)
    monkeypatch.setenv("CAMPAIGNS_DATABASE", "c.db")
    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, SqliteStore(tmp_path / "c.db") as store:
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
            record = await store.save_campaign(campaign("Spring", "http://127.0.0.1:9"), deployment_id=uuid4())
            states = await read_states(store, [record])
            findings = {finding.part: finding for finding in await doctor.examine()}
    assert states.server_problem == "no Prefect API answers within 0.3 seconds"
    assert [state.standing for state in states.campaigns] == [Standing.ACTIVE]
    assert findings["Prefect API"].found == "no answer within 0.3 seconds"
    assert findings["Store"].health is Health.WELL
