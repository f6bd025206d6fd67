"""What ``campaigns up`` and ``demo`` do. Their help stands in ``main``, which imports this when one is run."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.stores import DEFAULT_API_URL
from prefect_campaigns.deployments.api.serving import Listener, running_api
from prefect_campaigns.deployments.cli.api_commands import say_it_listens
from prefect_campaigns.deployments.cli.main import EXIT_FAILED, EXIT_OK, out
from prefect_campaigns.deployments.cli.plan_commands import apply_files, print_applied
from prefect_campaigns.deployments.running.interrupts import cancel_on_signals
from prefect_campaigns.deployments.running.logs import writing_logs
from prefect_campaigns.deployments.running.server import configured_api_url
from prefect_campaigns.deployments.running.stack import (
    embedded_server,
    running_worker,
    say_who_gets_in,
    saying_it_starts,
    stand,
)
from prefect_campaigns.loader import load_many
from prefect_campaigns.words import hide_login


def _default_folder() -> tuple[Path, ...]:
    folder = Path("campaigns")
    return (folder,) if folder.is_dir() else ()


_Port = Annotated[int | None, Parameter(validator=Number(gte=1, lte=65_535))]


async def up_command(*paths: Path, port: _Port = None, host: str | None = None, api_port: _Port = None) -> int:
    """Run the embedded stack.

    Parameters
    ----------
    paths
        Campaign files, or folders of them; by default the folder campaigns/ where there is one.
    port
        The Prefect server's port; 4200 by default, where commands look for it.
    host
        Where it listens: an address of this machine, or 0.0.0.0 for all. Off loopback its API has a password.
    api_port
        The port of the REST API; by default PORT, else 3020.
    """
    cancel_on_signals()
    paths = paths or _default_folder()
    async with AsyncExitStack() as stack:
        stack.enter_context(writing_logs(load_settings()))
        if paths:
            load_many(paths)
        listener = Listener(load_settings(), port=api_port)
        stack.callback(listener.close)
        with saying_it_starts(out):
            server = await stack.enter_async_context(embedded_server(port=port, host=host))
        where = server.ui_url if server else hide_login(configured_api_url() or "")
        out.print(f"[green]✓[/] Prefect server at {where}{'' if server else ', which was there already'}")
        if server is not None:
            say_who_gets_in(server, console=out)
            if server.api_url != DEFAULT_API_URL and not server.is_reachable_from_elsewhere:
                out.print(f"  In other terminals: export PREFECT_API_URL={server.api_url}", soft_wrap=True)
        if paths:
            print_applied(await apply_files(paths, load_settings()))
        working = await stack.enter_async_context(running_worker())
        serving = await stack.enter_async_context(running_api(listener))
        say_it_listens(listener)
        ends = "everything" if server else "all but the Prefect server"
        out.print(f"[green]✓[/] Campaign worker is waiting for runs. Ctrl-C ends {ends}.")
        await stand(working, server, serving)
    return EXIT_OK


async def demo_command(*, keep: bool = False, host: str | None = None) -> int:
    """Show it all.

    Parameters
    ----------
    keep
        Leave everything running afterwards, until Ctrl-C.
    host
        The address of the Prefect server, as in campaigns up --help.
    """
    cancel_on_signals()
    from prefect_campaigns.deployments.demo.show import run_demo

    return EXIT_OK if await run_demo(console=out, keep=keep, host=host) else EXIT_FAILED
