"""Where the results of the runs' tasks are kept, asked of Prefect once for all runs.

The engine asks for each run, twice, and once so that the event loop of all runs waits for the answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.filesystems import LocalFileSystem, WritableFileSystem
from prefect.results import aget_default_result_storage
from prefect.settings import get_current_settings


class ResultStorage:
    """The storage that Prefect's settings, or else its server, name."""

    def __init__(self) -> None:
        self._storage: WritableFileSystem | Path | None = None
        self._flows: dict[str, Flow[..., Any]] = {}

    async def refresh(self) -> None:
        """Look whether it is still the same. Where the server does not answer it is the folder of this machine.

        Raises:
            ValueError: the settings name a block that is not there.
        """
        storage = await aget_default_result_storage()
        folder = get_current_settings().results.local_storage_path
        is_folder = isinstance(storage, LocalFileSystem) and storage.basepath == str(folder)
        wanted = folder if is_folder else storage
        if wanted != self._storage:
            self._storage = wanted
            self._flows.clear()

    def given_to(self, flow: Flow[..., Any]) -> Flow[..., Any]:
        """Return the flow with that storage; as it is while nobody has asked for it yet."""
        if self._storage is None:
            return flow
        if flow.name not in self._flows:
            self._flows[flow.name] = flow.with_options(result_storage=self._storage)
        return self._flows[flow.name]
