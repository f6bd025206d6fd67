"""Where the command ``campaigns`` begins: it may be interrupted before it has been imported, which takes a moment."""

from __future__ import annotations

import sys

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command, and exit."""
    try:
        from prefect_campaigns.deployments.cli.main import main as run_command
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    run_command()
