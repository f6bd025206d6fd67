"""What many campaigns cost: checking their files, the first apply of them, and one that finds nothing to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from figures import Figure, measure

from prefect_campaigns.deployments.running.server import EmbeddedServer, free_port

CAMPAIGNS = str(Path(sys.executable).with_name("campaigns"))
TIMES = 3


def bench_validate(example: Path, count: int) -> list[Figure]:
    """``campaigns validate`` of so many files, against Python's own JSON tool run once per file."""
    tool = measure(
        "python -m json.tool FILE",
        lambda: subprocess.run([sys.executable, "-m", "json.tool", str(example)], capture_output=True, check=True),
        times=10,
    )
    with tempfile.TemporaryDirectory() as home:
        _write(Path(home), count)
        taken = _time(["validate", home], {})
    per_file = f"{count:,} times python -m json.tool FILE"
    return [
        Figure(
            f"campaigns validate of {count:,} files", taken, taken, per_file, round(taken / tool.median_ms / count, 4)
        )
    ]


async def bench_apply(count: int) -> list[Figure]:
    """``campaigns apply`` of so many campaigns: the first, and, of its time, one that changes nothing."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "campaigns"
        folder.mkdir()
        _write(folder, count)
        variables = {
            "PREFECT_HOME": f"{home}/prefect",
            "CAMPAIGNS_DATABASE": f"{home}/campaigns.db",
            "CAMPAIGNS_LOGS": f"{home}/logs",
        }
        server = EmbeddedServer(home=Path(home) / "prefect", port=free_port(), log=Path(home) / "server.log")
        async with server:
            variables["PREFECT_API_URL"] = server.api_url
            first = _time(["apply", str(folder)], variables)
            again = sorted(_time(["apply", str(folder)], variables) for _ in range(TIMES))
    name = f"first campaigns apply of {count:,}"
    return [
        Figure(name, first, first),
        Figure(f"campaigns apply of {count:,}, none changed", again[1], again[-1], name, round(again[1] / first, 3)),
    ]


def _write(folder: Path, count: int) -> None:
    """Write campaigns as an agency has them: each its own hour, budget and recipients."""
    for number in range(count):
        campaign = {
            "name": f"Campaign {number:05}",
            "schedule": {"cron": f"{number % 60} 9 * * MON", "timezone": "America/New_York"},
            "budget": {"daily": 5, "weekly": 20, "monthly": 80},
            "steps": [
                {
                    "name": name,
                    "engine": engine,
                    "endpoint": f"http://127.0.0.1:9/api/{name}",
                    "params": {"count": number % 20 + 1},
                    "retry": {"attempts": 3, "delay": 5000, "backoff": "exponential"},
                    "estimatedCost": 0.01,
                }
                for name, engine in (("prospect", "prospecting"), ("analyze", "analysis"), ("send", "sender"))
            ],
            "notifications": {"onFailure": {"email": f"ops{number % 10}@example.com"}},
        }
        (folder / f"{number:05}.json").write_text(json.dumps(campaign, indent=2))


def _time(arguments: list[str], variables: Mapping[str, str]) -> float:
    """Return how many milliseconds a command takes as a whole process."""
    ours = ("PREFECT_", "CAMPAIGNS_", "SMTP_", "SUPABASE_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    began = time.perf_counter()
    subprocess.run(
        [CAMPAIGNS, *arguments],
        env={**inherited, **variables},
        cwd=tempfile.gettempdir(),
        capture_output=True,
        check=True,
    )
    return (time.perf_counter() - began) * 1000
