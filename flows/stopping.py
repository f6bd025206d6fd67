"""The emergency stop, in words."""

from __future__ import annotations

from prefect_campaigns.blocks.store_types import Stop


def describe(stop: Stop) -> str:
    """Return who has stopped everything, since when, why, and how it goes on."""
    why = f": {stop.reason}" if stop.reason else ""
    return (
        f"Everything is stopped by {stop.by} since {stop.since:%Y-%m-%d %H:%M} UTC{why}."
        " campaigns start --all lets it go on."
    )
