"""What is said of a store that answers late or not at all, and of Prefect that does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.deployments.api import account, parts
from prefect_campaigns.deployments.driving.standing import States

LONG = 30.0
SILENT = "the store does not answer within 0.2 seconds"


class LateStore:
    """A store each of whose answers takes some seconds, behind parts that take some to open it."""

    def __init__(self, *, opening: float = 0, listing: float = 0, stop: float = 0) -> None:
        self._opening = opening
        self._listing = listing
        self._stop = stop

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Any]:
        await asyncio.sleep(self._opening)
        yield self

    async def list_campaigns(self) -> list[Any]:
        await asyncio.sleep(self._listing)
        return []

    async def read_stop(self) -> None:
        await asyncio.sleep(self._stop)


@pytest.mark.parametrize(
    ("late", "prefect", "said"),
    [
        pytest.param(LateStore(), 0, (0, None), id="all is well"),
        pytest.param(LateStore(opening=LONG), 0, (None, SILENT), id="it does not open"),
        pytest.param(LateStore(listing=LONG), 0, (None, SILENT), id="it does not list"),
        pytest.param(LateStore(stop=LONG), 0, (None, SILENT), id="it says nothing of the stop"),
        pytest.param(LateStore(opening=0.12, listing=0.12), 0, (None, SILENT), id="both together take too long"),
        pytest.param(LateStore(), LONG, (None, None), id="Prefect says nothing, which is not the store's fault"),
        pytest.param(LateStore(listing=0.12), LONG, (None, None), id="nor where the store takes a while"),
    ],
)
async def test_a_store_is_down_that_does_not_answer_and_no_other(
    late: LateStore, prefect: float, said: tuple[int | None, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_states(store: LateStore, _: list[Any]) -> States:
        await store.read_stop()
        await asyncio.sleep(prefect)
        return States(campaigns=())

    monkeypatch.setattr(account, "HEALTH_SECONDS", 0.2)
    monkeypatch.setattr(account, "read_states", read_states)
    assert await account._active_campaigns(late) == said  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chosen", "down"),
    [
        pytest.param({"CAMPAIGNS_DATABASE": "c.db"}, ["prefect"], id="a setting says which store it is"),
        pytest.param({}, ["prefect"], id="only Prefect knows which store it is"),
        pytest.param({"CAMPAIGNS_DATABASE": "broken.db"}, ["prefect", "store"], id="the store is none, besides"),
    ],
)
async def test_a_prefect_that_says_nothing_is_what_is_down(
    chosen: dict[str, str], down: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(account, "HEALTH_SECONDS", 0.5)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "broken.db").write_text("no database")
    # Nobody takes the connections that it lets in.
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        stack.enter_context(temporary_settings({PREFECT_API_URL: url}))
        async with parts.Parts(load_settings()) as all_parts:
            assert (await account._look(all_parts)).down == down
