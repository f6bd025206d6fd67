"""A real Prefect server, worker and mail server for the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from prefect_campaigns.deployments.compile import WORK_POOL, WORK_POOL_TYPE
from prefect_campaigns.deployments.demo.smtp_sink import SmtpSink
from prefect_campaigns.deployments.running.server import EmbeddedServer, free_port

SCRUBBED = ("PREFECT_", "CAMPAIGNS_", "SMTP_", "SUPABASE_", "PORT", "LOG_")

# A person's patience is not a test's: the same services, asked oftener.
FAST_SERVER = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
}


class Stack:
    """A Prefect server, a campaign worker and a mail server, as processes and threads of their own."""

    def __init__(self, home: Path, *, server_env: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.database = home / "campaigns.db"
        self.server = EmbeddedServer(
            home=home / "prefect",
            port=free_port(),
            log=home / "server.log",
            extra_env={**FAST_SERVER, **(server_env or {})},
        )
        self.mail = SmtpSink()
        self._worker: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which a person would work with this stack."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(SCRUBBED)},
            "PREFECT_API_URL": self.server.api_url,
            "PREFECT_UI_URL": self.server.ui_url,
            "PREFECT_HOME": str(self.home / "prefect"),
            "CAMPAIGNS_DATABASE": str(self.database),
            "SMTP_HOST": self.mail.host,
            "SMTP_PORT": str(self.mail.port),
            "SMTP_TYPE": "INSECURE",
            "SMTP_FROM": "campaigns@example.com",
            "DO_NOT_TRACK": "1",
            "PYTHONFAULTHANDLER": "1",
            "CAMPAIGNS_GRACE_SECONDS": "1",
            # Tests break engines on purpose, and may be given each other's ports.
            "CAMPAIGNS_BREAKER_RUNS": "0",
        }

    @property
    def worker_pid(self) -> int:
        """The id of the worker's process."""
        assert self._worker is not None
        return self._worker.pid

    def start_worker(self, **variables: str) -> None:
        """Start the worker, whose environment has these variables besides."""
        self._worker = self._spawn_worker(WORK_POOL, {**self.environment, **variables})

    def stop_worker(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """End the worker's process; with SIGKILL as a machine does that goes away."""
        if self._worker is not None:
            _end(self._worker, sign)
        self._worker = None

    @contextmanager
    def worker_of(
        self,
        pool: str,
        *,
        name: str = "",
        limit: int | None = None,
        kind: str = WORK_POOL_TYPE,
        options: Sequence[str] = (),
        **variables: str,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run another worker, of another pool, and yield its process."""
        environment = {**self.environment, **variables}
        worker = self._spawn_worker(pool, environment, name=name, limit=limit, kind=kind, options=options)
        try:
            yield worker
        finally:
            _end(worker, signal.SIGTERM)

    def _spawn_worker(
        self,
        pool: str,
        environment: dict[str, str],
        *,
        name: str = "",
        limit: int | None = None,
        kind: str = WORK_POOL_TYPE,
        options: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a worker as an operator does; Prefect finds it through the package's entry point."""
        # With its type: the worker is there before the first apply has made the pool.
        options = ["--pool", pool, "--type", kind, "--name", name or f"test of {pool}", *options]
        options += [] if limit is None else ["--limit", str(limit)]
        with (self.home / "worker.log").open("ab") as log:
            return subprocess.Popen(
                # Tests that a script runs in the background would hand down an ignored SIGINT.
                ["env", "--default-signal", sys.executable, "-m", "prefect", "worker", "start", *options],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=self.home,
                start_new_session=True,
            )

    def run_command(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``campaigns …`` as a user does."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("campaigns")), *arguments],
            env=self.environment,
            cwd=cwd or self.home,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def _end(process: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    if process.poll() is not None:
        return
    process.send_signal(sign)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        # Where each of its threads stands goes to its log.
        process.send_signal(signal.SIGABRT)
        process.wait(10)
        raise
