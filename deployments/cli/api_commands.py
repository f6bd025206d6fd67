"""What ``campaigns api`` does. Its help stands in ``main``, which imports this when it is run."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.deployments.api.serving import Listener, running_api
from prefect_campaigns.deployments.cli.main import EXIT_OK, out
from prefect_campaigns.deployments.running.interrupts import cancel_on_signals
from prefect_campaigns.deployments.running.logs import writing_logs


async def api_command(
    *, host: str | None = None, port: Annotated[int | None, Parameter(validator=Number(gte=1, lte=65_535))] = None
) -> int:
    """Serve the REST API.

    Parameters
    ----------
    host
        The address to listen on; by default CAMPAIGNS_API_HOST, else 127.0.0.1.
    port
        The port to listen on; by default PORT, else 3020.
    """
    cancel_on_signals()
    settings = load_settings()
    with writing_logs(settings):
        listener = Listener(settings, host=host, port=port)
        async with running_api(listener) as serving:
            say_it_listens(listener)
            out.print("Ctrl-C ends it.")
            await serving
    return EXIT_OK


def say_it_listens(listener: Listener) -> None:
    """Tell people where the API is."""
    out.print(f"[green]✓[/] REST API at {listener.url}, described at {listener.url}/docs", soft_wrap=True)
