"""Asking whoever is at the terminal whether something is to be done that cannot be undone."""

from __future__ import annotations

import asyncio
import sys

from prefect_campaigns.deployments.cli.main import out
from prefect_campaigns.errors import CampaignsError


async def agreed(question: str, *, otherwise: str, may_ask: bool = True) -> bool:
    """Ask, and return whether the answer is yes.

    Args:
        otherwise: what is said where there is nobody to ask.
        may_ask: False counts as nobody.

    Raises:
        CampaignsError: there is nobody to ask.
    """
    if not (may_ask and sys.stdin.isatty() and out.is_terminal):
        raise CampaignsError(otherwise)
    out.print(f"{question} Type yes: ", end="")
    sys.stdout.flush()
    # Not input(), which would hold up the event loop, and with it Ctrl-C.
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
