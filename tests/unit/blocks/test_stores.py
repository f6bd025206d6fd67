"""Which store keeps the books, and what is said when nobody knows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from prefect_campaigns.blocks import stores
from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.stores import (
    SqliteChoice,
    SupabaseChoice,
    choose_store,
    forget_saved_store,
    open_store,
)
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.deployments.running.server import free_port
from prefect_campaigns.errors import StoreMisconfigured, StoreUnavailable

KEY = "sb_secret_swordfish-7"
PROJECT = "https://abcdefgh.supabase.co"


class PrefectStub:
    """What stands where Prefect's API should be: answers the search for the block, with whatever it is told."""

    def __init__(self) -> None:
        self.answer: Response | None = JSONResponse([])
        self.searches: list[dict[str, Any]] = []
        self.url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if not request.url.path.endswith("/block_documents/filter"):
            await JSONResponse({"detail": "Not Found"}, status_code=404)(scope, receive, send)
            return
        self.searches.append(await request.json())
        if self.answer is None:
            # It says nothing, until whoever waits has gone.
            await receive()
            return
        await self.answer(scope, receive, send)

    def has_block(self, **data: Any) -> None:
        self.answer = JSONResponse([{"name": "campaigns-supabase", "data": data}])


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    forget_saved_store()
    yield
    forget_saved_store()


@pytest.fixture
async def prefect_api() -> AsyncIterator[PrefectStub]:
    """An API that PREFECT_API_URL names."""
    stub = PrefectStub()
    async with serve(stub) as url:
        stub.url = f"{url}/api"
        with temporary_settings({PREFECT_API_URL: stub.url}):
            yield stub


async def chosen() -> str:
    """Return what keeps the books and what says so, in words."""
    return str(await choose_store(load_settings()))


async def test_the_environment_comes_first_then_the_block_then_the_default(
    prefect_api: PrefectStub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert (await chosen()).endswith("campaigns.db (default)")
    forget_saved_store()
    prefect_api.has_block(url=PROJECT, key=KEY)
    assert await chosen() == f"Supabase project {PROJECT} (block campaigns-supabase)"
    asked = len(prefect_api.searches)
    monkeypatch.setenv("CAMPAIGNS_DATABASE", "c.db")
    assert await chosen() == f"SQLite file {tmp_path / 'c.db'} (CAMPAIGNS_DATABASE)"
    monkeypatch.setenv("SUPABASE_URL", "https://other.supabase.co")
    monkeypatch.setenv("SUPABASE_KEY", KEY)
    assert await chosen() == "Supabase project https://other.supabase.co (SUPABASE_URL)"
    assert len(prefect_api.searches) == asked, "who names the books asks nobody"


async def test_the_block_is_asked_for_by_name_and_type_with_its_key(prefect_api: PrefectStub) -> None:
    prefect_api.has_block(url=PROJECT, key=KEY)
    choice = await choose_store(load_settings())
    assert isinstance(choice, SupabaseChoice) and choice.credentials.key.get_secret_value() == KEY
    assert KEY not in f"{choice} {choice!r}"
    (search,) = prefect_api.searches
    assert search["block_documents"] == {"name": {"any_": ["campaigns-supabase"]}}
    assert search["block_types"] == {"slug": {"any_": ["supabase-credentials"]}}
    assert search["include_secrets"] is True


async def test_what_the_api_said_is_remembered_for_a_minute(
    prefect_api: PrefectStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await chosen()
    assert len(prefect_api.searches) == 1
    # A minute later.
    monkeypatch.setattr(stores, "monotonic", lambda: time.monotonic() + 61)
    prefect_api.has_block(url=PROJECT, key=KEY)
    assert PROJECT in await chosen()


# What stands where the API should be, and what is said of it.
NO_API = {
    "a page, as the Prefect UI gives for any path": (HTMLResponse("<html>Prefect</html>"), ""),
    "a 404, as without /api": (JSONResponse({"detail": "Not Found"}, status_code=404), "404"),
    "an error": (JSONResponse({"detail": "boom"}, status_code=500), "500"),
    "an object": (JSONResponse({"detail": "hello"}), "the answer is not that of a Prefect API"),
}


@pytest.mark.parametrize("name", NO_API)
async def test_an_api_that_cannot_be_asked_opens_no_other_books(name: str, prefect_api: PrefectStub) -> None:
    prefect_api.answer, said = NO_API[name]
    with pytest.raises(StoreUnavailable) as error:
        await chosen()
    message = str(error.value)
    assert message.startswith(f"which books to open is not known: Prefect's API at {prefect_api.url} cannot be asked")
    assert said in message and "SUPABASE_URL" in message and "\n" not in message


async def test_a_silent_api_is_waited_for_no_longer_than_the_limit(
    prefect_api: PrefectStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "LOOK_UP_SECONDS", 0.3)
    prefect_api.answer = None
    with pytest.raises(StoreUnavailable, match=r"no answer within 0.3 seconds"):
        await chosen()


async def test_a_configured_api_that_is_away_opens_no_other_books() -> None:
    url = f"http://robot:swordfish-7@127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(StoreUnavailable) as error:
        await chosen()
    assert "swordfish" not in str(error.value)


async def test_where_no_api_is_configured_and_nothing_listens_the_books_are_the_default_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stores, "DEFAULT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    choice = await choose_store(load_settings())
    assert isinstance(choice, SqliteChoice) and choice.chosen_by == "default"


async def test_where_no_api_is_configured_one_on_the_default_port_is_asked_all_the_same(
    prefect_api: PrefectStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "DEFAULT_API_URL", prefect_api.url)
    with temporary_settings({PREFECT_API_URL: None}):
        prefect_api.answer = JSONResponse({}, status_code=500)
        with pytest.raises(StoreUnavailable):
            await chosen()
        prefect_api.has_block(url=PROJECT, key=KEY)
        assert PROJECT in await chosen()


@pytest.mark.parametrize(
    "data",
    [
        {"url": "abcdefgh.supabase.co", "key": KEY},
        {"url": PROJECT, "key": f"{KEY} {KEY}"},
        {"url": PROJECT},
        {},
    ],
)
async def test_a_block_that_cannot_be_used_is_said_to_be_so(data: dict[str, str], prefect_api: PrefectStub) -> None:
    prefect_api.has_block(**data)
    with pytest.raises(StoreMisconfigured, match=r"block campaigns-supabase on .* cannot be used \(.*campaigns setup"):
        await chosen()
    with pytest.raises(StoreMisconfigured) as error:
        await chosen()
    assert "swordfish" not in str(error.value)


async def test_all_users_of_a_loop_share_one_store_and_the_last_one_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNS_DATABASE", "c.db")
    settings = load_settings()
    async with open_store(settings) as first:
        async with open_store(settings) as second:
            assert second is first
        assert await first.list_campaigns() == []
    async with open_store(settings) as third:
        assert third is not first
    assert stores._shared == {}


async def test_one_that_cannot_be_opened_is_tried_again_by_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CAMPAIGNS_DATABASE", "c.db")
    (tmp_path / "c.db").write_text("no database")

    async def use() -> None:
        async with open_store(load_settings()):
            pass

    results = await asyncio.gather(use(), use(), return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable, StoreUnavailable]
    (tmp_path / "c.db").unlink()
    await use()
    assert stores._shared == {}
