"""Running commands as a user of the stack, and starting those that go on until they are interrupted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound
from processes import Ended, LongRunning, run_campaigns, user_environment
from real_stack import Stack

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.deployments.applying.saved_mail import SENDER_VARIABLE
from prefect_campaigns.deployments.running.server import free_port

NOWHERE = "http://127.0.0.1:9"
"""Where nothing listens."""

BLOCKS = ("campaigns-supabase", "supabase-credentials"), ("campaigns-smtp", "email-server-credentials")

Campaigns = Callable[..., Awaitable[Ended]]
Start = Callable[..., LongRunning]


@pytest.fixture
def campaigns(stack: Stack, tmp_path: Path) -> Campaigns:
    """Run ``campaigns …`` in the test's folder, as somebody who works with the stack."""

    async def run_it(*arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        return await run_campaigns(*arguments, env={**stack.environment, **(env or {})}, cwd=tmp_path)

    return run_it


@pytest.fixture
def alone(tmp_path: Path) -> Campaigns:
    """Run ``campaigns …`` as somebody who has nothing running, and their books in the test's folder."""

    async def run_it(*arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        variables = {
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "PREFECT_API_URL": f"{NOWHERE}/api",
            "CAMPAIGNS_DATABASE": str(tmp_path / "campaigns.db"),
            **(env or {}),
        }
        return await run_campaigns(*arguments, env=user_environment(**variables), cwd=tmp_path)

    return run_it


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """The books of that somebody."""
    async with SqliteStore(tmp_path / "campaigns.db") as store:
        yield store


@pytest.fixture
async def no_blocks(client: PrefectClient) -> AsyncIterator[None]:
    """No saved store, before and after: the stack is everybody's."""

    async def delete() -> None:
        with suppress(ObjectNotFound):
            await client.delete_variable_by_name(SENDER_VARIABLE)
        for name, slug in BLOCKS:
            with suppress(ObjectNotFound):
                document = await client.read_block_document_by_name(name, slug)
                await client.delete_block_document(document.id)

    await delete()
    yield
    await delete()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Write a file into the test's folder: what is no text, as JSON."""

    def write_it(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
        return path

    return write_it


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start commands of somebody who has nothing running and nothing set; whatever they leave is ended."""
    started: list[LongRunning] = []

    def start_it(*command: str, **env: str) -> LongRunning:
        # Several of them want the REST API's port at once.
        variables = {"PREFECT_HOME": str(tmp_path / "prefect"), "PORT": str(free_port()), **env}
        process = LongRunning(command, env=user_environment(**variables), cwd=tmp_path)
        started.append(process)
        return process

    yield start_it
    for process in started:
        process.kill()
