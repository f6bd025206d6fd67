"""The replicated set-up of docs/guides/scaling.md as real processes on loopback, with the settings that stand there."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
from documentation import PROJECT
from prefect_postgres import prefect_postgres, system_postgres
from processes import PREFECT, LongRunning, user_environment
from supabase_rig import Project

from prefect_campaigns.deployments.compile import WORK_POOL, WORK_POOL_TYPE
from prefect_campaigns.deployments.demo.smtp_sink import SmtpSink
from prefect_campaigns.deployments.running.server import free_port

SCALING = (PROJECT / "docs" / "guides" / "scaling.md").read_text()

REPLICAS = ("api-1", "api-2")
SERVICES = "services-1"
WORKERS = ("worker-1", "worker-2")
QUIET_SERVER = {
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
}
START_SECONDS = 180.0
STOP_SECONDS = 60.0


def what_is_missing() -> str | None:
    """Say which programs a replicated set-up needs that this machine has not; None where it has all."""
    packages = {"postgresql": system_postgres(), **{one: shutil.which(one) for one in ("redis-server", "haproxy")}}
    missing = [package for package, found in packages.items() if found is None]
    return f"a replicated Prefect needs programs of its own: apt-get install {' '.join(missing)}" if missing else None


class Replicated:
    """Two replicas of Prefect's API and one with its services, behind HAProxy, and two workers.

    Attributes:
        environment: of whoever works with it, as a worker does.
        mail: the mail server.
    """

    def __init__(self, home: Path, database: Mapping[str, str], project: Project, mail: SmtpSink) -> None:
        self._home = home
        self.mail = mail
        self._ports = {name: free_port() for name in (*REPLICAS, SERVICES, "balancer", "redis")}
        self._processes: dict[str, LongRunning] = {}
        self.api_url = f"http://127.0.0.1:{self._ports['balancer']}/api"
        self._server_settings = {**self._documented_settings(), **database, **QUIET_SERVER}
        self.environment = user_environment(
            PREFECT_API_URL=self.api_url,
            PREFECT_HOME=str(home / "person"),
            PREFECT_RESULTS_LOCAL_STORAGE_PATH=str(home / "results"),
            SUPABASE_URL=project.url,
            SUPABASE_KEY=project.secret_key,
            SMTP_HOST=mail.host,
            SMTP_PORT=str(mail.port),
            SMTP_TYPE="INSECURE",
            SMTP_FROM="campaigns@example.com",
            CAMPAIGNS_GRACE_SECONDS="5",
            # Tests break one engine again and again on purpose.
            CAMPAIGNS_BREAKER_RUNS="0",
        )

    def _documented_settings(self) -> dict[str, str]:
        """The servers' settings as they are documented, with this machine's Redis."""
        (settings,) = re.findall(r"^```ini\n(.*?)^```$", SCALING, re.MULTILINE | re.DOTALL)
        here = settings.replace("redis.internal:6379", f"127.0.0.1:{self._ports['redis']}")
        return dict(line.split("=", 1) for line in here.splitlines())

    def _documented_balancer(self) -> str:
        """The load balancer's configuration as it is documented, with this machine's replicas."""
        (config,) = re.findall(r"^```haproxy\n(.*?)^```$", SCALING, re.MULTILINE | re.DOTALL)
        here = config.replace("bind :4200", f"bind 127.0.0.1:{self._ports['balancer']}")
        for name in (*REPLICAS, SERVICES):
            here = here.replace(f"{name}.internal:4200", f"127.0.0.1:{self._ports[name]}")
        return here

    def start(self, *names: str) -> None:
        """Start these, and wait until what has an API is ready."""
        for name in names:
            folder = self._home / name
            folder.mkdir(exist_ok=True)
            command, variables = self._command_of(name, folder)
            self._processes[name] = LongRunning(command, env={**self.environment, **variables}, cwd=folder)
        for name in names:
            if name in (*REPLICAS, SERVICES, "balancer"):
                self._until_ready(name)

    def _command_of(self, name: str, folder: Path) -> tuple[list[str], dict[str, str]]:
        if name == "redis":
            (documented,) = re.findall(r"^redis-server .*$", SCALING, re.MULTILINE)
            here = ["--port", str(self._ports[name]), "--bind", "127.0.0.1", "--dir", str(folder)]
            return [*shlex.split(documented), *here], {}
        if name == "balancer":
            (folder / "haproxy.cfg").write_text(self._documented_balancer())
            return ["haproxy", "-W", "-db", "-f", "haproxy.cfg"], {}
        home = {"PREFECT_HOME": str(folder)}
        if name in WORKERS:
            pool = ["--pool", WORK_POOL, "--type", WORK_POOL_TYPE, "--name", name]
            return [PREFECT, "worker", "start", *pool], home
        command = [PREFECT, "server", "start", "--port", str(self._ports[name])]
        if name == SERVICES:
            return command, {**home, **self._server_settings}
        variables = {**home, **self._server_settings, "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false"}
        return [*command, "--no-services"], variables

    def _until_ready(self, name: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{self._ports[name]}/api/ready", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            if time.monotonic() > deadline or self._processes[name].has_ended:
                raise TimeoutError(f"{name} is not ready:\n{self._processes[name].output}")
            time.sleep(0.2)

    def set_up_database(self) -> None:
        """Let Prefect make its tables."""
        command = [PREFECT, "server", "database", "upgrade", "-y"]
        environment = {**self.environment, **self._server_settings, "PREFECT_HOME": str(self._home / "upgrade")}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=START_SECONDS)

    def stop(self, name: str, sign: signal.Signals = signal.SIGTERM) -> None:
        """End one, and wait until it is gone."""
        process = self._processes.pop(name)
        process.signal(sign)
        asyncio.run(process.ended(seconds=STOP_SECONDS))

    def said(self, name: str) -> str:
        """What one that runs has printed."""
        return self._processes[name].output

    def stop_all(self) -> None:
        """End what runs, the workers first."""
        for name in (*WORKERS, "balancer", *REPLICAS, SERVICES, "redis"):
            if name in self._processes:
                self.stop(name)


@contextmanager
def replicated(home: Path, project: Project) -> Iterator[Replicated]:
    """Run all of it."""
    with prefect_postgres() as (_, database), SmtpSink() as mail:
        them = Replicated(home, database, project, mail)
        try:
            them.start("redis")
            them.set_up_database()
            them.start(*REPLICAS, SERVICES)
            them.start("balancer")
            them.start(*WORKERS)
            yield them
        finally:
            them.stop_all()
