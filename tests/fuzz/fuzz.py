"""``make fuzz``: so many cases for each target, from the corpus that is kept, and on from there.

What breaks a promise, or takes longer than a second, is written beside the corpus, whose every case is a test.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

CORPUS = Path(__file__).parent / "corpus"
LONGEST_SECONDS = 1


def main() -> int:
    """Fuzz all targets, or one; return 1 if any broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000, help="how many for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", help="only this one")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    if arguments.run:
        return run(arguments.run, rest)
    from targets import TARGETS

    broken = []
    for name in arguments.target or TARGETS:
        began = time.monotonic()
        ended = fuzz(name, cases=arguments.cases, seed=arguments.seed)
        if ended.returncode:
            broken.append(name)
            print(ended.stderr.decode(errors="replace")[-4_000:])
        took = time.monotonic() - began
        print(f"{name}: {arguments.cases:,} cases in {took:.0f} s, {'BROKEN' if ended.returncode else 'none broke'}")
    return 1 if broken else 0


def fuzz(name: str, *, cases: int, seed: int) -> subprocess.CompletedProcess[bytes]:
    """Fuzz one target in a process of its own; what is found on the way is not kept, save what breaks."""
    kept = CORPUS / name
    with TemporaryDirectory(prefix="fuzz-") as found:
        options = [f"-runs={cases}", f"-seed={seed}", f"-timeout={LONGEST_SECONDS}", "-max_len=4096"]
        options += [f"-artifact_prefix={kept}/broken-", found, str(kept)]
        command = [sys.executable, __file__, "--run", name, *options]
        return subprocess.run(command, check=False, stderr=subprocess.PIPE)


def run(name: str, options: list[str]) -> int:
    """Be the process that fuzzes one target."""
    import atheris

    with atheris.instrument_imports(include=["prefect_campaigns"]):
        from targets import TARGETS
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
