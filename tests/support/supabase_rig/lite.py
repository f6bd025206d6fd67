"""Supabase's API server on loopback: @supabase/lite, which speaks as PostgREST does."""

from __future__ import annotations

import http.client
import os
import shutil
from pathlib import Path

from supabase_rig.requirements import HERE, LITE
from supabase_rig.server_process import ServerProcess, on_a_free_port

ANSWER_SECONDS = 10


class Lite:
    """One API server of one database. It knows the tables and functions that were there when it started.

    Args:
        secret_key, publishable_key: empty, both, for a server that takes the older JWT keys.
    """

    def __init__(
        self, *, folder: Path, name: str, database_url: str, jwt_secret: str, secret_key: str, publishable_key: str
    ) -> None:
        self._folder = folder
        self._name = name
        self._secret_key = secret_key
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DO_NOT_TRACK": "1",
            "LITE_TELEMETRY": "0",
            "RIG_DATABASE_URL": database_url,
            "RIG_JWT_SECRET": jwt_secret,
            "RIG_SECRET_KEY": secret_key,
            "RIG_PUBLISHABLE_KEY": publishable_key,
        }
        self.port = 0
        self._server = on_a_free_port(self._start)

    @property
    def url(self) -> str:
        """The project's URL; it stays over a restart."""
        return f"http://127.0.0.1:{self.port}"

    def restart(self) -> None:
        """Start again, on the same port, to see what has changed in the database."""
        self.stop()
        self._server = self._start(self.port)

    def stop(self) -> None:
        """End the server."""
        self._server.stop()

    def _start(self, port: int) -> ServerProcess:
        self.port = port
        server = ServerProcess(
            [_node(), LITE, "start", "--no-admin", "--config", HERE / "config.toml"],
            folder=self._folder,
            log=f"{self._name}.log",
            env={**self._environment, "RIG_PORT": str(port)},
        )
        server.wait_until(self._answers)
        return server

    def _answers(self) -> bool:
        # A table that nobody has; asking for it makes the server read the schema, which the first one to ask waits for.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", "/rest/v1/none", headers={"apikey": self._secret_key})
            return bool(connection.getresponse().read())
        except OSError:
            return False
        finally:
            connection.close()


def _node() -> str:
    node = shutil.which("node")
    assert node is not None, "what_is_missing() was not asked"
    return node
