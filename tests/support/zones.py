"""A timezone in which midnight is seconds away, so that a test can wait for the end of a day.

Real names, whose rules are replaced for the length of the session: neither this program nor Prefect takes others.
"""

from __future__ import annotations

import atexit
import os
import shutil
import struct
import tempfile
import zoneinfo
from datetime import UTC, datetime
from pathlib import Path

import pytz

_AREA, _READERS = "Antarctica", ("zoneinfo", "pytz")
# Each is used once: whoever has read a zone keeps it.
_NAMES = iter(("Vostok", "Mawson", "Davis", "Casey", "Syowa"))

_folder = Path()


def install() -> None:
    """Make room for the zones, for this process and all that it starts; it goes when this process ends."""
    global _folder
    _folder = Path(tempfile.mkdtemp(prefix="campaigns-zones-"))
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)
    for reader in _READERS:
        (_folder / reader / _AREA).mkdir(parents=True)
    os.environ["PYTHONTZPATH"] = os.pathsep.join([str(_folder / "zoneinfo"), *zoneinfo.TZPATH])
    zoneinfo.reset_tzpath()
    # Prefect's server reckons with pytz, which looks into one folder only, and once, which zones there are.
    originals = Path(pytz.__file__).parent / "zoneinfo"
    for zone in (*originals.iterdir(), *(originals / _AREA).iterdir()):
        if zone.name != _AREA:
            (_folder / "pytz" / zone.relative_to(originals)).symlink_to(zone)
    os.environ["PYTZ_TZDATADIR"] = str(_folder / "pytz")


def midnight_in(seconds: int) -> tuple[str, datetime]:
    """Return a timezone whose midnight is so many seconds away, and that midnight.

    Until then it is the same date there as in UTC.
    """
    name, midnight = next(_NAMES), int(datetime.now(UTC).timestamp()) + seconds
    offset = -midnight % 86_400
    # RFC 8536, version 1: one offset, in seconds east of UTC, for ever.
    header = b"TZif" + b"\0" * 16 + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    for reader in _READERS:
        file = _folder / reader / _AREA / name
        file.unlink(missing_ok=True)
        file.write_bytes(header + struct.pack(">lBB", offset, 0, 0) + b"LMT\0")
    return f"{_AREA}/{name}", datetime.fromtimestamp(midnight, UTC)
