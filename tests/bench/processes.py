"""What processes cost: their CPU time and their memory, with those of all that they have started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class _Stat:
    parent: int
    cpu_seconds: float


def _read_all() -> dict[int, _Stat]:
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # After the name, which may hold anything; numbered as in proc(5), from the third field on.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # With the children that have ended and been waited for.
        ticks = sum(int(field) for field in fields[11:15])
        found[int(folder.name)] = _Stat(parent=int(fields[1]), cpu_seconds=ticks / _TICKS)
    return found


def _family(pid: int, stats: dict[int, _Stat]) -> list[int]:
    members = [pid] if pid in stats else []
    for member in members:
        members += [child for child, stat in stats.items() if stat.parent == member]
    return members


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and all its descendants have taken so far."""
    stats = _read_all()
    return sum(stats[member].cpu_seconds for member in _family(pid, stats))


def memory_mb(pid: int) -> float:
    """Return the memory of a process and its descendants in MB; what several of them share is counted once (PSS)."""
    kilobytes = 0
    for member in _family(pid, _read_all()):
        try:
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
        except OSError:
            continue
        kilobytes += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return kilobytes / 1024
