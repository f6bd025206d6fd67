"""Run a server for as long as its starter lives: ``python supervise.py FOLDER USER SIGNAL COMMAND…``.

The pipe on standard input is the leash. It ends when the starter lets go of it, and when the starter is gone, killed or
not; the server is then sent SIGNAL (such as SIGINT), and its folder is removed (empty: none is). USER is who runs the
server (empty: the same user). A server that ends by itself leaves its folder to the starter, who may want its log.
"""

from __future__ import annotations

import pwd
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any

STOP_SECONDS = 10


def identity(user: str) -> dict[str, Any]:
    """Return what makes a subprocess run as that user."""
    if not user:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def supervise(folder: str, user: str, sign: str, *command: str) -> int:
    """Return the server's exit code when it has ended."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, **identity(user))
    let_go = threading.Event()

    def hold_the_leash() -> None:
        sys.stdin.buffer.read()
        let_go.set()
        server.send_signal(signal.Signals[sign])
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()

    threading.Thread(target=hold_the_leash, daemon=True).start()
    code = server.wait()
    if let_go.is_set() and folder:
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(supervise(*sys.argv[1:]))
