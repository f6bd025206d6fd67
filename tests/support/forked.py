"""Processes of their own, forked from one that has imported Prefect already.

Importing Prefect is nearly all that such a process does, seconds each time on a small machine.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.context
import os
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect_campaigns.deployments import cli

# What cannot be imported there is passed over without a word, so that no list of names may grow old.
PRELOADED = [
    f"{cli.__name__}.{module.name}"
    for module in pkgutil.iter_modules(cli.__path__)
    if module.name.endswith("_commands")
]


def forkserver() -> multiprocessing.context.ForkServerContext:
    """Return what makes such processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def take_over(environment: Mapping[str, str], *, cwd: str, out: str, err: str) -> None:
    """Run in the fork: take over what a shell would have given the process."""
    from prefect.context import refresh_global_settings_context

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    refresh_global_settings_context()


def _become(arguments: Sequence[str], environment: dict[str, str], cwd: str, out: str, err: str) -> None:
    """Run in the fork: do what the command's script does."""
    from prefect_campaigns.deployments.cli.main import main

    take_over(environment, cwd=cwd, out=out, err=err)
    sys.argv = ["campaigns", *arguments]
    main()


async def run_forked(
    arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, seconds: float
) -> tuple[int, str, str]:
    """Run ``campaigns …`` to its end; return its exit code and what it printed."""
    with TemporaryDirectory() as folder:
        out, err = (Path(folder) / name for name in ("out", "err"))
        out.touch()
        err.touch()
        process = forkserver().Process(target=_become, args=(arguments, dict(env), str(cwd), str(out), str(err)))
        process.start()
        await asyncio.to_thread(process.join, seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"campaigns {' '.join(arguments)} did not end within {seconds:g} seconds")
        return process.exitcode, out.read_text(), err.read_text()
