"""``make faults``: rounds of scenarios on real processes, and what did not hold in any of them.

Everything is drawn from the seed: ``make faults SEED=7 N=50`` plays the same scenarios again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from playing import WORKERS, Result, Round
from real_stack import SCRUBBED
from rich.console import Console
from rich.table import Table
from scenarios import Event, Scenario, killing, outage, timeline
from supabase_rig import Project, start_project, what_is_missing

AT_ONCE = 50
"""How many scenarios a round has."""


def main() -> int:
    """Play the rounds, and return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", "-n", type=int, default=AT_ONCE, help="how many scenarios")
    parser.add_argument("--seed", type=int, default=1, help="what the first round is drawn from; the next: one more")
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--kills", type=int, default=0, help="kill a worker so often in each round, and break nothing else"
    )
    only.add_argument(
        "--outage", type=float, default=0, help="let Prefect's server be away for so many seconds, and no more"
    )
    parser.add_argument("--store", choices=("both", "sqlite", "supabase"), default="both", help="what keeps the books")
    arguments = parser.parse_args()
    for name in list(os.environ):
        if name.startswith(SCRUBBED):
            del os.environ[name]
    logging.disable(logging.WARNING)
    console = Console()
    if arguments.store != "sqlite" and (reason := what_is_missing()):
        sys.exit(f"no Supabase: {reason}; --store sqlite does without")
    rounds = -(-arguments.count // AT_ONCE)
    results: list[Result] = []
    for number in range(rounds):
        seed = arguments.seed + number
        size = min(AT_ONCE, arguments.count - number * AT_ONCE)
        with_supabase = arguments.store == "supabase" or (arguments.store == "both" and seed % 2 == 0)
        books = "Supabase" if with_supabase else "SQLite"
        console.print(f"[bold]Round {number + 1} of {rounds}[/]: seed {seed}, {size} scenarios, {books}")
        if arguments.kills:
            events = killing(seed, arguments.kills, workers=WORKERS)
        elif arguments.outage:
            events = outage(arguments.outage)
        else:
            events = timeline(seed, workers=WORKERS, has_proxy=with_supabase)
        result = play(seed, size, events, with_supabase=with_supabase)
        results.append(result)
        for event in result.events:
            console.print(f"  {event}")
        ends = ", ".join(f"{count} {name}" for name, count in sorted(result.ends.items()))
        console.print(f"  {result.seconds:.0f} s; the runs ended as {ends}")
        for scenario, promise in result.broken:
            which = "the round" if scenario < 0 else f"scenario {scenario} ({Scenario.of(seed, scenario)})"
            console.print(f"  [red]broken[/]: {which}: {promise}", soft_wrap=True)
        if result.broken:
            wanted = {"--kills": arguments.kills, "--outage": arguments.outage}
            again = "".join(f' ARGS="{option} {value:g}"' for option, value in wanted.items() if value)
            console.print(f"  play it again: make faults SEED={seed} N={size}{again}", markup=False)
    console.print(summary(results))
    return 1 if any(result.broken for result in results) else 0


def play(seed: int, size: int, events: Sequence[Event], *, with_supabase: bool) -> Result:
    """Play one round, on processes of its own."""
    scenarios = [Scenario.of(seed, number) for number in range(size)]

    def in_home(project: Project | None) -> Result:
        with TemporaryDirectory(prefix="faults-") as home:
            return asyncio.run(Round(scenarios, Path(home), project=project, events=events).play())

    if not with_supabase:
        return in_home(None)
    with start_project() as project:
        project.migrate()
        return in_home(project)


def summary(results: list[Result]) -> Table:
    """Return what broke how often, and what came of the runs."""
    table = Table(title="What broke, and what came of it")
    table.add_column("")
    table.add_column("times", justify="right")
    for what, count in Counter(str(event.what) for result in results for event in result.events).most_common():
        table.add_row(what, str(count))
    ends: Counter[str] = Counter()
    for result in results:
        ends.update(result.ends)
    for name, count in ends.most_common():
        table.add_row(f"runs that ended as {name}", str(count))
    table.add_row("processes killed with kill -9", str(sum(result.kills for result in results)))
    table.add_row("promises broken", str(sum(len(result.broken) for result in results)))
    return table


if __name__ == "__main__":
    sys.exit(main())
